"""How well, how fast and how carefully the amortised posterior of the resting populations answers.

Trains for one connectome (a digital patient's truth, or a synthetic one), then
- recovers coupling from fresh simulations: r, error, coverage, shrinkage, seconds per posterior;
- ranks: the same fresh simulations as simulation-based calibration, with a picture;
- shows it 20 recordings each of three kinds that it was not trained on (white noise; pink noise with motion spikes;
  Kuramoto oscillators on the same connectome), 20 of its own kind, and these 20 tampered with in ways that no limit was
  chosen for, and counts what the guard refuses.

    python tests/bench/resting_state_amortised.py --connectome connectome.npz --out amortised.json
    python tests/bench/resting_state_amortised.py --regions 24 --simulations 480 --fresh 60
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from vbt.connectome import Connectome
from vbt.inference import Simulated, rank_picture, sbc
from vbt.inference._amortised_resting_state import AmortisedTwin, train_amortised
from vbt.inference._amortised_simulations import PARAMETERS, values_of
from vbt.inference._gate import NOVELTY_LIMIT

TR, SAMPLES, EACH = 2.0, 150, 20
_TAMPERED = (
    "own, regions exchanged",
    "own, motion spikes",
    "own, breathing",
    "own, twice as slow",
    "own, half of the regions white noise",
    "own, first half twice as strong",
)


def synthetic(regions: int) -> Connectome:
    """Two mirrored hemispheres, log-normal weights that fall off with distance, half of the pairs connected."""
    rng = np.random.default_rng(0)
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


class Fresh:
    """Recordings simulated beforehand, in the order of their seeds, as a model for simulation-based calibration."""

    name = "resting_state_amortised"
    parameters = PARAMETERS

    def __init__(self, twin: AmortisedTwin, count: int) -> None:
        self._twin, self._next = twin, 0
        self._deviates = np.random.default_rng(77).normal(size=(count, len(PARAMETERS)))
        self._bold = np.concatenate(
            [twin.model.simulate(self._deviates[at : at + 48], rng_seed=990_000 + at) for at in range(0, count, 48)]
        )
        self.seconds: list[float] = []
        self.refused = 0

    def draw(self, rng: np.random.Generator) -> Simulated:
        del rng
        at, self._next = self._next, self._next + 1
        return Simulated(truth=values_of(self._deviates[at]), recording=self._bold[at])

    def fit(self, recording: np.ndarray, *, rng_seed: int) -> dict[str, np.ndarray]:
        begun = time.perf_counter()
        calibration = self._twin.calibrate(recording_of(self._twin, recording), rng_seed=rng_seed, predict=False)
        self.seconds.append(time.perf_counter() - begun)
        self.refused += not calibration.sound
        return dict(calibration.draws)


def recording_of(twin: AmortisedTwin, seen: np.ndarray) -> np.ndarray:
    """On the connectome's regions, those not used without signal."""
    bold = np.zeros((len(seen), max(twin.used) + 1))
    bold[:, list(twin.used)] = seen
    return bold


def strangers(twin: AmortisedTwin) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(5)
    regions = len(twin.used)
    frequency = np.fft.rfftfreq(SAMPLES, TR)
    pink = np.where(frequency > 0, np.maximum(frequency, frequency[1]) ** -0.5, 0.0)
    kinds: dict[str, list[np.ndarray]] = {"white noise": [], "pink noise, motion spikes": [], "Kuramoto": []}
    for _ in range(EACH):
        kinds["white noise"].append(rng.normal(size=(SAMPLES, regions)))
        white = rng.normal(size=(2, len(frequency), regions))
        series = np.fft.irfft(pink[:, None] * (white[0] + 1j * white[1]), n=SAMPLES, axis=0)
        series /= series.std(axis=0)
        for at in rng.integers(SAMPLES, size=8):
            series[at] += rng.normal(4.0, 2.0) * rng.lognormal(0.0, 0.3, regions)
        kinds["pink noise, motion spikes"].append(series)
    kinds["Kuramoto"] = kuramoto(twin, rng)
    return kinds


def kuramoto(twin: AmortisedTwin, rng: np.random.Generator) -> list[np.ndarray]:
    """Phase oscillators about 0.05 Hz on the same connectome, their sine taken as BOLD."""
    weights = twin.model.weights / twin.model.weights.sum(axis=1).mean()
    found = []
    for _ in range(EACH):
        phase, omega = rng.uniform(0, 2 * np.pi, len(weights)), 2 * np.pi * rng.normal(0.05, 0.008, len(weights))
        strength, rows, dt = rng.uniform(0.02, 0.3), [], 0.1
        for step in range(round(SAMPLES * TR / dt) + 500):
            pull = (weights * np.sin(phase[None, :] - phase[:, None])).sum(axis=1)
            phase = phase + dt * (omega + strength * pull) + np.sqrt(dt) * 0.05 * rng.normal(size=len(phase))
            if step >= 500 and step % round(TR / dt) == 0:
                rows.append(np.sin(phase))
        found.append(np.array(rows)[:SAMPLES])
    return found


def tampered(own: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(9)
    regions = own[0].shape[1]
    time = np.arange(SAMPLES)
    kinds: dict[str, list[np.ndarray]] = {name: [] for name in _TAMPERED}
    for recording in own:
        bold = recording / recording.std(axis=0)
        spiked = bold.copy()
        for at in rng.integers(SAMPLES, size=8):
            spiked[at] += rng.normal(4.0, 2.0) * rng.lognormal(0.0, 0.3, regions)
        breaths = 1.5 * np.sin(2 * np.pi * 0.28 * np.cumsum(TR * rng.lognormal(0.0, 0.05, SAMPLES)))
        slow = np.stack([np.interp(time / 2.0, time, column) for column in bold.T], axis=1)
        noisy = np.where(np.arange(regions) < regions // 2, bold, rng.normal(size=bold.shape))
        exchanged = bold[:, rng.permutation(regions)]
        louder = bold * np.where(time < SAMPLES // 2, 2.0, 1.0)[:, None]
        made = (exchanged, spiked, bold + breaths[:, None], slow, noisy, louder)
        for name, seen in zip(_TAMPERED, made, strict=True):
            kinds[name].append(seen)
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connectome", type=Path)
    parser.add_argument("--regions", type=int, default=82)
    parser.add_argument("--simulations", type=int, default=2400)
    parser.add_argument("--fresh", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("resting_state_amortised.json"))
    arguments = parser.parse_args()
    connectome = (
        Connectome.from_npz(arguments.connectome.read_bytes()) if arguments.connectome else synthetic(arguments.regions)
    )
    named = [i for i, label in enumerate(connectome.region_labels) if "brainstem" not in label.lower().replace("-", "")]
    begun, cpu = time.perf_counter(), time.process_time()

    def tell(message: str, fraction: float) -> None:
        print(f"\r{fraction:6.1%} {message}   ", end="", flush=True)

    twin = train_amortised(
        connectome,
        np.array(named),
        samples=SAMPLES,
        repetition_time=TR,
        rng_seed=1,
        simulations=arguments.simulations,
        progress=tell,
    )
    report: dict[str, Any] = {
        "regions": len(named),
        "simulations": arguments.simulations,
        "training_wall_s": time.perf_counter() - begun,
        "training_cpu_s": time.process_time() - cpu,
        "card": twin.posterior.card["validation"],
        "digest": twin.posterior.digest,
    }
    print(json.dumps(report, indent=1))
    fresh = Fresh(twin, arguments.fresh + EACH)
    result = sbc(fresh, arguments.fresh, rng_seed=1)
    report["sbc"] = json.loads(result.to_json())
    report["posterior_s_median"] = float(np.median(fresh.seconds))
    report["posterior_s_first"] = fresh.seconds[0]
    report["recovery"] = {
        p.name: {
            "r": p.r,
            "median_abs_error": float(np.median(np.abs(p.mean - p.truth))),
            "coverage_90": p.coverage(0.9),
            "coverage_50": p.coverage(0.5),
            "shrinkage_on_the_natural_scale": p.shrinkage,
            "uniform": result.uniform(p),
        }
        for p in result.parameters
    }
    report["in_distribution_refused"] = {"of": arguments.fresh, "refused": fresh.refused}
    own = [fresh._bold[at] for at in range(arguments.fresh, arguments.fresh + EACH)]
    shown = {**strangers(twin), "its own kind": own, **tampered(own)}
    report["refused_of_20"] = {kind: judged(twin, recordings) for kind, recordings in shown.items()}
    report["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    arguments.out.write_text(json.dumps(report, indent=1, sort_keys=True))
    arguments.out.with_suffix(".png").write_bytes(rank_picture(result))
    arguments.out.with_suffix(".npz").write_bytes(twin.posterior.to_npz())
    print(json.dumps({k: v for k, v in report.items() if k != "sbc"}, indent=1))


def judged(twin: AmortisedTwin, recordings: list[np.ndarray]) -> dict[str, Any]:
    found = [twin.calibrate(recording_of(twin, bold), rng_seed=1, predict=False) for bold in recordings]
    return {
        "refused": sum(not calibration.sound for calibration in found),
        "by_distance": sum(calibration.novelty.quantile > NOVELTY_LIMIT for calibration in found),
        "by_disagreement": sum(c.novelty.disagreement > c.novelty.disagreement_limit for c in found),
    }


if __name__ == "__main__":
    main()
