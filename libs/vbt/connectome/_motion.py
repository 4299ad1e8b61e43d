"""Volumes of a series are brought to one head position, and the movement is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Float

from vbt.connectome._registration import rigid_registration

_HEAD_RADIUS_MM = 50.0
_WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Head position of every volume.

    Parameters
    ----------
    transforms : from the world of the reference to that of each volume, RAS+ mm
    parameters : translations (mm) of the head's centre and rotations (rad) about it
    """

    transforms: Float[np.ndarray, "volume 4 4"]
    parameters: Float[np.ndarray, "volume 6"]

    @property
    def framewise_displacement(self) -> Float[np.ndarray, " volume"]:
        """Sum of the absolute changes from the volume before, rotations as arcs on a 50 mm sphere, mm; first 0.

        References
        ----------
        Power et al. (2012), NeuroImage 59, 2142-2154.
        """
        steps = np.abs(np.diff(self.parameters, axis=0))
        moved = steps[:, :3].sum(axis=1) + _HEAD_RADIUS_MM * steps[:, 3:].sum(axis=1)
        return np.concatenate([[0.0], moved])

    @property
    def displacement(self) -> Float[np.ndarray, " volume"]:
        """Distance of each volume from the reference in the same measure, mm."""
        size = np.abs(self.parameters)
        return np.asarray(size[:, :3].sum(axis=1) + _HEAD_RADIUS_MM * size[:, 3:].sum(axis=1))


def estimate_motion(
    reference: nib.Nifti1Image,
    volumes: Sequence[nib.Nifti1Image],
    *,
    mask: nib.Nifti1Image | None = None,
    centre: Float[np.ndarray, " 3"],
    done: Callable[[float], None] = lambda _: None,
) -> Motion:
    """The rigid transform of every volume from ``reference``, around the world point ``centre`` (mm)."""

    def one(volume: nib.Nifti1Image) -> np.ndarray:
        return rigid_registration(reference, volume, mask=mask)

    transforms = []
    # Each registration runs on one thread alone, so their number changes the time and not the result.
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        for transform in pool.map(one, volumes):
            transforms.append(transform)
            done(len(transforms) / len(volumes))
    return motion_of(np.array(transforms), centre)


def motion_of(transforms: Float[np.ndarray, "volume 4 4"], centre: Float[np.ndarray, " 3"]) -> Motion:
    """Motion from rigid transforms, its parameters around ``centre``."""
    return Motion(transforms=transforms, parameters=np.array([_parameters(t, centre) for t in transforms]))


def rotation_of(transform: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 3"]:
    """The nearest rotation of a rigid transform."""
    left, _, right = np.linalg.svd(transform[:3, :3])
    return np.asarray(left @ right)


def _parameters(transform: Float[np.ndarray, "4 4"], centre: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 6"]:
    rotation = rotation_of(transform)
    shift = transform[:3, :3] @ centre + transform[:3, 3] - centre
    angles = [
        np.arctan2(rotation[2, 1], rotation[2, 2]),
        np.arcsin(np.clip(-rotation[2, 0], -1, 1)),
        np.arctan2(rotation[1, 0], rotation[0, 0]),
    ]
    return np.array([*shift, *angles])
