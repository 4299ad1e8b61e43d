"""The pictures of a report, drawn from plain arrays: colour-blind safe, and the same bytes for the same arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vbt.clinical.findings import Quantity, Scenario
from vbt.fhir import printed
from vbt.picture_style import BLUE, GREY, ORANGE, STYLE

_UNITS = {"1": "", "{count}": "", "/s": "s⁻¹", "1/s": "s⁻¹", "um": "µm", "Cel": "°C", "deg": "°"}
_HEMISPHERES = (("L", "left"), ("R", "right"), ("B", "midline"))


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """One parameter's posterior, drawn over its prior.

    Parameters
    ----------
    quantity : the reported median and interval, or the reason why it is withheld
    draws : posterior draws, chains concatenated
    prior_grid, prior_density : the prior as a curve
    """

    quantity: Quantity
    draws: Float[np.ndarray, " draw"]
    prior_grid: Float[np.ndarray, " point"]
    prior_density: Float[np.ndarray, " point"]


def connectome_picture(weights: Float[np.ndarray, "region region"], *, hemispheres: Sequence[str], unit: str) -> bytes:
    """The weights on a logarithmic scale, target by source, ordered left, right, midline.

    `hemispheres` has "L", "R" or "B" (both) for each region.
    """
    order, blocks = _by_hemisphere(hemispheres)
    shown = np.ma.masked_less_equal(np.asarray(weights, float)[np.ix_(order, order)], 0.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        positive = shown.compressed()
        low, high = np.percentile(positive, [2, 99.8]) if positive.size else (0.1, 1.0)
        image = axes.imshow(shown, norm=LogNorm(low, max(high, low * 10)), cmap="viridis", interpolation="nearest")
        axes.set_facecolor("#eef0f2")
        _mark_blocks(axes, blocks, "white")
        axes.set_title("Structural connectome")
        axes.set_xlabel("source region")
        axes.set_ylabel("target region")
        figure.colorbar(image, ax=axes, label=f"weight ({unit}, logarithmic)", shrink=0.9)
        return _png(figure)


def fit_picture(
    empirical: Float[np.ndarray, "region region"],
    model: Float[np.ndarray, "region region"],
    *,
    correlation: float,
    baseline_correlation: float,
    hemispheres: Sequence[str],
    baseline_label: str = "connectome alone",
) -> bytes:
    """Measured and modelled functional connectivity side by side, and edge against edge."""
    order, blocks = _by_hemisphere(hemispheres)
    edges = np.triu_indices(len(order), k=1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.5), layout="constrained")
        measured_axes, model_axes, scatter = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
        for axes, matrix, title in ((measured_axes, empirical, "Measured"), (model_axes, model, "Model")):
            image = _connectivity(axes, np.asarray(matrix)[np.ix_(order, order)], 1.0)
            _mark_blocks(axes, blocks, "#333333")
            axes.set_title(title)
        figure.colorbar(image, ax=[measured_axes, model_axes], label="Pearson r", shrink=0.85, pad=0.01)
        x, y = np.asarray(empirical)[edges], np.asarray(model)[edges]
        scatter.scatter(x, y, s=2.2, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
        scatter.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle="--")
        scatter.set_xlabel("measured connectivity")
        scatter.set_ylabel("model connectivity")
        scatter.set_title(f"r = {correlation:.2f}\n{baseline_label}: r = {baseline_correlation:.2f}")
        return _png(figure)


def posterior_picture(marginals: Sequence[Marginal]) -> bytes:
    """Every parameter: prior, posterior draws, median and interval; a withheld parameter shows no number."""
    columns = min(2 if len(marginals) == 4 else 3, max(1, len(marginals)))
    rows = -(-len(marginals) // columns) or 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.7 * rows + 0.3), layout="constrained")
        panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, marginal in zip(panels, marginals, strict=False):
            _marginal(axes, marginal, width=108 // columns)
        for axes in panels[len(marginals) :]:
            axes.set_axis_off()
        if marginals:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return _png(figure)


def scenario_picture(
    scenarios: Sequence[Scenario],
    connectivity_change: Float[np.ndarray, "region region"],
    *,
    changed_by: str,
    hemispheres: Sequence[str],
) -> bytes:
    """Each endpoint over the scenarios with its interval, and the change of functional connectivity of one scenario."""
    endpoints = {endpoint.code: endpoint for scenario in scenarios for endpoint in scenario.endpoints}
    order, blocks = _by_hemisphere(hemispheres)
    change = np.asarray(connectivity_change)[np.ix_(order, order)]
    with matplotlib.rc_context(STYLE):
        bars = sum(len(scenario.endpoints) for scenario in scenarios)
        height = max(2.7, 0.3 * bars + 0.75 * len(endpoints))
        figure = Figure(figsize=(7.2, height), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=(1.5, 1))
        left, right = halves
        panels = np.atleast_1d(left.subplots(max(1, len(endpoints)), 1)).ravel()
        for axes, endpoint in zip(panels, endpoints.values(), strict=False):
            _forest(axes, endpoint, scenarios)
        axes = right.subplots()
        limit = max(float(np.max(np.abs(change))), 1e-6)
        image = _connectivity(axes, change, limit)
        _mark_blocks(axes, blocks, "#333333")
        axes.set_title(_wrapped(f"Change of connectivity: {changed_by}", 34))
        right.colorbar(image, ax=axes, label="Δ Pearson r", shrink=0.8, location="bottom")
        return _png(figure)


def _marginal(axes: Axes, marginal: Marginal, *, width: int) -> None:
    quantity, numbers = marginal.quantity, printed(marginal.quantity)
    draws = np.asarray(marginal.draws)
    axes.hist(draws, bins=40, density=True, color=BLUE, alpha=0.55, label="posterior")
    axes.plot(marginal.prior_grid, marginal.prior_density, color=GREY, linestyle="--", linewidth=1.1, label="prior")
    axes.set_xlabel(_wrapped(_labelled(quantity), width))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if numbers.value is None:
        axes.set_title("withheld", color=ORANGE)
        axes.set_xticks([])
        return
    axes.axvline(float(numbers.value), color=ORANGE, linewidth=1.4, label="median")
    title = f"{numbers.value:f}"
    if quantity.low is not None and quantity.high is not None:
        label = f"{100 * quantity.level:.0f} % interval"
        axes.axvspan(quantity.low, quantity.high, color=ORANGE, alpha=0.13, linewidth=0, label=label)
        title += f"  [{numbers.low:f}, {numbers.high:f}]"
    axes.set_title(title)
    spread = np.percentile(draws, [0.2, 99.8])
    margin = 0.35 * (spread[1] - spread[0]) or 1.0
    least = 0.0 if draws.min() >= 0.0 else -np.inf
    axes.set_xlim(max(least, spread[0] - margin), spread[1] + margin)


def _forest(axes: Axes, endpoint: Quantity, scenarios: Sequence[Scenario]) -> None:
    shown = [
        (scenario.label, found) for scenario in scenarios for found in scenario.endpoints if found.code == endpoint.code
    ]
    for row, (_, found) in enumerate(shown):
        if found.value is None:
            axes.annotate(
                "withheld", (0.5, row), xycoords=("axes fraction", "data"), color=ORANGE, va="center", ha="center"
            )
            continue
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=BLUE, linewidth=2.2, solid_capstyle="round")
        axes.plot(found.value, row, "o", color=BLUE, markersize=5.5, markeredgecolor="white", markeredgewidth=0.8)
    axes.set_yticks(range(len(shown)), [_wrapped(label) for label, _ in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.set_title(_wrapped(_labelled(endpoint), 56), loc="left")
    axes.grid(axis="x", color="#d9dde2", linewidth=0.6)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    if low < 0 < high:
        axes.axvline(0, color=GREY, linewidth=0.9)


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it; nothing for a plain number or a count."""
    return _UNITS.get(unit, unit)


def _labelled(quantity: Quantity) -> str:
    unit = unit_text(quantity.unit)
    return f"{quantity.label} ({unit})" if unit else quantity.label


def _wrapped(label: str, width: int = 26) -> str:
    if len(label) <= width:
        return label
    cut = label.rfind(" ", 0, width)
    return label if cut < 0 else f"{label[:cut]}\n{_wrapped(label[cut + 1 :], width)}"


def _connectivity(axes: Axes, matrix: np.ndarray, limit: float) -> Any:
    without_diagonal = np.ma.masked_array(matrix, np.eye(len(matrix), dtype=bool))
    axes.set_facecolor("#eef0f2")
    return axes.imshow(without_diagonal, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")


def _by_hemisphere(hemispheres: Sequence[str]) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    unknown = set(hemispheres) - {code for code, _ in _HEMISPHERES}
    if unknown:
        raise ValueError(f"hemispheres are L, R or B, got {sorted(unknown)}")
    order: list[int] = []
    blocks: list[tuple[str, int, int]] = []
    for code, name in _HEMISPHERES:
        members = [region for region, hemisphere in enumerate(hemispheres) if hemisphere == code]
        if members:
            blocks.append((name, len(order), len(order) + len(members)))
            order += members
    return np.array(order, dtype=int), blocks


def _mark_blocks(axes: Axes, blocks: Sequence[tuple[str, int, int]], colour: str) -> None:
    size = blocks[-1][2]
    for _, start, _ in blocks[1:]:
        axes.axhline(start - 0.5, color=colour, linewidth=0.7)
        axes.axvline(start - 0.5, color=colour, linewidth=0.7)
    # The brainstem alone is too thin a block to carry a word.
    named = [(name, (start + end - 1) / 2) for name, start, end in blocks if end - start > 0.06 * size]
    axes.set_xticks([centre for _, centre in named], [name for name, _ in named])
    axes.set_yticks([centre for _, centre in named], [name for name, _ in named], rotation=90, va="center")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    FigureCanvasAgg(figure)
    # No Software and no date: the bytes depend on the arrays only.
    figure.savefig(target, format="png", dpi=200, metadata={"Software": None})
    return target.getvalue()
