"""The bundles cleared of foreign grey matter, and what fibre each voxel of a scan holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from vbt.synthetic._acquisition import flat_voxels
from vbt.synthetic._anatomy import Anatomy
from vbt.synthetic._bundles import STREAMLINE_MM2, Bundle

_ARRIVING_MM = 12.0
_CLEARANCE_FROM_END_MM = 6.0


@dataclass(frozen=True, kw_only=True)
class Fixels:
    """Fibre populations of a grid: one per voxel and bundle.

    Parameters
    ----------
    voxel : flat index
    bundle : index of the bundle
    direction : unit vector, scanner RAS+
    fraction : volume fraction of the voxel; they sum to at most 1 in a voxel
    """

    voxel: Int[np.ndarray, " fixel"]
    bundle: Int[np.ndarray, " fixel"]
    direction: Float[np.ndarray, "fixel 3"]
    fraction: Float[np.ndarray, " fixel"]


def cleared(anatomy: Anatomy, bundles: list[Bundle]) -> Anatomy:
    """The anatomy with white matter wherever a bundle runs.

    A tracker stops where it meets grey matter, so no bundle may pass any but its own two regions; those it may enter
    only where it ends.
    """
    steps = _steps(bundles, parts=2)
    shape = anatomy.labels.shape
    voxel = flat_voxels(steps.points, anatomy.affine, (shape[0], shape[1], shape[2]))
    label = anatomy.labels.ravel()[voxel]
    regions = np.array([b.regions for b in bundles])[steps.bundle] + 1
    arrived = (label[:, None] == regions).any(axis=1) & (steps.from_end < _ARRIVING_MM)
    path = np.zeros(anatomy.labels.size, bool)
    path[voxel[~arrived]] = True
    passing = np.zeros_like(path)
    passing[voxel[steps.from_end > _CLEARANCE_FROM_END_MM]] = True
    landing = np.zeros_like(path)
    landing[voxel[arrived]] = True
    margin = ndimage.binary_dilation(passing.reshape(shape)).ravel() & ~landing
    white = (path | margin).reshape(shape) & anatomy.brain
    return replace(
        anatomy,
        labels=np.where(white, 0, anatomy.labels).astype(anatomy.labels.dtype),
        white=np.where(white, 1, anatomy.white).astype(np.float32),
        grey=np.where(white, 0, anatomy.grey).astype(np.float32),
        csf=np.where(white, 0, anatomy.csf).astype(np.float32),
    )


def fixels_on(bundles: list[Bundle], affine: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]) -> Fixels:
    """Fibre fractions and mean directions of the bundles on a grid."""
    steps = _steps(bundles, parts=2)
    voxel = flat_voxels(steps.points, affine, shape)
    inside = voxel >= 0
    key = voxel[inside] * len(bundles) + steps.bundle[inside]
    unique, where = np.unique(key, return_inverse=True)
    vectors = steps.vectors[inside]
    size = np.linalg.norm(vectors, axis=1)
    volume = np.bincount(where, weights=size) * STREAMLINE_MM2
    dyads = np.empty((len(unique), 3, 3))
    for i in range(3):
        for j in range(3):
            dyads[:, i, j] = np.bincount(where, weights=vectors[:, i] * vectors[:, j] / (size + 1e-12))
    direction = np.linalg.eigh(dyads)[1][:, :, -1]
    fraction = volume / abs(np.linalg.det(affine[:3, :3]))
    at = unique // len(bundles)
    crowding = np.maximum(np.bincount(at, weights=fraction)[at], 1.0)
    return Fixels(voxel=at, bundle=unique % len(bundles), direction=direction, fraction=fraction / crowding)


@dataclass(frozen=True, kw_only=True)
class _Steps:
    points: Float[np.ndarray, "step 3"]
    vectors: Float[np.ndarray, "step 3"]
    from_end: Float[np.ndarray, " step"]
    bundle: Int[np.ndarray, " step"]


def _steps(bundles: list[Bundle], parts: int) -> _Steps:
    """All streamlines cut into short steps: middle, vector, distance along the streamline to its nearer end."""
    points, vectors, from_end, owner = [], [], [], []
    for index, bundle in enumerate(bundles):
        lines = np.array(bundle.streamlines)
        step = np.diff(lines, axis=1)
        size = np.linalg.norm(step, axis=-1)
        start = np.cumsum(size, axis=1) - size
        for part in range(parts):
            fraction = (part + 0.5) / parts
            along = start + fraction * size
            points.append((lines[:, :-1] + fraction * step).reshape(-1, 3))
            vectors.append(step.reshape(-1, 3) / parts)
            from_end.append(np.minimum(along, size.sum(axis=1, keepdims=True) - along).ravel())
            owner.append(np.full(along.size, index))
    return _Steps(
        points=np.concatenate(points),
        vectors=np.concatenate(vectors),
        from_end=np.concatenate(from_end),
        bundle=np.concatenate(owner),
    )
