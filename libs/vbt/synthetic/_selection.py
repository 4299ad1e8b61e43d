"""Which candidate paths become bundles: balanced in kind, and far enough apart that a tracker can tell them apart."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from jaxtyping import Bool, Float, Int

from vbt.synthetic._anatomy import Anatomy
from vbt.synthetic._bundles import Bundle, Landings, fan, landing_error, tube, tube_radius
from vbt.synthetic._centrelines import Centreline, find_corridors, hemisphere_sides, propose

_GAP_MM = 3.0
_PARALLEL_COSINE = np.cos(np.deg2rad(50))
_MOST_AMBIGUOUS = 0.04
_MOST_OUTSIDE = 0.25
_MOST_BENT_MM = 3.0
_SHARED_END_MM = 10.0
_TIP_MM = 4.0
# Cross-sections, mm²: log-normal, within what voxels of 2.5 mm resolve and a short bundle can hold.
_MEDIAN_WEIGHT, _WEIGHT_SPREAD, _LEAST_WEIGHT, _MOST_WEIGHT = 20.0, 0.8, 6.0, 90.0
_LENGTH_PER_RADIUS = 6.0
# Shares of the bundles that the choice keeps in balance: commissural, then by centreline length (mm).
_SHORT_MM, _LONG_MM = 55.0, 95.0
_SHARES = {"commissural": 0.16, "long": 0.2, "medium": 0.34, "short": 0.3}

_Queue = list[tuple[float, list[Centreline]]]


def make_bundles(rng: np.random.Generator, anatomy: Anatomy, count: int) -> list[Bundle]:
    """Up to ``count`` bundles that a tracker can tell apart.

    Candidates are tested on their centrelines alone, against accepted centrelines as tubes with a radius: nothing is
    rastered.
    """
    corridors = find_corridors(anatomy)
    landings = Landings(anatomy, corridors)
    kinds = _pairs_to_try(rng, anatomy, count)
    candidates = [
        *propose(rng, anatomy, corridors, kinds["near"], 12, near=True),
        *propose(rng, anatomy, corridors, kinds["any"], 5),
        *propose(rng, anatomy, corridors, kinds["commissural"], 4),
    ]
    chosen = _chosen(_queued(rng, anatomy, candidates), landings, count)
    return [tube(line, weight, landings) for line, weight in chosen]


def _pairs_to_try(rng: np.random.Generator, anatomy: Anatomy, count: int) -> dict[str, Int[np.ndarray, "pair 2"]]:
    regions = len(anatomy.region_labels)
    pairs = np.array([(i, j) for i in range(regions) for j in range(i + 1, regions)])
    side = hemisphere_sides(anatomy.region_labels)[pairs]
    crossing = side[:, 0] * side[:, 1] < 0
    cortical = anatomy.is_cortical[pairs].all(axis=1)
    centres = anatomy.centres()[pairs]
    near = np.linalg.norm(centres[:, 0] - centres[:, 1], axis=1) < 45.0

    def some(chosen: np.ndarray, per_bundle: int) -> Int[np.ndarray, "pair 2"]:
        return np.asarray(pairs[rng.permutation(np.flatnonzero(chosen))[: per_bundle * count]])

    return {
        "near": some(~crossing & near, 7),
        "any": some(~crossing, 17),
        "commissural": some(crossing & cortical, 10),
    }


def _queued(rng: np.random.Generator, anatomy: Anatomy, candidates: list[Centreline]) -> dict[str, _Queue]:
    """Per kind of bundle: pairs in random order, each with its drawn weight and its paths, roomiest first."""
    side = hemisphere_sides(anatomy.region_labels)
    by_kind: dict[str, dict[tuple[int, int], list[Centreline]]] = {kind: defaultdict(list) for kind in _SHARES}
    for line in candidates:
        by_kind[_kind(line, side)][line.regions].append(line)
    queues: dict[str, _Queue] = {}
    for kind, by_pair in by_kind.items():
        pairs = list(by_pair)
        queues[kind] = []
        for index in rng.permutation(len(pairs)):
            lines = by_pair[pairs[index]]
            weight = _drawn_weight(rng, min(line.length for line in lines))
            radius = tube_radius(weight)
            order = np.argsort([_outside(line, radius) for line in lines], kind="stable")
            queues[kind].append((weight, [lines[i] for i in order[:6]]))
    return queues


def _drawn_weight(rng: np.random.Generator, length: float) -> float:
    weight = float(np.exp(rng.normal(np.log(_MEDIAN_WEIGHT), _WEIGHT_SPREAD)))
    thickest = (length / _LENGTH_PER_RADIUS / tube_radius(1.0)) ** 2
    return max(min(weight, _MOST_WEIGHT, thickest), _LEAST_WEIGHT)


def _kind(line: Centreline, side: Int[np.ndarray, " region"]) -> str:
    if side[line.regions[0]] * side[line.regions[1]] < 0:
        return "commissural"
    return "short" if line.length < _SHORT_MM else "long" if line.length > _LONG_MM else "medium"


def _outside(line: Centreline, radius: float) -> float:
    """About how much of the tube leaves the white matter between its fans."""
    middle = line.depth[5:-5] if len(line.depth) > 14 else line.depth
    return float(np.clip((radius - middle) / (2 * radius), 0, 1).mean())


def _chosen(queues: dict[str, _Queue], landings: Landings, count: int) -> list[tuple[Centreline, float]]:
    territory = _Territory()
    accepted: list[tuple[Centreline, float]] = []
    taken: set[tuple[int, int]] = set()
    tally = dict.fromkeys(queues, 0)
    while len(accepted) < count and any(queues.values()):
        # The callosum is narrow: its bundles choose first.
        open_kinds = [kind for kind in queues if queues[kind]]
        scarce = [kind for kind in open_kinds if kind == "commissural" and tally[kind] < _SHARES[kind] * count]
        kind = (scarce or sorted(open_kinds, key=lambda kind: tally[kind] / _SHARES[kind]))[0]
        weight, lines = queues[kind].pop()
        if lines[0].regions in taken:
            continue
        radius = tube_radius(weight)
        admitted = next((line for line in lines if _fits(line, radius, territory, landings)), None)
        if admitted is not None:
            accepted.append((admitted, weight))
            taken.add(admitted.regions)
            tally[kind] += 1
    return accepted


def _fits(line: Centreline, radius: float, territory: _Territory, landings: Landings) -> bool:
    return (
        _outside(line, radius) < _MOST_OUTSIDE
        and landing_error(line, radius, landings) < _MOST_BENT_MM
        and territory.admits(line, radius)
    )


class _Territory:
    """The tubes accepted so far, as points with a direction, a radius and the regions they lead to."""

    def __init__(self) -> None:
        self._points = np.empty((0, 3))
        self._tangents = np.empty((0, 3))
        self._radii = np.empty(0)
        self._tips = np.empty(0, bool)
        self._middle = np.empty(0, bool)
        self._owner = np.empty(0, int)
        self._regions: list[tuple[int, int]] = []
        self._crowded: list[np.ndarray] = []

    def admits(self, line: Centreline, radius: float) -> bool:
        """Take the tube in, unless it or a neighbour would run too far beside another of nearly its direction."""
        points, tangents, radii, ends, tips = _sampled(line, radius)
        middle = ~(ends[0] | ends[1])
        apart = np.linalg.norm(points[:, None] - self._points[None], axis=-1)
        overlapping = apart < radii[:, None] + self._radii[None] + 1.0
        # A bundle that runs through another's end would turn the grey matter that one ends in to white.
        if (overlapping & ((tips[:, None] & self._middle) | (middle[:, None] & self._tips))).any():
            return False
        touching = apart < radii[:, None] + self._radii[None] + _GAP_MM
        confused = touching & (np.abs(tangents @ self._tangents.T) > _PARALLEL_COSINE)
        # Near a region that both tubes enter, a streamline that changes tube still ends where it should.
        owner_regions = np.array(self._regions, int).reshape(-1, 2)[self._owner]
        for end, region in zip(ends, line.regions, strict=True):
            confused &= ~(end[:, None] & (owner_regions == region).any(axis=1)[None])
        if confused.any(axis=1).mean() > _MOST_AMBIGUOUS:
            return False
        crowded = [mask | confused.any(axis=0)[self._owner == k] for k, mask in enumerate(self._crowded)]
        if any(mask.mean() > _MOST_AMBIGUOUS for mask in crowded):
            return False
        self._crowded = [*crowded, confused.any(axis=1)]
        self._owner = np.concatenate([self._owner, np.full(len(points), len(self._regions))])
        self._regions.append(line.regions)
        self._points = np.concatenate([self._points, points])
        self._tangents = np.concatenate([self._tangents, tangents])
        self._radii = np.concatenate([self._radii, radii])
        self._tips = np.concatenate([self._tips, tips])
        self._middle = np.concatenate([self._middle, middle])
        return True


def _sampled(
    line: Centreline, radius: float
) -> tuple[
    Float[np.ndarray, "point 3"],
    Float[np.ndarray, "point 3"],
    Float[np.ndarray, " point"],
    tuple[np.ndarray, np.ndarray],
    Bool[np.ndarray, " point"],
]:
    """Every second point of a tube: place, direction, radius with the fans, which are near either end, which at one."""
    tangents = np.gradient(line.points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    along = np.linspace(0, line.length, len(line.points))
    radii = radius * fan(along, line.length)
    ends = (along < _SHARED_END_MM, along > line.length - _SHARED_END_MM)
    tips = np.minimum(along, line.length - along) < _TIP_MM
    return line.points[::2], tangents[::2], radii[::2], (ends[0][::2], ends[1][::2]), tips[::2]
