"""The pictures of an epilepsy report: where seizures may start, how well the twin follows them, what resections do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vbt.clinical._epilepsy_findings import seizes
from vbt.clinical._epilepsy_scenarios import SeizureScenarios
from vbt.clinical._epilepsy_seen import coupling_unknown, seen
from vbt.clinical._epilepsy_tables import epileptogenicity
from vbt.clinical._pictures import connectome_drawing, drawing, png_of
from vbt.clinical.application import Picture, Recordings
from vbt.clinical.findings import Quantity, TwinFindings
from vbt.connectome import Connectome
from vbt.inference import SeizureCalibration
from vbt.picture_style import BLUE, GREEN, GREY, ORANGE, STYLE

_BARS = 12
_SENSORS = 6
_PALE = "#d9dde2"
# From a blue that is seen on the brain's shadow.
_COLOURS = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.25, 1.0, 256)))
_NORMAL_90 = 1.645
# Name, the two world axes that are seen, and the letters at the panel's left and right; views as neurologists show.
_VIEWS = (("axial", (0, 1), ("L", "R")), ("coronal", (0, 2), ("L", "R")), ("sagittal", (1, 2), ("P", "A")))


def pictures(
    connectome: Connectome,
    recordings: Recordings,
    calibration: SeizureCalibration,
    run: SeizureScenarios | None,
    findings: TwinFindings,
) -> Iterator[Picture]:
    """Connectome, then epileptogenicity, fit and resections; of an unsound twin only the connectome."""
    yield connectome_drawing(connectome)
    if not calibration.sound:
        return
    yield _epileptogenicity(connectome, recordings, calibration, findings)
    yield _fit(calibration)
    if run is not None and not coupling_unknown(calibration) and seizes(run) and run.of("searched"):
        png = resection_picture(run)
        caption = (
            "Virtual resections: probability of no seizure in the model against the volume removed, as "
            "fractions of the posterior draws; random sets of as many regions as the best or the planned set in grey."
        )
        yield drawing("resections", png, "scenarios", caption)


def _epileptogenicity(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration, findings: TwinFindings
) -> Picture:
    contacts = np.zeros((0, 3)) if recordings.seeg is None else recordings.seeg.positions
    rows = next(table for table in findings.tables if table.code == "epileptogenicity").rows
    png = epileptogenicity_picture(
        [(row.label, row.quantities[0]) for row in rows[:_BARS]],
        centres=connectome.centres[calibration.used_regions],
        values=epileptogenicity(calibration),
        seen=seen(calibration),
        contacts=contacts[np.isfinite(contacts).all(axis=1)],
        labels=recordings.labels,
    )
    caption = (
        "Epileptogenicity value of the regions that the implantation informs, and where they lie; "
        "crosses are regions that it does not inform, dots are contacts."
    )
    return drawing("epileptogenicity", png, "findings", caption)


def epileptogenicity_picture(
    ranked: Sequence[tuple[str, Quantity]],
    *,
    centres: Float[np.ndarray, "region 3"],
    values: Float[np.ndarray, " region"],
    seen: Bool[np.ndarray, " region"],
    contacts: Float[np.ndarray, "contact 3"],
    labels: nib.Nifti1Image | None,
) -> bytes:
    """Bars, the most epileptogenic on top, and three projections of the brain."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
        _bars(parts[0].subplots(), ranked)
        panels = parts[1].subplots(1, 3)
        for axes, (name, shown, ends) in zip(panels, _VIEWS, strict=True):
            _outline(axes, labels, shown)
            points = _projection(axes, centres[:, list(shown)], values, seen)
            axes.plot(*contacts[:, list(shown)].T, ".", color="black", markersize=1.6, markeredgewidth=0, zorder=3)
            axes.set_title(name)
            axes.set_aspect("equal")
            axes.set_axis_off()
            for x, letter, side in ((0.0, ends[0], "left"), (1.0, ends[1], "right")):
                axes.text(x, 0.0, letter, transform=axes.transAxes, color=GREY, ha=side, va="bottom")
        parts[1].colorbar(points, ax=list(panels), label="epileptogenicity value", shrink=0.85)
        return png_of(figure)


def _bars(axes: Axes, ranked: Sequence[tuple[str, Quantity]]) -> None:
    for row, (_, quantity) in enumerate(ranked):
        if quantity.value is None:
            continue
        axes.barh(row, quantity.value, color=BLUE, alpha=0.35, height=0.72)
        axes.plot(quantity.value, row, "o", color=BLUE, markersize=4, markeredgecolor="white", markeredgewidth=0.6)
    axes.set_yticks(range(len(ranked)), [label for label, _ in ranked])
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.set_xlim(-0.015, 1.015)
    axes.set_xlabel("epileptogenicity value: probability of seizing")
    axes.grid(axis="x", color=_PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def _projection(axes: Axes, points: np.ndarray, values: np.ndarray, seen: np.ndarray) -> Any:
    x, y = points.T
    axes.scatter(x[~seen], y[~seen], s=9, marker="x", color=GREY, linewidths=0.6, zorder=2)
    order = np.flatnonzero(seen)[np.argsort(values[seen], kind="stable")]
    return axes.scatter(
        x[order], y[order], s=12.0 + 66.0 * values[order], c=values[order], cmap=_COLOURS, vmin=0.0, vmax=1.0,
        edgecolors="#40505f", linewidths=0.5, zorder=4,
    )  # fmt: skip


def _outline(axes: Axes, labels: nib.Nifti1Image | None, shown: tuple[int, int]) -> None:
    """The shadow of all labelled voxels, from points of the world frame, so that the image may lie as it likes."""
    if labels is None:
        return
    inside = np.argwhere(np.asarray(labels.dataobj) > 0)
    affine = np.asarray(labels.affine)
    world = (inside @ affine[:3, :3].T + affine[:3, 3])[:, list(shown)]
    low, high = world.min(axis=0) - 6.0, world.max(axis=0) + 6.0
    step = 3.0
    edges = [np.arange(a, b + step, step) for a, b in zip(low, high, strict=True)]
    shadow, _ = np.histogramdd(world, bins=edges)
    middles = [0.5 * (edge[1:] + edge[:-1]) for edge in edges]
    axes.contourf(*middles, (shadow > 0).T, levels=[0.5, 1.5], colors=["#eef0f2"], zorder=0)
    axes.contour(*middles, (shadow > 0).T, levels=[0.5], colors=[_PALE], linewidths=0.8, zorder=1)


def _fit(calibration: SeizureCalibration) -> Picture:
    onset = np.where(np.isfinite(calibration.onset), calibration.onset, np.inf)
    caption = (
        "Log power of the channels that change most, as recorded (black) and as the twin gives it, with the range of "
        "90 % of its measurements; dashed, the onset of the region that the channel sees most of."
    )
    png = fit_picture(
        calibration.time,
        calibration.observed,
        calibration.fitted,
        noise=float(np.std(calibration.observed - calibration.fitted)),
        sensor_labels=calibration.sensor_labels,
        onsets=np.median(onset, axis=0),
        main_regions=np.argmax(calibration.gain, axis=1),
        region_labels=calibration.region_labels,
    )
    return drawing("fit", png, "fit", caption)


def fit_picture(
    time: Float[np.ndarray, " time"],
    observed: Float[np.ndarray, "time sensor"],
    fitted: Float[np.ndarray, "time sensor"],
    *,
    noise: float,
    sensor_labels: Sequence[str],
    onsets: Float[np.ndarray, " region"],
    main_regions: np.ndarray,
    region_labels: Sequence[str],
) -> bytes:
    """The channels with the largest fitted change, each with the onset of the region it sees most of."""
    most = np.argsort(-np.ptp(fitted, axis=0), kind="stable")[:_SENSORS]
    columns = min(2, len(most))
    rows = -(-len(most) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.25 * rows + 0.7), layout="constrained")
        panels = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
        for axes, sensor in zip(panels, most, strict=False):
            band = noise * _NORMAL_90
            axes.fill_between(
                time, fitted[:, sensor] - band, fitted[:, sensor] + band, color=BLUE, alpha=0.18, linewidth=0
            )
            axes.plot(time, observed[:, sensor], color="#222222", linewidth=0.7)
            axes.plot(time, fitted[:, sensor], color=BLUE, linewidth=1.3)
            region = int(main_regions[sensor])
            axes.set_title(f"{sensor_labels[sensor]}  ({region_labels[region]})", loc="left")
            if np.isfinite(onsets[region]):
                axes.axvline(onsets[region], color=ORANGE, linewidth=1.1, linestyle="--")
        for axes in panels[len(most) :]:
            axes.set_axis_off()
        for axes in panels[max(0, len(most) - columns) : len(most)]:
            axes.set_xlabel("time (s)")
        figure.supylabel("log power, standardised", fontsize=8)
        handles = [
            Line2D([], [], color="#222222", linewidth=0.9, label="recorded"),
            Line2D([], [], color=BLUE, linewidth=1.3, label="twin"),
            Line2D([], [], color=BLUE, linewidth=6, alpha=0.18, label="90 % of its measurements"),
            Line2D([], [], color=ORANGE, linewidth=1.1, linestyle="--", label="onset"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return png_of(figure)


def resection_picture(run: SeizureScenarios) -> bytes:
    """Searched sets and the clinician's by name, and all sets against the volume removed."""
    named = [0, *run.of("searched"), *run.of("clinician")]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, max(2.6, 0.24 * len(named) + 1.3)), layout="constrained")
        list_axes, cloud = figure.subplots(1, 2, width_ratios=(1, 1))
        for row, index in enumerate(named):
            _point(list_axes, run, index, (run.free(index), row))
        list_axes.set_yticks(range(len(named)), [_broken(run.name(index)) for index in named])
        list_axes.set_ylim(len(named) - 0.4, -0.6)
        list_axes.set_xlim(-0.03, 1.03)
        list_axes.set_xlabel("probability of no seizure in the model")
        list_axes.grid(axis="x", color=_PALE, linewidth=0.6)
        random = run.of("random")
        cloud.plot(
            [run.volume(index) for index in random], [run.free(index) for index in random], "o", color=GREY, alpha=0.45,
            markersize=3.5, markeredgewidth=0,
        )  # fmt: skip
        for index in named[1:]:
            _point(cloud, run, index, (run.volume(index), run.free(index)))
        cloud.set_ylim(-0.04, 1.04)
        cloud.set_xlim(left=0.0)
        cloud.set_xlabel("volume removed (cm³)")
        cloud.set_ylabel("probability of\nno seizure in the model")
        cloud.grid(color=_PALE, linewidth=0.6)
        for axes in (list_axes, cloud):
            axes.set_axisbelow(True)
        kinds = [(BLUE, "proposed by the search"), (GREY, "random, as many regions as the best")]
        if run.of("clinician"):
            kinds.insert(1, (ORANGE, "clinician's set"))
        handles = [
            Line2D([], [], color=colour, marker="o", linewidth=0, markersize=4, label=text) for colour, text in kinds
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return png_of(figure)


_KIND_COLOURS = {"none": GREEN, "searched": BLUE, "clinician": ORANGE, "random": GREY}


def _point(axes: Axes, run: SeizureScenarios, index: int, at: tuple[float, float]) -> None:
    colour = _KIND_COLOURS[run.resections[index].origin]
    axes.plot(*at, "o", color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6, zorder=4)


def _broken(name: str, length: int = 34) -> str:
    """A set's name over two lines where it is long."""
    if len(name) <= length:
        return name
    parts = name.split(" + ")
    half = (len(parts) + 1) // 2
    return " + ".join(parts[:half]) + " +\n" + " + ".join(parts[half:])
