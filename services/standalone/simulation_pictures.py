"""The pictures of `vbt simulate`: courses, functional connectivity, spectra, and what a sweep changed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brain_simulator.experiments import Simulated
from vbt.picture_style import BLUE, STYLE
from vbt.simulation import Observation, PowerSpectrum

_ROWS = 12
_SHOWN = 2000  # samples of a course
_LEAST_SAMPLES = 20  # for a correlation to mean anything
_Picture = tuple[bytes, str]


def pictures_of(simulated: Simulated) -> dict[str, _Picture]:
    """PNG pictures by file name, each with what it shows; of several runs the first is drawn, and the sweep."""
    pictures: dict[str, _Picture] = {}
    for (name, monitor), seen in zip(simulated.experiment.monitors, simulated.simulation.observations, strict=True):
        if isinstance(monitor, PowerSpectrum):
            density = monitor.spectra(seen.values)[0, -1]
            about = f"power spectral density, {_unit(seen.unit) or 'dimensionless'}, median and 90 % of the regions"
            pictures["spectrum.png"] = (_spectrum(monitor.frequencies, density, seen.unit), about)
            continue
        pictures[f"{name}.png"] = (_courses(seen, name), f"course of {name} in {_rows(seen)} regions, first run")
        if seen.values.shape[1] >= _LEAST_SAMPLES:
            pictures[f"{name}-fc.png"] = (_connectivity(seen, name), "Pearson correlation between regions, first run")
    varied = _varied(simulated)
    if varied and not isinstance(simulated.experiment.monitors[0][1], PowerSpectrum):
        pictures["sweep.png"] = (
            _sweep(simulated, varied),
            f"{simulated.experiment.monitors[0][0]} over {', '.join(varied)}",
        )
    return pictures


def _courses(seen: Observation, name: str) -> bytes:
    values = seen.values[0]
    there = np.flatnonzero(np.isfinite(values).all(axis=0))
    rows = there[np.linspace(0, len(there) - 1, min(_ROWS, len(there))).astype(int)] if len(there) else there
    last = values[-_SHOWN:][:, rows]
    time = seen.time[-_SHOWN:]
    span = float(np.ptp(last, axis=0).max()) if last.size else 0.0
    step = 1.1 * span if span > 0.0 else 1.0

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, course in enumerate(last.T):
            axes.plot(time, course - course.mean() - row * step, color=BLUE, linewidth=0.7)
        axes.set_yticks(-step * np.arange(len(rows)), [seen.labels[region] for region in rows])
        axes.set_xlabel("time (s)")
        axes.set_xlim(time[0], time[-1] if len(time) > 1 else time[0] + 1.0)
        axes.set_title(f"{_title(name)}, each region around its mean")
        _scale_bar(axes, span, seen.unit)

    return _drawn(draw, (6.4, 0.9 + 0.3 * max(len(rows), 4)))


def _scale_bar(axes: Any, span: float, unit: str) -> None:
    """How much one unit of height is, since courses are stacked."""
    if not span > 0.0:
        return
    length = float(f"{span / 2:.0e}")
    bottom, top = axes.get_ylim()
    middle = 0.5 * (bottom + top)
    transform = axes.get_yaxis_transform()
    axes.plot(
        [1.015, 1.015], [middle - length / 2, middle + length / 2], transform=transform, clip_on=False, color="black"
    )
    axes.text(1.03, middle, f"{length:g} {_unit(unit)}".strip(), transform=transform, va="center", fontsize=7)


def _connectivity(seen: Observation, name: str) -> bytes:
    values = seen.values[0]
    moving = np.isfinite(values).all(axis=0) & (np.nan_to_num(values).std(axis=0) > 0.0)
    matrix = np.full((values.shape[1], values.shape[1]), np.nan)
    if moving.sum() > 1:
        matrix[np.ix_(moving, moving)] = np.corrcoef(values[:, moving].T)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1.0, vmax=1.0, interpolation="nearest")
        ticks = np.unique(np.linspace(0, len(matrix) - 1, min(16, len(matrix))).astype(int))
        labels = [seen.labels[index] for index in ticks]
        axes.set_xticks(ticks, labels, rotation=90)
        axes.set_yticks(ticks, labels)
        axes.set_title(f"functional connectivity of {_title(name)}, {values.shape[0]} samples")
        figure.colorbar(image, ax=axes, label="Pearson's r", shrink=0.8)

    return _drawn(draw, (5.2, 4.6))


def _spectrum(frequencies: np.ndarray, density: Float[np.ndarray, "frequency region"], unit: str) -> bytes:
    kept = frequencies > 0.0
    low, middle, high = np.nanpercentile(density[kept], [5, 50, 95], axis=1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.fill_between(frequencies[kept], low, high, color=BLUE, alpha=0.2, linewidth=0, label="90 % of the regions")
        axes.plot(frequencies[kept], middle, color=BLUE, linewidth=1.2, label="median region")
        axes.set_xscale("log")
        if (low > 0.0).all():
            axes.set_yscale("log")
        axes.set_xlabel("frequency (Hz)")
        axes.set_ylabel(f"power spectral density ({_unit(unit)})")
        axes.legend()

    return _drawn(draw, (5.2, 3.4))


def _sweep(simulated: Simulated, varied: list[str]) -> bytes:
    values = simulated.simulation.observations[0].values
    runs = simulated.experiment.runs
    name = simulated.experiment.monitors[0][0]
    level, spread = np.nanmean(values, axis=(1, 2)), np.nanmean(np.nanstd(values, axis=1), axis=1)
    points = np.array([[float(np.mean(run.parameters[one])) for one in varied] for run in runs])
    unit = _unit(simulated.simulation.observations[0].unit)
    labels = [f"{what} of {_title(name)}" + (f" ({unit})" if unit else "") for what in ("mean", "standard deviation")]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, numbers, label in zip(panels, (level, spread), labels, strict=True):
            if len(varied) == 1:
                _line(axes, points[:, 0], numbers)
                axes.set_ylabel(label)
            else:
                _grid(figure, axes, points[:, :2], numbers, label)
                axes.set_ylabel(varied[1])
            axes.set_xlabel(varied[0])

    return _drawn(draw, (6.8, 3.0))


def _line(axes: Any, points: np.ndarray, numbers: np.ndarray) -> None:
    at = np.unique(points)
    axes.plot(at, [numbers[points == point].mean() for point in at], color=BLUE, linewidth=1.0)
    axes.plot(points, numbers, "o", color=BLUE, markersize=3)


def _grid(figure: Figure, axes: Any, points: np.ndarray, numbers: np.ndarray, label: str) -> None:
    first, second = np.unique(points[:, 0]), np.unique(points[:, 1])
    cells = [[numbers[(points == (x, y)).all(axis=1)].mean() for x in first] for y in second]
    image = axes.pcolormesh(first, second, cells, cmap="cividis", shading="nearest")
    figure.colorbar(image, ax=axes, label=label)


def _varied(simulated: Simulated) -> list[str]:
    runs = simulated.experiment.runs
    names = list(runs[0].parameters)
    return [name for name in names if len({str(run.parameters[name]) for run in runs}) > 1]


def _rows(seen: Observation) -> int:
    return min(_ROWS, len(seen.labels))


def _title(name: str) -> str:
    return {"bold": "BOLD", "temporal-average": "activity"}.get(name, name)


def _unit(unit: str) -> str:
    if unit.startswith("(") and unit.endswith(")2/Hz"):
        squared = unit[1 : -len(")2/Hz")]
        return f"({squared})²/Hz" if "/" in squared else f"{squared}²/Hz"
    return {"1": "", "Hz-1": "1/Hz"}.get(unit, unit)


def _drawn(draw: Callable[[Figure], None], size: tuple[float, float]) -> bytes:
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        # matplotlib writes its version into the file unless told not to.
        figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()
