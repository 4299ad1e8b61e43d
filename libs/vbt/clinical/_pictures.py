"""Pictures that every application has in common: colour-blind safe, and the same bytes for the same arrays."""

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

from vbt.clinical.application import Picture, Section
from vbt.clinical.digits import printed, unit_text
from vbt.clinical.findings import Quantity, Scenario
from vbt.connectome import Connectome
from vbt.picture_style import BLUE, GREY, ORANGE, STYLE

_HEMISPHERES = (("L", "left"), ("R", "right"), ("B", "midline"))
_SIDES = {"lh": "L", "rh": "R"}
_WEIGHT_UNIT = "streamlines × 100 mm / length"


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


def drawing(name: str, png: bytes, section: Section, caption: str) -> Picture:
    """A picture with its place; ``name`` without ending."""
    return Picture(name=f"{name}.png", png=png, section=section, caption=caption)


def connectome_drawing(connectome: Connectome) -> Picture:
    """The connectome's place in every report."""
    png = connectome_picture(
        connectome.weights, hemispheres=hemispheres_of(connectome.region_labels), unit=_WEIGHT_UNIT
    )
    return drawing("connectome", png, "input", "The patient's structural connectome.")


def hemispheres_of(region_labels: Sequence[str]) -> list[str]:
    """ "L", "R" or "B" for each region, by the beginning of its label."""
    return [_SIDES.get(label.split(".")[0], "B") for label in region_labels]


def connectome_picture(weights: Float[np.ndarray, "region region"], *, hemispheres: Sequence[str], unit: str) -> bytes:
    """The weights on a logarithmic scale, target by source, ordered left, right, midline.

    `hemispheres` has "L", "R" or "B" (both) for each region.
    """
    order, blocks = by_hemisphere(hemispheres)
    shown = np.ma.masked_less_equal(np.asarray(weights, float)[np.ix_(order, order)], 0.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        positive = shown.compressed()
        low, high = np.percentile(positive, [2, 99.8]) if positive.size else (0.1, 1.0)
        image = axes.imshow(shown, norm=LogNorm(low, max(high, low * 10)), cmap="viridis", interpolation="nearest")
        axes.set_facecolor("#eef0f2")
        mark_blocks(axes, blocks, "white")
        axes.set_title("Structural connectome")
        axes.set_xlabel("source region")
        axes.set_ylabel("target region")
        figure.colorbar(image, ax=axes, label=f"weight ({unit}, logarithmic)", shrink=0.9)
        return png_of(figure)


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
        return png_of(figure)


def _marginal(axes: Axes, marginal: Marginal, *, width: int) -> None:
    quantity, numbers = marginal.quantity, printed(marginal.quantity)
    draws = np.asarray(marginal.draws)
    axes.hist(draws, bins=40, density=True, color=BLUE, alpha=0.55, label="posterior")
    axes.plot(marginal.prior_grid, marginal.prior_density, color=GREY, linestyle="--", linewidth=1.1, label="prior")
    axes.set_xlabel(wrapped(labelled(quantity), width))
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


def draw_endpoint(axes: Axes, endpoint: Quantity, scenarios: Sequence[Scenario]) -> None:
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
    axes.set_yticks(range(len(shown)), [wrapped(label) for label, _ in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.set_title(wrapped(labelled(endpoint), 56), loc="left")
    axes.grid(axis="x", color="#d9dde2", linewidth=0.6)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    if low < 0 < high:
        axes.axvline(0, color=GREY, linewidth=0.9)


def labelled(quantity: Quantity) -> str:
    unit = unit_text(quantity.unit)
    return f"{quantity.label} ({unit})" if unit else quantity.label


def wrapped(label: str, width: int = 26) -> str:
    if len(label) <= width:
        return label
    cut = label.rfind(" ", 0, width)
    return label if cut < 0 else f"{label[:cut]}\n{wrapped(label[cut + 1 :], width)}"


def draw_connectivity(axes: Axes, matrix: np.ndarray, limit: float) -> Any:
    without_diagonal = np.ma.masked_array(matrix, np.eye(len(matrix), dtype=bool))
    axes.set_facecolor("#eef0f2")
    return axes.imshow(without_diagonal, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")


def by_hemisphere(hemispheres: Sequence[str]) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
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


def mark_blocks(axes: Axes, blocks: Sequence[tuple[str, int, int]], colour: str) -> None:
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


def png_of(figure: Figure) -> bytes:
    target = io.BytesIO()
    FigureCanvasAgg(figure)
    # No Software and no date: the bytes depend on the arrays only.
    figure.savefig(target, format="png", dpi=200, metadata={"Software": None})
    return target.getvalue()
