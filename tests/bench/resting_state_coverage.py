"""Does the truth lie inside the calibration's intervals as often as they claim?

Three sources of recordings: the linear model itself (exact spectrum); the lifted Montbrió-Pazó-Roxin twin with
Balloon-Windkessel BOLD; and digital patients, whose connectome and BOLD come the whole way from their images. Truth is
drawn anew for every seed, and so is the connectome, which the first two see as tractography would (false weak
connections, weights to a power) and through the run's own departure of g. Each recording is calibrated by the whole
production path (NUTS and gate); ``--laplace`` takes mode and curvature instead, for many more seeds.

    python tests/bench/resting_state_coverage.py --model 40 --twin 10 --regions 40 --seconds 600 --out coverage.json
    python tests/bench/resting_state_coverage.py --model 0 --twin 0 --patients 8
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import expit, logit

from vbt.connectome import Connectome, build_connectome, regional_bold
from vbt.inference import PRIORS, Posterior, band_spectra, calibrate_resting_state
from vbt.inference._linear_network import resting_state
from vbt.inference._resting_state import nearness_of, observe
from vbt.simulation import Bold, RestingTwin, effective_weights, simulate, static_covariance
from vbt.synthetic import PatientSettings, TwinParameters, make_patient

REPETITION_TIME = 2.0
NAMES = ("g", "p", "h")


def connectome(rng: np.random.Generator, regions: int) -> Connectome:
    """Two mirrored hemispheres, log-normal weights that fall off with distance, half of the pairs connected."""
    half = rng.normal(size=(regions // 2, 3)) * (12.0, 40.0, 25.0) + (35.0, 0.0, 0.0)
    centres = np.vstack([half * (-1, 1, 1), half])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    weights = 1000 * np.exp(-distance / 20) * rng.lognormal(size=distance.shape) * (rng.random(distance.shape) < 0.5)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    return Connectome(
        weights=weights,
        tract_lengths=np.where(weights > 0, np.maximum(distance, 8.0), 0.0),
        region_labels=tuple(f"{side}.area{i}" for side in ("lh", "rh") for i in range(regions // 2)),
        centres=centres,
        is_cortical=np.ones(regions, dtype=bool),
        parcellation="synthetic",
    )


def truth(rng: np.random.Generator) -> dict[str, float]:
    return {"g": rng.uniform(0.5, 0.95), "p": rng.uniform(0.4, 1.0), "h": rng.uniform(0.1, 0.8)}


def from_model(c: Connectome, t: dict[str, float], rng: np.random.Generator, samples: int) -> np.ndarray:
    """Independent complex Gaussian bins with the model's spectrum, gains differing by region."""
    regions = len(c.region_labels)
    u, n = rng.uniform(0.5, 10.0), abs(rng.normal(0.0, 0.05))
    covariance = static_covariance(effective_weights(c.weights, c.region_labels, t["p"], t["h"]), t["g"]) + u / regions
    deviation = np.sqrt(np.diag(covariance))
    factor = np.linalg.cholesky(covariance / np.outer(deviation, deviation))
    frequency = np.fft.rfftfreq(samples, REPETITION_TIME)
    white = rng.normal(size=(4, len(frequency), regions))
    power = np.exp(-frequency / 0.08)
    noise = n * power[(frequency >= 0.01) & (frequency < 0.1)].mean()
    bins = np.sqrt(power)[:, None] * ((white[0] + 1j * white[1]) @ factor.T)
    bins = bins + np.sqrt(noise) * (white[2] + 1j * white[3])
    return np.asarray(np.fft.irfft(bins, n=samples, axis=0) * rng.lognormal(0.0, 0.3, regions))


def from_twin(c: Connectome, t: dict[str, float], rng: np.random.Generator, samples: int) -> np.ndarray:
    """BOLD of the lifted populations, region gains and a little measurement noise on top."""
    coupled = effective_weights(c.weights, c.region_labels, t["p"], t["h"])
    homotopic = (coupled > 0) & (c.tract_lengths == 0)
    distance = np.linalg.norm(c.centres[:, None] - c.centres[None], axis=-1)
    network = RestingTwin().lift(coupled, np.where(homotopic, distance, c.tract_lengths), t["g"])
    run = simulate(
        [network],
        [int(rng.integers(2**31))],
        duration=samples * REPETITION_TIME,
        transient=40.0,
        monitors=[Bold(REPETITION_TIME)],
        dt=1.0,
    )
    clean = run.observations[0].values[0]
    bold = clean * rng.lognormal(0.0, 0.3, clean.shape[-1])
    return np.asarray(bold + 0.05 * bold.std(axis=0) * rng.normal(size=bold.shape))


def tracked(c: Connectome, rng: np.random.Generator) -> Connectome:
    """The connectome as tractography would see it."""
    location, scale = PRIORS["b"].arguments
    weights = c.weights ** np.exp(location + scale * rng.normal())
    weakest = np.quantile(weights[weights > 0], 0.05)
    false = weakest * 10 ** rng.uniform(-2.0, 0.0, weights.shape) * (rng.random(weights.shape) < 0.5)
    false = np.triu(false, 1) + np.triu(false, 1).T
    lengths = np.linalg.norm(c.centres[:, None] - c.centres[None], axis=-1)
    known = weights > 0
    return dataclasses.replace(
        c,
        weights=np.where(known, weights, false),
        tract_lengths=np.where(known, c.tract_lengths, np.where(false > 0, lengths, 0.0)),
    )


def of_this_run(t: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """The truth as one run shows it."""
    return {**t, "g": float(expit(logit(t["g"]) + PRIORS["r"].arguments[1] * rng.normal()))}


def from_patient(t: dict[str, float], seed: int) -> tuple[Connectome, np.ndarray]:
    """A digital patient's connectome and BOLD, from the diffusion, T1 and functional images."""
    settings = PatientSettings(twin=TwinParameters(g=t["g"], sc_exponent=t["p"], homotopic=t["h"]))
    patient = make_patient(seed, settings)
    scan, run = patient.diffusion, patient.functional
    build = build_connectome(scan.image, scan.bvals, scan.bvecs, patient.t1, rng_seed=seed)
    bold = regional_bold(run.image, run.repetition_time, build.anatomy, build.connectome.region_labels)
    return build.connectome, bold.time_series


def by_nuts(c: Connectome, bold: np.ndarray, t: dict[str, float], seed: int) -> dict[str, Any]:
    """Quantile of the truth in the posterior, by the production path."""
    calibration = calibrate_resting_state(c, bold, REPETITION_TIME, rng_seed=seed)
    row: dict[str, Any] = {"sound": calibration.sound, "reasons": list(calibration.reasons)}
    for name in NAMES:
        draws = calibration.draws[name]
        row[name] = float((draws < t[name]).mean())
        row[f"{name}_z"] = float((np.median(draws) - t[name]) / draws.std())
    return row


class ByLaplace:
    """The same from mode and curvature, compiled once."""

    def __init__(self) -> None:
        self._posterior: Posterior | None = None

    def __call__(self, c: Connectome, bold: np.ndarray, t: dict[str, float], seed: int) -> dict[str, Any]:
        spectra = band_spectra(bold, REPETITION_TIME)
        with jax.enable_x64(True):
            observed = observe(c.weights, c.region_labels, nearness_of(c.centres), spectra)
            self._posterior = self._posterior or Posterior(resting_state, observed)
            mode = self._posterior.mode(observed, starts=2, rng_seed=seed)
            where = self._posterior.split(mode.location[None])
            spread = self._posterior.split(np.sqrt(np.diag(mode.covariance))[None])
            row: dict[str, Any] = {"sound": True, "reasons": []}
            grid = np.linspace(-6.0, 6.0, 4001)
            for name in NAMES:
                true = float(np.interp(t[name], np.asarray(PRIORS[name].of_normal(grid)), grid))
                z = (float(where[f"{name}_normal"][0]) - true) / float(spread[f"{name}_normal"][0])
                row[f"{name}_z"] = z
                row[name] = float(np.asarray(jax.scipy.special.ndtr(-z)))
        return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sound = [row for row in rows if row["sound"]]
    table: dict[str, Any] = {"recordings": len(rows), "sound": len(sound)}
    for name in NAMES:
        quantiles = np.array([row[name] for row in sound])
        z = np.array([row[f"{name}_z"] for row in sound])
        table[name] = {
            "cover90": float(((quantiles > 0.05) & (quantiles < 0.95)).mean()),
            "cover50": float(((quantiles > 0.25) & (quantiles < 0.75)).mean()),
            "rms_z": float(np.sqrt((z**2).mean())),
            "mean_z": float(z.mean()),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=int, default=40, help="recordings drawn from the linear model")
    parser.add_argument("--twin", type=int, default=10, help="recordings simulated by the lifted twin")
    parser.add_argument("--patients", type=int, default=0, help="digital patients, from their images; minutes each")
    parser.add_argument("--regions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=2026, help="another seed is another set of truths and recordings")
    parser.add_argument("--laplace", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    samples = round(arguments.seconds / REPETITION_TIME)
    calibrate = ByLaplace() if arguments.laplace else by_nuts
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(arguments).items()}}
    for source, count in ((from_model, arguments.model), (from_twin, arguments.twin)):
        rows = []
        for seed in range(count):
            rng = np.random.default_rng([seed, arguments.seed])
            c, t = connectome(rng, arguments.regions), truth(rng)
            bold = source(c, of_this_run(t, rng), rng, samples)
            rows.append({**calibrate(tracked(c, rng), bold, t, seed), "truth": t})
            print(source.__name__, seed, {k: v for k, v in rows[-1].items() if k != "truth"}, flush=True)
        if rows:
            result[source.__name__] = {"summary": summary(rows), "rows": rows}
            print(source.__name__, json.dumps(result[source.__name__]["summary"], indent=1), flush=True)
    if arguments.patients:
        rows = []
        for seed in range(arguments.patients):
            t = truth(np.random.default_rng([seed, arguments.seed]))
            c, bold = from_patient(t, arguments.seed + seed)
            rows.append({**calibrate(c, bold, t, seed), "truth": t})
            print("from_patient", seed, rows[-1], flush=True)
        result["from_patient"] = {"summary": summary(rows), "rows": rows}
        print("from_patient", json.dumps(result["from_patient"]["summary"], indent=1), flush=True)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result["cpu_seconds"] = usage.ru_utime + usage.ru_stime
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
