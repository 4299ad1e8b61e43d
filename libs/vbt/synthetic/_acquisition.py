"""A scan samples the anatomy: slice geometry, partial volume, head motion and Rician noise."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from vbt.synthetic._anatomy import Anatomy, as_image, rotation, t1_contrast
from vbt.synthetic._settings import AnatomicalProtocol

# Columns: world direction (RAS+) in which the image's column, row and slice index grow.
AXIAL = np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]).T
SAGITTAL = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]).T
_T1_SIGNAL = 1000.0


def grid_affine(
    axes: Float[np.ndarray, "3 3"],
    voxel_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    centre: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "4 4"]:
    """Affine of a grid of that shape around a world point."""
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(voxel_mm)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def tilted(axes: Float[np.ndarray, "3 3"], degrees: float) -> Float[np.ndarray, "3 3"]:
    """The axes turned about the left-right direction, as a technologist angles slices to the callosum."""
    return np.asarray(rotation(np.deg2rad(np.array([degrees, 0.0, 0.0]))) @ axes)


def flat_voxels(
    points: Float[np.ndarray, "point 3"], affine: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> Int[np.ndarray, " point"]:
    """Flat index of the voxel each world point lies in; -1 outside the grid."""
    inverse = np.linalg.inv(affine)
    index = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
    inside = ((index >= 0) & (index < np.array(shape))).all(axis=1)
    flat = np.ravel_multi_index(tuple(np.clip(index, 0, np.array(shape) - 1).T), shape)
    return np.asarray(np.where(inside, flat, -1))


def tissue_fractions(
    anatomy: Anatomy, affine: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> dict[str, Float[np.ndarray, " voxel"]]:
    """White, grey, csf and head content of every voxel of a coarser grid, seen through its point spread."""
    tissues = {"white": anatomy.white, "grey": anatomy.grey, "csf": anatomy.csf, "head": np.minimum(anatomy.head, 1)}
    to_anatomy = np.linalg.inv(anatomy.affine) @ affine
    # A Gaussian with the variance of a box of the voxel's size.
    sigma = np.linalg.norm(affine[:3, 0]) / np.sqrt(12) / anatomy.voxel_mm
    return {
        name: ndimage.affine_transform(
            ndimage.gaussian_filter(volume, sigma, truncate=3.0),
            to_anatomy[:3, :3],
            to_anatomy[:3, 3],
            output_shape=shape,
            order=1,
        ).ravel()
        for name, volume in tissues.items()
    }


def rician(rng: np.random.Generator, signal: Float[np.ndarray, "*shape"], sigma: float) -> Float[np.ndarray, "*shape"]:
    """Magnitude of a complex signal with independent Gaussian noise of standard deviation sigma in both parts."""
    real = signal + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), np.float32)


def head_positions(
    rng: np.random.Generator, volumes: int, millimetres: float, degrees: float, *, wander: float
) -> Float[np.ndarray, "volume 4 4"]:
    """Rigid head motion in the scanner's frame, world to world; none in the first volume.

    ``wander`` between 0 (each volume independent) and 1 (a smooth walk) is the volumes' autocorrelation.
    """
    steps = rng.standard_normal((volumes, 6))
    for k in range(1, volumes):
        steps[k] = wander * steps[k - 1] + np.sqrt(1 - wander**2) * steps[k]
    steps -= steps[0]
    positions = np.tile(np.eye(4), (volumes, 1, 1))
    for position, step in zip(positions, steps, strict=True):
        position[:3, :3] = rotation(np.deg2rad(degrees) * step[:3])
        position[:3, 3] = millimetres * step[3:]
    return positions


def moved(
    volume: Float[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"], position: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "x y z"]:
    """What the scanner sees of a head that has moved by ``position``."""
    if np.array_equal(position, np.eye(4)):
        return volume
    pull = np.linalg.inv(affine) @ np.linalg.inv(position) @ affine
    return np.asarray(ndimage.affine_transform(volume, pull[:3, :3], pull[:3, 3], order=1, mode="nearest"))


def scan_t1(rng: np.random.Generator, anatomy: Anatomy, protocol: AnatomicalProtocol) -> nib.Nifti1Image:
    """A sagittal T1-weighted volume (int16) with coil shading and noise."""
    extent = np.array(anatomy.labels.shape) * anatomy.voxel_mm
    voxel_mm = (protocol.in_plane_mm, protocol.in_plane_mm, protocol.slice_mm)
    shape = tuple(int(n // size) for n, size in zip(extent[[1, 2, 0]], voxel_mm, strict=True))
    centre = anatomy.affine[:3, 3] + (extent - anatomy.voxel_mm) / 2
    affine = grid_affine(SAGITTAL, voxel_mm, (shape[0], shape[1], shape[2]), centre)
    to_anatomy = np.linalg.inv(anatomy.affine) @ affine
    contrast = ndimage.affine_transform(
        t1_contrast(anatomy), to_anatomy[:3, :3], to_anatomy[:3, 3], output_shape=shape, order=1, mode="nearest"
    )
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    slope = rng.uniform(-1, 1, 3)
    shading = 1 + protocol.bias * sum(
        np.float32(s) * axis / 2 + (axis**2 - np.float32(1 / 3)) / 3 for s, axis in zip(slope, axes, strict=True)
    )
    noisy = rician(rng, _T1_SIGNAL * contrast * shading, _T1_SIGNAL / protocol.snr)
    return as_image(np.rint(noisy).astype(np.int16), affine)
