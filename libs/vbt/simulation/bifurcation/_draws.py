"""What parametric uncertainty does to a bifurcation diagram: bands over posterior draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vbt.simulation._network import Network
from vbt.simulation.bifurcation._branch import Diagram, Kind, follow_equilibria
from vbt.simulation.bifurcation._curve import Steps
from vbt.simulation.bifurcation._system import System
from vbt.simulation.bifurcation._watch import Watch
from vbt.simulation.bifurcation._working_point import CouplingSweep, sweep_coupling


@dataclass(frozen=True, kw_only=True)
class Band:
    """Median and interval of a parameter value over draws."""

    kind: Kind
    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The draws whose diagrams have the same bifurcations in the same order of the parameter.

    Draws with different structures are not averaged: the second fold of one is not the second fold of another.

    Parameters
    ----------
    share : of all draws
    draws : their indices
    bands : of each bifurcation, by increasing parameter
    """

    kinds: tuple[Kind, ...]
    share: float
    draws: tuple[int, ...]
    bands: tuple[Band, ...]


@dataclass(frozen=True, kw_only=True)
class CouplingBands:
    """The leading eigenvalue over the coupling, over draws.

    Parameters
    ----------
    coupling : grid
    median, low, high : of the largest real part among the draws that still rest at that coupling; NaN where none does
    share_stable : of the draws, that still rest there
    thresholds : coupling at which each draw's rest is lost; infinite where it is not within the range
    """

    coupling: Float[np.ndarray, " point"]
    median: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]
    share_stable: Float[np.ndarray, " point"]
    thresholds: Float[np.ndarray, " draw"]


def diagram_bands(
    systems: Sequence[System],
    low: float,
    high: float,
    *,
    interval: float = 0.9,
    sites: int = 3,
    starts: int = 64,
    steps: Steps | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Structure, ...]:
    """The bifurcations of one system per draw, the most frequent structure first.

    Systems of one mass and one parameter share their compiled functions, so a further draw costs no compilation.

    Parameters
    ----------
    interval : probability within a band, its ends cutting off equal shares
    """
    watch = Watch(progress, cancelled)
    diagrams = []
    for number, system in enumerate(systems):
        diagrams.append(
            follow_equilibria(system, low, high, sites=sites, starts=starts, steps=steps, cancelled=cancelled)
        )
        watch.told((number + 1) / len(systems))
    groups: dict[tuple[Kind, ...], list[int]] = {}
    for number, diagram in enumerate(diagrams):
        groups.setdefault(tuple(b.kind for b in diagram.bifurcations), []).append(number)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0]))
    return tuple(_structure(kinds, draws, diagrams, interval) for kinds, draws in ordered)


def coupling_bands(
    nets: Sequence[Network],
    low: float,
    high: float,
    *,
    points: int = 50,
    interval: float = 0.9,
    delayed: bool = False,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CouplingBands:
    """The leading eigenvalue of one network per draw, over the coupling, up to where its rest is lost."""
    watch = Watch(progress, cancelled)
    grid = np.linspace(low, high, points)
    thresholds, rows = [], []
    for number, net in enumerate(nets):
        sweep = sweep_coupling(net, low, high, delayed=delayed, cancelled=cancelled)
        thresholds.append(np.inf if sweep.threshold is None else sweep.threshold.parameter)
        rows.append(_leading(sweep, grid, thresholds[-1]))
        watch.told((number + 1) / len(nets))
    leading = np.stack(rows)
    tail = 0.5 * (1.0 - interval)
    present = np.isfinite(leading)
    quantiles = np.full((3, points), np.nan)
    for column in np.flatnonzero(present.any(axis=0)):
        quantiles[:, column] = np.quantile(leading[present[:, column], column], [0.5, tail, 1.0 - tail])
    return CouplingBands(
        coupling=grid,
        median=quantiles[0],
        low=quantiles[1],
        high=quantiles[2],
        share_stable=present.mean(axis=0),
        thresholds=np.array(thresholds),
    )


def _leading(sweep: CouplingSweep, grid: np.ndarray, threshold: float) -> np.ndarray:
    first = int(np.argmax(sweep.coupling >= threshold)) + 1 if np.isfinite(threshold) else len(sweep.coupling)
    inside = np.interp(grid, sweep.coupling[:first], sweep.leading.real[:first])
    return np.where(grid <= min(threshold, float(sweep.coupling[:first].max())), inside, np.nan)


def _structure(kinds: tuple[Kind, ...], draws: list[int], diagrams: list[Diagram], interval: float) -> Structure:
    values = np.array([[b.parameter for b in diagrams[draw].bifurcations] for draw in draws])
    tail = 0.5 * (1.0 - interval)
    bands = []
    for kind, column in zip(kinds, values.T, strict=True):
        median, lowest, highest = np.quantile(column, [0.5, tail, 1.0 - tail])
        bands.append(Band(kind=kind, median=float(median), low=float(lowest), high=float(highest)))
    return Structure(kinds=kinds, share=len(draws) / len(diagrams), draws=tuple(draws), bands=tuple(bands))
