"""Myelin and calibre of a tract's axons give the speed of its signals."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

OPTIMAL_G_RATIO = math.exp(-0.5)  # where the speed of an axon of given outer diameter is largest
SPEED_PER_MICROMETRE = 5.5  # m/s per µm of outer diameter; Hursh, Rushton, Waxman & Bennett: 5.5 to 6.0


def relative_speed(g_ratio: float | Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """s(g)/s(g*) with s(g) = g √(−ln g): how fast an axon is, relative to the best myelinated one of its calibre.

    Parameters
    ----------
    g_ratio : inner over outer diameter, in (0, 1)

    References
    ----------
    Rushton (1951), J. Physiol. 115, 101.
    """
    g = np.asarray(g_ratio, dtype=float)
    if not ((g > 0.0) & (g < 1.0)).all():
        raise ValueError(f"g-ratio must be in (0, 1), got {np.ravel(g)[~np.ravel((g > 0.0) & (g < 1.0))][0]:g}")
    return np.asarray(g * np.sqrt(-np.log(g)) / (OPTIMAL_G_RATIO * math.sqrt(0.5)))


def velocity_from_g_ratio(
    outer_diameter: float | Float[np.ndarray, "..."], g_ratio: float | Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Conduction velocity of myelinated axons, m/s: 5.5 per µm of outer diameter, times `relative_speed`.

    Parameters
    ----------
    outer_diameter : µm, myelin included
    g_ratio : inner over outer diameter
    """
    diameter = np.asarray(outer_diameter, dtype=float)
    if not (np.isfinite(diameter) & (diameter > 0.0)).all():
        raise ValueError("outer diameter must be positive and finite")
    return np.asarray(SPEED_PER_MICROMETRE * diameter * relative_speed(g_ratio))


def velocity_from_myelin(
    z: Float[np.ndarray, "..."], *, baseline: float, kappa: float, slowest: float = 0.1
) -> Float[np.ndarray, "..."]:
    """Velocity from a myelin proxy (magnetisation transfer, T1w/T2w) where no g-ratio was measured, m/s: v₀ (1 + κ z).

    The proportionality is a hypothesis; κ is to be inferred, its prior N(0, 0.15).

    Parameters
    ----------
    z : z-score of the proxy along each tract
    baseline : v₀, m/s
    slowest : no velocity falls below this fraction of v₀, where the line itself would reach zero
    """
    if not (baseline > 0.0 and slowest > 0.0 and np.isfinite(z).all()):
        raise ValueError("baseline velocity and its lowest fraction must be positive, and every z-score finite")
    return np.asarray(baseline * np.maximum(1.0 + kappa * np.asarray(z, dtype=float), slowest))
