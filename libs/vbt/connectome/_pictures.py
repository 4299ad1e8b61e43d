"""Pictures for the person who judges a connectome: regions on the T1, fibres, the matrix and the lengths.

Only brain inside the mask is drawn, so no face can be seen. The same arrays give the same bytes.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vbt.connectome._anatomy import Anatomy
from vbt.connectome._connectome import Connectome
from vbt.connectome._diffusion import Diffusion
from vbt.connectome._fibres import Fibres
from vbt.connectome._tracking import Streamlines

_SHOWN = 3000
_DPI = 100


def draw_pictures(
    anatomy: Anatomy,
    series: Diffusion,
    fibres: Fibres,
    streamlines: Streamlines,
    connectome: Connectome,
) -> dict[str, bytes]:
    """PNG by name: ``anatomy``, ``fibres``, ``weights``, ``lengths``."""
    return {
        "anatomy": _png(_anatomy(anatomy)),
        "fibres": _png(_fibres(series, fibres, streamlines)),
        "weights": _png(_weights(connectome)),
        "lengths": _png(_lengths(streamlines)),
    }


def _anatomy(anatomy: Anatomy) -> Figure:
    figure, panes = _panes(2, 4, (12, 7.4), "T1 with region borders (left of the picture is the patient's left)")
    white = float(np.percentile(anatomy.t1[anatomy.mask], 99.5))
    colours = _region_colours(int(anatomy.labels.max()))
    for pane, height in zip(panes, _through(anatomy.mask, 2, 8), strict=True):
        labels = anatomy.labels[:, :, height]
        pane.imshow(anatomy.t1[:, :, height].T, cmap="gray", origin="lower", vmin=0, vmax=white)
        painted = np.zeros((*labels.shape, 4))
        border = _border(labels)
        painted[border] = colours[labels[border] - 1]
        pane.imshow(painted.transpose(1, 0, 2), origin="lower", interpolation="nearest")
    return figure


def _fibres(series: Diffusion, fibres: Fibres, streamlines: Streamlines) -> Figure:
    figure, panes = _panes(2, 3, (12, 8.2), "Principal diffusion direction (above) and streamlines (below)")
    for pane, height in zip(panes[:3], _through(series.mask, 2, 5)[1:4], strict=True):
        slice_ = np.clip(1.6 * fibres.colours[:, :, height] * series.mask[:, :, height, None], 0, 1)
        pane.imshow(slice_.transpose(1, 0, 2), origin="lower")
    segments, colours = _segments(series, streamlines)
    for pane, (across, up, name) in zip(
        panes[3:], ((0, 1, "from above"), (1, 2, "from the side"), (0, 2, "from the front")), strict=True
    ):
        pane.add_collection(LineCollection(list(segments[:, :, [across, up]]), colors=colours, linewidths=0.25))
        pane.autoscale_view()
        pane.set_aspect("equal")
        pane.text(0.5, 0.0, name, color="white", fontsize=9, ha="center", va="bottom", transform=pane.transAxes)
    figure.text(0.5, 0.015, "red: left-right, green: front-back, blue: up-down", color="white", ha="center", fontsize=9)
    return figure


def _weights(connectome: Connectome) -> Figure:
    figure = Figure(figsize=(8, 7))
    pane = figure.add_subplot()
    weights = np.where(connectome.weights > 0, connectome.weights, np.nan)
    top = float(np.nanmax(weights))
    shown = pane.imshow(weights, norm=LogNorm(vmin=max(top * 1e-4, float(np.nanmin(weights))), vmax=top), cmap="magma")
    pane.set_facecolor("0.92")
    blocks = _blocks(connectome)
    for _, start, _ in blocks[1:]:
        pane.axhline(start - 0.5, color="0.5", linewidth=0.6)
        pane.axvline(start - 0.5, color="0.5", linewidth=0.6)
    middles = [(start + end - 1) / 2 for _, start, end in blocks]
    names = [name for name, _, _ in blocks]
    pane.set_xticks(middles, names, fontsize=8, rotation=30, ha="right")
    pane.set_yticks(middles, names, fontsize=8)
    pane.set_title("Connection weights (grey: no streamline)", fontsize=11)
    figure.colorbar(shown, ax=pane, shrink=0.8, label="streamlines × 100 mm / length")
    figure.tight_layout()
    return figure


def _lengths(streamlines: Streamlines) -> Figure:
    lengths = streamlines.lengths
    figure = Figure(figsize=(7, 4.2))
    pane = figure.add_subplot()
    pane.hist(lengths, bins=list(np.arange(0, lengths.max() + 5, 5)), color="#3b6ea5", edgecolor="white", linewidth=0.4)
    pane.axvline(float(np.median(lengths)), color="0.2", linewidth=1, linestyle="--")
    pane.annotate(
        f"median {np.median(lengths):.0f} mm",
        (float(np.median(lengths)), 0.95),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        fontsize=9,
    )
    pane.set_xlabel("length (mm)")
    pane.set_ylabel("streamlines")
    pane.set_title("Lengths of the streamlines that join two regions", fontsize=11)
    pane.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _blocks(connectome: Connectome) -> list[tuple[str, int, int]]:
    kinds = [
        ("Left " if name.startswith("lh.") else "Right " if name.startswith("rh.") else "")
        + ("cortex" if cortical else "brainstem" if "." not in name else "subcortex")
        for name, cortical in zip(connectome.region_labels, connectome.is_cortical, strict=True)
    ]
    starts = [0, *(i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]), len(kinds)]
    return [(kinds[a], a, b) for a, b in pairwise(starts)]


def _segments(series: Diffusion, streamlines: Streamlines) -> tuple[np.ndarray, np.ndarray]:
    every = max(1, streamlines.count // _SHOWN)
    some = streamlines.chosen(np.arange(streamlines.count) % every == 0)
    world = some.points @ series.affine[:3, :3].T + series.affine[:3, 3]
    pairs = np.stack([world[:-1], world[1:]], axis=1)
    within = np.ones(len(pairs), dtype=bool)
    within[some.offsets[1:-1] - 1] = False
    pairs = pairs[within]
    run = np.abs(pairs[:, 1] - pairs[:, 0])
    colours = run / np.maximum(np.linalg.norm(run, axis=1, keepdims=True), 1e-9)
    return pairs, np.concatenate([colours, np.full((len(colours), 1), 0.35)], axis=1)


def _border(labels: np.ndarray) -> np.ndarray:
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge & (labels > 0)


def _region_colours(count: int) -> Float[np.ndarray, "region 4"]:
    # Neighbouring numbers get hues a golden angle apart.
    hue = (np.arange(count) * 0.618034) % 1.0
    rgb = np.clip(np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return np.concatenate([0.25 + 0.75 * rgb, np.ones((count, 1))], axis=1)


def _through(mask: np.ndarray, axis: int, count: int) -> list[int]:
    filled = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
    return [int(level) for level in np.linspace(filled[0], filled[-1], count + 2)[1:-1]]


def _panes(rows: int, columns: int, size: tuple[float, float], title: str) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=size, facecolor="black")
    figure.suptitle(title, color="white", fontsize=11)
    panes = [figure.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]
    for pane in panes:
        pane.set_axis_off()
    figure.subplots_adjust(left=0.01, right=0.99, top=0.92, bottom=0.04, wspace=0.03, hspace=0.06)
    return figure, panes


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    # matplotlib writes its version into the file unless told not to.
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    return content.getvalue()
