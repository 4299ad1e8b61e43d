"""Does the Epileptor inversion find onset zones, do its intervals hold, and does the gate refuse what it must?

    python tests/bench/epilepsy.py --regions 10 --seeds 20 --json epilepsy10.json
    python tests/bench/epilepsy.py --regions 84 --seeds 20 --json epilepsy84.json
    python tests/bench/epilepsy.py --refusals 20 --json refusals.json

Run by hand on one core; one JSON line per twin as it ends. Truths: onset zone η ≈ −1.6, propagation zone −2.5, others
−3.4 (each ± .1), K = 1 on weights over their largest row sum, τ0 = 10, 1000 Heun steps of .1, 200 samples, noise a
third of the feature's spread (SNR 3). 10 regions: 2 + 3 + 5, 14 sensors. 84: 7 + 10 + 67, 100 sensors. Gain: inverse
square. On the calibrated twin the true zone is removed, and random sets of its size (`epilepsy_resection`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from epilepsy_resection import resection_beats_random
from jaxtyping import Float

from vbt.errors import TwinError
from vbt.inference import SeizureCalibration, calibrate_seizure
from vbt.inference._seizure_model import threshold

PERIOD = 1.0  # s; half a unit of model time
ZONES = {10: (2, 3), 84: (7, 10)}
SENSORS = {10: 14, 84: 100}
RESECTED = 25  # posterior draws on which the true zone is removed, and random sets of its size


@dataclass(frozen=True)
class Twin:
    """A network whose truth is known, and what its sensors recorded."""

    weights: Float[np.ndarray, "region region"]
    gain: Float[np.ndarray, "sensor region"]
    feature: Float[np.ndarray, "time sensor"]
    eta: Float[np.ndarray, " region"]

    @property
    def zone(self) -> np.ndarray:
        return self.eta > threshold()


def twin(seed: int, regions: int, *, snr: float = 3.0, sensors: int | None = None) -> Twin:
    """Regions scattered over a brain, tied the more the nearer, sensors beside some of them."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(regions, 3)) * (30.0, 45.0, 30.0)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    weights = np.exp(-distance / 25.0) * rng.lognormal(size=distance.shape)
    weights = 0.5 * (weights + weights.T)
    np.fill_diagonal(weights, 0.0)
    count = SENSORS.get(regions, regions) if sensors is None else sensors
    near = np.concatenate([rng.permutation(regions) for _ in range(count // regions + 1)])[:count]
    positions = places[near] + 8.0 * rng.normal(size=(count, 3))
    gain = 1.0 / (np.linalg.norm(positions[:, None] - places[None], axis=-1) ** 2 + 25.0)
    gain /= gain.sum(axis=1).mean()
    onset, propagation = ZONES.get(regions, (max(1, regions // 6), max(1, regions // 4)))
    order = rng.permutation(regions)
    eta = np.full(regions, -3.4)
    eta[order[:onset]], eta[order[onset : onset + propagation]] = -1.6, -2.5
    eta += 0.1 * rng.normal(size=regions)
    x = run(weights / weights.sum(axis=1).max(), eta, rng)
    clean = 2.0 * x @ gain.T + 10.0
    noise = np.sqrt(clean.var(axis=0).mean()) / snr
    return Twin(weights=weights, gain=gain, feature=clean + noise * rng.normal(size=clean.shape), eta=eta)


def run(weights: np.ndarray, eta: np.ndarray, rng: np.random.Generator, cubic: float = 1.0) -> np.ndarray:
    """x at 200 samples, by the equations as the literature prints them; ``cubic`` other than 1 is another model."""

    def slope(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        difference = weights @ x - weights.sum(axis=1) * x
        return 4.1 - cubic * x**3 - 2.0 * x**2 - z, (4.0 * (x - eta) - z - difference) / 10.0

    x, z = rng.normal(-2.0, 0.1, len(eta)), rng.normal(4.5, 0.5, len(eta))
    kept = []
    for step in range(1000):
        dx, dz = slope(x, z)
        dx2, dz2 = slope(x + 0.1 * dx, z + 0.1 * dz)
        x, z = x + 0.05 * (dx + dx2), z + 0.05 * (dz + dz2)
        if step % 5 == 4:
            kept.append(x)
    return np.array(kept)


def fitted(case: Twin, seed: int, **settings: Any) -> SeizureCalibration:
    regions, sensors = case.weights.shape[0], case.gain.shape[0]
    return calibrate_seizure(
        case.weights,
        case.gain,
        case.feature,
        PERIOD,
        region_labels=tuple(f"region {i}" for i in range(regions)),
        sensor_labels=tuple(f"sensor {i}" for i in range(sensors)),
        rng_seed=seed,
        **settings,
    )


class Folder:
    """A checkpoint in a folder, so that a killed study goes on where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def load(self, name: str) -> bytes | None:
        at = self.path / name
        return at.read_bytes() if at.exists() else None

    def save(self, name: str, content: bytes) -> None:
        part = self.path / f"{name}.part"
        part.write_bytes(content)
        part.replace(self.path / name)


def accuracy(
    regions: int,
    seed: int,
    tell: Callable[[str, float], None] | None = None,
    checkpoints: Path | None = None,
) -> dict[str, Any]:
    """One twin's figures against its truth."""
    case = twin(seed, regions)
    began, cpu = time.perf_counter(), time.process_time()
    kept = Folder(checkpoints / f"{regions}-{seed}") if checkpoints else None
    found = fitted(case, seed, progress=tell, checkpoint=kept)
    eta = found.draws["eta"]
    _, low, high = found.region_intervals("eta")
    chosen, zone = found.onset_zone(), case.zone
    inside = (case.eta >= low) & (case.eta <= high)
    sampler = found.sampler
    assert sampler is not None
    assert found.fit is not None
    main = [p for p in found.parameters if not p.nuisance]
    every = np.linspace(0, eta.shape[0] * eta.shape[1] - 1, RESECTED).astype(int)
    resection = resection_beats_random(
        eta.reshape(-1, regions)[every],
        found.draws["K"].reshape(-1)[every],
        case.weights,
        tuple(int(region) for region in np.flatnonzero(zone)),
        seed=seed,
    )
    return {
        "regions": regions,
        "seed": seed,
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "hits": int((chosen & zone).sum()),
        "chosen": int(chosen.sum()),
        "zone": int(zone.sum()),
        "rmse": float(np.sqrt(((eta.mean(axis=(0, 1)) - case.eta) ** 2).mean())),
        "inside": int(inside.sum()),
        "of": regions,
        "identifiable": int(found.identifiable_regions.sum()),
        "K": found.interval("K"),
        "free_without_zone": resection.free,
        "free_without_random": resection.random_free,
        "zone_beats_random": resection.beats_random,
        "chi_square": found.fit.chi_square,
        "agreeing": found.fit.starts_agreeing,
        "starts": found.fit.starts,
        "divergences": sampler.divergences,
        "draws": sampler.draws,
        "r_hat": max(p.r_hat for p in main),
        "ess": min(min(p.ess_bulk, p.ess_tail) for p in main),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the twins that the gate let through, and its refusals."""
    sound = [row for row in rows if row["verdict"] == "sound"]
    if not sound:
        return {"twins": len(rows), "refused": len(rows)}
    hits, chosen, zone = (sum(row[name] for row in sound) for name in ("hits", "chosen", "zone"))
    return {
        "twins": len(rows),
        "refused": len(rows) - len(sound),
        "recall": round(hits / zone, 3),
        "precision": round(hits / chosen, 3) if chosen else float("nan"),
        "median_rmse": round(float(np.median([row["rmse"] for row in sound])), 4),
        "coverage": round(sum(row["inside"] for row in sound) / sum(row["of"] for row in sound), 3),
        "zone_beats_random": round(float(np.mean([row["zone_beats_random"] for row in sound])), 3),
        "median_seconds": float(np.median([row["seconds"] for row in sound])),
        "median_cpu_seconds": float(np.median([row["cpu_seconds"] for row in sound])),
    }


def another_model(seed: int) -> Twin:
    """Ramps and rhythms that no Epileptor makes, at a network's sensors; or an Epileptor of another shape."""
    case, rng = twin(seed, 10), np.random.default_rng(1000 + seed)
    time_ = np.linspace(0.0, 1.0, 200)[:, None]
    kind = seed % 4
    if kind == 0:  # rhythms
        x = np.sin(2.0 * np.pi * (rng.uniform(2.0, 12.0, 10) * time_ + rng.uniform(size=10)))
    elif kind == 1:  # one slow rise and fall in each region
        x = np.exp(-(((time_ - rng.uniform(0.2, 0.8, 10)) / 0.15) ** 2))
    elif kind == 2:  # a random walk
        x = np.cumsum(rng.normal(size=(200, 10)), axis=0) / 10.0
    else:  # a steeper cubic
        x = run(case.weights / case.weights.sum(axis=1).max(), case.eta, rng, cubic=1.5)
    clean = 2.0 * x @ case.gain.T
    noise = np.sqrt(clean.var(axis=0).mean()) / 3.0
    return Twin(case.weights, case.gain, clean + noise * rng.normal(size=clean.shape), case.eta)


def wrong_gain(seed: int) -> Twin:
    """The sensors' places mixed up."""
    case = twin(seed, 10)
    return Twin(case.weights, np.random.default_rng(seed).permutation(case.gain), case.feature, case.eta)


def no_seizure(seed: int) -> Twin:
    """Noise about constant levels."""
    case, rng = twin(seed, 10), np.random.default_rng(2000 + seed)
    return Twin(case.weights, case.gain, 10.0 + rng.normal(size=case.feature.shape), case.eta)


def blind(seed: int) -> Twin:
    """Six sensors that see nothing of the onset zone, nor what it does to others: its regions are tied to none."""
    case = twin(seed, 10, sensors=6)
    weights, gain = case.weights.copy(), case.gain.copy()
    weights[np.ix_(~case.zone, case.zone)] = 0.0
    gain[:, case.zone] = 0.0
    return Twin(weights, gain, _recorded(weights, gain, case.eta, seed), case.eta)


def _recorded(weights: np.ndarray, gain: np.ndarray, eta: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(3000 + seed)
    clean = 2.0 * run(weights / weights.sum(axis=1).max(), eta, rng) @ gain.T + 10.0
    return np.asarray(clean + 0.1 * rng.normal(size=clean.shape))


# What must be refused: recordings by seed, and the settings of the inversion.
REFUSALS: dict[str, tuple[Callable[[int], Twin], dict[str, Any]]] = {
    "another model": (another_model, {}),
    "wrong gain": (wrong_gain, {}),
    "no seizure": (no_seizure, {}),
    "sensors blind to the zone": (blind, {}),
    "two starts only": (lambda seed: twin(seed, 10), {"starts": 2, "most_starts": 2}),
    "chains too short": (lambda seed: twin(seed, 10), {"warmup": 25, "draws": 25, "rounds": 1}),
}


def refusals(kinds: list[str], count: int) -> Iterator[dict[str, Any]]:
    """One line per case that must not give numbers: what was said of it, and of regions that cannot be known."""
    for kind in kinds:
        make, settings = REFUSALS[kind]
        for seed in range(count):
            case = make(seed)
            row: dict[str, Any] = {"kind": kind, "seed": seed}
            try:
                found = fitted(case, seed, **settings)
            except TwinError as refused:
                yield {**row, "verdict": "rejected", "reasons": [refused.code]}
                continue
            assert found.fit is not None
            yield {
                **row,
                "verdict": found.verdict,
                "reasons": list(found.reasons),
                "chi_square": found.fit.chi_square,
                "zone_withheld": bool((~found.identifiable_regions[case.zone]).all()),
                "warnings": list(found.warnings),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--refusals", type=int, default=0, help="cases of each kind that must be refused")
    parser.add_argument("--kinds", nargs="*", default=list(REFUSALS))
    parser.add_argument("--json", type=Path, help="one line per twin, appended")
    parser.add_argument("--checkpoints", type=Path, help="a folder; what --json holds already is not done again")
    parser.add_argument("--verbose", action="store_true", help="how far each inversion is")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if asked.checkpoints and asked.json and asked.json.exists():
        rows = [json.loads(line) for line in asked.json.read_text().splitlines()]
    done = {row["seed"] for row in rows}
    seeds = [seed for seed in range(asked.seed, asked.seed + asked.seeds) if seed not in done]
    began = time.perf_counter()

    def tell(message: str, fraction: float) -> None:
        if asked.verbose:
            print(f"{time.perf_counter() - began:7.0f} s {fraction:5.1%} {message}", flush=True)

    found = (
        refusals(asked.kinds, asked.refusals)
        if asked.refusals
        else (accuracy(asked.regions, seed, tell, asked.checkpoints) for seed in seeds)
    )
    for row in found:
        rows.append(row)
        print(json.dumps(row), flush=True)
        if asked.json:
            with asked.json.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
    if not asked.refusals:
        print(json.dumps(summary(rows)))
        return
    for kind in asked.kinds:
        of_kind = [row for row in rows if row["kind"] == kind]
        refused = sum(row["verdict"] != "sound" for row in of_kind)
        withheld = sum(bool(row.get("zone_withheld")) for row in of_kind)
        print(f"{kind}: {refused} of {len(of_kind)} refused, zone withheld in {withheld}")


if __name__ == "__main__":
    main()
