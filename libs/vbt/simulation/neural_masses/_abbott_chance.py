"""The firing rate of a noisy integrator, u/(1 − e^{−du}), without its hole at u = 0."""

from __future__ import annotations

import jax.numpy as jnp

from vbt.simulation._neural_mass import Value, Variable


def firing_rate(u: Variable, d: Value) -> Variable:
    """Rate (Hz) at a drive u (Hz) above threshold and a curvature d (s); 1/d at u = 0, where the quotient is 0/0.

    Abbott & Chance (2005), Prog. Brain Res. 149, 147.
    """
    scaled = jnp.maximum(d * u, -80.0)  # far below threshold the rate is 0; the exponential would overflow first
    hole = jnp.abs(scaled) < 1e-6
    safe = jnp.where(hole, 1.0, scaled)
    rate: Variable = jnp.where(hole, 1.0 + 0.5 * scaled, safe / -jnp.expm1(-safe)) / d
    return rate
