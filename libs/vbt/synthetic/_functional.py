"""Resting-state volumes: regional BOLD painted into the grey matter, with drift, motion and noise."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Float
from scipy import sparse

from vbt.synthetic._acquisition import (
    AXIAL,
    flat_voxels,
    grid_affine,
    head_positions,
    moved,
    rician,
    tilted,
    tissue_fractions,
)
from vbt.synthetic._anatomy import Anatomy, as_image
from vbt.synthetic._diffusion import slab_centre
from vbt.synthetic._settings import FunctionalProtocol

# T2*-weighted signal relative to grey matter.
_INTENSITY = {"white": 0.8, "grey": 1.0, "csf": 1.4, "head": 0.25}
_SIGNAL = 1000.0
_TILT_DEGREES = 5.0


@dataclass(frozen=True, kw_only=True)
class FunctionalScan:
    """A functional run.

    Parameters
    ----------
    image : int16, (column, row, slice, volume)
    repetition_time : s
    motion : head position at each volume, world to world
    """

    image: nib.Nifti1Image
    repetition_time: float
    motion: Float[np.ndarray, "volume 4 4"]


def scan_bold(
    rng: np.random.Generator,
    anatomy: Anatomy,
    regional_bold: Float[np.ndarray, "volume region"],
    protocol: FunctionalProtocol,
) -> FunctionalScan:
    """Acquire a run in which every region's grey matter follows its time series (percent signal change)."""
    affine = grid_affine(
        tilted(AXIAL, _TILT_DEGREES),
        (protocol.voxel_mm,) * 3,
        protocol.shape,
        slab_centre(anatomy, protocol.shape[2] * protocol.voxel_mm),
    )
    fractions = tissue_fractions(anatomy, affine, protocol.shape)
    rest = sum(_INTENSITY[tissue] * fractions[tissue] for tissue in _INTENSITY)
    change = _regional_share(anatomy, affine, protocol.shape) * fractions["grey"][:, None]
    motion = head_positions(rng, len(regional_bold), protocol.motion_mm, protocol.motion_degrees, wander=0.97)
    drift = _drift(rng, affine, protocol)
    volumes = np.empty((*protocol.shape, len(regional_bold)), np.int16)
    time = np.linspace(-1, 1, len(regional_bold))
    for k, bold in enumerate(regional_bold):
        slow = drift[0] * time[k] + drift[1] * (time[k] ** 2 - 1 / 3)
        clean = rest * (1 + slow / 100) + _INTENSITY["grey"] * (change @ bold) / 100
        seen = moved(np.asarray(_SIGNAL * clean, np.float32).reshape(protocol.shape), affine, motion[k])
        volumes[..., k] = np.rint(rician(rng, seen, _SIGNAL / protocol.tsnr))
    image = as_image(volumes, affine)
    image.header.set_zooms((*(protocol.voxel_mm,) * 3, protocol.repetition_time))  # type: ignore[no-untyped-call]
    return FunctionalScan(image=image, repetition_time=protocol.repetition_time, motion=motion)


def _regional_share(
    anatomy: Anatomy, affine: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> sparse.csr_array:
    """Of the labelled grey matter in each voxel, how much is each region's."""
    where = np.nonzero(anatomy.labels)
    voxel = flat_voxels(anatomy.points(np.stack(where, axis=-1).astype(float)), affine, shape)
    grey = anatomy.grey[where] * (voxel >= 0)
    size = (int(np.prod(shape)), len(anatomy.region_labels))
    share = sparse.coo_array((grey, (np.maximum(voxel, 0), anatomy.labels[where] - 1)), shape=size).tocsr()
    total = np.asarray(share.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(total, 1e-6)) @ share)


def _drift(
    rng: np.random.Generator, affine: Float[np.ndarray, "4 4"], protocol: FunctionalProtocol
) -> Float[np.ndarray, "2 voxel"]:
    """Percent change of a linear and a quadratic drift, each a plane through the head."""
    index = np.indices(protocol.shape).reshape(3, -1).T
    place = (index - index.mean(axis=0)) @ affine[:3, :3].T / 80.0
    planes = rng.uniform(-1, 1, (2, 1)) + 0.5 * rng.uniform(-1, 1, (2, 3)) @ place.T
    return np.asarray(protocol.drift_percent * planes)
