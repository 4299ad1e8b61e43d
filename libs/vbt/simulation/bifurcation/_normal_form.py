"""Normal form coefficients: how an equilibrium is lost, not just where."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float

from vbt.simulation.bifurcation._system import System


def fold_coefficient(system: System, state: Float[np.ndarray, " state"], parameter: float) -> float:
    """a = ½⟨p, B(q, q)⟩ of the null vectors with ⟨q, q⟩ = ⟨p, q⟩ = 1; zero at a cusp.

    The sign of q is chosen so that its largest entry is positive.

    References
    ----------
    Kuznetsov (2004), Elements of Applied Bifurcation Theory, eq. 8.3.
    """
    right, left = null_vectors(system.linearised(state, parameter).jacobian.astype(complex))
    q, p = right.real, left.real
    q = q * np.sign(q[np.abs(q).argmax()]) / np.linalg.norm(q)
    return float(0.5 * (p @ system.second(state, parameter, q, q)) / (p @ q))


def first_lyapunov_coefficient(
    system: System, state: Float[np.ndarray, " state"], parameter: float, frequency: float
) -> float:
    """l₁ of a Hopf point: negative where a stable cycle is born (supercritical), positive where an unstable one is.

    Normalised as in MATCONT, ⟨q, q⟩ = ⟨p, q⟩ = 1: for z' = (a + iω − |z|²) z it is −2/ω. Its sign does not depend on
    the normalisation.

    Parameters
    ----------
    frequency : imaginary part of the critical pair, rad per unit of time

    References
    ----------
    Kuznetsov (2004), Elements of Applied Bifurcation Theory, eq. 5.62.
    """
    jacobian = system.linearised(state, parameter).jacobian
    q, p = null_vectors(jacobian - 1j * frequency * np.eye(len(jacobian)))
    q = q / np.linalg.norm(q)
    p = p / np.conj(p.conj() @ q)
    a, b = q.real, q.imag
    cubic = _third_along(system, state, parameter, a, b)
    mean = np.linalg.solve(jacobian, system.second(state, parameter, q, q.conj()).real)
    double = np.linalg.solve(2j * frequency * np.eye(len(jacobian)) - jacobian, system.second(state, parameter, q, q))
    total = cubic - 2.0 * system.second(state, parameter, q, mean) + system.second(state, parameter, q.conj(), double)
    return float((p.conj() @ total).real / (2.0 * frequency))


def _third_along(
    system: System, state: np.ndarray, parameter: float, a: np.ndarray, b: np.ndarray
) -> Complex[np.ndarray, " state"]:
    """C(q, q, q̄) of q = a + ib."""

    def third(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        return system.third(state, parameter, u, v, w)

    return np.asarray(third(a, a, a) + third(a, b, b) + 1j * (third(a, a, b) + third(b, b, b)))


def null_vectors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right and left null vectors of a matrix that is singular but for rounding."""
    u, _, vh = np.linalg.svd(matrix)
    return vh[-1].conj(), u[:, -1]
