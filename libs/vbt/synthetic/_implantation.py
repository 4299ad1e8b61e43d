"""Depth electrodes of a synthetic patient: straight shafts from the side of the head into chosen regions."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vbt.synthetic._anatomy import Anatomy

CONTACTS = 12
SPACING = 3.5  # mm between contacts of a common depth electrode
_TILT = np.radians(12.0)  # of a shaft from the left-right axis, at most


@dataclass(frozen=True, kw_only=True)
class Implantation:
    """Contacts of all shafts.

    Parameters
    ----------
    contact_labels : ``A1`` is the deepest of shaft A; a prime marks the left side, as epileptologists write it
    positions : scanner RAS+ mm
    gain : Σ area / distance² of a region's grey matter at each contact, dimensionless
    """

    contact_labels: tuple[str, ...]
    positions: Float[np.ndarray, "contact 3"]
    gain: Float[np.ndarray, "contact region"]


def implant(rng: np.random.Generator, anatomy: Anatomy, targets: list[int]) -> Implantation:
    """One shaft for each target region (0-based), its deepest contact there; none of the contacts outside the brain."""
    centres = anatomy.centres()
    labels: list[str] = []
    positions: list[Float[np.ndarray, "3"]] = []
    for letter, region in zip(string.ascii_uppercase, targets, strict=False):
        tip = _in_grey(anatomy, region, centres[region])
        side = 1.0 if tip[0] > 0 else -1.0
        tilt, turn = rng.uniform(0.0, _TILT), rng.uniform(0.0, 2.0 * np.pi)
        outwards = np.array([side * np.cos(tilt), np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn)])
        for number in range(CONTACTS):
            place = tip + number * SPACING * outwards
            if _inside(anatomy, place):
                labels.append(f"{letter}{chr(39) if side < 0 else ''}{number + 1}")
                positions.append(place)
    places = np.round(np.array(positions), 2)
    return Implantation(contact_labels=tuple(labels), positions=places, gain=_gain(anatomy, places))


def _in_grey(anatomy: Anatomy, region: int, centre: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """The point of a region's grey matter nearest to its centre, which may lie in a gyrus' white matter."""
    points = anatomy.points(np.argwhere(anatomy.labels == region + 1).astype(float))
    return np.asarray(points[np.argmin(((points - centre) ** 2).sum(axis=1))])


def _inside(anatomy: Anatomy, place: Float[np.ndarray, "3"]) -> bool:
    voxel: Int[np.ndarray, "3"] = np.round(anatomy.voxels(place)).astype(int)
    if (voxel < 0).any() or (voxel >= anatomy.brain.shape).any():
        return False
    return bool(anatomy.brain[tuple(voxel)])


def _gain(anatomy: Anatomy, places: Float[np.ndarray, "contact 3"]) -> Float[np.ndarray, "contact region"]:
    where = np.argwhere(anatomy.labels)
    numbers = anatomy.labels[tuple(where.T)]
    points = anatomy.points(where.astype(float))
    volume = anatomy.voxel_mm**3
    # A contact within a voxel sees the mean inverse square of a ball of that volume, not infinity.
    nearest = (3.0 * volume / (4.0 * np.pi)) ** (2.0 / 3.0) / 3.0
    cortex = volume / 2.5  # mm² that each point stands for, at a thickness of 2.5 mm
    regions = len(anatomy.region_labels)
    gain = np.empty((len(places), regions))
    for row, place in enumerate(places):
        inverse = cortex / np.maximum(((points - place) ** 2).sum(axis=1), nearest)
        gain[row] = np.bincount(numbers, weights=inverse, minlength=regions + 1)[1:]
    return gain
