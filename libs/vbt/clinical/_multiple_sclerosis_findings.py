"""What the conduction twin tells the clinician: how fast signals travel, what lesions add, what years might bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from jaxtyping import Float

from vbt.clinical._multiple_sclerosis_calibration import PREDICTED, ConductionCalibration
from vbt.clinical._multiple_sclerosis_progression import RatePriors
from vbt.clinical._multiple_sclerosis_scenarios import EASED, ENDPOINTS, IMMEDIATE, ConductionRun
from vbt.clinical.findings import Check, Quantity, Row, Scenario, Table, TwinFindings
from vbt.inference import LARGEST_ERROR, gate_checks

NAME = "multiple_sclerosis"
LEVEL = 0.90
# From i / (n + 1): the interval of n draws holds the next one as often as LEVEL says; NumPy's default holds fewer.
QUANTILE: Final = "weibull"
HORIZONS = (2.0, 5.0)  # years
MOST_WITHOUT_PEAK = 0.1
# code: (parameter, label, UCUM unit)
PARAMETERS = {
    "conduction-velocity": ("velocity", "Conduction velocity", "m/s"),
    "lesion-delay-factor": ("gamma", "Lesion delay factor γ: what lesions add to a tract's delay, per share met", "1"),
    "natural-frequency": ("frequency", "Natural frequency of a region on its own", "Hz"),
    "coupling": ("coupling", "Coupling between regions", "/s"),
}
_OF_LESIONS = ("lesion-delay", "alpha-frequency-change", "alpha-share-change")
_OF_COURSES = ("effective-velocity", "alpha-frequency", "efficiency")
_NO_MASK = "no lesion mask was given, or its lesions meet no tract; only the prior speaks of it"
_HYPOTHESIS = "A hypothesis, not a prediction for this person: "


def findings(quality: tuple[Check, ...], calibration: ConductionCalibration, run: ConductionRun | None) -> TwinFindings:
    """The report's content. An unsound calibration gives reasons in place of numbers, and no scenarios.

    Parameters
    ----------
    quality : checks of the input and of the connectome, passed through
    run : None where no scenarios were run; left out where the calibration is unsound
    """
    run = run if calibration.sound else None
    return TwinFindings(
        application=NAME,
        context_of_use=(
            "Research use only: how fast signals travel between this person's regions in a model, and how much "
            "white-matter lesions may delay them. It informs no diagnosis, no prognosis and no choice of a therapy."
        ),
        verdict=calibration.verdict,
        conclusion=_conclusion(calibration),
        parameters=(
            *(_parameter(calibration, code) for code in PARAMETERS),
            *(_predicted(calibration, code) for code in PREDICTED),
        ),
        tables=(_tracts(calibration),) if len(calibration.tracts) else (),
        scenarios=_scenarios(run) if run is not None and not run.withheld else (),
        quality=(*quality, *_checks(calibration)),
        methods=_methods(calibration, run),
        limits=(
            *(_sentence(warning) for warning in calibration.warnings),
            *_withheld_scenarios(run),
            *_limits(calibration),
        ),
        evidence=(
            "None in patients. Checked against closed forms and simulated recordings with known parameters only."
        ),
        level=LEVEL,
    )


def _conclusion(calibration: ConductionCalibration) -> str:
    if not calibration.sound:
        return f"No twin is reported: {'; '.join(calibration.reasons)}."
    velocity = _parameter(calibration, "conduction-velocity")
    if velocity.value is None:
        text = f"The conduction velocity is withheld: {velocity.withheld}."
    else:
        text = (
            f"Under this connectome the recording fits a conduction velocity of {velocity.value:.1f} m/s "
            f"({LEVEL:.0%} interval {velocity.low:.1f} to {velocity.high:.1f})."
        )
    extra = _predicted(calibration, "lesion-delay")
    if extra.value is None:
        return f"{text} What lesions add to delays is withheld: {extra.withheld}."
    return (
        f"{text} Lesions add {extra.value:.2f} ms ({extra.low:.2f} to {extra.high:.2f}) to the mean delay in the model."
    )


def _parameter(calibration: ConductionCalibration, code: str) -> Quantity:
    name, label, unit = PARAMETERS[code]
    if name == "velocity" and calibration.has_lesions:
        label = f"{label} outside lesions"
    why = _why_withheld(calibration, name)
    if why:
        return Quantity(code=code, label=label, unit=unit, withheld=why, level=LEVEL)
    diagnostics = calibration.diagnostics(name)
    median, low, high = calibration.interval(name, LEVEL)
    return Quantity(
        code=code,
        label=label,
        unit=unit,
        value=median,
        low=low,
        high=high,
        level=LEVEL,
        r_hat=diagnostics.r_hat,
        ess=diagnostics.ess_bulk,
    )


def _why_withheld(calibration: ConductionCalibration, name: str) -> str:
    if not calibration.sound:
        return "the calibration did not pass its checks"
    if name not in calibration.draws:
        return _NO_MASK
    diagnostics = calibration.diagnostics(name)
    if not diagnostics.identifiable:
        return f"not identifiable from this recording (shrinkage {diagnostics.shrinkage:.2f}, limit 0.30)"
    if not diagnostics.converged:
        return f"its chains did not mix (R-hat {diagnostics.r_hat:.3f}, limit 1.01; fewest independent draws 400)"
    return ""


def _predicted(calibration: ConductionCalibration, code: str) -> Quantity:
    label, unit = PREDICTED[code]
    of_lesions = _why_withheld(calibration, "gamma") if code in _OF_LESIONS else ""
    why = _why_withheld(calibration, "velocity") or of_lesions
    if why:
        return Quantity(code=code, label=label, unit=unit, withheld=why, level=LEVEL)
    return _spread(code, label, unit, calibration.predicted[code])


def _spread(code: str, label: str, unit: str, draws: Float[np.ndarray, " draw"]) -> Quantity:
    missing = float(np.isnan(draws).mean())
    if missing > MOST_WITHOUT_PEAK:
        why = f"the model shows no such peak in {missing:.0%} of the draws, limit {MOST_WITHOUT_PEAK:.0%}"
        return Quantity(code=code, label=label, unit=unit, withheld=why, level=LEVEL)
    low, median, high = np.nanquantile(draws, [0.5 * (1 - LEVEL), 0.5, 0.5 * (1 + LEVEL)], method=QUANTILE)
    return Quantity(
        code=code, label=label, unit=unit, value=float(median), low=float(low), high=float(high), level=LEVEL
    )


def _tracts(calibration: ConductionCalibration) -> Table:
    why = _why_withheld(calibration, "gamma") or _why_withheld(calibration, "velocity")
    rows = []
    for number, ((one, two), share) in enumerate(zip(calibration.tracts, calibration.tract_fractions, strict=True)):
        labels = calibration.region_labels
        code = f"tract-{number + 1}"
        met = Quantity(code=f"{code}-lesion-share", label="Streamlines that lesions meet", unit="%", value=100 * share)
        label = "Extra delay"
        extra = (
            Quantity(code=f"{code}-extra-delay", label=label, unit="ms", withheld=why, level=LEVEL)
            if why
            else _spread(f"{code}-extra-delay", label, "ms", calibration.tract_delays[number])
        )
        rows.append(Row(label=f"{labels[int(one)]} – {labels[int(two)]}", quantities=(met, extra)))
    return Table(code="delayed-tracts", label="Tracts that lesions delay most", heading="Tract", rows=tuple(rows))


def _scenarios(run: ConductionRun) -> tuple[Scenario, ...]:
    return (
        Scenario(
            code="remyelination",
            label="Remyelination of all lesions",
            description="Lesions delay no more (γ = 0); axons that were lost stay lost. An upper bound.",
            endpoints=_changes("remyelination", run.remyelinated),
        ),
        Scenario(
            code="eased-conduction",
            label="Eased conduction in lesions",
            description=(
                f"Lesions delay {EASED:.0%} as much, as a drug like fampridine is supposed to do. {_HYPOTHESIS}the "
                "factor is an assumption and belongs to no dose."
            ),
            endpoints=_changes("eased-conduction", run.eased),
        ),
        *(_course(run, number) for number in range(len(run.therapies))),
    )


def _changes(scenario: str, values: Mapping[str, Float[np.ndarray, " draw"]]) -> tuple[Quantity, ...]:
    return tuple(_spread(f"{scenario}-{code}", *IMMEDIATE[code], values[code]) for code in IMMEDIATE)


def _course(run: ConductionRun, number: int) -> Scenario:
    therapy = run.therapies[number]
    reference = number == 0
    if reference:
        description = f"{_HYPOTHESIS}new lesions, repair and loss of axons at assumed rates, without a therapy."
    else:
        description = (
            f"{_HYPOTHESIS}new lesions at {therapy.relative_risk:.2f} of that rate ({therapy.source}; relapses stand "
            f"for lesions), the difference from {run.therapies[0].label.lower()} over the same chance events."
        )
    endpoints = []
    for years in _horizons(run):
        at = int(np.flatnonzero(run.years == years)[0])
        for code in _OF_COURSES:
            label, unit = ENDPOINTS[code]
            values = run.courses[code][number, :, at]
            if reference:
                label = f"{label} after {years:g} years"
            else:
                values = values - run.courses[code][0, :, at]
                label = f"Difference after {years:g} years: {label[0].lower()}{label[1:]}"
            endpoints.append(_spread(f"{therapy.code}-{code}-{years:g}y", label, unit, values))
    return Scenario(
        code=therapy.code, label=f"{therapy.label}, hypothesis", description=description, endpoints=tuple(endpoints)
    )


def _horizons(run: ConductionRun) -> list[float]:
    return [years for years in HORIZONS if years in run.years]


def _sentence(warning: str) -> str:
    return f"{warning[0].upper()}{warning[1:]}."


def _withheld_scenarios(run: ConductionRun | None) -> tuple[str, ...]:
    if run is None or not run.withheld:
        return ()
    return (f"Remyelination and the course over years were not tried: {run.withheld}.",)


def _checks(calibration: ConductionCalibration) -> tuple[Check, ...]:
    of_gate = tuple(
        Check(code=check.code, label=check.label, value=check.value, limit=check.limit, passed=check.passed)
        for check in gate_checks(calibration)
        if np.isfinite(check.value)
    )
    spread = calibration.connectome_error
    of_connectome = Check(
        code="connectome-error",
        label="Error of the connectome's log weights that the residuals need",
        value=spread,
        limit=f"≤ {LARGEST_ERROR:g}",
        passed=spread <= LARGEST_ERROR,
    )
    return (*calibration.recording_checks, *of_gate, of_connectome)


def _methods(calibration: ConductionCalibration, run: ConductionRun | None) -> tuple[str, ...]:
    bands = f"{calibration.frequencies[0]:g} to {calibration.frequencies[-1]:g} Hz"
    places = {"measured": "at their measured places", "standard": "at the places of the standard 10-5 system"}
    feature = {
        "cross-spectrum": "the full cross-spectrum between channels",
        "power": "each direction's power alone, as if directions were independent",
    }
    sentences = [
        f"Recording: {calibration.seconds:.0f} s of {calibration.kind.upper()}, {calibration.channels} channels "
        f"{places[calibration.located]}; feature: {feature[calibration.likelihood]} in {len(calibration.frequencies)} "
        f"bands from {bands}; likelihood: Whittle.",
        "Sensors: lead field of a spherical head from the atlas's folded cortex, moved to the patient by an affine; "
        f"signals projected on its {calibration.observed.shape[1]} strongest directions.",
        "Model: damped oscillators coupled with conduction delays, delay = length / v · (1 + γ · share of the tract's "
        "streamlines that lesions meet), spectrum in closed form.",
        "Inferred: velocity, coupling, natural frequency, damping, sensor noise"
        + (", and γ from " + _mask(calibration) if calibration.has_lesions else "; γ was not, without lesions")
        + ".",
        _sampler(calibration),
    ]
    if calibration.connectome_error > 0.0:
        sentences.append(
            f"Connectome: the residuals need errors of its log weights by {calibration.connectome_error:.2f}, of its "
            "lengths by a sixth of that; the likelihood was widened by how such errors scatter its mode."
        )
    if calibration.sound:
        spectra = calibration.predicted["alpha-frequency"].size
        sentences.append(
            f"Rhythm: alpha quantities and their intervals from the spectra of {spectra} posterior draws, spread "
            "evenly over all chains."
        )
    if run is not None and not run.withheld:
        rates = RatePriors()
        sentences.append(
            f"Scenarios: {len(run.draws)} posterior draws spread evenly over all chains, from whose quantiles the "
            f"intervals are. Years: each draw with its own rates (medians {rates.lesions[0]:g} new "
            f"lesions, {rates.repair[0]:.0%} of demyelinated axons remyelinated and {rates.loss[0]:.0%} lost a year; "
            "log-normal, assumed) and chance events; a lesion falls on a tract by its volume and is as large as this "
            "patient's on average; a therapy lets through each of the same lesions with its relative risk."
        )
    return tuple(sentences)


def _sampler(calibration: ConductionCalibration) -> str:
    draws = calibration.draws["velocity"]
    return f"Sampler: NumPyro NUTS, {draws.size} draws in {len(draws)} chains, checked against the exact likelihood."


def _mask(calibration: ConductionCalibration) -> str:
    number = "one lesion" if calibration.lesions == 1 else f"{calibration.lesions} lesions"
    return f"a mask of {number}, {calibration.lesion_volume:.1f} mL"


def _limits_of_lesions(calibration: ConductionCalibration) -> tuple[str, ...]:
    if not calibration.has_lesions:
        return ("Velocity is one number for all tracts, and what lesions there may be lower it with the rest.",)
    return (
        "Velocity is one number for all tracts outside lesions; a mask shows neither how much myelin is lost in a "
        "lesion nor what is lost outside.",
        "That lesions delay is assumed: γ is at least 0 by its prior, so neither its interval nor one of the delays "
        "that lesions add can include zero or a speeding-up. They are no evidence that lesions delay at all.",
    )


def _limits(calibration: ConductionCalibration) -> tuple[str, ...]:
    return (
        "Research use only; not a medical device. No result here has been compared with an outcome in patients.",
        "An absolute velocity is as good as the connectome: compare recordings under the same connectome, not persons.",
        *_limits_of_lesions(calibration),
        "The head is a sphere and the cortex is the atlas's, not the patient's.",
        *(
            ("Magnetometers are taken to look at the centre of the head; their true directions were not used.",)
            if calibration.kind == "meg"
            else ()
        ),
        "Rates of new lesions, repair and loss are assumptions; relapse rates of trials stand for lesion rates. "
        "Courses under therapies compare assumptions in a model and advise for or against nothing.",
        "Symptoms, disability and the brain's own compensation are not modelled.",
    )
