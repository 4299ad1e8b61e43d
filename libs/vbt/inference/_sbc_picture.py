"""Ranks of simulation-based calibration against what uniform ranks would give."""

from __future__ import annotations

import io
import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vbt.inference._ecdf_band import band, counts
from vbt.inference._sbc import SbcParameter, SbcResult
from vbt.picture_style import BLUE, GREY, ORANGE, STYLE

_COLUMNS = 3
_DPI = 160


def rank_picture(result: SbcResult) -> bytes:
    """Per parameter the ranks' distribution function less the uniform one, with its simultaneous band, as PNG.

    A curve above and then below zero says that the truth lies at low ranks: the posterior is too high. An S says that
    the posterior is too narrow (up, down) or too wide (down, up).
    """
    shown = result.parameters
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(3.4, 0.6 + 2.3 * columns), 0.95 + 1.75 * rows), layout="constrained")
        for place, parameter in enumerate(shown, start=1):
            _panel(figure.add_subplot(rows, columns, place), result, parameter)
        figure.supxlabel(f"Rank of the truth among {result.thin} draws, as a fraction", fontsize=8)
        figure.supylabel("Distribution function − uniform", fontsize=8)
        counted = f"{result.fitted} of {result.replicates} simulated recordings fitted"
        title = f"{result.model.replace('_', ' ')}\n{counted}"
        figure.suptitle(title, fontsize=8.5, fontweight="bold")
        buffer = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, dpi=_DPI, format="png", metadata={"Software": None})
        return buffer.getvalue()


def _panel(axes: Axes, result: SbcResult, parameter: SbcParameter) -> None:
    total, draws = len(parameter.ranks), result.thin
    at = np.arange(1, draws + 1) / (draws + 1)
    low, high = band(total, draws, result.level)
    uniform = result.uniform(parameter)
    axes.fill_between(at, low / total - at, high / total - at, color=GREY, alpha=0.22, linewidth=0, step="mid")
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    axes.step(at, counts(parameter.ranks, draws) / total - at, color=BLUE if uniform else ORANGE, where="mid")
    share, least, most = parameter.coverage(0.9)
    said = "in the band" if uniform else "outside the band"
    axes.set_title(f"{parameter.name}: {said}\n90 % intervals hold {share:.0%} ({least:.0%} to {most:.0%})")
    axes.title.set_fontsize(6.2)
    axes.set_xlim(0.0, 1.0)
