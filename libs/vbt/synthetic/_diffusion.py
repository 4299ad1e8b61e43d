"""Diffusion-weighted volumes: sticks and zeppelins where bundles run, balls elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Float

from vbt.synthetic._acquisition import AXIAL, grid_affine, head_positions, moved, rician, tilted, tissue_fractions
from vbt.synthetic._anatomy import Anatomy, as_image
from vbt.synthetic._bundles import Bundle
from vbt.synthetic._phantom import Fixels, fixels_on
from vbt.synthetic._settings import DiffusionProtocol

# Diffusivities, mm²/s.
_AXIAL_DIFFUSIVITY, _RADIAL_DIFFUSIVITY = 1.7e-3, 0.4e-3
_STICK_SHARE = 0.65
_BALLS = {"white": 0.8e-3, "grey": 0.9e-3, "csf": 3.0e-3, "head": 0.6e-3}
# Signal at b = 0 relative to white matter (T2-weighted, fat suppressed).
_PROTON = {"white": 1.0, "grey": 1.25, "csf": 3.0, "head": 0.12}
_SIGNAL = 800.0
_ABOVE_MM = 5.0
_TILT_DEGREES = -4.0


@dataclass(frozen=True, kw_only=True)
class DiffusionScan:
    """A diffusion series.

    Parameters
    ----------
    image : int16, (column, row, slice, volume)
    bvals : s/mm²
    bvecs : unit vectors in the scanner's RAS+ frame, zero rows for b = 0
    motion : head position at each volume, world to world
    """

    image: nib.Nifti1Image
    bvals: Float[np.ndarray, " volume"]
    bvecs: Float[np.ndarray, "volume 3"]
    motion: Float[np.ndarray, "volume 4 4"]


def scan_diffusion(
    rng: np.random.Generator, anatomy: Anatomy, bundles: list[Bundle], protocol: DiffusionProtocol
) -> DiffusionScan:
    """Acquire a diffusion series of the anatomy with its bundles."""
    affine = grid_affine(
        tilted(AXIAL, _TILT_DEGREES),
        (protocol.voxel_mm,) * 3,
        protocol.shape,
        slab_centre(anatomy, protocol.shape[2] * protocol.voxel_mm),
    )
    fixels = fixels_on(bundles, affine, protocol.shape)
    fractions = tissue_fractions(anatomy, affine, protocol.shape)
    bvals, bvecs = gradient_scheme(protocol)
    motion = head_positions(rng, len(bvals), protocol.motion_mm, protocol.motion_degrees, wander=0.5)
    volumes = np.empty((*protocol.shape, len(bvals)), np.int16)
    for k, (b, g) in enumerate(zip(bvals, bvecs, strict=True)):
        # A turned head meets the gradient at another angle.
        clean = signal(fixels, fractions, float(b), motion[k, :3, :3].T @ g).reshape(protocol.shape)
        seen = moved(_SIGNAL * clean, affine, motion[k])
        volumes[..., k] = np.rint(rician(rng, seen, _SIGNAL / protocol.snr))
    return DiffusionScan(image=as_image(volumes, affine), bvals=bvals, bvecs=bvecs, motion=motion)


def signal(
    fixels: Fixels, fractions: dict[str, Float[np.ndarray, " voxel"]], b: float, g: Float[np.ndarray, "3"]
) -> Float[np.ndarray, " voxel"]:
    """Noise-free signal of each voxel relative to white matter at b = 0."""
    cosine = (fixels.direction @ g) ** 2
    stick = np.exp(-b * _AXIAL_DIFFUSIVITY * cosine)
    zeppelin = np.exp(-b * (_RADIAL_DIFFUSIVITY + (_AXIAL_DIFFUSIVITY - _RADIAL_DIFFUSIVITY) * cosine))
    fibre = fixels.fraction * (_STICK_SHARE * stick + (1 - _STICK_SHARE) * zeppelin)
    size = len(fractions["white"])
    occupied = np.bincount(fixels.voxel, weights=fixels.fraction, minlength=size)
    balls = sum(
        fractions[tissue] * (_PROTON[tissue] * np.exp(-b * diffusivity)) for tissue, diffusivity in _BALLS.items()
    )
    return np.asarray(np.bincount(fixels.voxel, weights=fibre, minlength=size) + (1 - occupied) * balls, np.float32)


def gradient_scheme(protocol: DiffusionProtocol) -> tuple[Float[np.ndarray, " volume"], Float[np.ndarray, "volume 3"]]:
    """b-values (s/mm²) and directions, the b = 0 volumes spread over the series and the first of all."""
    total = protocol.b0_volumes + protocol.directions
    b0 = np.floor(np.arange(protocol.b0_volumes) * total / protocol.b0_volumes).astype(int)
    weighted = np.setdiff1d(np.arange(total), b0)
    bvals, bvecs = np.zeros(total), np.zeros((total, 3))
    bvals[weighted] = protocol.b_value
    bvecs[weighted] = even_directions(protocol.directions)
    return bvals, bvecs


def even_directions(count: int) -> Float[np.ndarray, "direction 3"]:
    """Unit vectors that repel each other and each other's opposites (Jones 1999)."""
    index = np.arange(count) + 0.5
    height = 1 - index / count
    angle = index * np.pi * (3 - np.sqrt(5))
    around = np.sqrt(1 - height**2)
    vectors = np.stack([around * np.cos(angle), around * np.sin(angle), height], axis=-1)
    for _ in range(300):
        both = np.concatenate([vectors, -vectors])
        apart = vectors[:, None] - both[None]
        distance = np.linalg.norm(apart, axis=-1, keepdims=True)
        force = (apart / np.maximum(distance, 0.05) ** 3).sum(axis=1)
        vectors = vectors + force * (0.2 / count**1.5)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Opposite signs make the scheme balanced over the whole sphere, as scanners play it.
    return np.asarray(vectors * np.where(np.arange(count) % 2, -1.0, 1.0)[:, None])


def slab_centre(anatomy: Anatomy, height: float) -> Float[np.ndarray, "3"]:
    """Centre (scanner mm) of a stack of slices that high (mm): on the brain, its top in view if not all of it fits."""
    extent = [np.flatnonzero(anatomy.brain.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    centre = anatomy.points(np.array([(e[0] + e[-1]) / 2 for e in extent]))
    top = anatomy.points(np.array([0.0, 0.0, extent[2][-1]]))[2]
    centre[2] = max(centre[2], top + _ABOVE_MM - height / 2)
    return centre
