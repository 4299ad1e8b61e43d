"""From band spectra to posterior draws of velocity, coupling and what else shapes them: search, surrogate, NUTS.

The search runs on the exact likelihood from several velocities; NUTS runs on a polynomial fitted to it around the mode
(`_delayed_spectrum_surrogate`), and the exact likelihood of draws says whether that was good enough. Where it was not,
the draws themselves become nodes and NUTS runs again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import scipy.optimize
import scipy.special
from jaxtyping import Float

from vbt.inference._checkpoint import Checkpoint, Within
from vbt.inference._delayed_spectrum_likelihood import COORDINATES, LOGARITHMIC, SpectralLikelihood
from vbt.inference._delayed_spectrum_surrogate import (
    DEGREES,
    Fidelity,
    Nodes,
    Surrogate,
    bent_back,
    evaluate,
    fidelity,
    fit_surrogate,
    kept_nodes,
    node_count,
    quasi_random,
    straightened,
    tempered,
    total_degree,
)
from vbt.inference._linear_network import Prior
from vbt.inference._nuts import CHAINS, Draws, Mode, Posterior

SPECTRAL_PRIORS = {
    "velocity": Prior("log-normal", (2.08, 0.5)),  # median 8 m/s, 90 % within 3.5 to 18
    "coupling": Prior("log-normal", (6.8, 0.5)),  # per s and unit of strength-scaled weight
    "frequency": Prior("normal", (40.0, 4.0)),  # Hz
    "decay": Prior("log-normal", (1.61, 0.5)),  # 1/s
    "noise": Prior("log-normal", (-3.5, 1.5)),  # in the mean power of a channel at the reference point
    "gamma": Prior("half-normal", (0.0, 3.0)),
}
START_VELOCITIES = (3.5, 5.0, 7.0, 10.0, 14.0)
_TREE_DEPTH = 7  # whitened by the curvature a trajectory takes some 15 steps; one of 127 is no posterior to report
_TARGET_ACCEPTANCE = 0.95  # a lesion delay near 0 narrows the normal deviate's posterior there
_EXACT_DRAWS = 200
_OVERDISPERSION = 1.3
_LOW = 13.0  # Hz
_AGREEING = 5.0  # nats
_NEAR_ZERO = ("decay", "noise")
_LEAST_FACTOR = -0.5  # γ ℓ, at which a delay would be halved
_UNBELIEVABLE = 1e12


@dataclass(frozen=True, kw_only=True)
class Search:
    """The posterior's mode in the likelihood's coordinates, gamma's prior unfolded to a normal one.

    ``potential`` is −log posterior there; ``found`` where each start ended. A likelihood that is to be widened is
    evaluated at mode + contraction (x − mode), and ``hessian`` is that of the widened posterior.
    """

    mode: Float[np.ndarray, " dimension"]
    hessian: Float[np.ndarray, "dimension dimension"]
    potential: float
    found: Float[np.ndarray, "start dimension"]
    starts_agreeing: int
    contraction: Float[np.ndarray, "dimension dimension"]

    def contracted(self, x: Float[np.ndarray, "draw dimension"]) -> Float[np.ndarray, "draw dimension"]:
        """Where the likelihood of draws is evaluated."""
        with np.errstate(invalid="ignore"):  # a draw that ran away stays away
            return np.asarray(self.mode + (x - self.mode) @ self.contraction.T)


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Draws of NUTS, and how well they stand for the exact likelihood's."""

    posterior: Posterior
    draws: Draws
    fidelity: Fidelity


def prior_normal(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of the likelihood's coordinates under the priors; a half-normal counts as the normal."""
    arguments = np.array([SPECTRAL_PRIORS[name].arguments for name in names])
    return arguments[:, 0], arguments[:, 1]


def search(likelihood: SpectralLikelihood, *, tell: Callable[[str, float], None]) -> Search:
    """L-BFGS from every start velocity: on the low bands, where phases turn least, on every fourth, and then on all.

    From the low bands on, as in the inversion of seismic waveforms, fewer searches end where a delay is off by a turn
    of the phase.

    References
    ----------
    Bunks et al. (1995), Geophysics 60, 1457.
    """
    location, scale = prior_normal(likelihood.names)
    ends = []
    for number, velocity in enumerate(START_VELOCITIES):
        tell(f"search from {velocity:g} m/s", number / len(START_VELOCITIES))
        start = np.zeros(len(location))
        start[0] = (np.log(velocity) - location[0]) / scale[0]
        for part in (likelihood.below(_LOW), likelihood.thinned(4)):
            start = _descend(part, location, scale, start).x
        ends.append(_descend(likelihood, location, scale, start))
    best = min(ends, key=lambda end: float(end.fun))
    return Search(
        mode=location + scale * best.x,
        hessian=_hessian(likelihood, location, scale, best.x),
        potential=float(best.fun),
        found=np.stack([location + scale * end.x for end in ends]),
        starts_agreeing=sum(float(end.fun) < float(best.fun) + _AGREEING for end in ends),
        contraction=np.eye(len(location)),
    )


def _descend(likelihood: SpectralLikelihood, location: np.ndarray, scale: np.ndarray, start: np.ndarray) -> Any:
    bounds = [(-8.0, 8.0)] * len(location)
    if "gamma" in likelihood.names:
        # A little below 0, so that a mode at the boundary has a curvature, but no delay becomes negative.
        bounds[-1] = (_LEAST_FACTOR / likelihood.network.lesion_fraction.max() / scale[-1], 8.0)
    return scipy.optimize.minimize(
        functools.partial(_potential, likelihood, location, scale),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 200, "ftol": 1e-12},
    )


def _potential(
    likelihood: SpectralLikelihood, location: np.ndarray, scale: np.ndarray, z: np.ndarray
) -> tuple[float, np.ndarray]:
    value, gradient = likelihood.value_and_gradient(location + scale * z)
    if not np.isfinite(value):
        # A line search that stepped too far must come back, not stop.
        return _UNBELIEVABLE, np.zeros_like(z)
    return value + 0.5 * float(z @ z), gradient * scale + z


def _hessian(
    likelihood: SpectralLikelihood, location: np.ndarray, scale: np.ndarray, z: np.ndarray, step: float = 1e-4
) -> np.ndarray:
    """Of −log posterior in the likelihood's coordinates, by central differences of its gradient."""

    def gradient(at: np.ndarray) -> np.ndarray:
        return _potential(likelihood, location, scale, at)[1]

    rows = [(gradient(z + row) - gradient(z - row)) / (2.0 * step) for row in step * np.eye(len(z))]
    symmetric = 0.5 * (np.stack(rows) + np.stack(rows).T)
    return np.asarray(symmetric / np.outer(scale, scale))


def delayed_spectrum_model(surrogate: Surrogate) -> None:
    """NumPyro model: priors, and the surrogate of the likelihood over them."""
    names = COORDINATES[: surrogate.centre.shape[0]]
    coordinates = []
    for name in names:
        standard = numpyro.sample(f"{name}_normal", dist.Normal(0.0, 1.0))
        value = numpyro.deterministic(name, SPECTRAL_PRIORS[name].of_normal(standard))
        location, scale = SPECTRAL_PRIORS[name].arguments
        coordinates.append(location + scale * standard if name in LOGARITHMIC else value)
    numpyro.factor("whittle", -surrogate(jnp.stack(coordinates)))


def example(dimension: int, degree: int = 1) -> Surrogate:
    """A surrogate of the right shapes; the model's parameters do not depend on its numbers."""
    square, vector = jnp.eye(dimension), jnp.zeros(dimension)
    orders = total_degree(dimension, degree)
    numbers = (vector, square, vector - jnp.inf, square, jnp.asarray(orders), jnp.zeros(len(orders)), jnp.zeros(()))
    return Surrogate(vector, square, *numbers)


@functools.lru_cache(maxsize=4)
def _posterior(dimension: int, degree: int) -> Posterior:
    """The compiled sampler for a number of coordinates and a degree of the surrogate."""
    return Posterior(delayed_spectrum_model, example(dimension, degree))


@dataclass(frozen=True, kw_only=True)
class NutsSettings:
    """Warm-up and draws per chain; the chains run on while ``enough`` is not satisfied, at most ``rounds`` times.

    ``refits`` is how often at most the surrogate is fitted.
    """

    warmup: int
    draws: int
    rounds: int
    refits: int
    rng_seed: int
    enough: Callable[[Posterior, Draws], bool]


@dataclass(frozen=True, kw_only=True)
class _Around:
    """Where a surrogate is made: mean and covariance of x; centre and root of the covariance of it as straightened."""

    mean: Float[np.ndarray, " dimension"]
    covariance: Float[np.ndarray, "dimension dimension"]
    shift: Float[np.ndarray, " dimension"]
    centre: Float[np.ndarray, " dimension"]
    factor: Float[np.ndarray, "dimension dimension"]

    def curvature(self, found: Search, scale: np.ndarray) -> Float[np.ndarray, "dimension dimension"]:
        """Of the likelihood along the factor's columns: the posterior's, which is 1 there, less that of the priors."""
        slope = 1.0 + np.exp(self.shift - bent_back(self.centre, self.shift))
        widening = np.linalg.solve(found.contraction, slope[:, None] * self.factor) / scale[:, None]
        return _nonnegative(np.eye(len(slope)) - widening.T @ widening)


def _at_mode(names: tuple[str, ...], found: Search) -> _Around:
    root = square_root(found.hessian)
    contracted = found.contraction @ root
    shift = _shift(names, found.mode + 0.5 * np.log((contracted**2).sum(axis=1)))
    straight = 1.0 / (1.0 + np.exp(shift - found.mode))
    return _Around(
        mean=found.mode,
        covariance=root @ root.T,
        shift=shift,
        centre=straightened(found.mode, shift),
        factor=straight[:, None] * contracted,
    )


def _at_draws(names: tuple[str, ...], found: Search, x: np.ndarray, weights: np.ndarray) -> _Around:
    """Around draws of a surrogate that was not good enough, weighted towards the exact likelihood."""
    contracted = found.contracted(x)
    middle = weights @ contracted
    relative = np.exp(contracted - middle)
    shift = _shift(names, middle + 0.5 * np.log(weights @ (relative - weights @ relative) ** 2))
    straight = straightened(contracted, shift)
    return _Around(
        mean=weights @ x,
        covariance=np.cov(x.T, aweights=weights),
        shift=shift,
        centre=weights @ straight,
        factor=np.linalg.cholesky(np.cov(straight.T, aweights=weights)),
    )


def _shift(names: tuple[str, ...], widths: np.ndarray) -> np.ndarray:
    """Logarithms of the posterior's width in decay and noise themselves: near zero these are what is straight."""
    return np.where([name in _NEAR_ZERO for name in names], widths, -np.inf)


def sample(
    likelihood: SpectralLikelihood,
    found: Search,
    settings: NutsSettings,
    *,
    tell: Callable[[str, float], None],
    checkpoint: Checkpoint | None = None,
) -> Sampled:
    """Surrogate, NUTS, comparison with the exact likelihood; again around the draws until they agree.

    Use under ``jax.enable_x64(True)``.
    """
    names, scale = likelihood.names, prior_normal(likelihood.names)[1]
    around = _at_mode(names, found)
    dimension = len(around.centre)
    kept: list[Nodes] = []
    widened: dict[str, Any] = {"pivot": found.mode, "contraction": found.contraction}
    for refit, degree in enumerate(DEGREES[: settings.refits]):
        posterior = _posterior(dimension, degree)
        within = None if checkpoint is None else Within(checkpoint, f"surrogate-{refit}-")
        part = functools.partial(_part, tell, refit)
        points = quasi_random(node_count(dimension, degree), dimension, settings.rng_seed + refit)
        points = _allowed(bent_back(around.centre + points @ around.factor.T, around.shift), likelihood)
        heard = part("surrogate", 0.0, 0.4)
        kept.append(kept_nodes(within, "nodes", functools.partial(_values, likelihood, points, heard)))
        surrogate = fit_surrogate(
            Nodes.joined(kept), around.centre, around.factor, around.shift, around.curvature(found, scale), degree
        )._replace(**widened)
        start = _normal_mode(names, around.mean, around.covariance)
        nuts = functools.partial(_nuts, posterior, surrogate, settings, refit, start, part("", 0.4, 0.6), within)
        draws = nuts(1)
        x = _spread_out(posterior, surrogate, draws, names)
        exact, possible = evaluate(
            likelihood, found.contracted(x), part("comparing with the exact likelihood", 0.6, 1.0)
        )
        approximate = np.array([float(surrogate(row, np)) for row in x[possible]])
        agreement = fidelity(exact.values, approximate)
        if possible.all() and agreement.good:
            # Only now are more draws worth their time; the first round is gone through again.
            draws = draws if settings.enough(posterior, draws) else nuts(settings.rounds)
            break
        if not _spans(exact.x):
            break
        kept.append(exact)
        around = _at_draws(names, found, x[possible], tempered(approximate - exact.values))
    return Sampled(posterior=posterior, draws=draws, fidelity=agreement)


def _spans(x: Float[np.ndarray, "draw dimension"]) -> bool:
    """Whether draws have a covariance: chains that stand still or run away have none."""
    return len(x) > x.shape[1] and bool(np.linalg.matrix_rank(np.cov(x.T)) == x.shape[1])


def _nuts(
    posterior: Posterior,
    surrogate: Surrogate,
    settings: NutsSettings,
    refit: int,
    mode: Mode,
    heard: Callable[[float, str], None],
    checkpoint: Checkpoint | None,
    rounds: int,
) -> Draws:
    on_device = Surrogate(*(jnp.asarray(part) for part in surrogate))
    rng = np.random.default_rng(settings.rng_seed + refit)
    spread = _OVERDISPERSION * np.linalg.cholesky(mode.covariance)
    return posterior.sample(
        on_device,
        mode,
        starts=mode.location + rng.normal(size=(CHAINS, len(mode.location))) @ spread.T,
        warmup=settings.warmup,
        draws=settings.draws,
        rng_seed=settings.rng_seed + refit,
        target_acceptance=_TARGET_ACCEPTANCE,
        max_tree_depth=_TREE_DEPTH,
        enough=functools.partial(settings.enough, posterior),
        rounds=rounds,
        progress=lambda phase, fraction, divergent: heard(fraction, f"{phase}, {divergent} divergent"),
        checkpoint=checkpoint,
    )


def _values(likelihood: SpectralLikelihood, points: np.ndarray, heard: Callable[..., None]) -> Nodes:
    return evaluate(likelihood, points, heard)[0]


def _normal_mode(names: tuple[str, ...], centre: np.ndarray, covariance: np.ndarray) -> Mode:
    """Centre and covariance of the posterior on the scale where every prior is standard normal.

    The surrogate itself is not searched: far from its nodes it may be lower than at the mode it was made for.
    """
    location, scale = prior_normal(names)
    normal, slope = (centre - location) / scale, 1.0 / scale
    if "gamma" in names:
        # A half-normal's deviate runs to −∞ at its boundary; half a standard deviation inside it is still near.
        inside = max(normal[-1], 0.5 * np.sqrt(covariance[-1, -1]) / scale[-1])
        normal[-1] = scipy.special.ndtri(2.0 * scipy.special.ndtr(min(inside, 6.0)) - 1.0)
        slope[-1] *= 2.0 * np.exp(0.5 * (normal[-1] ** 2 - inside**2))
    order = np.argsort(names)  # in which the model's sites make one vector
    covariance = (covariance * np.outer(slope, slope))[np.ix_(order, order)]
    return Mode(location=normal[order], covariance=covariance, potential=float("nan"), starts_agreeing=1)


def _part(
    tell: Callable[[str, float], None], refit: int, message: str, begin: float, end: float
) -> Callable[[float, str], None]:
    """How far a part of one refit is, as a fraction of all that may come."""

    def heard(fraction: float, doing: str = "") -> None:
        tell(doing or message, 1.0 - 0.5**refit * (1.0 - 0.5 * (begin + (end - begin) * fraction)))

    return heard


def square_root(hessian: Float[np.ndarray, "dimension dimension"]) -> Float[np.ndarray, "dimension dimension"]:
    """A factor of the inverse; a flat or upside-down direction keeps a finite width."""
    eigenvalues, vectors = np.linalg.eigh(hessian)
    return np.asarray(vectors / np.sqrt(np.maximum(eigenvalues, 1e-6 * eigenvalues.max())))


def _nonnegative(curvature: np.ndarray) -> np.ndarray:
    """The nearest curvature that opens no well far from the nodes."""
    eigenvalues, vectors = np.linalg.eigh(curvature)
    return np.asarray((vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T)


def _allowed(points: np.ndarray, likelihood: SpectralLikelihood) -> np.ndarray:
    """Nodes with a gamma so low that delays would shrink too far are mirrored."""
    if "gamma" in likelihood.names:
        lowest = _LEAST_FACTOR / likelihood.network.lesion_fraction.max()
        points[:, -1] = np.where(points[:, -1] < lowest, np.abs(points[:, -1]), points[:, -1])
    return points


def _spread_out(posterior: Posterior, surrogate: Surrogate, draws: Draws, names: tuple[str, ...]) -> np.ndarray:
    """Draws taken evenly from all chains, in the likelihood's coordinates."""
    flat = draws.unconstrained.reshape(-1, draws.unconstrained.shape[-1])
    chosen = flat[np.linspace(0, len(flat) - 1, _EXACT_DRAWS).round().astype(int)]
    return as_coordinates(posterior.constrained(chosen, surrogate), names)


def as_coordinates(values: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Parameters by name as rows of the likelihood's coordinates."""
    real = np.finfo(float)
    return np.stack(
        [np.log(np.clip(values[n], real.tiny, real.max)) if n in LOGARITHMIC else values[n] for n in names], axis=-1
    )
