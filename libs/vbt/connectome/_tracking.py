"""Streamlines: paths that follow the fibre peaks through white matter until they have entered a region.

All seeds take a step at once. The direction at a point mixes, over the eight voxels around it, the peak of each that
continues the path best, so that fibres that cross do not mix. Where a path may run and what region it has reached is
read from the 1 mm anatomy, not from the coarse diffusion grid. A path that only grazes a region goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from vbt.connectome._anatomy import Anatomy
from vbt.connectome._diffusion import Diffusion
from vbt.connectome._fibres import Fibres

_STEP_VOXELS = 0.5
_TURN = np.cos(np.deg2rad(45.0))
_LEAST_AMPLITUDE = 0.15
_DENSEST = 2.0
_DEPTH_MM = 2.0
_SEARCH_MM = 2.0
_SHORTEST_MM, _LONGEST_MM = 8.0, 250.0
_BATCH = 20_000
_BARRED = -1


@dataclass(frozen=True, kw_only=True)
class Streamlines:
    """Paths from region to region.

    Parameters
    ----------
    points : of all paths one after the other, diffusion voxel coordinates
    offsets : path ``i`` is ``points[offsets[i]:offsets[i + 1]]``
    ends : the region at either end, from 1; 0 where the path ended in none
    step : mm between points
    """

    points: Float[np.ndarray, "point 3"]
    offsets: Int[np.ndarray, " path+1"]
    ends: Int[np.ndarray, "path 2"]
    step: float

    @property
    def count(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> Float[np.ndarray, " path"]:
        """mm, along the path and into the regions at its ends."""
        return np.asarray((np.diff(self.offsets) - 1) * self.step)

    def chosen(self, which: Bool[np.ndarray, " path"]) -> Streamlines:
        """Some of the paths."""
        sizes = np.diff(self.offsets)
        return Streamlines(
            points=self.points[np.repeat(which, sizes)],
            offsets=np.concatenate([[0], np.cumsum(sizes[which])]),
            ends=self.ends[which],
            step=self.step,
        )


@dataclass(frozen=True, kw_only=True)
class _Ground:
    directions: Float[np.ndarray, "voxel peak 3"]
    amplitudes: Float[np.ndarray, "voxel peak"]
    shape: tuple[int, int, int]
    place: Int[np.ndarray, "x y z"]
    near: Int[np.ndarray, "x y z"]
    to_place: Float[np.ndarray, "4 4"]
    step_mm: float

    def at(self, volume: np.ndarray, points: Float[np.ndarray, "path 3"], outside: int) -> Int[np.ndarray, " path"]:
        where = np.rint(points @ self.to_place[:3, :3].T + self.to_place[:3, 3]).astype(np.intp)
        inside = ((where >= 0) & (where < volume.shape)).all(axis=1)
        found = np.full(len(points), outside, dtype=np.int32)
        found[inside] = volume[tuple(where[inside].T)]
        return found


def track(
    fibres: Fibres,
    diffusion: Diffusion,
    anatomy: Anatomy,
    *,
    seeds: int,
    rng: np.random.Generator,
    done: Callable[[float], None] = lambda _: None,
) -> Streamlines:
    """Deterministic streamlines from random points of the patient's white matter.

    Parameters
    ----------
    seeds : points drawn evenly over the white matter, kept in proportion to the fibre density (the amplitude of the
        peaks), each following one peak
    """
    ground = _ground(fibres, diffusion, anatomy)
    starts, headings = _seeds(ground, anatomy, seeds, rng)
    parts = []
    for first in range(0, len(starts), _BATCH):
        part = slice(first, first + _BATCH)
        parts.append(_both_ways(ground, starts[part], headings[part]))
        done(min(1.0, (first + _BATCH) / len(starts)))
    return _joined(parts, ground.step_mm)


def _ground(fibres: Fibres, diffusion: Diffusion, anatomy: Anatomy) -> _Ground:
    fluid = (anatomy.tissue.fluid > 0.5) & (anatomy.labels == 0)
    place = np.where(fluid | ~anatomy.mask, _BARRED, anatomy.labels).astype(np.int32)
    distance, nearest = ndimage.distance_transform_edt(anatomy.labels == 0, return_indices=True)
    near = np.where(distance <= _SEARCH_MM, anatomy.labels[tuple(nearest)], 0).astype(np.int32)
    peaks = fibres.amplitudes.shape[3]
    shape = diffusion.mask.shape
    return _Ground(
        directions=fibres.directions.reshape(-1, peaks, 3),
        amplitudes=fibres.amplitudes.reshape(-1, peaks),
        shape=(shape[0], shape[1], shape[2]),
        place=place,
        near=near,
        to_place=np.linalg.inv(anatomy.affine) @ diffusion.to_anatomy @ diffusion.affine,
        step_mm=_STEP_VOXELS * float(np.linalg.norm(diffusion.affine[:3, 0])),
    )


def _seeds(
    ground: _Ground, anatomy: Anatomy, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "seed 3"], Float[np.ndarray, "seed 3"]]:
    white = np.argwhere((anatomy.tissue.white > 0.5) & (anatomy.labels == 0))
    inverse = np.linalg.inv(ground.to_place)
    picked = white[rng.integers(0, len(white), count)] + rng.uniform(-0.5, 0.5, (count, 3))
    points = (picked @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.float32)
    voxel = np.rint(points).astype(np.intp)
    inside = ((voxel >= 0) & (voxel < ground.shape)).all(axis=1)
    points, voxel, draw = points[inside], voxel[inside], rng.random(count)[inside]
    flat = np.ravel_multi_index(tuple(voxel.T), ground.shape)
    # A point keeps its seed with a probability in proportion to the fibre density there, so that the streamlines of a
    # bundle count its fibre volume and, each divided by its length, its cross-section.
    heap = np.cumsum(ground.amplitudes[flat], axis=1)
    level = _DENSEST * draw
    peak = np.minimum((heap < level[:, None]).sum(axis=1), heap.shape[1] - 1)
    kept = (level < heap[:, -1]) & (ground.amplitudes[flat, peak] > _LEAST_AMPLITUDE)
    return points[kept], ground.directions[flat[kept], peak[kept]]


def _both_ways(
    ground: _Ground, starts: Float[np.ndarray, "seed 3"], headings: Float[np.ndarray, "seed 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    owners, ranks, points, ends = [], [], [], []
    for sign in (-1, 1):
        who, rank, where, label = _walk(ground, starts, sign * headings)
        owners.append(who)
        ranks.append(sign * rank)
        points.append(where)
        ends.append(label)
    seeds = np.arange(len(starts))
    owner = np.concatenate([*owners, seeds])
    rank = np.concatenate([*ranks, np.zeros(len(seeds), dtype=int)])
    path = np.concatenate([*points, starts])
    order = np.lexsort((rank, owner))
    return path[order], np.bincount(owner, minlength=len(starts)), np.stack(ends, axis=1)


def _walk(
    ground: _Ground, starts: Float[np.ndarray, "seed 3"], headings: Float[np.ndarray, "seed 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Owner, rank and position of every point after the start, and the region each path ended in."""
    alive = np.arange(len(starts))
    position, heading = starts.astype(np.float32), headings.astype(np.float32)
    depth = np.zeros(len(starts))
    last = np.zeros(len(starts), dtype=np.int32)
    ends = np.zeros(len(starts), dtype=np.int32)
    owners, ranks, points = [], [], []
    for rank in range(1, int(_LONGEST_MM / ground.step_mm)):
        ahead, strong = _continued(ground, position, heading)
        moved = position + _STEP_VOXELS * ahead
        place = ground.at(ground.place, moved, _BARRED)
        goes = strong & (place != _BARRED)
        depth = np.where(place > 0, depth + ground.step_mm, 0.0)
        lost = ~goes
        ends[alive[lost]] = np.where(last[lost] > 0, last[lost], ground.at(ground.near, position[lost], 0))
        owners.append(alive[goes])
        ranks.append(np.full(int(goes.sum()), rank))
        points.append(moved[goes])
        arrived = goes & (depth >= _DEPTH_MM)
        ends[alive[arrived]] = place[arrived]
        on = goes & ~arrived
        alive, position, heading, depth, last = alive[on], moved[on], ahead[on], depth[on], np.maximum(place[on], 0)
        if alive.size == 0:
            break
    return np.concatenate(owners), np.concatenate(ranks), np.concatenate(points), ends


def _continued(
    ground: _Ground, position: Float[np.ndarray, "path 3"], heading: Float[np.ndarray, "path 3"]
) -> tuple[Float[np.ndarray, "path 3"], Bool[np.ndarray, " path"]]:
    base = np.floor(position)
    part = position - base
    corner = base.astype(np.intp)
    total = np.zeros_like(position)
    weight = np.zeros(len(position), dtype=np.float32)
    rows = np.arange(len(position))
    for offset in np.ndindex(2, 2, 2):
        share = np.prod(np.where(offset, part, 1 - part), axis=1)
        voxel = np.clip(corner + offset, 0, np.array(ground.shape) - 1)
        flat = (voxel[:, 0] * ground.shape[1] + voxel[:, 1]) * ground.shape[2] + voxel[:, 2]
        axes = ground.directions[flat]
        along = np.einsum("vpc,vc->vp", axes, heading)
        best = np.argmax(np.abs(along), axis=1)
        cosine = along[rows, best]
        pull = share * ground.amplitudes[flat, best] * (np.abs(cosine) > _TURN)
        total += (pull * np.sign(cosine))[:, None] * axes[rows, best]
        weight += pull
    length = np.linalg.norm(total, axis=1)
    strong = weight > _LEAST_AMPLITUDE
    ahead = np.where(strong[:, None], total / np.maximum(length, 1e-9)[:, None], heading)
    return ahead.astype(np.float32), strong


def _joined(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], step: float) -> Streamlines:
    points = np.concatenate([part[0] for part in parts])
    sizes = np.concatenate([part[1] for part in parts])
    whole = Streamlines(
        points=points,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        ends=np.concatenate([part[2] for part in parts]),
        step=step,
    )
    return whole.chosen((whole.lengths >= _SHORTEST_MM) & (whole.lengths <= _LONGEST_MM))
