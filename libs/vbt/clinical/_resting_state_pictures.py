"""The pictures of a resting-state report: what the recording says, how well the twin fits, what interventions do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import stats

from vbt.clinical._pictures import (
    Marginal,
    by_hemisphere,
    connectome_drawing,
    draw_connectivity,
    draw_endpoint,
    drawing,
    hemispheres_of,
    mark_blocks,
    png_of,
    posterior_picture,
    wrapped,
)
from vbt.clinical._resting_state_scenarios import ScenarioRun
from vbt.clinical.application import Picture, Recordings
from vbt.clinical.findings import Scenario, TwinFindings
from vbt.connectome import Connectome
from vbt.inference import RestingStateCalibration
from vbt.picture_style import BLUE, GREY, STYLE

_POINTS = 200
PARAMETERS = {
    "global-coupling": "g",
    "connectivity-exponent": "p",
    "homotopic-weight": "h",
    "shared-signal-variance": "u",
}
"""The model parameter behind a reported quantity, as `RestingStateCalibration.draws` names it."""


def pictures(
    connectome: Connectome,
    _recordings: Recordings,
    calibration: RestingStateCalibration,
    run: ScenarioRun | None,
    findings: TwinFindings,
) -> Iterator[Picture]:
    """Connectome, then posterior, fit and scenarios; of an unsound twin only the connectome."""
    yield connectome_drawing(connectome)
    if calibration.sound:
        yield _posterior(calibration, findings)
        yield _fit(calibration)
        if run is not None:
            yield _scenarios(run, findings)


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
    order, blocks = by_hemisphere(hemispheres)
    edges = np.triu_indices(len(order), k=1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.5), layout="constrained")
        measured_axes, model_axes, scatter = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
        for axes, matrix, title in ((measured_axes, empirical, "Measured"), (model_axes, model, "Model")):
            image = draw_connectivity(axes, np.asarray(matrix)[np.ix_(order, order)], 1.0)
            mark_blocks(axes, blocks, "#333333")
            axes.set_title(title)
        figure.colorbar(image, ax=[measured_axes, model_axes], label="Pearson r", shrink=0.85, pad=0.01)
        x, y = np.asarray(empirical)[edges], np.asarray(model)[edges]
        scatter.scatter(x, y, s=2.2, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
        scatter.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle="--")
        scatter.set_xlabel("measured connectivity")
        scatter.set_ylabel("model connectivity")
        scatter.set_title(f"r = {correlation:.2f}\n{baseline_label}: r = {baseline_correlation:.2f}")
        return png_of(figure)


def scenario_picture(
    scenarios: Sequence[Scenario],
    connectivity_change: Float[np.ndarray, "region region"],
    *,
    changed_by: str,
    hemispheres: Sequence[str],
) -> bytes:
    """Each endpoint over the scenarios with its interval, and the change of functional connectivity of one scenario."""
    endpoints = {endpoint.code: endpoint for scenario in scenarios for endpoint in scenario.endpoints}
    order, blocks = by_hemisphere(hemispheres)
    change = np.asarray(connectivity_change)[np.ix_(order, order)]
    with matplotlib.rc_context(STYLE):
        bars = sum(len(scenario.endpoints) for scenario in scenarios)
        height = max(2.7, 0.3 * bars + 0.75 * len(endpoints))
        figure = Figure(figsize=(7.2, height), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=(1.5, 1))
        left, right = halves
        panels = np.atleast_1d(left.subplots(max(1, len(endpoints)), 1)).ravel()
        for axes, endpoint in zip(panels, endpoints.values(), strict=False):
            draw_endpoint(axes, endpoint, scenarios)
        axes = right.subplots()
        limit = max(float(np.max(np.abs(change))), 1e-6)
        image = draw_connectivity(axes, change, limit)
        mark_blocks(axes, blocks, "#333333")
        axes.set_title(wrapped(f"Change of connectivity: {changed_by}", 34))
        right.colorbar(image, ax=axes, label="Δ Pearson r", shrink=0.8, location="bottom")
        return png_of(figure)


def _posterior(calibration: RestingStateCalibration, findings: TwinFindings) -> Picture:
    marginals = []
    for quantity in findings.parameters:
        if (name := PARAMETERS.get(quantity.code)) is None:
            continue  # of another engine, whose draws are not these
        draws = calibration.draws[name].ravel()
        grid = _grid(draws)
        marginals.append(
            Marginal(quantity=quantity, draws=draws, prior_grid=grid, prior_density=_density(calibration, name, grid))
        )
    caption = "What the recording says about each parameter (blue), over what was assumed before it (dashed)."
    return drawing("posterior", posterior_picture(marginals), "findings", caption)


def _fit(calibration: RestingStateCalibration) -> Picture:
    label, baseline = max(calibration.baselines.items(), key=lambda item: item[1])
    png = fit_picture(
        calibration.empirical_fc,
        calibration.fitted_fc,
        correlation=calibration.fit,
        baseline_correlation=baseline,
        hemispheres=hemispheres_of(calibration.region_labels),
        baseline_label=label,
    )
    caption = "Functional connectivity measured in the patient and given by the calibrated twin."
    return drawing("fit", png, "fit", caption)


def _scenarios(run: ScenarioRun, findings: TwinFindings) -> Picture:
    first = findings.scenarios[0]
    png = scenario_picture(
        findings.scenarios,
        np.nan_to_num(run.resected_fc - run.baseline_fc),
        changed_by=first.label,
        hemispheres=hemispheres_of(run.region_labels),
    )
    caption = "Endpoints of the interventions with their 90 % intervals, and the change of connectivity."
    return drawing("scenarios", png, "scenarios", caption)


def _grid(draws: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " point"]:
    low, high = draws.min(), draws.max()
    margin = 0.25 * (high - low)
    return np.linspace(max(low - margin, 1e-9), high + margin, _POINTS)


def _density(
    calibration: RestingStateCalibration, name: str, grid: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " point"]:
    family, location, scale = calibration.priors[name]
    if family == "half-normal":
        return np.asarray(stats.halfnorm(location, scale).pdf(grid))
    if family == "log-normal":
        return np.asarray(stats.lognorm(scale, scale=np.exp(location)).pdf(grid))
    inside = (grid > 0) & (grid < 1)
    safe = np.where(inside, grid, 0.5)
    logit = np.log(safe) - np.log1p(-safe)
    return np.where(inside, stats.norm(location, scale).pdf(logit) / (safe * (1.0 - safe)), 0.0)
