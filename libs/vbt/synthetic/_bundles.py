"""Bundles: tubes around accepted centrelines that fan out into their regions; a weight is a cross-section."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from vbt.synthetic._anatomy import Anatomy
from vbt.synthetic._centrelines import Centreline, Corridors, find_corridors, hemisphere_sides, propose

STREAMLINE_MM2 = 0.25
_PACKING = 0.6
_FAN_MM = 10.0
_FAN_WIDTH = 1.5
_INTO_GREY_MM = 1.0
_GAP_MM = 2.5
_PARALLEL_COSINE = np.cos(np.deg2rad(45))
_MOST_AMBIGUOUS = 0.06
_MOST_OUTSIDE = 0.25
# Shares of the bundles that the greedy choice keeps in balance: commissural, then by centreline length (mm).
_SHORT_MM, _LONG_MM = 55.0, 95.0
_SHARES = {"commissural": 0.16, "long": 0.2, "medium": 0.34, "short": 0.3}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One tract of the phantom.

    Parameters
    ----------
    regions : the two regions (0-based) that it joins
    weight : cross-section, mm²
    streamlines : each ``(point, 3)`` in scanner mm; every one stands for `STREAMLINE_MM2` of cross-section
    """

    regions: tuple[int, int]
    weight: float
    streamlines: tuple[Float[np.ndarray, "point 3"], ...]

    @property
    def length(self) -> float:
        """Mean arc length of the streamlines, mm."""
        return float(np.mean([np.linalg.norm(np.diff(s, axis=0), axis=1).sum() for s in self.streamlines]))


def make_bundles(rng: np.random.Generator, anatomy: Anatomy, count: int) -> list[Bundle]:
    """Up to ``count`` bundles that a tracker can tell apart.

    Candidates are tested on their centrelines alone, against accepted centrelines as tubes with a radius: nothing is
    rastered until a bundle is accepted.
    """
    corridors = find_corridors(anatomy)
    queues = _queued(rng, anatomy, _candidates(rng, anatomy, corridors))
    accepted = _chosen(queues, count)
    grey = {r: cKDTree(corridors.doors[r]) for r in {r for line, _ in accepted for r in line.regions}}
    return [_tube(line, weight, grey) for line, weight in accepted]


def _candidates(rng: np.random.Generator, anatomy: Anatomy, corridors: Corridors) -> list[Centreline]:
    regions = len(anatomy.region_labels)
    pairs = np.array([(i, j) for i in range(regions) for j in range(i + 1, regions)])
    side = hemisphere_sides(anatomy.region_labels)[pairs]
    crossing = side[:, 0] * side[:, 1] < 0
    cortical = anatomy.is_cortical[pairs].all(axis=1)
    centres = anatomy.centres()[pairs]
    near = np.linalg.norm(centres[:, 0] - centres[:, 1], axis=1) < 45.0
    return [
        *propose(rng, anatomy, corridors, pairs[~crossing & near], 16, near=True),
        *propose(rng, anatomy, corridors, pairs[~crossing], 5),
        *propose(rng, anatomy, corridors, pairs[crossing & cortical], 4),
    ]


def _queued(
    rng: np.random.Generator, anatomy: Anatomy, candidates: list[Centreline]
) -> dict[str, list[tuple[float, list[Centreline]]]]:
    """Per kind of bundle: pairs in random order, each with its drawn weight and its paths, roomiest first."""
    side = hemisphere_sides(anatomy.region_labels)
    by_kind: dict[str, dict[tuple[int, int], list[Centreline]]] = {kind: defaultdict(list) for kind in _SHARES}
    for line in candidates:
        by_kind[_kind(line, side)][line.regions].append(line)
    queues = {}
    for kind, by_pair in by_kind.items():
        pairs = list(by_pair)
        queues[kind] = []
        for index in rng.permutation(len(pairs)):
            weight = float(np.clip(np.exp(rng.normal(np.log(20.0), 0.8)), 6.0, 90.0))
            lines = sorted(by_pair[pairs[index]], key=lambda line: _outside(line, _radius(weight)))
            queues[kind].append((weight, lines))
    return queues


def _kind(line: Centreline, side: Int[np.ndarray, " region"]) -> str:
    if side[line.regions[0]] * side[line.regions[1]] < 0:
        return "commissural"
    return "short" if line.length < _SHORT_MM else "long" if line.length > _LONG_MM else "medium"


def _radius(weight: float) -> float:
    return float(np.sqrt(weight / _PACKING / np.pi))


def _outside(line: Centreline, radius: float) -> float:
    """About how much of the tube leaves the white matter between its fans."""
    middle = line.depth[5:-5] if len(line.depth) > 14 else line.depth
    return float(np.clip((radius - middle) / (2 * radius), 0, 1).mean())


class _Territory:
    """The tubes accepted so far, as points with a direction, a radius and the regions they lead to."""

    def __init__(self) -> None:
        self._points = np.empty((0, 3))
        self._tangents = np.empty((0, 3))
        self._radii = np.empty(0)
        self._owner = np.empty(0, int)
        self._nearby: list[tuple[int, int]] = []
        self._shared: list[int] = []
        self._regions: list[tuple[int, int]] = []
        self._crowded: list[np.ndarray] = []

    def admits(self, line: Centreline, radius: float) -> bool:
        """Take the tube in, unless it or a neighbour would run too far beside another of nearly its direction."""
        points, tangents, radii, ends = _sampled(line, radius)
        apart = np.linalg.norm(points[:, None] - self._points[None], axis=-1)
        touching = apart < radii[:, None] + self._radii[None] + _GAP_MM
        parallel = np.abs(tangents @ self._tangents.T) > _PARALLEL_COSINE
        confused = touching & parallel
        # Near a region that both tubes enter, a streamline that changes tube still ends where it should.
        owner_regions = (
            np.array(self._regions, int).reshape(-1, 2)[self._owner] if len(self._owner) else np.empty((0, 2))
        )
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
        return True


def _sampled(line: Centreline, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Every second point of a tube, its direction, its radius with the fans, and which points are near either end."""
    tangents = np.gradient(line.points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    along = np.arange(len(line.points)) * (line.length / (len(line.points) - 1))
    radii = radius * _fan(along, line.length)
    ends = (along < 12.0, along > line.length - 12.0)
    return line.points[::2], tangents[::2], radii[::2], tuple(end[::2] for end in ends)


def _fan(along: Float[np.ndarray, " point"], length: float) -> Float[np.ndarray, " point"]:
    reach = min(_FAN_MM, length / 3)
    from_end = np.minimum(along, length - along)
    return np.asarray(1 + (_FAN_WIDTH - 1) * np.clip(1 - from_end / reach, 0, 1))


def _chosen(queues: dict[str, list[tuple[float, list[Centreline]]]], count: int) -> list[tuple[Centreline, float]]:
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
        radius = _radius(weight)
        roomy = [line for line in lines[:4] if _outside(line, radius) < _MOST_OUTSIDE]
        admitted = next((line for line in roomy if territory.admits(line, radius)), None)
        if admitted is not None:
            accepted.append((admitted, weight))
            taken.add(admitted.regions)
            tally[kind] += 1
    return accepted


def _tube(line: Centreline, weight: float, grey: dict[int, cKDTree]) -> Bundle:
    """Streamlines on a disc carried along the centreline, ending on their regions' surfaces."""
    count = max(4, round(weight / STREAMLINE_MM2))
    index = np.arange(count) + 0.5
    # Sunflower seeds cover a disc evenly.
    spread = _radius(weight) * np.sqrt(index / count)
    angle = index * np.pi * (3 - np.sqrt(5))
    offsets = spread[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    tangents = np.gradient(line.points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    first, second = _rotation_minimising_frame(line.points, tangents)
    along = np.arange(len(line.points)) * (line.length / (len(line.points) - 1))
    widened = _fan(along, line.length)[None, :, None]
    lines = line.points + widened * (offsets[:, 0, None, None] * first[None] + offsets[:, 1, None, None] * second[None])
    lines = _landed(lines, along, line, grey)
    return Bundle(regions=line.regions, weight=count * STREAMLINE_MM2, streamlines=tuple(lines))


def _rotation_minimising_frame(
    points: Float[np.ndarray, "point 3"], tangents: Float[np.ndarray, "point 3"]
) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, "point 3"]]:
    """Normals that do not twist about the curve (Wang et al. 2008, double reflection)."""
    normal = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    normals = [normal / np.linalg.norm(normal)]
    for i in range(len(points) - 1):
        step = points[i + 1] - points[i]
        scale = step @ step
        reflected = normals[-1] - (2 / scale) * (step @ normals[-1]) * step
        turned = tangents[i] - (2 / scale) * (step @ tangents[i]) * step
        difference = tangents[i + 1] - turned
        size = difference @ difference
        if size > 1e-12:
            reflected = reflected - (2 / size) * (difference @ reflected) * difference
        normals.append(reflected / np.linalg.norm(reflected))
    first = np.array(normals)
    return first, np.cross(tangents, first)


def _landed(
    lines: Float[np.ndarray, "line point 3"],
    along: Float[np.ndarray, " point"],
    line: Centreline,
    grey: dict[int, cKDTree],
) -> Float[np.ndarray, "line point 3"]:
    """Bend the ends onto grey matter of the right region, and let them reach a little into it."""
    reach = min(_FAN_MM, line.length / 3)
    for end, region, distance in ((0, line.regions[0], along), (-1, line.regions[1], along[-1] - along)):
        tree = grey[region]
        _, nearest = tree.query(lines[:, end])
        outward = lines[:, end] - lines[:, end - 1 if end else 2]
        outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
        target = tree.data[nearest] + _INTO_GREY_MM * outward
        blend = np.clip(1 - distance / reach, 0, 1)
        blend = blend**2 * (3 - 2 * blend)
        lines = lines + blend[None, :, None] * (target - lines[:, end])[:, None]
    return np.asarray(lines)
