"""Does removing the true onset zone beat removing as many other regions? Run by hand: it prints a table.

    python tests/bench/epilepsy_resection.py --seeds 20 --regions 10 84

Onset regions have an excitability about −1.6, those of the propagation zone −2.5 and all others −3.4, coupling K = 1,
on random symmetric connectomes. The simulation starts in the quiet time after a seizure and runs 200 units. For a
calibrated twin call `resection_beats_random` with its posterior draws.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vbt.clinical._epilepsy_resections import random_sets
from vbt.clinical._epilepsy_rest import margin
from vbt.clinical._epilepsy_twins import Twins, coupling_weights

UNITS = 200.0


@dataclass(frozen=True)
class Comparison:
    """Seizure freedom and regions that seize, without the zone and on average without random sets of its size."""

    free: float
    spread: float
    random_free: float
    random_spread: float
    untouched_spread: float

    @property
    def beats_random(self) -> bool:
        """Freedom more often; or as often, and fewer regions that seize."""
        return (self.free, -self.spread) > (self.random_free, -self.random_spread)


def resection_beats_random(
    eta: Float[np.ndarray, "draw region"],
    coupling: Float[np.ndarray, " draw"],
    weights: Float[np.ndarray, "region region"],
    zone: tuple[int, ...],
    *,
    seed: int,
    sets: int = 40,
) -> Comparison:
    """Remove the zone from a twin, or from the truth as a twin of one draw, and random sets beside it.

    Parameters
    ----------
    weights : ``weights[target, source]``, divided by their largest in-strength here
    """
    twins = Twins(eta=eta, coupling=coupling, weights=coupling_weights(weights), units=UNITS)
    chosen = tuple(sorted(zone))
    others = [one for one in random_sets(range(eta.shape[1]), len(zone), sets + 1, seed) if one != chosen][:sets]
    counts = twins.recruited([(), chosen, *others], len(eta)).sum(axis=2)
    return Comparison(
        free=float((counts[1] == 0).mean()),
        spread=float(counts[1].mean()),
        random_free=float((counts[2:] == 0).mean()),
        random_spread=float(counts[2:].mean()),
        untouched_spread=float(counts[0].mean()),
    )


def make_truth(seed: int, regions: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Excitabilities, weights and the onset zone: a fifth of few regions, a few of many."""
    rng = np.random.default_rng([seed, regions])
    weights = rng.lognormal(0.0, 1.0, (regions, regions)) * (rng.random((regions, regions)) < min(1.0, 20 / regions))
    weights = weights + weights.T
    np.fill_diagonal(weights, 0.0)
    order = rng.permutation(regions)
    onset, propagation = (2, 3) if regions < 50 else (3, 6)
    eta = np.full(regions, -3.4)
    eta[order[:onset]], eta[order[onset : onset + propagation]] = -1.6, -2.5
    return eta + rng.normal(scale=0.05, size=regions), weights, tuple(int(region) for region in order[:onset])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--regions", type=int, nargs="+", default=[10, 84])
    asked = parser.parse_args()
    for regions in asked.regions:
        begun, found, reserves = time.process_time(), [], []
        for seed in range(asked.seeds):
            eta, weights, zone = make_truth(seed, regions)
            found.append(resection_beats_random(eta[None], np.ones(1), weights, zone, seed=seed))
            left = np.setdiff1d(np.arange(regions), zone)
            reserves.append(margin(eta[left], 1.0, coupling_weights(weights)[np.ix_(left, left)]))
        print(
            f"{regions} regions, {asked.seeds} seeds: untouched {np.mean([f.untouched_spread for f in found]):.1f} "
            f"regions seize; without the true zone free in {np.mean([f.free for f in found]):.0%}, reserve "
            f"{np.min(reserves):.2f} to {np.max(reserves):.2f}; without random regions free in "
            f"{np.mean([f.random_free for f in found]):.1%}, {np.mean([f.random_spread for f in found]):.1f} seize; "
            f"the true zone beats random in {np.mean([f.beats_random for f in found]):.0%}; "
            f"{time.process_time() - begun:.0f} s of CPU"
        )


if __name__ == "__main__":
    main()
