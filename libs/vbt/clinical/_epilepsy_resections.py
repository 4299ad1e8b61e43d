"""Which sets of regions to try removing: all singles and pairs of suspects, then larger sets grown from the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

RegionSet = tuple[int, ...]
Recruit = Callable[[Sequence[RegionSet]], Int[np.ndarray, "set draw"]]

_BEAM = 3
_NEVER_RESECTED = ("brainstem", "thalamusproper", "caudate", "putamen", "pallidum", "accumbensarea", "ventraldc")


@dataclass(frozen=True)
class Tried:
    """A set, in how many draws nothing seized without it, and how many regions seized on average."""

    regions: RegionSet
    free: float
    spread: float
    volume: float

    @property
    def rank(self) -> tuple[float, float, float, RegionSet]:
        """Sorts the best first: freedom, then spread, then volume."""
        return (-self.free, self.spread, self.volume, self.regions)


def resectable(labels: Sequence[str]) -> np.ndarray:
    """Regions that surgery may remove: neither the brainstem nor deep grey nuclei, save hippocampus and amygdala."""
    return np.array([label.split(".")[-1] not in _NEVER_RESECTED for label in labels])


def tried(
    sets: Sequence[RegionSet], counts: Int[np.ndarray, "set draw"], volumes: Float[np.ndarray, " region"]
) -> list[Tried]:
    """What became of sets after which so many regions seize."""
    return [
        Tried(chosen, float((count == 0).mean()), float(count.mean()), float(volumes[list(chosen)].sum()))
        for chosen, count in zip(sets, counts, strict=True)
    ]


def search(
    pool: Sequence[int], recruit: Recruit, volumes: Float[np.ndarray, " region"], largest: int
) -> tuple[Tried, ...]:
    """All sets that were tried, the best first.

    Exhaustive up to pairs; then the best sets of a size grow by one region each, until one leaves no seizure in any
    draw, or ``largest`` regions.

    Parameters
    ----------
    recruit : how many regions seize after each set was removed, per draw
    """

    def run(sets: Sequence[RegionSet]) -> list[Tried]:
        return tried(sets, recruit(sets), volumes)

    sizes = range(1, min(2, largest, len(pool)) + 1)
    found = run([chosen for size in sizes for chosen in combinations(sorted(pool), size)])
    for size in range(3, min(largest, len(pool)) + 1):
        best = sorted(found, key=lambda one: one.rank)
        if best[0].free == 1.0:
            break
        beam = [one.regions for one in best if len(one.regions) == size - 1][:_BEAM]
        grown = sorted({tuple(sorted({*chosen, more})) for chosen in beam for more in pool if more not in chosen})
        found += run(grown)
    return tuple(sorted(found, key=lambda one: one.rank))


def minimal(found: Sequence[Tried]) -> tuple[Tried, ...]:
    """Without the sets of which a part does as well alone."""

    def superfluous(one: Tried) -> bool:
        return any(
            set(part.regions) < set(one.regions) and part.free >= one.free and part.spread <= one.spread
            for part in found
        )

    return tuple(one for one in found if not superfluous(one))


def random_sets(candidates: Sequence[int], size: int, count: int, seed: int) -> tuple[RegionSet, ...]:
    """Sets of one size drawn without preference, each different where there are that many."""
    rng = np.random.default_rng([seed, size])
    found: dict[RegionSet, None] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        found[tuple(sorted(int(region) for region in rng.choice(candidates, size=size, replace=False)))] = None
    return tuple(found)
