"""Candidate paths between two regions: cubic Hermite curves that an active contour pulls into the white matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree

from vbt.synthetic._anatomy import Anatomy

_POINTS = 48
_CONTOUR_STEPS = 24
_DEPTH_CAP_MM = 6.0
_CORE_RADIUS_MM = 6.0
_DOORS_APART_MM = 14.0
_SMOOTHING_MM = 4.0


@dataclass(frozen=True, kw_only=True)
class Corridors:
    """Where bundles may run, and from where they may leave each region.

    Parameters
    ----------
    white : white matter voxels that carry no region label
    depth : distance (mm) from the edge of `white`, negative outside
    doors : per region, the grey matter points (scanner mm) that touch white matter, well inside the region
    inward : unit vectors at the doors, into the white matter
    callosum : points of the midsagittal white matter through which the hemispheres are joined
    """

    white: Bool[np.ndarray, "x y z"]
    depth: Float[np.ndarray, "x y z"]
    doors: tuple[Float[np.ndarray, "door 3"], ...]
    inward: tuple[Float[np.ndarray, "door 3"], ...]
    callosum: Float[np.ndarray, "point 3"]


@dataclass(frozen=True, kw_only=True)
class Centreline:
    """One candidate path.

    Parameters
    ----------
    regions : the two regions (0-based) that it joins
    points : scanner mm, equally spaced by about 1 mm, from door to door
    depth : clearance (mm) from anything that is not white matter, at each point
    """

    regions: tuple[int, int]
    points: Float[np.ndarray, "point 3"]
    depth: Float[np.ndarray, " point"]

    @property
    def length(self) -> float:
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())


def find_corridors(anatomy: Anatomy) -> Corridors:
    """Distance maps and doors of an anatomy."""
    white = (anatomy.white > 0.5) & (anatomy.labels == 0)
    spacing = anatomy.voxel_mm
    depth = _signed_depth(white, spacing)
    labelled = np.argwhere((anatomy.labels > 0) & ndimage.binary_dilation(white))
    numbers = anatomy.labels[tuple(labelled.T)]
    points = anatomy.points(labelled.astype(float))
    core = _is_core(points, numbers)
    slope = np.stack([_at(g, anatomy, points) for g in np.gradient(ndimage.gaussian_filter(depth, 2.0 / spacing))], -1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9
    chosen = [core & (numbers == r + 1) for r in range(len(anatomy.region_labels))]
    middle = np.argwhere(white & (np.abs(anatomy.mni[..., 0]) < spacing) & (depth > 1.0 * spacing))
    mni = anatomy.mni[tuple(middle.T)]
    callosal = (mni[:, 2] > -2) & (mni[:, 2] < 35) & (mni[:, 1] > -48) & (mni[:, 1] < 40)
    return Corridors(
        white=white,
        depth=depth,
        doors=tuple(points[c] for c in chosen),
        inward=tuple(slope[c] for c in chosen),
        callosum=anatomy.points(middle[callosal].astype(float)),
    )


def propose(
    rng: np.random.Generator,
    anatomy: Anatomy,
    corridors: Corridors,
    pairs: Int[np.ndarray, "pair 2"],
    curves: int,
    *,
    near: bool = False,
) -> list[Centreline]:
    """Up to ``curves`` paths per pair that stay in white matter and bend gently.

    Pairs across the hemispheres pass through the callosum; ``near`` prefers doors that face each other closely.
    """
    repeated = np.repeat(pairs, curves, axis=0)
    drafts = _hermite(rng, anatomy, corridors, repeated, tries=20 if near else 1)
    paths = _smoothed(_relaxed(drafts, anatomy, corridors, modes=2 if near else 5))
    depth = _at(corridors.depth, anatomy, paths)
    usable = _plausible(paths, depth)
    return [
        _resampled(path, anatomy, corridors, (int(pair[0]), int(pair[1])))
        for path, pair in zip(paths[usable], repeated[usable], strict=True)
    ]


def _signed_depth(mask: Bool[np.ndarray, "x y z"], spacing: float) -> Float[np.ndarray, "x y z"]:
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - 8), s.stop + 8) for s in box)
    inside = ndimage.distance_transform_edt(mask[box]) - ndimage.distance_transform_edt(~mask[box])
    depth = np.full(mask.shape, -20.0, np.float32)
    depth[box] = inside * spacing
    return np.asarray(np.minimum(depth, _DEPTH_CAP_MM * 2), np.float32)


def _is_core(points: Float[np.ndarray, "p 3"], numbers: Int[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    """Doors whose surroundings belong to their own region, so that a small registration error changes nothing."""
    tree = cKDTree(points)
    _, near = tree.query(points, k=min(24, len(points)), distance_upper_bound=_CORE_RADIUS_MM)
    padded = np.append(numbers, 0)[near]
    same = (padded == numbers[:, None]).sum(axis=1)
    share = same / np.maximum((padded > 0).sum(axis=1), 1)
    core = share > 0.95
    for number in np.unique(numbers):  # a small region keeps its best doors
        own = np.flatnonzero(numbers == number)
        if core[own].sum() < 40:
            core[own[np.argsort(-share[own], kind="stable")[:40]]] = True
    return np.asarray(core)


def _at(volume: np.ndarray, anatomy: Anatomy, points: Float[np.ndarray, "*any 3"]) -> np.ndarray:
    voxels = np.moveaxis(anatomy.voxels(points), -1, 0)
    return np.asarray(ndimage.map_coordinates(volume, voxels, order=1, mode="nearest", prefilter=False))


def _hermite(
    rng: np.random.Generator,
    anatomy: Anatomy,
    corridors: Corridors,
    pairs: Int[np.ndarray, "curve 2"],
    tries: int,
) -> Float[np.ndarray, "curve point 3"]:
    (start, leave), (stop, arrive) = _picked_doors(rng, corridors, pairs, tries)
    side = hemisphere_sides(anatomy.region_labels)
    crossing = side[pairs[:, 0]] * side[pairs[:, 1]] < 0
    direct = _cubic(rng, start, leave, stop, -arrive, _POINTS)
    middle = corridors.callosum[rng.integers(len(corridors.callosum), size=len(pairs))]
    # The bundle leaves the callosum sideways, towards each hemisphere.
    across = np.zeros_like(start)
    across[:, 0] = side[pairs[:, 1]]
    halves = [
        _cubic(rng, start, leave, middle, across, _POINTS // 2),
        _cubic(rng, middle, across, stop, -arrive, _POINTS // 2),
    ]
    return np.where(crossing[:, None, None], np.concatenate(halves, axis=1), direct)


def hemisphere_sides(region_labels: tuple[str, ...]) -> Int[np.ndarray, " region"]:
    """-1 left, 1 right, 0 on the midline."""
    labels = np.array(region_labels)
    return np.asarray(np.char.startswith(labels, "rh.").astype(int) - np.char.startswith(labels, "lh.").astype(int))


def _picked_doors(
    rng: np.random.Generator, corridors: Corridors, pairs: Int[np.ndarray, "curve 2"], tries: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Doors of each curve's two regions: the closest of ``tries`` random choices that are a tube's width apart."""
    counts = np.array([len(doors) for doors in corridors.doors])
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    points, inward = np.concatenate(corridors.doors), np.concatenate(corridors.inward)
    picks = offsets[pairs] + (rng.random((tries, *pairs.shape)) * counts[pairs]).astype(int)
    apart = np.linalg.norm(points[picks[..., 0]] - points[picks[..., 1]], axis=-1)
    best = np.argmin(np.where(apart < _DOORS_APART_MM, np.inf, apart), axis=0)
    first, second = picks[best, np.arange(len(pairs))].T
    return (points[first], inward[first]), (points[second], inward[second])


def _cubic(
    rng: np.random.Generator,
    start: Float[np.ndarray, "curve 3"],
    leave: Float[np.ndarray, "curve 3"],
    stop: Float[np.ndarray, "curve 3"],
    arrive: Float[np.ndarray, "curve 3"],
    points: int,
) -> Float[np.ndarray, "curve point 3"]:
    reach = np.linalg.norm(stop - start, axis=1)[:, None] * rng.uniform(0.5, 1.8, (len(start), 1))
    t = np.linspace(0, 1, points)[None, :, None]
    return np.asarray(
        (2 * t**3 - 3 * t**2 + 1) * start[:, None]
        + (t**3 - 2 * t**2 + t) * (reach * leave)[:, None]
        + (3 * t**2 - 2 * t**3) * stop[:, None]
        + (t**3 - t**2) * (reach * arrive)[:, None]
    )


def _relaxed(
    paths: Float[np.ndarray, "curve point 3"], anatomy: Anatomy, corridors: Corridors, modes: int
) -> Float[np.ndarray, "curve point 3"]:
    """An active contour with fixed ends, pulled up the depth map; few sine modes keep it from kinking."""
    smooth = ndimage.gaussian_filter(np.clip(corridors.depth, -8, _DEPTH_CAP_MM), 1.0 / anatomy.voxel_mm)
    slopes = np.stack(np.gradient(smooth), axis=-1) / np.float32(anatomy.voxel_mm)
    position = np.linspace(0, 1, paths.shape[1])
    basis = np.sin(np.pi * np.outer(np.arange(1, modes + 1), position))
    smoothing = 2 / (paths.shape[1] - 1) * basis.T @ basis
    for _ in range(_CONTOUR_STEPS):
        # The nearest voxel's slope will do: the sine modes smooth it, and looking it up is cheap.
        voxel = np.rint(anatomy.voxels(paths)).astype(np.intp)
        voxel = np.clip(voxel, 0, np.array(smooth.shape) - 1)
        pull = slopes[voxel[..., 0], voxel[..., 1], voxel[..., 2]]
        tangents = np.gradient(paths, axis=1)
        tangents /= np.linalg.norm(tangents, axis=-1, keepdims=True) + 1e-9
        pull -= (pull * tangents).sum(axis=-1, keepdims=True) * tangents
        paths = paths + np.moveaxis(np.tensordot(smoothing, pull, axes=([1], [1])), 0, 1)
    return paths


def _smoothed(paths: Float[np.ndarray, "curve point 3"]) -> Float[np.ndarray, "curve point 3"]:
    """Equal spacing, then a Gaussian blur along the arc that leaves the ends where they are."""
    count = paths.shape[1]
    position = np.linspace(0, 1, count)
    along = np.cumsum(np.pad(np.linalg.norm(np.diff(paths, axis=1), axis=-1), ((0, 0), (1, 0))), axis=1)
    length = along[:, -1:]
    even = np.empty_like(paths)
    for path, fraction, target in zip(paths, along / length, even, strict=True):
        for k in range(3):
            target[:, k] = np.interp(position, fraction, path[:, k])
    chord = even[:, :1] + position[None, :, None] * (even[:, -1:] - even[:, :1])
    order = np.arange(1, count - 1)
    basis = np.sin(np.pi * np.outer(order, position))
    damping = np.exp(-0.5 * (np.pi * order * _SMOOTHING_MM / length) ** 2)
    modes = np.tensordot(basis, even - chord, axes=([1], [1])) * damping.T[..., None] * (2 / (count - 1))
    return np.asarray(chord + np.moveaxis(np.tensordot(basis, modes, axes=([0], [0])), 0, 1))


def _plausible(
    paths: Float[np.ndarray, "curve point 3"], depth: Float[np.ndarray, "curve point"]
) -> Bool[np.ndarray, " curve"]:
    steps = np.diff(paths, axis=1)
    spacing = np.linalg.norm(steps, axis=-1)
    length = spacing.sum(axis=1)
    tangents = steps / (spacing[..., None] + 1e-9)
    turn = np.arccos(np.clip((tangents[:, 1:] * tangents[:, :-1]).sum(-1), -1, 1))
    radius = (0.5 * (spacing[:, 1:] + spacing[:, :-1]) / (turn + 1e-6)).min(axis=1)
    along = np.cumsum(np.pad(spacing, ((0, 0), (1, 0))), axis=1)
    middle = (along > 3.0) & (along < length[:, None] - 3.0)
    outside = (middle & (depth < 0.5)).sum(axis=1) / np.maximum(middle.sum(axis=1), 1)
    return np.asarray((outside <= 0.02) & (radius > 5.0) & (length > 18.0) & (length < 200.0))


def _resampled(
    path: Float[np.ndarray, "point 3"], anatomy: Anatomy, corridors: Corridors, regions: tuple[int, int]
) -> Centreline:
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0, along[-1], max(round(along[-1]), 8) + 1)
    points = np.stack([np.interp(even, along, path[:, k]) for k in range(3)], axis=-1)
    return Centreline(regions=regions, points=points, depth=_at(corridors.depth, anatomy, points))
