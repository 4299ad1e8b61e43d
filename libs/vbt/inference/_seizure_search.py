"""Finding the modes of a seizure's posterior: multiple shooting from what the sensors show, then single shooting.

A trajectory over many bursts makes a rugged landscape: from a random start a descent ends in a wrong one. Cut into
segments whose beginnings are free, tied together ever more tightly, the same model is found from nearly every start.

References
----------
Bock (1981), Numerical treatment of inverse problems in chemical reaction kinetics.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vbt.inference._checkpoint import Checkpoint, load_arrays, save_arrays
from vbt.inference._nuts import Mode, Posterior, finite
from vbt.inference._seizure_model import (
    EQUILIBRIUM,
    I1,
    PER_REGION,
    PRIORS,
    REST,
    SITES,
    TAU0,
    ObservedSeizure,
    activity,
    excitability,
    expected,
    log_likelihood,
    parameters,
)

AGREEING = 5.0  # nats
_PROMISING = 100.0  # nats by which ends of one valley still differ before the last polish
_POLISHED = 8
_DEEPER = 0.1  # nats
_ENOUGH = 4  # starts that agree: one for every chain
_MORE = 4  # starts, where too few of those that looked promising did agree in the end
# Segments in model time, the scale of the gaps between them, iterations, and whether the noise is a parameter yet.
_ANNEALING = ((2.5, 0.3, 80, False), (5.0, 0.05, 60, False), (10.0, 0.03, 80, True))
_POLISH = 150
_PEAK = 0.4  # of x in a burst, smoothed
_MEDIAN_CHI_SQUARE = 0.4549  # of one degree of freedom
# How sparse a source is first sought, the amplitude's factor, the spread of excitability about what is shown.
_STARTS = (
    (10, 1.0, 0.0),
    (3, 1.0, 0.0),
    (40, 1.0, 0.1),
    (10, 0.85, 0.1),
    (20, 1.2, 0.1),
    (0, 1.0, 0.1),
    (6, 0.9, 0.3),
    (20, 1.1, 0.3),
)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where each start ended, best first, and how curved the posterior is at the best.

    ``agreeing`` starts ended within 5 nats of the best.
    """

    modes: Float[np.ndarray, "start dimension"]
    potentials: Float[np.ndarray, " start"]
    mode: Mode

    @property
    def agreeing(self) -> int:
        return int((self.potentials < self.potentials[0] + AGREEING).sum())


def search(
    posterior: Posterior,
    observed: ObservedSeizure,
    *,
    starts: int,
    most_starts: int,
    rng_seed: int,
    tell: Callable[[str, float], None],
    checkpoint: Checkpoint | None,
) -> Search:
    """Descend from ``starts`` starts, and from up to ``most_starts`` until four agree."""
    saved = load_arrays(checkpoint, "search")
    modes = [] if saved is None else list(saved["modes"])
    potentials = [] if saved is None else [float(value) for value in saved["potentials"]]
    objective = functools.partial(posterior.value_and_gradient, data=observed)
    wanted = starts
    while True:
        while len(modes) < wanted or (len(modes) < most_starts and _agreeing(potentials) < _ENOUGH):
            tell(f"search {len(modes) + 1} of {max(wanted, len(modes) + 1)}", len(modes) / most_starts)
            begun = _start(observed, len(modes), np.random.default_rng([rng_seed, len(modes)]))
            at = _descend(objective, _shoot(observed, begun), _POLISH)
            modes.append(at)
            potentials.append(objective(at)[0])
            save_arrays(checkpoint, "search", {"modes": np.stack(modes), "potentials": np.array(potentials)})
        tell("curvature", 1.0)
        found = polished(posterior, observed, np.stack(modes), np.array(potentials))
        if found.agreeing >= _ENOUGH or len(modes) >= most_starts:
            return found
        wanted = min(len(modes) + _MORE, most_starts)


def _agreeing(potentials: list[float]) -> int:
    return sum(value < min(potentials) + _PROMISING for value in potentials)


def _descend(objective: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, iterations: int) -> Any:
    options = {"maxiter": iterations, "maxcor": 30, "maxfun": 2 * iterations}
    return scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x


def polished(posterior: Posterior, observed: ObservedSeizure, modes: np.ndarray, potentials: np.ndarray) -> Search:
    """Every promising end once more, where the best one's valley is round, until none gets any deeper."""
    deepest = np.inf
    while potentials.min() < deepest - _DEEPER:
        deepest = potentials.min()
        factor = np.linalg.cholesky(posterior.curvature(modes[np.argmin(potentials)], observed))

        def whitened(u: np.ndarray, origin: np.ndarray, factor: np.ndarray = factor) -> tuple[float, np.ndarray]:
            value, gradient = posterior.value_and_gradient(origin + factor @ u, observed)
            return value, factor.T @ gradient

        promising = np.argsort(potentials, kind="stable")[:_POLISHED]
        promising = promising[potentials[promising] < potentials.min() + _PROMISING]
        for i in promising:
            u = _descend(functools.partial(whitened, origin=modes[i]), np.zeros(len(factor)), 60)
            modes[i] = modes[i] + factor @ u
            potentials[i] = posterior.value_and_gradient(modes[i], observed)[0]
    order = np.argsort(potentials, kind="stable")
    best = modes[order[0]]
    mode = Mode(
        location=best,
        covariance=posterior.curvature(best, observed),
        potential=float(potentials.min()),
        starts_agreeing=int((potentials < potentials.min() + AGREEING).sum()),
    )
    return Search(modes=modes[order], potentials=potentials[order], mode=mode)


def noise_of(values: Float[np.ndarray, "time sensor"]) -> float:
    """Standard deviation of what changes from sample to sample, whatever the model: the bursts are rare."""
    steps = np.diff(values, axis=0)
    return float(np.sqrt(np.median(steps**2) / _MEDIAN_CHI_SQUARE / 2.0))


def _start(observed: ObservedSeizure, which: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Parameters and the states along the recording: as the sensors show them, then ever more at random."""
    sparsity, factor, spread = _STARTS[which % len(_STARTS)]
    spread += 0.1 * (which // len(_STARTS))
    values, gain = np.asarray(observed.values), np.asarray(observed.gain)
    quiet = np.quantile(values, 0.2, axis=0)
    shown = _smooth(_unmixed(values - quiet, gain, sparsity), 5)
    # What the regions that the sensors see best reach in their bursts is the peak of x.
    seen = (gain**2).sum(axis=0) * shown.var(axis=0)
    amplitude = max(float((seen * np.quantile(shown, 0.99, axis=0)).sum() / seen.sum()) / (_PEAK - REST), 1e-3) * factor
    x = np.clip(REST + shown / amplitude, -2.4, 1.2)
    period = float(observed.dt) * observed.substeps
    z = np.clip(_smooth(1.0 + I1 - x**3 - 2.0 * x**2 - np.gradient(x, period, axis=0), 9), 1.5, 6.0)
    coupling = float(np.exp(spread * rng.normal()))
    weights = np.asarray(observed.weights)
    steady = x - 0.25 * (z + coupling * (x @ weights.T - weights.sum(axis=1) * x))
    eta = steady.mean(axis=0) - 0.25 * TAU0 * (z[-1] - z[0]) / (period * len(z))
    eta = np.clip(eta, -4.5, -1.2) + spread * rng.normal(size=len(eta))
    own = quiet - amplitude * REST * (gain.sum(axis=1) - 1.0)  # of a sensor, that no region explains
    return {
        "equilibrium": equilibrium_of(weights, eta, coupling),
        "K": np.array(coupling),
        "amplitude": np.array(amplitude),
        "level": np.array(np.median(own)),
        "noise": np.array(noise_of(values)),
        "baseline": np.array(max(0.1, float(np.median(np.abs(own - np.median(own)))))),
        "x": x[0],
        "z": z[0],
        "xs": x,
        "zs": z,
    }


def _unmixed(above: np.ndarray, gain: np.ndarray, sparsity: int) -> np.ndarray:
    """The regions' courses that explain the sensors', ever fewer regions the more iterations.

    Sparse Bayesian learning: every region has a variance of its own, found by fixed-point iteration from minimum norm.

    References
    ----------
    Wipf et al. (2010), NeuroImage 49, 641 (Champagne).
    """
    sensors, regions = gain.shape
    covariance = above.T @ above / len(above)
    noise = noise_of(above) ** 2
    signal = max(float(np.trace(covariance)) / sensors - noise, 0.01 * noise)
    variance = np.full(regions, signal * sensors / (gain**2).sum())
    inverse = np.eye(sensors)
    for iteration in range(sparsity + 1):
        inverse = np.linalg.inv((gain * variance) @ gain.T + noise * np.eye(sensors))
        if iteration < sparsity:
            filters = variance[:, None] * (gain.T @ inverse)
            power = np.einsum("rs,st,rt->r", filters, covariance, filters)
            seen = np.einsum("sr,st,tr->r", gain, inverse, gain)
            variance = np.sqrt(power / seen) + 1e-12
    return np.asarray(above @ inverse @ gain * variance)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="edge")
    return np.asarray(scipy.ndimage.convolve1d(padded, window / window.sum(), axis=0)[width // 2 : -(width // 2)])


def _shoot(observed: ObservedSeizure, begun: dict[str, np.ndarray]) -> np.ndarray:
    """Multiple shooting from a start to a point of the posterior's own coordinates."""
    samples, regions = observed.values.shape[0], observed.weights.shape[0]
    period = float(observed.dt) * observed.substeps
    sites = {name: _standard(name, begun[name], regions) for name in SITES}
    xs, zs = begun["xs"], begun["zs"]
    for units, scale, iterations, noise_is_free in _ANNEALING:
        length = min(samples, max(1, round(units / period)))
        begins = np.arange(length, samples, length) - 1  # the sample from which a segment but the first goes on
        flat, unravel = ravel_pytree((sites, jnp.asarray(xs[begins].T), jnp.asarray(zs[begins].T)))
        noise = jnp.asarray(np.nan if noise_is_free else begun["noise"])

        def objective(
            at: np.ndarray, unravel: Any = unravel, scale: float = scale, noise: Any = noise, length: int = length
        ) -> tuple[float, np.ndarray]:
            (value, _), gradient = _shooting(unravel(jnp.asarray(at)), observed, jnp.asarray(scale), noise, length)
            return finite(value, ravel_pytree(gradient)[0])

        tree = unravel(jnp.asarray(_descend(objective, np.asarray(flat), iterations)))
        sites = tree[0]
        (_, states), _ = _shooting(tree, observed, jnp.asarray(scale), noise, length)
        xs, zs = (np.asarray(state) for state in states)
    return np.asarray(ravel_pytree(sites)[0])


def _standard(name: str, value: np.ndarray, regions: int) -> Array:
    """A start's value of a parameter as the standard normal variable behind it."""
    family, location, scale = PRIORS.get(name, ("normal", *EQUILIBRIUM))
    if family == "log-normal":
        value = np.log(value)
    if family == "softplus-normal":
        value = np.log(np.expm1(value))
    return jnp.asarray(np.broadcast_to((value - location) / scale, (regions,) if name in PER_REGION else ()))


def equilibrium_of(weights: np.ndarray, eta: np.ndarray, coupling: float) -> np.ndarray:
    """The resting state x* of the coupled network with a given excitability, stable or not."""

    def misfit(x: np.ndarray) -> np.ndarray:
        return np.asarray(excitability(weights, x, coupling) - eta)

    def jacobian(x: np.ndarray) -> np.ndarray:
        own = 0.75 * x**2 + x + 1.0 + 0.25 * coupling * weights.sum(axis=1)
        return np.asarray(np.diag(own) - 0.25 * coupling * weights)

    return np.asarray(scipy.optimize.root(misfit, np.full(len(eta), -1.8), jac=jacobian).x)


@functools.partial(jax.jit, static_argnames="length")
@functools.partial(jax.value_and_grad, has_aux=True)
def _shooting(
    tree: Any, observed: ObservedSeizure, gap: Array, noise: Array, length: int
) -> tuple[Array, tuple[Array, Array]]:
    """Negative log posterior of segments that need not meet, and half their squared gaps in units of ``gap``.

    The noise is a parameter where it is given as NaN. Also returns x and z along the recording.
    """
    sites, xs, zs = tree
    site, correction = parameters(observed, sites)
    begin_x = jnp.concatenate([site["x"][:, None], xs], axis=1)
    begin_z = jnp.concatenate([site["z"][:, None], zs], axis=1)
    x, z = activity(observed, site["eta"], site["K"], begin_x, begin_z, length)
    samples, regions = observed.values.shape[0], x.shape[1]
    whole_x, whole_z = (jnp.moveaxis(part, -1, 0).reshape(-1, regions)[:samples] for part in (x, z))
    residual = observed.values - expected(observed.gain, site, whole_x)
    gaps = ((x[-1, :, :-1] - xs) ** 2).sum() + ((z[-1, :, :-1] - zs) ** 2).sum()
    prior = 0.5 * sum((value**2).sum() for value in sites.values()) - correction
    deviation = jnp.where(jnp.isnan(noise), site["noise"], noise)
    value = prior - log_likelihood(residual, deviation, site["baseline"]) + 0.5 * gaps / gap**2
    return value, (whole_x, whole_z)
