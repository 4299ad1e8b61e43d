"""Branches of equilibria over one parameter, with the folds, Hopf points and branch points on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from vbt.simulation.bifurcation._curve import Curve, Equations, Lost, Point, Steps
from vbt.simulation.bifurcation._equilibria import Equilibrium, equilibria, unstable_dimension
from vbt.simulation.bifurcation._normal_form import first_lyapunov_coefficient, fold_coefficient, null_vectors
from vbt.simulation.bifurcation._system import System
from vbt.simulation.bifurcation._watch import Watch

Kind = Literal["fold", "hopf", "branch point", "kink"]

_STEPS = Steps(first=0.005, largest=0.025, count=4000)
_SAME_PLACE = 1e-7
_TURNS = 1e-7  # an imaginary part above this, relative to the spectrum, is a rotation
_RANK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Bifurcation:
    """Where eigenvalues reach the imaginary axis.

    Parameters
    ----------
    kind : ``fold`` one real eigenvalue, the branch turns around; ``hopf`` a complex pair; ``branch point`` one real
        eigenvalue, but the branch goes through (another one crosses); ``kink`` the eigenvalues jump over the axis
        because the equations are not smooth there, so that no normal form applies
    parameter, state, eigenvalues : where, and the spectrum there
    multiplicity : how many eigenvalues, or pairs, cross at once: 1 unless regions are alike
    angular_frequency : of a Hopf point, rad per unit of model time
    frequency : the same in Hz, where the model's time has a unit
    coefficient : normal form coefficient: of a fold a (zero at a cusp), of a Hopf point the first Lyapunov coefficient;
        NaN where it is not defined (multiplicity above 1, kinks, branch points)
    """

    kind: Kind
    parameter: float
    state: Float[np.ndarray, " state"]
    eigenvalues: Complex[np.ndarray, " eigenvalue"]
    multiplicity: int = 1
    angular_frequency: float = 0.0
    frequency: float | None = None
    coefficient: float = np.nan

    @property
    def is_supercritical(self) -> bool:
        """A stable cycle grows softly out of this Hopf point (within its centre manifold)."""
        return self.kind == "hopf" and self.coefficient < 0.0

    @property
    def name(self) -> str:
        if self.kind != "hopf" or not np.isfinite(self.coefficient):
            return self.kind
        return f"{'supercritical' if self.is_supercritical else 'subcritical'} hopf"


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Equilibria that hang together, in the order in which the curve runs through them.

    Parameters
    ----------
    parameter, states, eigenvalues : of each point; the bifurcations are among them
    observed : the system's observable, for a network its mean over the regions
    unstable_dimension : number of eigenvalues with a positive real part
    bifurcations : in the same order
    ends : why the curve stops at its first and last point
    """

    parameter: Float[np.ndarray, " point"]
    states: Float[np.ndarray, "point state"]
    eigenvalues: Complex[np.ndarray, "point eigenvalue"]
    observed: Float[np.ndarray, " point"]
    unstable_dimension: Int[np.ndarray, " point"]
    bifurcations: tuple[Bifurcation, ...]
    ends: tuple[str, str]

    @property
    def is_stable(self) -> Bool[np.ndarray, " point"]:
        return np.asarray(self.unstable_dimension == 0)

    def at(self, parameter: float) -> Float[np.ndarray, "crossing state"]:
        """States where the branch takes a value of the parameter, interpolated between its points."""
        before, after = self.parameter[:-1] - parameter, self.parameter[1:] - parameter
        crossed = np.flatnonzero((before * after < 0) | (before == 0))
        share = before[crossed] / np.where(before == after, 1.0, before - after)[crossed]
        inner = self.states[crossed] + share[:, None] * (self.states[crossed + 1] - self.states[crossed])
        return np.concatenate([inner, self.states[-1:][self.parameter[-1:] == parameter]])


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """All branches of equilibria that were found in a range of the parameter."""

    system: System
    low: float
    high: float
    branches: tuple[Branch, ...]

    @property
    def bifurcations(self) -> tuple[Bifurcation, ...]:
        """Of all branches, by increasing parameter."""
        return tuple(sorted((b for branch in self.branches for b in branch.bifurcations), key=lambda b: b.parameter))

    def of_kind(self, kind: Kind) -> tuple[Bifurcation, ...]:
        return tuple(b for b in self.bifurcations if b.kind == kind)


def follow_equilibria(
    system: System,
    low: float,
    high: float,
    *,
    sites: int = 3,
    starts: int = 256,
    steps: Steps | None = None,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Diagram:
    """Every branch through the equilibria found at some values of the parameter.

    Parameters
    ----------
    low, high : range of the parameter
    sites : number of parameter values, spread over the range, at which equilibria are looked for from many starts
    starts, box : as in `equilibria`
    progress, cancelled : told the fraction done; asked whether to stop

    Raises
    ------
    concurrent.futures.CancelledError
        soon after `cancelled` answers True.
    """
    watch = Watch(progress, cancelled)
    branches: list[Branch] = []
    values = low + (high - low) * (np.arange(sites) + 0.5) / sites
    for site, value in enumerate(values):
        watch.check()
        found = equilibria(system, float(value), starts=starts, box=box, watch=watch)
        for number, point in enumerate(found):
            portion = (site + number / len(found)) / sites, (site + (number + 1) / len(found)) / sites
            if not any(_passes(branch, point, system) for branch in branches):
                branches.append(follow(system, point, low, high, steps=steps, watch=watch, portion=portion))
            watch.told(portion[1])
    watch.told(1.0)
    return Diagram(system=system, low=low, high=high, branches=tuple(branches))


def follow(
    system: System,
    start: Equilibrium,
    low: float,
    high: float,
    *,
    steps: Steps | None = None,
    while_stable: bool = False,
    watch: Watch | None = None,
    portion: tuple[float, float] = (0.0, 1.0),
) -> Branch:
    """The branch through one equilibrium, in both directions.

    Parameters
    ----------
    while_stable : stop in each direction behind the first point that is not stable
    portion : of the whole work that `watch` is told about, where this branch begins and ends
    """
    tracer = _Tracer(system, start, low, high, steps or _STEPS, watch or Watch(None, None), while_stable, portion)
    forward, end = tracer.run(+1.0)
    if end == "closed":
        return tracer.branch(forward, ("closed", "closed"))
    backward, begin = tracer.run(-1.0)
    return tracer.branch([*backward[:0:-1], *forward], (begin, end))


def steady(system: System) -> Equations:
    """The equations of an equilibrium in the unknowns (state, parameter)."""

    def equations(y: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = system.linearised(y[:-1], y[-1])
        return parts.derivative, np.column_stack([parts.jacobian, parts.by_parameter])

    return equations


@dataclass(frozen=True)
class _Site:
    """A point of the branch with its spectrum, and the bifurcation that it is, if any."""

    unknowns: np.ndarray
    eigenvalues: np.ndarray
    unstable: int
    bifurcation: Bifurcation | None = None

    def real_part(self, rank: int) -> float:
        return float(self.eigenvalues[rank].real)


@dataclass(frozen=True)
class _Crossing:
    """Where eigenvalues of some ranks, counted from the right, reach the imaginary axis within one step."""

    distance: float
    site: _Site
    ranks: list[int]


class _Tracer:
    def __init__(
        self,
        system: System,
        start: Equilibrium,
        low: float,
        high: float,
        steps: Steps,
        watch: Watch,
        while_stable: bool,
        portion: tuple[float, float],
    ) -> None:
        self.system, self.low, self.high, self.steps, self.watch = system, low, high, steps, watch
        self.while_stable = while_stable
        self.portion, self.seen = portion, [start.parameter, start.parameter]
        self.start = np.append(start.state, start.parameter)
        scale = np.append(np.maximum(system.scale, np.abs(start.state)), high - low)
        self.curve = Curve(steady(system), scale)

    def site(self, unknowns: np.ndarray) -> _Site:
        eigenvalues = self.system.eigenvalues(unknowns[:-1], unknowns[-1])
        return _Site(unknowns, eigenvalues, unstable_dimension(eigenvalues))

    def run(self, direction: float) -> tuple[list[_Site], str]:
        towards = np.zeros(len(self.start))
        towards[-1] = direction
        point = Point(self.start, self.curve.tangent(self.start, towards))
        sites = [self.site(self.start)]
        low, high = self.system.bounds
        margin = 1e-6 * self.system.scale
        first = point
        for following in self.curve.follow(point, self.steps, self.watch, self._grown, self.system.size):
            value = following.unknowns[-1]
            if not self.low <= value <= self.high:
                limit = self.low if value < self.low else self.high
                if point.unknowns[-1] != limit:
                    sites += self._between(point, self.curve.at_value(point, following, -1, limit), sites[-1])
                return sites, "end of the range"
            state = following.unknowns[:-1]
            if (state < low - margin).any() or (state > high + margin).any():
                return sites, "state out of bounds"
            sites += self._between(point, following, sites[-1])
            self._tell(value)
            if self.while_stable and sites[-1].unstable > 0:
                return sites, "stability lost"
            if len(sites) > 10 and self._back(first, point, following):
                return sites, "closed"
            point = following
        return sites, self._why_lost(point) if len(sites) < self.steps.count else "number of steps"

    def _why_lost(self, point: Point) -> str:
        """Beyond a point where the equations have a corner, the curve may have no continuation."""
        beyond = point.unknowns + 1e-5 * point.tangent * self.curve.scale
        here, there = (steady(self.system)(y, y)[1] for y in (point.unknowns, beyond))
        return "kink of the equations" if np.abs(there - here).max() > 1e-3 * np.abs(here).max() else "lost"

    def _tell(self, parameter: float) -> None:
        """A branch has no known length; how much of the range it has seen is what can be told."""
        self.seen = [min(self.seen[0], parameter), max(self.seen[1], parameter)]
        begin, end = self.portion
        self.watch.told(begin + (end - begin) * (self.seen[1] - self.seen[0]) / (self.high - self.low))

    def _grown(self, unknowns: np.ndarray) -> float:
        return float(np.abs(unknowns[:-1] / self.curve.scale[:-1]).max())

    def _back(self, first: Point, before: Point, after: Point) -> bool:
        reach = self.curve.distance(first, before.unknowns), self.curve.distance(first, after.unknowns)
        apart = np.abs((after.unknowns - first.unknowns) / self.curve.scale).max()
        return reach[0] < 0.0 <= reach[1] and apart < 2.0 * self.steps.largest

    def _between(self, point: Point, following: Point, before: _Site) -> list[_Site]:
        after = self.site(following.unknowns)
        counts = before.unstable, after.unstable
        # Not the spectrum at the crossing itself: that of a single variable is nothing but the zero.
        size = float(max(np.abs(before.eigenvalues).max(), np.abs(after.eigenvalues).max()))
        found: list[_Crossing] = []
        for rank in range(min(counts), max(counts)):
            here = self._crossing(point, following, (before, after), rank)
            distance = self.curve.distance(point, here.unknowns)
            same = [other for other in found if abs(other.distance - distance) < _SAME_PLACE * self.steps.largest]
            if same:
                same[0].ranks.append(rank)
            else:
                found.append(_Crossing(distance, here, [rank]))
        sites = []
        for crossing in sorted(found, key=lambda crossing: crossing.distance):
            site = dataclasses.replace(crossing.site, unstable=min(crossing.ranks))
            sites.append(dataclasses.replace(site, bifurcation=self._bifurcation(site, len(crossing.ranks), size)))
        return [*sites, after]

    def _crossing(self, point: Point, following: Point, ends: tuple[_Site, _Site], rank: int) -> _Site:
        values = ends[0].real_part(rank), ends[1].real_part(rank)
        if values[0] * values[1] > 0.0:  # one of them is zero but for rounding
            return min(ends, key=lambda site: abs(site.real_part(rank)))
        try:
            return self.site(self.curve.root(point, following, lambda y: self.site(y).real_part(rank)))
        except Lost:
            return min(ends, key=lambda site: abs(site.real_part(rank)))

    def _bifurcation(self, site: _Site, crossing: int, size: float) -> Bifurcation:
        state, parameter, eigenvalues = site.unknowns[:-1], float(site.unknowns[-1]), site.eigenvalues
        critical = eigenvalues[np.abs(eigenvalues.real).argmin()]
        if abs(critical.real) > 1e-6 * size:
            return Bifurcation(kind="kink", parameter=parameter, state=state, eigenvalues=eigenvalues)
        if abs(critical.imag) > _TURNS * size:
            return self._hopf(site, abs(critical.imag), max(1, crossing // 2))
        kind: Kind = "fold" if self._turns_around(site.unknowns) else "branch point"
        simple = kind == "fold" and crossing == 1
        return Bifurcation(
            kind=kind,
            parameter=parameter,
            state=state,
            eigenvalues=eigenvalues,
            multiplicity=crossing,
            coefficient=fold_coefficient(self.system, state, parameter) if simple else np.nan,
        )

    def _hopf(self, site: _Site, angular: float, pairs: int) -> Bifurcation:
        state, parameter = site.unknowns[:-1], float(site.unknowns[-1])
        unit = self.system.milliseconds_per_unit
        known = pairs == 1 and self.system.spectrum is None
        return Bifurcation(
            kind="hopf",
            parameter=parameter,
            state=state,
            eigenvalues=site.eigenvalues,
            multiplicity=pairs,
            angular_frequency=angular,
            frequency=None if unit is None else 1000.0 * angular / (2.0 * np.pi * unit),
            coefficient=first_lyapunov_coefficient(self.system, state, parameter, angular) if known else np.nan,
        )

    def _turns_around(self, unknowns: np.ndarray) -> bool:
        """At a fold the parameter moves the equations out of the range of the Jacobian; at a branch point it cannot."""
        parts = self.system.linearised(unknowns[:-1], unknowns[-1])
        _, left = null_vectors(parts.jacobian)
        push = np.linalg.norm(parts.by_parameter)
        return bool(push > 0 and abs(left @ parts.by_parameter) > _RANK * push)

    def branch(self, sites: list[_Site], ends: tuple[str, str]) -> Branch:
        unknowns = np.stack([site.unknowns for site in sites])
        known = min(len(site.eigenvalues) for site in sites)
        return Branch(
            parameter=unknowns[:, -1],
            states=unknowns[:, :-1],
            # Of infinitely many characteristic roots not always the same number is resolved.
            eigenvalues=np.stack([site.eigenvalues[:known] for site in sites]),
            observed=np.array([self.system.observe(state) for state in unknowns[:, :-1]]),
            unstable_dimension=np.array([site.unstable for site in sites]),
            bifurcations=tuple(site.bifurcation for site in sites if site.bifurcation is not None),
            ends=ends,
        )


def _passes(branch: Branch, point: Equilibrium, system: System) -> bool:
    size = system.scale + np.abs(point.state)
    return any((np.abs(state - point.state) < 0.02 * size).all() for state in branch.at(point.parameter))
