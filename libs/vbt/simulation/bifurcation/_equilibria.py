"""Equilibria from many starts, each with what its linearisation says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.stats import qmc

from vbt.simulation.bifurcation._system import Field, System
from vbt.simulation.bifurcation._watch import Watch

_ITERATIONS = 80
_TOGETHER = 32  # starts solved side by side, so that a large network does not fill the memory
_LARGE = 64  # state variables beyond which a call is a few starts, so that the search can be stopped soon
_ZERO = 1e-9  # a real part this small, relative to the spectrum, is no sign of either stability
_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """A steady state.

    Parameters
    ----------
    state, parameter : where
    eigenvalues : per unit of model time, largest real part first; characteristic roots where there are delays
    """

    state: Float[np.ndarray, " state"]
    parameter: float
    eigenvalues: Complex[np.ndarray, " eigenvalue"]

    @property
    def unstable_dimension(self) -> int:
        return unstable_dimension(self.eigenvalues)

    @property
    def stable_dimension(self) -> int:
        return int((self.eigenvalues.real < -_tolerance(self.eigenvalues)).sum())

    @property
    def is_stable(self) -> bool:
        return self.stable_dimension == len(self.eigenvalues)

    @property
    def kind(self) -> str:
        """``stable node``, ``unstable focus``, ``saddle``, ``saddle-focus`` or ``non-hyperbolic``.

        A node becomes a focus where the eigenvalues nearest to the imaginary axis are a complex pair, a saddle a
        saddle-focus where that holds on either side.
        """
        stable, unstable = self.stable_dimension, self.unstable_dimension
        if stable + unstable < len(self.eigenvalues):
            return "non-hyperbolic"
        nearest = self.eigenvalues[[unstable - 1] * (unstable > 0) + [unstable] * (stable > 0)]
        turns = bool((np.abs(nearest.imag) > _tolerance(self.eigenvalues)).any())
        if stable and unstable:
            return "saddle-focus" if turns else "saddle"
        return f"{'stable' if stable else 'unstable'} {'focus' if turns else 'node'}"


def unstable_dimension(eigenvalues: Complex[np.ndarray, " eigenvalue"]) -> int:
    return int((eigenvalues.real > _tolerance(eigenvalues)).sum())


def _tolerance(eigenvalues: np.ndarray) -> float:
    return _ZERO * max(float(np.abs(eigenvalues).max()), 1e-300)


def equilibrium(system: System, state: Float[np.ndarray, " state"], parameter: float) -> Equilibrium:
    """A state that is known to be steady, with its eigenvalues."""
    return Equilibrium(
        state=np.asarray(state, float), parameter=float(parameter), eigenvalues=system.eigenvalues(state, parameter)
    )


def equilibria(
    system: System,
    parameter: float | None = None,
    *,
    starts: int = 256,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
    also: Sequence[Float[np.ndarray, " state"]] = (),
    watch: Watch | None = None,
) -> tuple[Equilibrium, ...]:
    """The steady states that damped Newton iterations reach from a Sobol sequence of starts.

    The sequence is not scrambled, so the same call gives the same answer. No number of starts proves that nothing was
    missed; `follow_equilibria` finds what hangs together with what was found here.

    Parameters
    ----------
    parameter : value of the free parameter; the model's own by default
    starts : number of starts, rounded up to a power of two. In a network every other start is the same in all regions
    box : lowest and highest start of each variable; by default around the model's start state, half of the starts
        within its own size and half ten times as far
    also : further states to start from
    watch : asked between the starts of a large network whether to go on

    Returns
    -------
    Sorted by the first variable, then by the second, and so on; none outside the bounds of the mass.
    """
    value = system.value if parameter is None else float(parameter)
    begin = np.concatenate([_starts(system, starts, box), *(np.atleast_2d(state) for state in also)])
    low, high = system.bounds
    states, steps = _search(system, begin, value, watch)
    inside = ((states >= low - _SAME * system.scale) & (states <= high + _SAME * system.scale)).all(axis=1)
    states = states[(steps < 1e-8) & inside]
    return tuple(equilibrium(system, state, value) for state in _distinct(states, system.scale))


def _search(
    system: System, begin: Float[np.ndarray, "start state"], value: float, watch: Watch | None
) -> tuple[Float[np.ndarray, "start state"], Float[np.ndarray, " start"]]:
    """Where the iterations end, and how long their last steps were."""
    block = len(begin) if system.size <= _LARGE else max(1, 600 // system.size)
    # The last block is filled up, so that it is no other shape to compile.
    padded = np.concatenate([begin, np.repeat(begin[-1:], -len(begin) % block, axis=0)])
    states, steps = [], []
    for first in range(0, len(padded), block):
        if watch is not None:
            watch.check()
        with jax.enable_x64(True):
            found = _newton(system.field, padded[first : first + block], system.scale, value, system.constants)
        states.append(np.asarray(found[0]))
        steps.append(np.asarray(found[1]))
    return np.concatenate(states)[: len(begin)], np.concatenate(steps)[: len(begin)]


def _starts(
    system: System, count: int, box: tuple[Sequence[float], Sequence[float]] | None
) -> Float[np.ndarray, "start state"]:
    low, high = system.bounds
    power = max(1, int(np.ceil(np.log2(count))))
    unit = np.asarray(qmc.Sobol(system.size, scramble=False).random_base2(power))
    if system.region_size > 1:
        alike = np.repeat(unit[::2, :: system.region_size], system.region_size, axis=1)
        unit = np.concatenate([alike, unit[1::2]])
    if box is not None:
        first, last = (np.asarray(corner, float) for corner in box)
        return np.asarray(first + unit * (last - first))
    reach = (1.0 + np.abs(system.centre)) * np.where(np.arange(len(unit)) % 2, 10.0, 1.0)[:, None]
    return np.asarray(np.clip(system.centre + (2.0 * unit - 1.0) * reach, low, high))


@partial(jax.jit, static_argnums=0)
def _newton(field: Field, starts: Array, scale: Array, parameter: Array, constants: Any) -> tuple[Array, Array]:
    damping = 0.5 ** jnp.arange(8.0)

    def solve(x: Array) -> tuple[Array, Array]:
        def rate(state: Array) -> Array:
            return jnp.asarray(field(state, parameter, constants))

        def advance(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, _, count = carry
            factors = jax.scipy.linalg.lu_factor(jax.jacfwd(rate)(x))
            step = -jax.scipy.linalg.lu_solve(factors, rate(x))
            trials = x + damping[:, None] * step
            # Deuflhard's natural level function: what the next step would be, so that units of f do not matter.
            after = jax.vmap(lambda trial: jax.scipy.linalg.lu_solve(factors, rate(trial)))(trials)
            level = jnp.sqrt(jnp.sum((after / scale) ** 2, axis=1))
            best = jnp.argmin(jnp.where(jnp.isfinite(level), level, jnp.inf))
            return trials[best], jnp.sqrt(jnp.sum((step / scale) ** 2)), count + 1

        def moving(carry: tuple[Array, Array, Array]) -> Array:
            _, size, count = carry
            return (count < _ITERATIONS) & (size > 1e-11) & (size < 1e12)

        last, size, _ = jax.lax.while_loop(moving, advance, (x, jnp.asarray(1.0), jnp.asarray(0)))
        return last, size

    states, steps = jax.lax.map(solve, starts, batch_size=_TOGETHER)
    return states, steps


def _distinct(states: Float[np.ndarray, "found state"], scale: np.ndarray) -> list[Float[np.ndarray, " state"]]:
    kept: list[np.ndarray] = []
    for state in states:
        size = scale + np.abs(state)
        if not any((np.abs(state - other) < _SAME * size).all() for other in kept):
            kept.append(state)
    return sorted(kept, key=lambda state: tuple(np.round(state / scale, 6)))
