"""How much of a known connectome comes back, end to end: synthetic T1 and diffusion in, registration and all.

Run by hand: ``python tests/bench/connectome_recovery.py 0 1 2`` (seeds); about three CPU minutes a seed.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.stats import spearmanr

from vbt.connectome import build_connectome, regional_bold
from vbt.synthetic import make_patient

COLUMNS = "seed edges | r true  rho   r all  recall precision top-K on-true | length r ratio | BOLD r  FC r | CPU s  GB"


def row(seed: int) -> str:
    patient = make_patient(seed)
    scan = patient.diffusion
    build = build_connectome(scan.image, scan.bvals, scan.bvecs, patient.t1, rng_seed=seed)
    run = patient.functional
    labels = build.connectome.region_labels
    bold = regional_bold(run.image, run.repetition_time, build.anatomy, labels)
    upper = np.triu_indices(len(labels), 1)
    truth, found = patient.connectome.weights[upper], build.connectome.weights[upper]
    real = truth > 0
    hits = real[np.argsort(-found, kind="stable")[: real.sum()]].mean()
    both = real & (found > 0)
    long, measured = patient.connectome.tract_lengths[upper][both], build.connectome.tract_lengths[upper][both]
    series = [np.corrcoef(patient.regional_bold[:, i], bold.time_series[:, i])[0, 1] for i in range(len(labels))]
    coupling = [np.corrcoef(s.T)[upper] for s in (patient.regional_bold, bold.time_series)]
    return (
        f"{seed:4d} {real.sum():5d} | {np.corrcoef(truth[real], found[real])[0, 1]:.3f}  "
        f"{spearmanr(truth[real], found[real])[0]:.3f}  {np.corrcoef(truth, found)[0, 1]:.3f}  "
        f"{both.sum() / real.sum():.2f}   {real[found > 0].mean():.2f}      {hits:.2f}  "
        f"{found[real].sum() / found.sum():.2f}    | {np.corrcoef(long, measured)[0, 1]:.3f}   "
        f"{np.median(measured / long):.3f} | {np.median(series):.3f}   {np.corrcoef(*coupling)[0, 1]:.3f} | "
        f"{sum(step.cpu_seconds for step in build.steps):5.0f}  {build.steps[-1].peak_rss_bytes / 1e9:.2f}"
    )


def main() -> None:
    print(COLUMNS)
    for seed in [int(text) for text in sys.argv[1:]] or [0]:
        print(row(seed), flush=True)


if __name__ == "__main__":
    main()
