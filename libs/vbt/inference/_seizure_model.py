"""The generative model of a seizure seen by SEEG: a network of two-dimensional Epileptors, observed as log power.

Time is the model's: a sample every ``dt·substeps`` units. Values and gain come in units of their own spread, so that
priors mean the same for every recording. A sensor's baseline, that part of its log power that no region explains, is
integrated out: where recordings show none, absolute levels inform excitability; where they do, only change over time.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation import Epileptor2D

REST = -1.9  # x between seizures, about which the observed level is centred
TAU0 = 10.0
I1 = 3.1
LARGEST_DT = 0.1  # Heun's error of x is then .004 (root mean square) where a region bursts nine times in 100 units
MIDWAY = -2.0 / 3.0  # between the folds at x = −4/3 and x = 0: a region above is ictal
ETA_SCALE = 1.0
ETA_MEAN = -3.0
PRIORS: dict[str, tuple[str, float, float]] = {
    "eta": ("normal", ETA_MEAN, ETA_SCALE),
    "x": ("normal", -2.0, 0.15),
    "z": ("normal", 4.5, 0.5),
    "K": ("softplus-normal", 0.55, 1.0),
    "amplitude": ("log-normal", math.log(3.0), 1.0),
    "level": ("normal", 0.0, 3.0),
    "noise": ("log-normal", math.log(0.5), 1.0),
    "baseline": ("log-normal", math.log(0.1), 2.0),
}
EQUILIBRIUM = (-2.0, 0.5)  # location and scale of the sampler's coordinate x*; that of the prior of η, roughly
SMOOTHED = 0.2  # of the scale: how near to leaving rest the coordinate begins to bend
SITES = ("equilibrium", *(name for name in PRIORS if name != "eta"))
PER_REGION = ("equilibrium", "x", "z")


def leaving_rest(tau0: float = TAU0) -> float:
    """The resting state x* above which a region leaves rest: a Hopf bifurcation, −1.3079 for τ0 = 10.

    There the trace of its own two equations vanishes, 3x² + 4x + 1/τ0 = 0, whatever input holds it there.
    """
    return (-2.0 - math.sqrt(4.0 - 3.0 / tau0)) / 3.0


def threshold(tau0: float = TAU0) -> float:
    """Excitability above which an uncoupled region leaves rest, −2.0369 for τ0 = 10.

    There z = 1 − x³ − 2x² + I1 = 4(x − η).
    """
    x = leaving_rest(tau0)
    return x - 0.25 * (1.0 - x**3 - 2.0 * x**2 + I1)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("weights", "gain", "values", "prior_mean", "side", "dt"),
    meta_fields=("substeps",),
)
@dataclass(frozen=True, kw_only=True)
class ObservedSeizure:
    """What the model is conditioned on; passed as an argument, so that a new patient compiles nothing.

    ``weights`` are divided by their largest row sum; ``substeps`` Heun steps of ``dt`` lead from sample to sample. A
    region's ``side`` is 1 or −1 where only resting states above or below `leaving_rest` are considered, 0 where all.
    """

    weights: Float[Array, "region region"]
    gain: Float[Array, "sensor region"]
    values: Float[Array, "time sensor"]
    prior_mean: Float[Array, " region"]
    side: Float[Array, " region"]
    dt: Float[Array, ""]
    substeps: int


def activity(
    observed: ObservedSeizure, eta: Array, coupling: Array, x: Array, z: Array, samples: int
) -> tuple[Float[Array, "time region ..."], Float[Array, "time region ..."]]:
    """x and z at the samples that follow the initial state; states may carry a trailing axis of segments."""
    extra = (1,) * (x.ndim - 1)
    strengths = observed.weights.sum(axis=1).reshape(-1, *extra)
    mass = Epileptor2D(x0=eta.reshape(-1, *extra), I1=I1, K=coupling, tau0=TAU0)

    def slope(x: Array, z: Array) -> tuple[Array, ...]:
        return mass.derivative((x, z), (observed.weights @ x,), (strengths,), jnp.zeros(()))

    # Recomputing a step is cheaper than storing what its gradient needs.
    @jax.checkpoint
    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        x, z = state
        dx, dz = slope(x, z)
        dx2, dz2 = slope(x + observed.dt * dx, z + observed.dt * dz)
        return x + 0.5 * observed.dt * (dx + dx2), z + 0.5 * observed.dt * (dz + dz2)

    def sample(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        state, _none = jax.lax.scan(lambda s, _: (step(s), None), state, None, length=observed.substeps)
        return state, state

    (xs, zs) = jax.lax.scan(sample, (x, z), None, length=samples)[1]
    return xs, zs


def expected(gain: Array, site: dict[str, Array], x: Float[Array, "time region"]) -> Float[Array, "time sensor"]:
    """Log power without noise and baselines, in units of the recording's spread."""
    return site["amplitude"] * (x @ gain.T) + site["level"] - REST * site["amplitude"]


def log_likelihood(residual: Float[Array, "time sensor"], noise: Array, baseline: Array) -> Array:
    """Independent normal noise, and per sensor a constant of standard deviation ``baseline`` integrated out."""
    samples, sensors = residual.shape
    total = noise**2 + samples * baseline**2
    squares = (residual**2).sum() - (baseline**2 / total) * (residual.sum(axis=0) ** 2).sum()
    log_determinant = sensors * ((samples - 1) * 2.0 * jnp.log(noise) + jnp.log(total))
    return -0.5 * (squares / noise**2 + log_determinant + samples * sensors * math.log(2.0 * math.pi))


def of_normal(name: str, standard: Any) -> Any:
    """A parameter at the standard normal variable that its prior is written in."""
    family, location, scale = PRIORS[name]
    centred = location + scale * standard
    if family == "log-normal":
        return jnp.exp(centred)
    return jax.nn.softplus(centred) if family == "softplus-normal" else centred


def excitability(weights: Any, equilibrium: Any, coupling: Any) -> Any:
    """η of every region for which the network rests at x = ``equilibrium``: 4(x − η) = z + K Σ_j W_ij (x_j − x_i)."""
    x = equilibrium
    difference = weights @ x - weights.sum(axis=1) * x
    return x - 0.25 * (1.0 - x**3 - 2.0 * x**2 + I1 + coupling * difference)


def resting(side: Any, coordinate: Any) -> tuple[Any, Any]:
    """x* of every region at the sampler's coordinate, and the logarithm of its slope.

    Where a region leaves rest the likelihood falls off a cliff: it bursts, and its sensors show nothing of it. A
    sampler that runs into fifty such cliffs gets nowhere. On one side of them x* = c ± s·log(1 + exp ±(X − c)/s) never
    arrives at c and is X a little farther off.
    """
    edge, wide = leaving_rest(), SMOOTHED * EQUILIBRIUM[1]
    plain = EQUILIBRIUM[0] + EQUILIBRIUM[1] * coordinate
    away = side * (plain - edge) / wide
    bounded = edge + side * wide * jax.nn.softplus(away)
    slope = jnp.where(side == 0, 0.0, jax.nn.log_sigmoid(away)) + math.log(EQUILIBRIUM[1])
    return jnp.where(side == 0, plain, bounded), slope


def coordinate_of(side: Float[np.ndarray, " region"], x: Float[np.ndarray, " region"]) -> Float[np.ndarray, " region"]:
    """The sampler's coordinate at x*, on its region's side: the inverse of `resting`."""
    edge, wide = leaving_rest(), SMOOTHED * EQUILIBRIUM[1]
    away = np.maximum(np.abs(x - edge) / wide, 1e-6)
    plain = edge + side * wide * (away + np.log(-np.expm1(-away)))
    return np.asarray((np.where(side == 0, x, plain) - EQUILIBRIUM[0]) / EQUILIBRIUM[1])


def parameters(observed: ObservedSeizure, standard: dict[str, Array]) -> tuple[dict[str, Array], Array]:
    """Parameters from the sampler's coordinates, and what turns a standard normal density there into the prior's.

    Excitability is sampled as the resting state x* that it would give the coupled network. What a quiet region shows
    its sensors and sends its neighbours is linear in x*, not in η; so the posterior, bent along η, is straight. The map
    from x* to η is one to one: its Jacobian is strictly diagonally dominant for every x* and K > 0.
    """
    site = {name: of_normal(name, standard[name]) for name in PRIORS if name != "eta"}
    equilibrium, slope = resting(observed.side, standard["equilibrium"])
    site["eta"] = excitability(observed.weights, equilibrium, site["K"])
    own = 0.75 * equilibrium**2 + equilibrium + 1.0 + 0.25 * site["K"] * observed.weights.sum(axis=1)
    jacobian = jnp.diag(own) - 0.25 * site["K"] * observed.weights
    prior = -0.5 * (((site["eta"] - observed.prior_mean) / ETA_SCALE) ** 2).sum()
    change = jnp.linalg.slogdet(jacobian)[1] + slope.sum() - len(equilibrium) * math.log(ETA_SCALE)
    return site, prior + change + 0.5 * (standard["equilibrium"] ** 2).sum()
