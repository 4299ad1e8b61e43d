"""Pseudo-arclength continuation of the curve on which m equations in m + 1 unknowns vanish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from vbt.simulation.bifurcation._watch import Watch

Unknowns = Float[np.ndarray, " unknown"]
Equations = Callable[[Unknowns, Unknowns], tuple[np.ndarray, np.ndarray]]
"""(unknowns, reference) -> residual (m,), Jacobian (m, m + 1); the reference is the last accepted point."""

_NEWTON = 12
_EASY, _SHARP, _TOO_SHARP = 4, 0.985, 0.94  # Newton steps; cosines of the angle between successive tangents


class Point(NamedTuple):
    unknowns: Unknowns
    tangent: Unknowns


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Lengths of the steps along the curve, in units of the scaled unknowns.

    Parameters
    ----------
    first, smallest, largest : step lengths; the largest grows with the state where that outgrows its scale
    count : most steps in one direction
    """

    first: float = 0.01
    smallest: float = 1e-7
    largest: float = 0.05
    count: int = 2000


class Lost(Exception):
    """Newton's iteration did not return to the curve."""


class Curve:
    """The curve through scaled unknowns; what is handed in and out is unscaled."""

    def __init__(self, equations: Equations, scale: Unknowns, tolerance: float = 1e-11) -> None:
        self._equations = equations
        self.scale = np.asarray(scale, float)
        self._tolerance = tolerance

    def corrected(self, guess: Unknowns, row: Unknowns, target: float, reference: Unknowns) -> tuple[Unknowns, int]:
        """The point of the curve near a guess for which row · scaled unknowns equals the target.

        Raises
        ------
        Lost
            where Newton's iteration does not converge.
        """
        y = np.asarray(guess, float) / self.scale
        for count in range(1, _NEWTON + 1):
            residual, jacobian = self._equations(y * self.scale, reference)
            if not (np.isfinite(residual).all() and np.isfinite(jacobian).all() and np.abs(jacobian).max() < 1e100):
                raise Lost("diverged")
            matrix = np.vstack([jacobian * self.scale, row])
            right = np.append(residual, row @ y - target)
            try:
                step = np.linalg.solve(matrix, right)
            except np.linalg.LinAlgError:  # on a branch point itself
                step = np.linalg.lstsq(matrix, right)[0]
            if not np.isfinite(step).all() or np.abs(step).max() > 1e6:
                raise Lost("diverged")
            y = y - step
            if np.abs(step).max() < self._tolerance * max(1.0, np.abs(y).max()):
                return y * self.scale, count
        raise Lost("did not converge")

    def tangent(self, unknowns: Unknowns, along: Unknowns) -> Unknowns:
        """The unit tangent, in scaled unknowns, on the side of `along`."""
        _, jacobian = self._equations(unknowns, unknowns)
        matrix = np.vstack([jacobian * self.scale, along])
        try:
            tangent = np.linalg.solve(matrix, np.append(np.zeros(len(jacobian)), 1.0))
        except np.linalg.LinAlgError:
            # At a branch point: the null vector nearest to where the curve was going.
            _, _, rows = np.linalg.svd(jacobian * self.scale)
            tangent = rows[-1] * (1.0 if rows[-1] @ along >= 0 else -1.0)
        return np.asarray(tangent / np.linalg.norm(tangent))

    def ahead(self, point: Point, distance: float) -> tuple[Unknowns, int]:
        """The point of the curve a distance along the tangent of another."""
        y = point.unknowns / self.scale
        guess = (y + distance * point.tangent) * self.scale
        return self.corrected(guess, point.tangent, float(point.tangent @ y) + distance, point.unknowns)

    def distance(self, start: Point, end: Unknowns) -> float:
        return float(start.tangent @ ((end - start.unknowns) / self.scale))

    def at_value(self, start: Point, end: Point, index: int, value: float) -> Point:
        """The point between two where one unknown has a given value."""
        row = np.zeros(len(self.scale))
        row[index] = 1.0
        share = (value - start.unknowns[index]) / (end.unknowns[index] - start.unknowns[index])
        guess = start.unknowns + share * (end.unknowns - start.unknowns)
        unknowns, _ = self.corrected(guess, row, value / self.scale[index], start.unknowns)
        unknowns[index] = value
        return Point(unknowns, self.tangent(unknowns, end.tangent))

    def root(self, start: Point, end: Point, test: Callable[[Unknowns], float]) -> Unknowns:
        """The point between two where a test function, of opposite signs at both, crosses zero."""
        reach = self.distance(start, end.unknowns)
        values = {0.0: test(start.unknowns), reach: test(end.unknowns)}
        for at, value in values.items():
            if value == 0.0:
                return self.ahead(start, at)[0]

        def along(distance: float) -> float:
            return values[distance] if distance in values else test(self.ahead(start, distance)[0])

        where = float(brentq(along, 0.0, reach, xtol=1e-15, rtol=1e-14))
        return self.ahead(start, where)[0]

    def follow(
        self, start: Point, steps: Steps, watch: Watch, grown: Callable[[Unknowns], float] | None = None, state: int = 0
    ) -> Iterator[Point]:
        """Points along the curve, the start excluded, until the step shrinks below the smallest or the count is up.

        Parameters
        ----------
        grown : how many times its scale the state has become; the steps may grow with it
        state : number of unknowns that are the state, to which that applies
        """
        point, step = start, steps.first
        for _ in range(steps.count):
            following, step, newton = self._step(point, step, steps, watch)
            if following is None:
                return
            cosine = float(following.tangent @ point.tangent)
            point = following
            yield point
            if newton <= _EASY and cosine >= _SHARP:
                size = 1.0 if grown is None else max(1.0, grown(point.unknowns))
                others = float(np.abs(point.tangent[state:]).max())
                step = min(1.5 * step, steps.largest * min(size, 1.0 / max(others, 1e-12)))
            elif cosine < _SHARP:
                step = max(0.7 * step, steps.smallest)

    def _step(self, point: Point, step: float, steps: Steps, watch: Watch) -> tuple[Point | None, float, int]:
        """The next point, the step that led there and its Newton iterations; no point where the curve was lost."""
        while step >= steps.smallest:
            watch.check()
            try:
                unknowns, newton = self.ahead(point, step)
                following = Point(unknowns, self.tangent(unknowns, point.tangent))
                # A smooth curve is straight at the smallest step: what still turns there is a corner of the equations.
                if following.tangent @ point.tangent >= _TOO_SHARP or step < 2.0 * steps.smallest:
                    return following, step, newton
            except Lost:
                pass
            step *= 0.5
        return None, step, _NEWTON
