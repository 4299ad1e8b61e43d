"""The pictures of a conduction report: where lesions meet tracts, fitted spectrum, velocity and delay, the years."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from vbt.clinical._multiple_sclerosis_calibration import ConductionCalibration
from vbt.clinical._multiple_sclerosis_findings import LEVEL, PARAMETERS, QUANTILE
from vbt.clinical._multiple_sclerosis_scenarios import ENDPOINTS, ConductionRun
from vbt.clinical._pictures import Marginal, connectome_drawing, drawing, png_of, posterior_picture, wrapped
from vbt.clinical.application import Picture, Recordings
from vbt.clinical.digits import unit_text
from vbt.clinical.findings import TwinFindings
from vbt.connectome import Connectome
from vbt.picture_style import BLUE, GREEN, GREY, ORANGE, STYLE

_PALE = "#c4c9cf"
# Okabe & Ito, beyond the three that every picture has.
_COLOURS = (GREY, BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9")
_SHOWN_DIRECTIONS = 3
_BACKGROUND_TRACTS = 400
_REPLICATES = 200
# Name, the two world axes that are seen, and the letters at the panel's left and right.
_VIEWS = (("axial", (0, 1), ("L", "R")), ("coronal", (0, 2), ("L", "R")), ("sagittal", (1, 2), ("P", "A")))
_SHOWN_COURSES = ("effective-velocity", "alpha-frequency", "efficiency")


def pictures(
    connectome: Connectome,
    recordings: Recordings,
    calibration: ConductionCalibration,
    run: ConductionRun | None,
    findings: TwinFindings,
) -> Iterator[Picture]:
    """Connectome and lesions, then posterior, spectrum and years; of an unsound twin only the input."""
    yield connectome_drawing(connectome)
    if recordings.lesions is not None:
        png = lesion_picture(connectome.weights, connectome.centres, recordings.lesions.fraction)
        caption = "Tracts as straight lines between region centres, coloured by the streamlines that lesions meet."
        yield drawing("lesions", png, "input", caption)
    if not calibration.sound:
        return
    caption = "What the recording says about each parameter (blue), over what was assumed before it (dashed)."
    yield drawing("posterior", posterior_picture(_marginals(calibration, findings)), "findings", caption)
    caption = (
        "Measured power (dots), the fitted model (line) and where 90 % of recordings of this length from it would lie, "
        "for the median direction of the lead field and the strongest ones."
    )
    png = spectrum_picture(calibration.frequencies, calibration.counts, calibration.observed, calibration.fitted)
    yield drawing("fit", png, "fit", caption)
    if run is not None and not run.withheld:
        caption = (
            "Assumed courses without and with therapies: medians, with the 90 % interval without a therapy, and the "
            "difference from no therapy over the same chance events with its 90 % interval. A hypothesis."
        )
        yield drawing("progression", progression_picture(run), "scenarios", caption)


def spectrum_picture(
    frequencies: Float[np.ndarray, " band"],
    counts: Float[np.ndarray, " band"],
    observed: Float[np.ndarray, "band channel"],
    fitted: Float[np.ndarray, "band channel"],
) -> bytes:
    """Observed and fitted power with the chance that a recording of this length leaves, median direction first."""
    strongest = np.argsort(-fitted.sum(axis=0), kind="stable")[:_SHOWN_DIRECTIONS]
    chance = np.random.default_rng(0).gamma(counts[:, None], 1.0 / counts[:, None], (_REPLICATES, *fitted.shape))
    drawn = fitted * chance
    panels = [("median direction", np.median(observed, axis=1), np.median(fitted, axis=1), np.median(drawn, axis=2))]
    panels += [(f"direction {i + 1}", observed[:, c], fitted[:, c], drawn[:, :, c]) for i, c in enumerate(strongest)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.3), layout="constrained")
        for axes, (title, seen, expected, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            low, high = np.quantile(values, [0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)], axis=0)
            axes.fill_between(frequencies, low, high, color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(frequencies, expected, color=BLUE, linewidth=1.2)
            axes.plot(frequencies, seen, "o", color=ORANGE, markersize=2.2)
            axes.set_yscale("log")
            axes.set_title(title)
            axes.set_xlabel("frequency (Hz)")
            axes.tick_params(axis="y", which="both", labelleft=False, left=False)
        figure.axes[0].set_ylabel("power (logarithmic)")
        handles = [
            Line2D([], [], color=ORANGE, marker="o", linestyle="", markersize=3, label="measured"),
            Line2D([], [], color=BLUE, label="fitted"),
            Line2D([], [], color=BLUE, alpha=0.25, linewidth=6, label="90 % of recordings from the fit"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return png_of(figure)


def lesion_picture(
    weights: Float[np.ndarray, "region region"],
    centres: Float[np.ndarray, "region 3"],
    fraction: Float[np.ndarray, "region region"],
) -> bytes:
    """Three projections; tracts that lesions meet over the strongest of the others."""
    one, two = np.nonzero(np.triu((weights > 0) & np.isfinite(centres).all(axis=1), 1))
    shares, strengths = fraction[one, two], weights[one, two]
    met = np.flatnonzero(shares > 0)
    met = met[np.argsort(shares[met], kind="stable")]
    others = np.argsort(-strengths, kind="stable")[:_BACKGROUND_TRACTS]
    scale = Normalize(0.0, max(float(shares.max(initial=0.0)), 0.01))
    colours = matplotlib.colormaps["plasma_r"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        low, high = np.nanmin(centres, axis=0), np.nanmax(centres, axis=0)
        widths = [float((high - low)[across]) for _, (across, _), _ in _VIEWS]
        panels = figure.subplots(1, len(_VIEWS), width_ratios=widths)
        tallest = max(float((high - low)[up]) for _, (_, up), _ in _VIEWS)
        for axes, (title, (across, up), sides) in zip(panels, _VIEWS, strict=True):
            flat = centres[:, [across, up]]
            lines = np.stack([flat[one], flat[two]], axis=1)
            axes.add_collection(LineCollection(list(lines[others]), colors=_PALE, linewidths=0.35, alpha=0.6))
            axes.add_collection(
                LineCollection(
                    list(lines[met]),
                    colors=colours(0.12 + 0.88 * scale(shares[met])),
                    linewidths=0.5 + 0.7 * scale(shares[met]),
                )
            )
            axes.plot(flat[:, 0], flat[:, 1], "o", color="#4a5058", markersize=2.0, markeredgewidth=0)
            _plain(axes, title, sides)
            # All views at one scale.
            middle = 0.5 * (low + high)
            axes.set_xlim(*(middle[across] + 0.53 * np.array([-1, 1]) * (high - low)[across]))
            axes.set_ylim(*(middle[up] + 0.53 * np.array([-1, 1]) * tallest))
        mapped = matplotlib.cm.ScalarMappable(norm=scale, cmap=_trimmed())
        bar = figure.colorbar(mapped, ax=list(panels), shrink=0.75, pad=0.01)
        bar.set_label("streamlines that lesions meet")
        bar.ax.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
        return png_of(figure)


def progression_picture(run: ConductionRun) -> bytes:
    """Courses above, differences from the first therapy below, one column per quantity."""
    years = run.years
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.3), layout="constrained")
        panels = figure.subplots(2, len(_SHOWN_COURSES), sharex=True)
        for column, code in enumerate(_SHOWN_COURSES):
            label, unit = ENDPOINTS[code]
            above, below = panels[:, column]
            values = run.courses[code]
            low, high = _interval(values[0])
            above.fill_between(years, low, high, color=_COLOURS[0], alpha=0.18, linewidth=0)
            for number in range(len(run.therapies)):
                above.plot(years, np.nanmedian(values[number], axis=0), color=_colour(number), linewidth=1.3)
            _differences(below, run, values)
            above.set_title(wrapped(f"{label} ({unit_text(unit)})", 30), loc="left")
            below.set_xlabel("years from now")
            above.tick_params(labelbottom=False)
        panels[0, 0].set_ylabel("median")
        panels[1, 0].set_ylabel("difference from no therapy")
        handles = [
            Line2D([], [], color=_colour(number), label=therapy.label) for number, therapy in enumerate(run.therapies)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
        return png_of(figure)


def _differences(axes: Axes, run: ConductionRun, values: Float[np.ndarray, "therapy draw year"]) -> None:
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    others = range(1, len(run.therapies))
    later = run.years > 0
    for number in others:
        change = values[number] - values[0]
        low, high = _interval(change)
        middle = np.nanmedian(change, axis=0)
        at = run.years + 0.12 * (number - 0.5 * len(others) - 0.5)  # side by side, not on top of one another
        axes.vlines(at[later], low[later], high[later], color=_colour(number), linewidth=1.6)
        axes.plot(at[later], middle[later], "o", color=_colour(number), markersize=3.2)
    axes.set_xticks(run.years, [f"{year:g}" for year in run.years])


def _interval(values: Float[np.ndarray, "draw year"]) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.nanquantile(values, [0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)], axis=0, method=QUANTILE)
    return low, high


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _plain(axes: Axes, title: str, sides: Sequence[str]) -> None:
    axes.set_aspect("equal")
    axes.set_title(title)
    axes.set_axis_off()
    for where, letter in zip((0.0, 1.0), sides, strict=True):
        axes.text(where, 0.0, letter, transform=axes.transAxes, color=GREY, ha="center")


def _trimmed() -> matplotlib.colors.ListedColormap:
    """The colours that lines take: the palest would vanish on paper."""
    return matplotlib.colors.ListedColormap(matplotlib.colormaps["plasma_r"](np.linspace(0.12, 1.0, 256)))


def _marginals(calibration: ConductionCalibration, findings: TwinFindings) -> list[Marginal]:
    marginals = []
    for quantity in findings.parameters:
        name = PARAMETERS.get(quantity.code, ("",))[0]
        if name not in calibration.draws:
            continue
        draws = calibration.draws[name].ravel()
        margin = 0.25 * float(np.ptp(draws))
        grid = np.linspace(max(float(draws.min()) - margin, 1e-9), float(draws.max()) + margin, 200)
        density = _density(calibration.priors[name], grid)
        marginals.append(Marginal(quantity=quantity, draws=draws, prior_grid=grid, prior_density=density))
    return marginals


def _density(prior: tuple[str, float, float], grid: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    family, location, scale = prior
    if family == "half-normal":
        return np.asarray(stats.halfnorm(location, scale).pdf(grid))
    if family == "log-normal":
        return np.asarray(stats.lognorm(scale, scale=np.exp(location)).pdf(grid))
    return np.asarray(stats.norm(location, scale).pdf(grid))
