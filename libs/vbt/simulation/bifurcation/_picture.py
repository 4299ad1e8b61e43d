"""A bifurcation diagram as it is drawn in the field's papers: stable solid, unstable dashed, special points named."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vbt.picture_style import BLUE, GREEN, GREY, ORANGE, STYLE
from vbt.simulation.bifurcation._branch import Bifurcation, Branch, Diagram
from vbt.simulation.bifurcation._cycles import CycleBranch

_MARKS = {"fold": ("o", "fold"), "hopf": ("s", "Hopf"), "branch point": ("D", "branch point"), "kink": ("x", "kink")}
_DPI = 160


def bifurcation_diagram(diagram: Diagram, cycles: Sequence[CycleBranch] = (), *, title: str | None = None) -> bytes:
    """The diagram as PNG, the same bytes for the same diagram.

    Equilibria are lines, solid where stable and dashed where not; of cycles the lowest and highest value of the
    observable is drawn in the same way. Every bifurcation carries its parameter value.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for branch in diagram.branches:
            _equilibria(axes, branch)
        for family in cycles:
            _cycles(axes, family)
        marks = [(b.parameter, _height(diagram, b), _text(b), _MARKS[b.kind][0]) for b in diagram.bifurcations]
        for family in cycles:
            marks += [
                (fold.parameter, fold.observed_high, f"fold of cycles {_number(fold.parameter)}", "^")
                for fold in family.folds
            ]
        axes.set_xlim(diagram.low, diagram.high)
        axes.margins(y=0.08)
        axes.set_xlabel(diagram.system.parameter.label)
        axes.set_ylabel(diagram.system.observed.label)
        if title:
            axes.set_title(title)
        _legend(axes, diagram, cycles)
        _mark(figure, axes, marks)
        return _png(figure)


def _equilibria(axes: Axes, branch: Branch) -> None:
    for chosen, stable in _runs(branch.unstable_dimension == 0):
        axes.plot(branch.parameter[chosen], branch.observed[chosen], color=BLUE if stable else ORANGE, **_line(stable))


def _cycles(axes: Axes, family: CycleBranch) -> None:
    low = np.array([cycle.observed_low for cycle in family.cycles])
    high = np.array([cycle.observed_high for cycle in family.cycles])
    for chosen, stable in _runs(family.is_stable):
        for extreme in (low, high):
            axes.plot(family.parameter[chosen], extreme[chosen], color=GREEN if stable else GREY, **_line(stable))


def _runs(stable: np.ndarray) -> list[tuple[slice, bool]]:
    """Pieces of one stability; a segment is stable only where both its ends are."""
    solid = stable[:-1] & stable[1:]
    edges = [0, *(np.flatnonzero(solid[1:] != solid[:-1]) + 1), len(solid)]
    return [(slice(a, b + 1), bool(solid[a])) for a, b in pairwise(edges) if b > a]


def _line(stable: bool) -> Any:
    return {"linewidth": 1.6, "linestyle": "-"} if stable else {"linewidth": 1.1, "linestyle": (0, (4, 2))}


def _height(diagram: Diagram, bifurcation: Bifurcation) -> float:
    return diagram.system.observe(bifurcation.state)


def _text(bifurcation: Bifurcation) -> str:
    text = f"{_MARKS[bifurcation.kind][1]} {_number(bifurcation.parameter)}"
    return text if bifurcation.frequency is None else f"{text} ({bifurcation.frequency:.3g} Hz)"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _mark(figure: Figure, axes: Axes, marks: list[tuple[float, float, str, str]]) -> None:
    """Points with their text, each where it covers the fewest other texts and the least of the curves."""
    figure.draw_without_rendering()  # fixes the layout, so that places can be compared in points
    to_points = 72.0 / figure.dpi
    here = axes.transData.transform
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    busy = [to_points * _densely(here(line.get_xydata())) for line in lines]
    busy += [to_points * here([(x, y)]).repeat(25, axis=0) for x, y, _, _ in marks]
    inside = axes.bbox.x0 * to_points, axes.bbox.y0 * to_points, axes.bbox.x1 * to_points, axes.bbox.y1 * to_points
    for x, y, text, shape in sorted(marks):
        axes.plot([x], [y], shape, color="black", markersize=4.5, markerfacecolor="white", zorder=5)
        at = to_points * here([(x, y)])[0]
        size = np.array([3.9 * len(text), 8.0])
        corners = [at + offset for offset in _offsets(size)]
        costs = [_covered(np.concatenate(busy), corner, size, inside) for corner in corners]
        corner = corners[int(np.argmin(costs))]
        busy.append(_filled(corner, size))
        note = axes.annotate(
            text,
            (x, y),
            xytext=tuple(corner - at),
            textcoords="offset points",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#555555", "shrinkA": 0.5, "shrinkB": 3.0},
        )
        note.set_in_layout(False)


def _offsets(size: np.ndarray) -> list[np.ndarray]:
    """Lower left corners of a text around its point, near ones first."""
    width, height = size
    sides = [(6.0, -0.4 * height), (6.0, 4.0), (6.0, -4.0 - height), (-6.0 - width, -0.4 * height)]
    sides += [(-6.0 - width, 4.0), (-6.0 - width, -4.0 - height), (-0.5 * width, 7.0), (-0.5 * width, -7.0 - height)]
    near = [np.array(side) for side in sides]
    away = [np.sign(side + 0.5 * size) * distance for distance in (14.0, 28.0, 42.0) for side in near]
    return near + [side + move for side, move in zip(near * 3, away, strict=True)]


def _covered(busy: np.ndarray, corner: np.ndarray, size: np.ndarray, inside: tuple[float, ...]) -> float:
    within = ((busy >= corner - 1.5) & (busy <= corner + size + 1.5)).all(axis=1).sum()
    left, bottom, right, top = inside
    out = corner[0] < left or corner[1] < bottom or (corner + size)[0] > right or (corner + size)[1] > top
    return float(within + 1000.0 * out)


def _densely(points: np.ndarray) -> np.ndarray:
    """A polyline as points at most about two pixels apart."""
    steps = np.maximum(1, np.ceil(np.linalg.norm(np.diff(points, axis=0), axis=1) / 2.0)).astype(int)
    pieces = [a + (b - a) * np.arange(n)[:, None] / n for (a, b), n in zip(pairwise(points), steps, strict=True)]
    return np.concatenate([*pieces, points[-1:]])


def _filled(corner: np.ndarray, size: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0.0, size[0], 20), np.linspace(0.0, size[1], 5))
    return np.asarray(corner + np.column_stack([x.ravel(), y.ravel()]))


def _legend(axes: Axes, diagram: Diagram, cycles: Sequence[CycleBranch]) -> None:
    steady = {bool(stable) for branch in diagram.branches for stable in branch.is_stable}
    turning = {bool(stable) for family in cycles for stable in family.is_stable}
    entries = [
        ("stable equilibrium", BLUE, True, True in steady),
        ("unstable equilibrium", ORANGE, False, False in steady),
        ("stable cycle, extremes", GREEN, True, True in turning),
        ("unstable cycle, extremes", GREY, False, False in turning),
    ]
    shown = [(name, colour, stable) for name, colour, stable, present in entries if present]
    for name, colour, stable in shown:
        axes.plot([], [], color=colour, label=name, **_line(stable))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=len(shown), handlelength=2.4, columnspacing=1.2)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    # matplotlib writes its version into the file unless told not to.
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    return content.getvalue()
