"""A fold followed over two parameters, with the cusps and Bogdanov-Takens points on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation.bifurcation._branch import Bifurcation
from vbt.simulation.bifurcation._curve import Curve, Lost, Point, Steps
from vbt.simulation.bifurcation._normal_form import null_vectors
from vbt.simulation.bifurcation._system import Field, System, as_doubles
from vbt.simulation.bifurcation._watch import Watch

Setter = Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class CodimensionTwo:
    """``cusp``: two folds meet and vanish. ``bogdanov-takens``: a curve of Hopf points ends on the fold."""

    kind: Literal["cusp", "bogdanov-takens"]
    parameter: float
    second: float
    state: Float[np.ndarray, " state"]


@dataclass(frozen=True, kw_only=True)
class FoldCurve:
    """Folds over two parameters.

    Parameters
    ----------
    parameter, second, states : of each point of the curve
    points : cusps and Bogdanov-Takens points on it
    """

    parameter: Float[np.ndarray, " point"]
    second: Float[np.ndarray, " point"]
    states: Float[np.ndarray, "point state"]
    points: tuple[CodimensionTwo, ...]


@dataclass(frozen=True)
class SetParameter:
    """Puts a value into the neural mass among a system's constants."""

    name: str

    def __call__(self, constants: Any, value: Any) -> Any:
        return (dataclasses.replace(constants[0], **{self.name: value}), *constants[1:])


def follow_fold(
    system: System,
    fold: Bifurcation,
    second: str | Setter,
    start: float,
    within: tuple[tuple[float, float], tuple[float, float]],
    *,
    steps: Steps | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FoldCurve:
    """The curve of folds through a known one.

    Parameters
    ----------
    second : another parameter of the mass, or a hashable function that puts a value into the system's constants
    start : value of the second parameter at the known fold
    within : ranges of the first and of the second parameter; the curve stops where it leaves them

    Raises
    ------
    ValueError
        for a bifurcation that is no fold.
    """
    if fold.kind != "fold":
        raise ValueError(f"only a fold can be followed here, got a {fold.kind}")
    watch = Watch(progress, cancelled)
    setter: Setter = SetParameter(second) if isinstance(second, str) else second
    v, _ = null_vectors(system.linearised(fold.state, fold.parameter).jacobian)
    v = np.real(v) / np.linalg.norm(np.real(v))
    first = np.concatenate([fold.state, v, [fold.parameter, start]])
    scale = np.concatenate(
        [
            np.maximum(system.scale, np.abs(fold.state)),
            np.ones(system.size),
            [high - low for low, high in within],
        ]
    )
    curve = Curve(_Extended(system, setter), scale)
    steps = steps or Steps(count=1000)
    tests = _Tests(system, setter)
    rows: list[np.ndarray] = []
    points: list[CodimensionTwo] = []
    for direction in (1.0, -1.0):
        towards = np.zeros(len(first))
        towards[-1] = direction
        point = Point(first, curve.tangent(first, towards))
        passed = [first]
        for count, following in enumerate(curve.follow(point, steps, watch)):
            ends = following.unknowns[-2:]
            if not all(low <= value <= high for value, (low, high) in zip(ends, within, strict=True)):
                break
            points += _special(curve, tests, point, following, system.size)
            passed.append(following.unknowns)
            watch.told(0.5 * ((direction < 0) + (count + 1) / steps.count))
            point = following
        rows = passed if direction > 0 else [*passed[:0:-1], *rows]
    watch.told(1.0)
    unknowns = np.stack(rows)
    return FoldCurve(
        parameter=unknowns[:, -2], second=unknowns[:, -1], states=unknowns[:, : system.size], points=tuple(points)
    )


def _special(curve: Curve, tests: _Tests, point: Point, following: Point, size: int) -> list[CodimensionTwo]:
    found = []
    kinds: tuple[Literal["cusp", "bogdanov-takens"], ...] = ("cusp", "bogdanov-takens")
    for kind, test in zip(kinds, (tests.quadratic, tests.overlap), strict=True):
        if test(point.unknowns) * test(following.unknowns) < 0.0:
            try:
                y = curve.root(point, following, test)
            except Lost:
                continue
            found.append(CodimensionTwo(kind=kind, parameter=float(y[-2]), second=float(y[-1]), state=y[:size]))
    return found


class _Extended:
    """f = 0, J v = 0, |v| = 1 in the unknowns (state, v, parameter, second parameter)."""

    def __init__(self, system: System, setter: Setter) -> None:
        self._system, self._setter = system, setter

    def __call__(self, y: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            parts = _extended(self._system.field, self._setter, y, self._system.constants)
            return np.asarray(parts[0]), np.asarray(parts[1])


class _Tests:
    def __init__(self, system: System, setter: Setter) -> None:
        self._system, self._setter = system, setter

    def _parts(self, y: np.ndarray) -> tuple[System, np.ndarray, np.ndarray, np.ndarray, float]:
        size = self._system.size
        constants = as_doubles(self._setter(self._system.constants, y[-1]))
        there = dataclasses.replace(self._system, constants=constants)
        state, v, parameter = y[:size], y[size:-2], float(y[-2])
        linear = there.linearised(state, parameter)
        _, left = null_vectors(linear.jacobian)
        left = np.real(left)
        # The parameter pushes to one side of the fold all along the curve, which fixes the sign of the left vector.
        return there, state, v, left * np.sign(left @ linear.by_parameter), parameter

    def quadratic(self, y: np.ndarray) -> float:
        there, state, v, left, parameter = self._parts(y)
        return float(left @ there.second(state, parameter, v, v))

    def overlap(self, y: np.ndarray) -> float:
        _, _, v, left, _ = self._parts(y)
        return float(left @ v)


@partial(jax.jit, static_argnums=(0, 1))
def _extended(field: Field, setter: Setter, y: Array, constants: Any) -> tuple[Array, Array]:
    size = (y.shape[0] - 2) // 2

    def equations(unknowns: Array) -> Array:
        state, v = unknowns[:size], unknowns[size:-2]
        chosen = setter(constants, unknowns[-1])
        rate, along = jax.jvp(lambda x: field(x, unknowns[-2], chosen), (state,), (v,))
        return jnp.concatenate([rate, along, (v @ v - 1.0)[None]])

    return equations(y), jax.jacfwd(equations)(y)
