"""Whether a network of Epileptors can rest: its equilibrium, the eigenvalue that decides, and every region's threshold.

The equilibrium of the two-dimensional Epileptors solves, in every region,

    4 (x − η) − z(x) − K Σ_j W_ij (x_j − x_i) = 0  with  z(x) = 1 + I1 − x³ − 2 x².

Its Jacobian in x has a positive diagonal that outweighs the row by 4 − z'(x) ≥ 8/3, so there is one equilibrium
exactly, whatever the excitabilities; the question is only whether it is stable.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from vbt.simulation import Epileptor2D

_MASS = Epileptor2D()
_NEWTON_STEPS = 60
_STEP = 0.1  # of excitability in the search for the margin; an isolated region is unstable over ten of them
_TOLERANCE = 1e-5


def isolated_threshold() -> float:
    """Excitability above which a region without connections seizes: the Hopf point of the mass, −2.0369 for τ₀ = 10."""
    x = _critical_x()
    return float(x - resting_z(np.array(x)) / 4.0)


def equilibrium(
    eta: Float[np.ndarray, " region"], coupling: float, weights: Float[np.ndarray, "region region"]
) -> Float[np.ndarray, " region"]:
    """x of every region at the network's one equilibrium.

    Parameters
    ----------
    weights : ``weights[target, source]``
    """
    laplacian = _laplacian(coupling, weights)
    x = np.full(len(eta), -2.0)

    def residual(at: np.ndarray) -> np.ndarray:
        return np.asarray(4.0 * (at - eta) - resting_z(at) + laplacian @ at)

    value = residual(x)
    for _ in range(_NEWTON_STEPS):
        step = np.linalg.solve(np.diag(4.0 - _slope(x)) + laplacian, value)
        length = 1.0
        while np.abs(trial := residual(x - length * step)).max() > np.abs(value).max() and length > 1e-6:
            length /= 2.0
        x, value = x - length * step, trial
        if np.abs(value).max() < 1e-12:
            break
    return x


def resting_z(x: Float[np.ndarray, " region"]) -> Float[np.ndarray, " region"]:
    """z at an equilibrium with these x."""
    return np.asarray(1.0 + float(_MASS.I1) - x**3 - 2.0 * x**2)


def leading_eigenvalue(
    eta: Float[np.ndarray, " region"], coupling: float, weights: Float[np.ndarray, "region region"]
) -> float:
    """Largest real part of the coupled Jacobian's eigenvalues at the equilibrium, per unit of model time.

    Negative where the network can rest.
    """
    x = equilibrium(eta, coupling, weights)
    n, rate = len(x), 1.0 / float(_MASS.tau0)
    jacobian = np.zeros((2 * n, 2 * n))
    jacobian[:n, :n] = np.diag(_slope(x))
    jacobian[:n, n:] = -np.eye(n)
    jacobian[n:, :n] = rate * (4.0 * np.eye(n) + _laplacian(coupling, weights))
    jacobian[n:, n:] = -rate * np.eye(n)
    return float(np.linalg.eigvals(jacobian).real.max())


def margin(eta: Float[np.ndarray, " region"], coupling: float, weights: Float[np.ndarray, "region region"]) -> float:
    """How much all excitabilities would have to rise together for the network to lose its rest.

    Negative where it has none: then, how much they would have to fall.
    """

    def leading(shift: float) -> float:
        return leading_eigenvalue(eta + shift, coupling, weights)

    # Coupling to neighbours at rest holds a region back, so rest is lost no sooner than the most excitable region
    # would lose it alone; and not much later.
    low = isolated_threshold() - float(np.max(eta)) - _STEP
    while leading(low) > 0.0:
        low -= _STEP
    high = low + _STEP
    while leading(high) < 0.0:
        low, high = high, high + _STEP
    return float(brentq(leading, low, high, xtol=_TOLERANCE))


def network_thresholds(
    eta: Float[np.ndarray, " region"], coupling: float, weights: Float[np.ndarray, "region region"]
) -> Float[np.ndarray, " region"]:
    """Excitability above which each region seizes by itself where it sits, its neighbours at rest.

    Neighbours at rest hold a region back: its threshold is that of the isolated one plus K/4 Σ_j W_ij (x_c − x_j),
    with x_c where rest is lost. A neighbour that cannot rest counts as being about to seize, x_j = x_c.
    """
    critical = _critical_x()
    x = np.minimum(equilibrium(eta, coupling, weights), critical)
    return np.asarray(isolated_threshold() + 0.25 * coupling * (weights @ (critical - x)))


def _laplacian(coupling: float, weights: np.ndarray) -> np.ndarray:
    return np.asarray(coupling * (np.diag(weights.sum(axis=1)) - weights))


def _slope(x: np.ndarray) -> np.ndarray:
    return np.asarray(-3.0 * x**2 - 4.0 * x)


def _critical_x() -> float:
    """The lower x at which the trace of an isolated region vanishes, −3 x² − 4 x = 1/τ₀."""
    return -(4.0 + math.sqrt(16.0 - 12.0 / float(_MASS.tau0))) / 6.0
