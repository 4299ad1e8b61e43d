"""How far an imperfect connectome moves the fit: its errors are doubled, and the fit made again.

A recording that a connectome explains imperfectly has larger residuals than chance. How wrong the connectome is shows
in how much more wrong it must be made for the residuals' excess to double: weights by log-normal factors of spread
σ, tract lengths by a sixth of that. Refits under so many connectomes scatter about the fit as the fit does about the
truth, to first order. The likelihood is then widened about its mode until a posterior of it has that scatter on top
of its own: a quasi-likelihood whose dispersion is a matrix, largest along what the connectome's errors move.

References
----------
Cook & Stefanski (1994), J. Am. Stat. Assoc. 89, 1314 (errors of a regressor, by adding more of them); McCullagh (1983),
Ann. Stat. 11, 59.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
from jaxtyping import Float

from vbt.inference._delayed_spectrum import DelayedNetwork, strength_scaled
from vbt.inference._delayed_spectrum_checks import Fit, figures_at
from vbt.inference._delayed_spectrum_fit import Search, prior_normal, square_root
from vbt.inference._delayed_spectrum_likelihood import SpectralLikelihood

LARGEST_ERROR = 0.8
BEYOND = 2.0 * LARGEST_ERROR
NEEDED_ERROR = "error of log weights that the residuals need, over the largest admitted"
REPLICATES = 16
_TRIALS = 8
_STEPS = 3
_CLOSE = 0.15
_FIRST, _LEAST = 0.3, 0.01
_OF_LENGTHS = 1.0 / 6.0
_ITERATIONS = 40


@dataclass(frozen=True, kw_only=True)
class ConnectomeError:
    """What the residuals say of the connectome, and what that does to the fit.

    Parameters
    ----------
    spread : standard deviation of the log weights' errors; 0 where the residuals show none
    covariance : of the mode by such errors, in the likelihood's coordinates
    """

    spread: float
    covariance: Float[np.ndarray, "dimension dimension"]

    @property
    def admitted(self) -> bool:
        return self.spread <= LARGEST_ERROR


def widened(names: tuple[str, ...], found: Search, error: ConnectomeError) -> Search:
    """So contracted that the posterior's covariance is that of the mode's curvature plus the connectome's."""
    root = square_root(found.hessian)
    inverse = np.linalg.inv(root)
    excess, vectors = np.linalg.eigh(inverse @ error.covariance @ inverse.T)
    contraction = root @ (vectors / np.sqrt(1.0 + np.maximum(excess, 0.0))) @ vectors.T @ inverse
    priors = np.diag(1.0 / prior_normal(names)[1] ** 2)
    hessian = contraction.T @ (found.hessian - priors) @ contraction + priors
    return replace(found, hessian=hessian, contraction=contraction)


def connectome_error(
    likelihood: SpectralLikelihood, found: Search, fit: Fit, rng_seed: int, *, tell: Callable[[str, float], None]
) -> ConnectomeError:
    """From the residual figures' excess over chance at the mode.

    The spread is the one under which the figures, of perturbed connectomes and refitted, rise by as much again as they
    lie above chance: by the geometric mean of the figures' ratios, each of the median over connectomes. Where a figure
    lies farther above chance than any of the largest admitted errors takes it, the spread is `BEYOND`.
    """
    observed = np.array([check.observed for check in fit.checks])
    excess = np.maximum(observed - 1.0, [fit.deviations[check.name] for check in fit.checks])

    def risen(spread: float) -> Float[np.ndarray, "trial figure"]:
        others = [_perturbed(likelihood, spread, [rng_seed, i]) for i in range(_TRIALS)]
        figures = [figures_at(other, _refitted(other, found)) for other in others]
        return np.asarray(np.array([[by[check.name] for check in fit.checks] for by in figures]) - observed)

    def part(fraction: float) -> None:
        tell("errors of the connectome", fraction)

    part(0.0)
    none = np.zeros_like(found.hessian)
    if (excess > risen(LARGEST_ERROR).max(axis=0)).any():
        return ConnectomeError(spread=BEYOND, covariance=none)
    spread = _FIRST
    for step in range(_STEPS):
        part(0.2 + 0.4 * step / _STEPS)
        ratios = excess / np.maximum(np.median(risen(spread), axis=0), 0.1 * excess)
        rate = float(np.clip(np.exp(0.5 * np.log(ratios).mean()), 0.3, 3.0))
        spread = float(np.clip(rate * spread, _LEAST, BEYOND))
        if abs(rate - 1.0) < _CLOSE:
            break
    if spread > LARGEST_ERROR:
        return ConnectomeError(spread=spread, covariance=none)
    moved = []
    for i in range(REPLICATES):
        part(0.6 + 0.4 * i / REPLICATES)
        moved.append(_refitted(_perturbed(likelihood, spread, [rng_seed, i]), found) - found.mode)
    scatter = np.stack(moved)
    return ConnectomeError(spread=spread, covariance=scatter.T @ scatter / (REPLICATES - 1))


def _perturbed(likelihood: SpectralLikelihood, spread: float, seed: list[int]) -> SpectralLikelihood:
    network = likelihood.network
    rng = np.random.default_rng(seed)
    of_weights, of_lengths = (_symmetric(rng, len(network.weights)) for _ in range(2))
    return replace(
        likelihood,
        network=DelayedNetwork(
            strength_scaled(network.weights * np.exp(spread * of_weights)),
            network.tract_lengths * np.exp(_OF_LENGTHS * spread * of_lengths),
            network.lesion_fraction,
            network.gain,
        ),
    )


def _symmetric(rng: np.random.Generator, regions: int) -> Float[np.ndarray, "region region"]:
    upper = np.triu(rng.normal(size=(regions, regions)), 1)
    return np.asarray(upper + upper.T)


def _refitted(likelihood: SpectralLikelihood, found: Search) -> Float[np.ndarray, " dimension"]:
    """The mode under another connectome, from the first one's on."""
    location, scale = prior_normal(likelihood.names)
    root = square_root(found.hessian)

    def potential(u: np.ndarray) -> tuple[float, np.ndarray]:
        x = found.mode + root @ u
        z = (x - location) / scale
        value, gradient = likelihood.value_and_gradient(x)
        if not np.isfinite(value):
            return 1e12, np.zeros_like(u)
        return value + 0.5 * float(z @ z), root.T @ (gradient + z / scale)

    best = scipy.optimize.minimize(
        potential, np.zeros(len(location)), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS, "ftol": 1e-9}
    )
    return np.asarray(found.mode + root @ best.x)
