"""Limit cycles by shooting, followed over the parameter, with their Floquet multipliers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from vbt.simulation.bifurcation._branch import Bifurcation
from vbt.simulation.bifurcation._curve import Curve, Lost, Point, Steps
from vbt.simulation.bifurcation._normal_form import null_vectors
from vbt.simulation.bifurcation._system import Field, System
from vbt.simulation.bifurcation._watch import Watch

_FINEST = 12800
_VANISHED = 0.03  # of the amplitude that the cycles had
_TRUSTED = 1e-3  # deviation of the trivial multiplier from 1
_FLOW_ERROR = 1e-7  # of one period, relative to the size of the cycle


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """A periodic orbit.

    Parameters
    ----------
    state : the point of the orbit that it is known by
    period : in units of model time
    multipliers : Floquet multipliers without the trivial one, largest first
    trivial_multiplier : how accurately the orbit is known; 1 in exact arithmetic
    low, high : extremes of each state variable along the orbit
    observed_low, observed_high : of the observable, averaged over the regions of a network
    """

    state: Float[np.ndarray, " state"]
    parameter: float
    period: float
    multipliers: Complex[np.ndarray, " multiplier"]
    trivial_multiplier: float
    low: Float[np.ndarray, " state"]
    high: Float[np.ndarray, " state"]
    observed_low: float
    observed_high: float

    @property
    def is_stable(self) -> bool:
        return bool((np.abs(self.multipliers) < 1.0 + 1e-9).all())


@dataclass(frozen=True, kw_only=True)
class CycleBranch:
    """Cycles that hang together.

    Parameters
    ----------
    folds : cycles at which the branch turns around (saddle-nodes of cycles)
    end : why the branch stops: ``end of the range``, ``equilibrium`` (its amplitude vanished, at a Hopf point),
        ``period`` (it grew beyond the longest allowed: a homoclinic orbit or a saddle-node on the cycle is near),
        ``number of steps`` or ``lost``
    """

    system: System
    cycles: tuple[Cycle, ...]
    folds: tuple[Cycle, ...]
    end: str

    @property
    def parameter(self) -> Float[np.ndarray, " cycle"]:
        return np.array([cycle.parameter for cycle in self.cycles])

    @property
    def period(self) -> Float[np.ndarray, " cycle"]:
        return np.array([cycle.period for cycle in self.cycles])

    @property
    def is_stable(self) -> Bool[np.ndarray, " cycle"]:
        return np.array([cycle.is_stable for cycle in self.cycles])


def cycle_near(
    system: System,
    state: Float[np.ndarray, " state"],
    parameter: float,
    period: float,
    *,
    settle: float = 0.0,
    phase_steps: int = 400,
) -> Cycle:
    """The cycle that Newton's iteration finds near a state and a guess of the period.

    Parameters
    ----------
    settle : model time to integrate first, so that the state falls onto a stable cycle
    phase_steps : Runge-Kutta steps per period

    Raises
    ------
    ValueError
        where there is no cycle near, only an equilibrium or nothing.
    """
    begin = np.asarray(state, float)
    if settle > 0.0:
        begin = _flown(system, begin, parameter, settle, int(np.ceil(settle / period * phase_steps)))
    shooting = _Shooting(system, np.abs(begin) + system.scale, period, 1.0, phase_steps)
    row = np.zeros(system.size + 2)
    row[-1] = 1.0
    unknowns = np.concatenate([begin, [period, parameter]])
    try:
        found, _ = shooting.curve.corrected(unknowns, row, parameter, unknowns)
    except Lost as lost:
        raise ValueError(f"no cycle near this state and period ({lost})") from lost
    cycle = shooting.cycle(found)
    if not found[-2] > 0.0 or (cycle.high - cycle.low < 1e-6 * system.scale).all():
        raise ValueError("no cycle near this state and period, only an equilibrium")
    return cycle


def follow_cycles(
    system: System,
    start: Bifurcation | Cycle,
    low: float,
    high: float,
    *,
    direction: float = 1.0,
    amplitude: float = 0.01,
    longest_period: float = 10.0,
    steps: Steps | None = None,
    phase_steps: int = 400,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CycleBranch:
    """The branch of cycles born at a Hopf point, or through a known cycle.

    Single shooting: cycles with multipliers beyond about 10⁸ and relaxation oscillations faster than the steps per
    period resolve are out of its reach; the branch then ends as ``lost``.

    Parameters
    ----------
    low, high : range of the parameter
    direction : from a cycle, whether to set out with rising (+1) or falling (−1) parameter
    amplitude : of the first cycle out of a Hopf point, in units of the state's scale
    longest_period : as a multiple of the first period
    phase_steps : Runge-Kutta steps per period; doubled while one period is not accurate to 1e-7

    Raises
    ------
    ValueError
        for a bifurcation that is no Hopf point.
    concurrent.futures.CancelledError
        soon after `cancelled` answers True.
    """
    watch = Watch(progress, cancelled)
    steps = steps or Steps(first=0.01, largest=0.1, count=400)
    if isinstance(start, Cycle):
        size = np.maximum(start.high - start.low, 0.01 * system.scale)
        shooting = _Shooting(system, size, start.period, high - low, phase_steps)
        first = shooting.through(start, direction)
    else:
        if start.kind != "hopf":
            raise ValueError(f"cycles are born at a Hopf point, got a {start.kind}")
        scale = np.maximum(system.scale, np.abs(start.state))
        shooting = _Shooting(system, scale, 2.0 * np.pi / start.angular_frequency, high - low, phase_steps)
        first = shooting.born(start, amplitude)
    return _trace(shooting, first, (low, high), steps, longest_period * first.unknowns[-2], watch)


def _trace(
    shooting: _Shooting, first: Point, within: tuple[float, float], steps: Steps, longest: float, watch: Watch
) -> CycleBranch:
    curve, (low, high) = shooting.curve, within
    cycles, folds, end = [shooting.cycle(first.unknowns)], [], ""
    point, amplitudes = first, [shooting.grown(first.unknowns)]
    for count, following in enumerate(curve.follow(first, steps, watch, shooting.grown, shooting.system.size)):
        value, period = following.unknowns[-1], following.unknowns[-2]
        if not low <= value <= high:
            last = curve.at_value(point, following, -1, low if value < low else high)
            cycles.append(shooting.cycle(last.unknowns))
            end = "end of the range"
            break
        turned = shooting.turned(point.unknowns, following.unknowns) < _VANISHED
        amplitudes.append(shooting.grown(following.unknowns))
        if turned or amplitudes[-1] < _VANISHED * max(amplitudes) or period <= 0.0:
            cycles += shooting.small(point, following) if turned else [shooting.cycle(following.unknowns)]
            end = "equilibrium"
            break
        if point.tangent[-1] * following.tangent[-1] < 0.0:
            folds += shooting.fold(point, following)
        cycle = shooting.cycle(following.unknowns)
        if period > longest:
            end = "period"
            break
        if abs(cycle.trivial_multiplier - 1.0) > _TRUSTED:
            end = "period" if period > 3.0 * cycles[0].period else "lost"
            break
        cycles.append(cycle)
        if shooting.too_coarse(following.unknowns):
            shooting.refine()
        watch.told((count + 1) / steps.count)
        point = following
    watch.told(1.0)
    if not end:
        end = "number of steps" if len(cycles) > steps.count else "lost"
    return CycleBranch(system=shooting.system, cycles=tuple(cycles), folds=tuple(folds), end=end)


class _Shooting:
    """Unknowns (state, period, parameter): the flow returns after one period; the state stays on a section."""

    def __init__(
        self, system: System, state_scale: np.ndarray, period_scale: float, parameter_scale: float, phase_steps: int
    ) -> None:
        self.system, self.phase_steps = system, phase_steps
        self.curve = Curve(self._equations, np.concatenate([state_scale, [period_scale, parameter_scale]]), 1e-9)

    def _equations(self, y: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        direction = self.system.derivative(reference[:-2], reference[-1])
        return self._on_section(y, reference[:-2], direction)

    def _on_section(self, y: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = direction / self.curve.scale[:-2] ** 2
        weights = weights / max(np.linalg.norm(weights), 1e-300)
        with jax.enable_x64(True):
            end, by_unknowns = _flow_with_derivative(self.system.field, self.phase_steps, y, self.system.constants)
        jacobian = np.asarray(by_unknowns).copy()
        jacobian[:, :-2] -= np.eye(self.system.size)
        section = np.concatenate([weights, [0.0, 0.0]])
        residual = np.append(np.asarray(end) - y[:-2], weights @ (y[:-2] - origin))
        return residual, np.vstack([jacobian, section])

    def born(self, hopf: Bifurcation, amplitude: float) -> Point:
        """A small cycle around a Hopf point; its tangent is the growing oscillation."""
        jacobian = self.system.linearised(hopf.state, hopf.parameter).jacobian
        q, _ = null_vectors(jacobian - 1j * hopf.angular_frequency * np.eye(len(jacobian)))
        scale = self.curve.scale[:-2]
        q = q / scale
        q = q * np.exp(-0.5j * np.angle(q @ q))  # real and imaginary part become orthogonal
        q = q / np.linalg.norm(q.real)
        origin = np.concatenate([hopf.state, [2.0 * np.pi / hopf.angular_frequency, hopf.parameter]])
        row = np.concatenate([q.real, [0.0, 0.0]])
        small = Curve(lambda y, _: self._on_section(y, hopf.state, q.imag * scale), self.curve.scale, 1e-9)
        guess = origin + amplitude * row * self.curve.scale
        try:
            unknowns, _ = small.corrected(guess, row, float(row @ (origin / self.curve.scale)) + amplitude, origin)
        except Lost as lost:
            raise ValueError(f"no cycle of amplitude {amplitude:g} near this Hopf point ({lost})") from lost
        return Point(unknowns, self.curve.tangent(unknowns, row))

    def through(self, cycle: Cycle, direction: float) -> Point:
        unknowns = np.concatenate([cycle.state, [cycle.period, cycle.parameter]])
        towards = np.zeros(len(unknowns))
        towards[-1] = direction
        return Point(unknowns, self.curve.tangent(unknowns, towards))

    def fold(self, point: Point, following: Point) -> list[Cycle]:
        def turning(unknowns: np.ndarray) -> float:
            return float(self.curve.tangent(unknowns, point.tangent)[-1])

        try:
            return [self.cycle(self.curve.root(point, following, turning))]
        except (Lost, ValueError):
            return []

    def turned(self, before: np.ndarray, after: np.ndarray) -> float:
        """How fast the state moves along its former direction, in units of its former speed.

        Through zero amplitude at a Hopf point the branch comes back as itself, half a period later: the state then
        moves the other way.
        """
        scale = self.curve.scale[:-2]
        old, new = (self.system.derivative(y[:-2], y[-1]) / scale for y in (before, after))
        return float(old @ new / (old @ old))

    def grown(self, unknowns: np.ndarray) -> float:
        """Amplitude of the cycle in units of the scale, as if it were a circle."""
        speed = self.system.derivative(unknowns[:-2], unknowns[-1]) / self.curve.scale[:-2]
        return float(np.abs(speed).max() * unknowns[-2] / (2.0 * np.pi))

    def small(self, point: Point, following: Point) -> list[Cycle]:
        """The cycle on the way to zero amplitude that is a small part of the last one."""

        def speed(unknowns: np.ndarray) -> float:
            return self.turned(point.unknowns, unknowns) - _VANISHED

        try:
            return [self.cycle(self.curve.root(point, following, speed))]
        except (Lost, ValueError):
            return []

    def cycle(self, unknowns: np.ndarray) -> Cycle:
        with jax.enable_x64(True):
            _, by_unknowns = _flow_with_derivative(self.system.field, self.phase_steps, unknowns, self.system.constants)
            orbit = np.asarray(_orbit(self.system.field, self.phase_steps, unknowns, self.system.constants))
            seen = np.asarray(jax.vmap(lambda state: jnp.mean(self.system.observable(state)))(jnp.asarray(orbit)))
        multipliers = np.linalg.eigvals(np.asarray(by_unknowns)[:, :-2])
        multipliers = multipliers[np.argsort(-np.abs(multipliers))]
        trivial = int(np.abs(multipliers - 1.0).argmin())
        return Cycle(
            state=unknowns[:-2],
            parameter=float(unknowns[-1]),
            period=float(unknowns[-2]),
            multipliers=np.delete(multipliers, trivial).astype(complex),
            trivial_multiplier=float(multipliers[trivial].real),
            low=orbit.min(axis=0),
            high=orbit.max(axis=0),
            observed_low=float(seen.min()),
            observed_high=float(seen.max()),
        )

    def too_coarse(self, unknowns: np.ndarray) -> bool:
        with jax.enable_x64(True):
            coarse, fine = (
                np.asarray(_flow(self.system.field, steps, jnp.asarray(unknowns), self.system.constants))
                for steps in (self.phase_steps, 2 * self.phase_steps)
            )
        wrong = np.abs(coarse - fine) > _FLOW_ERROR * self.curve.scale[:-2]
        return bool(wrong.any()) and self.phase_steps < _FINEST

    def refine(self) -> None:
        self.phase_steps *= 2


def _flown(system: System, state: np.ndarray, parameter: float, time: float, steps: int) -> np.ndarray:
    with jax.enable_x64(True):
        unknowns = jnp.concatenate([jnp.asarray(state), jnp.asarray([time, parameter])])
        return np.asarray(_flow(system.field, steps, unknowns, system.constants))


def _runge_kutta(field: Field, steps: int, unknowns: Array, constants: Any) -> Callable[[Array, Any], tuple[Any, Any]]:
    dt, parameter = unknowns[-2] / steps, unknowns[-1]

    def advance(x: Array, _: Any) -> tuple[Array, Array]:
        k1 = field(x, parameter, constants)
        k2 = field(x + 0.5 * dt * k1, parameter, constants)
        k3 = field(x + 0.5 * dt * k2, parameter, constants)
        k4 = field(x + dt * k3, parameter, constants)
        return x + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4), x

    return advance


@partial(jax.jit, static_argnums=(0, 1))
def _flow(field: Field, steps: int, unknowns: Array, constants: Any) -> Array:
    last, _ = jax.lax.scan(_runge_kutta(field, steps, unknowns, constants), unknowns[:-2], length=steps)
    return jnp.asarray(last)


@partial(jax.jit, static_argnums=(0, 1))
def _orbit(field: Field, steps: int, unknowns: Array, constants: Any) -> Array:
    _, states = jax.lax.scan(_runge_kutta(field, steps, unknowns, constants), unknowns[:-2], length=steps)
    return jnp.asarray(states)


@partial(jax.jit, static_argnums=(0, 1))
def _flow_with_derivative(field: Field, steps: int, unknowns: Array, constants: Any) -> tuple[Array, Array]:
    def end(y: Array) -> tuple[Array, Array]:
        last = _flow(field, steps, y, constants)
        return last, last

    by_unknowns, last = jax.jacfwd(end, has_aux=True)(unknowns)
    return last, by_unknowns
