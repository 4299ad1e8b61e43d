"""The potential and the field of current from electrodes in a homogeneous conductor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vbt.simulation._conditions import recorded

GREY_MATTER = 0.33  # S/m; values between 0.2 and 0.33 are in use


@recorded
@dataclass(frozen=True, kw_only=True)
class PointSource:
    """An electrode contact as a point.

    Parameters
    ----------
    position : mm
    current : mA out of the contact; what goes in elsewhere is another source
    """

    position: tuple[float, float, float]
    current: float

    def __post_init__(self) -> None:
        if len(self.position) != 3 or not all(math.isfinite(x) for x in (*self.position, self.current)):
            raise ValueError("a point source needs three finite coordinates and a finite current")


def potential(
    sources: tuple[PointSource, ...],
    points: Float[np.ndarray, "point 3"],
    *,
    conductivity: float = GREY_MATTER,
    contact_radius: float = 0.5,
) -> Float[np.ndarray, " point"]:
    """V = Σ I / (4πσr), in V.

    Parameters
    ----------
    points : mm
    conductivity : S/m
    contact_radius : mm; nearer points count as being on the contact's surface
    """
    total = np.zeros(len(points))
    for current, offsets in _offsets(sources, points, conductivity):
        distances = np.maximum(np.linalg.norm(offsets, axis=-1), contact_radius)
        total += current / (4.0 * math.pi * conductivity * distances)  # mA/mm = A/m
    return total


def electric_field(
    sources: tuple[PointSource, ...],
    points: Float[np.ndarray, "point 3"],
    *,
    conductivity: float = GREY_MATTER,
    contact_radius: float = 0.5,
) -> Float[np.ndarray, "point 3"]:
    """E = Σ I r / (4πσ|r|³), in V/m; the arguments are those of `potential`."""
    total = np.zeros((len(points), 3))
    for current, offsets in _offsets(sources, points, conductivity):
        distances = np.maximum(np.linalg.norm(offsets, axis=-1, keepdims=True), contact_radius)
        total += 1000.0 * current * offsets / (4.0 * math.pi * conductivity * distances**3)
    return total


def normal_field(
    field: Float[np.ndarray, "point 3"], orientations: Float[np.ndarray, "point 3"]
) -> Float[np.ndarray, " point"]:
    """The field along the cortical normal, in the field's unit; orientations need not have unit length."""
    lengths = np.linalg.norm(orientations, axis=-1)
    if not (lengths > 0.0).all():
        raise ValueError(f"every region needs an orientation, got none for region {int(np.argmin(lengths))}")
    return np.asarray((field * orientations).sum(axis=-1) / lengths)


def _offsets(
    sources: tuple[PointSource, ...], points: np.ndarray, conductivity: float
) -> list[tuple[float, np.ndarray]]:
    if not (math.isfinite(conductivity) and conductivity > 0.0):
        raise ValueError(f"conductivity must be positive, got {conductivity} S/m")
    return [(source.current, np.asarray(points, dtype=float) - np.array(source.position)) for source in sources]
