"""Which pictures a report has, drawn from what the stages left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from report_writer.pdf import Figure
from report_writer.pictures import Marginal, connectome_picture, fit_picture, posterior_picture, scenario_picture
from vbt.api.event.v1.event_pb2 import ScenariosSimulated
from vbt.clinical.findings import TwinFindings
from vbt.clinical.resting_state import ScenarioRun, parameter_of
from vbt.connectome import Connectome
from vbt.inference import RestingStateCalibration
from vbt.platform import wire
from vbt.platform.objects import Objects

_HEMISPHERES: dict[str, Literal["L", "R"]] = {"lh": "L", "rh": "R"}
_POINTS = 200
_WEIGHT_UNIT = "streamlines × 100 mm / length"


@dataclass(frozen=True)
class Drawing:
    """A picture by file name; ``figure`` is its place in the PDF, None where it is kept beside it only."""

    name: str
    png: bytes
    figure: Figure | None = None


def drawings(simulated: ScenariosSimulated, findings: TwinFindings, objects: Objects) -> Iterator[Drawing]:
    """Connectome, fit, posterior and scenarios, then the quality pictures of the earlier stages.

    Of an unsound twin only what shows the input.
    """
    connectome = Connectome.from_npz(objects.get(wire.from_wire(simulated.connectome)))
    weights = connectome_picture(
        connectome.weights, hemispheres=_hemispheres(connectome.region_labels), unit=_WEIGHT_UNIT
    )
    yield _drawing("connectome", weights, "input", "The patient's structural connectome.")
    if findings.verdict == "sound":
        calibration = RestingStateCalibration.from_npz(objects.get(wire.from_wire(simulated.posterior)))
        yield _posterior(calibration, findings)
        yield _fit(calibration)
        yield _scenarios(ScenarioRun.from_npz(objects.get(wire.from_wire(simulated.scenarios))), findings)
    for picture in simulated.pictures:
        yield Drawing(picture.name, objects.get(wire.from_wire(picture)))


def _posterior(calibration: RestingStateCalibration, findings: TwinFindings) -> Drawing:
    marginals = []
    for quantity in findings.parameters:
        name = parameter_of(quantity.code)
        draws = calibration.draws[name].ravel()
        grid = _grid(draws)
        marginals.append(
            Marginal(quantity=quantity, draws=draws, prior_grid=grid, prior_density=_density(calibration, name, grid))
        )
    caption = "What the recording says about each parameter (blue), over what was assumed before it (dashed)."
    return _drawing("posterior", posterior_picture(marginals), "findings", caption)


def _fit(calibration: RestingStateCalibration) -> Drawing:
    label, baseline = max(calibration.baselines.items(), key=lambda item: item[1])
    png = fit_picture(
        calibration.empirical_fc,
        calibration.fitted_fc,
        correlation=calibration.fit,
        baseline_correlation=baseline,
        hemispheres=_hemispheres(calibration.region_labels),
        baseline_label=label,
    )
    caption = "Functional connectivity measured in the patient and given by the calibrated twin."
    return _drawing("fit", png, "fit", caption)


def _scenarios(run: ScenarioRun, findings: TwinFindings) -> Drawing:
    first = findings.scenarios[0]
    png = scenario_picture(
        findings.scenarios,
        np.nan_to_num(run.resected_fc - run.baseline_fc),
        changed_by=first.label,
        hemispheres=_hemispheres(run.region_labels),
    )
    caption = "Endpoints of the interventions with their 90 % intervals, and the change of connectivity."
    return _drawing("scenarios", png, "scenarios", caption)


def _drawing(name: str, png: bytes, section: Literal["findings", "fit", "input", "scenarios"], caption: str) -> Drawing:
    return Drawing(f"{name}.png", png, Figure(section=section, caption=caption, png=png))


def _hemispheres(region_labels: Sequence[str]) -> list[str]:
    return [_HEMISPHERES.get(label.split(".")[0], "B") for label in region_labels]


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
