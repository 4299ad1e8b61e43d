"""The resting-state twin: what it needs, which interventions it tries, and what it tells the clinician."""

from __future__ import annotations

import numpy as np
import scipy.stats

from vbt.clinical._resting_state_amortised import second_opinion
from vbt.clinical._resting_state_pictures import PARAMETERS, pictures
from vbt.clinical._resting_state_quantities import LEVEL as LEVEL
from vbt.clinical._resting_state_quantities import parameter_quantity
from vbt.clinical._resting_state_scenarios import ENDPOINTS as ENDPOINTS
from vbt.clinical._resting_state_scenarios import EVOKED_SD as EVOKED_SD
from vbt.clinical._resting_state_scenarios import ScenarioRun as ScenarioRun
from vbt.clinical._resting_state_scenarios import require_current_model
from vbt.clinical._resting_state_scenarios import run_scenarios as run_scenarios
from vbt.clinical._resting_state_scenarios import strongest_hub as strongest_hub
from vbt.clinical.application import Application, Progress, Recordings
from vbt.clinical.findings import Check, Quantity, Scenario, TwinFindings
from vbt.connectome import Connectome
from vbt.errors import Rejected
from vbt.inference import Checkpoint, RestingStateCalibration, calibrate_resting_state

NAME = "resting_state"
ENOUGH_BINS = 24  # below, a recording is calibrated to, but the report says that it was short


def findings(
    connectome_quality: tuple[Check, ...], calibration: RestingStateCalibration, scenario_run: ScenarioRun | None
) -> TwinFindings:
    """The report's content. An unsound calibration gives reasons in place of numbers, and no scenarios.

    Parameters
    ----------
    connectome_quality : checks of the input and of the connectome, passed through
    scenario_run : None where no scenarios were run; left out where the calibration is unsound

    Raises
    ------
    Rejected : ``calibration-outdated`` where an earlier version calibrated with another model
    """
    require_current_model(calibration)
    sound = calibration.sound
    scenarios = _scenarios(scenario_run) if sound and scenario_run is not None else ()
    return TwinFindings(
        application=NAME,
        context_of_use=(
            "Research use only: a model-based summary of this person's resting brain activity, and how the model "
            "answers to the removal or stimulation of one region. It informs no diagnosis and no treatment."
        ),
        verdict=calibration.verdict,
        conclusion=_conclusion(calibration, scenario_run if sound else None),
        parameters=tuple(
            parameter_quantity(calibration, name, code=code, label=_LABELS[code]) for code, name in PARAMETERS.items()
        ),
        scenarios=scenarios,
        quality=(*connectome_quality, *_checks(calibration)),
        methods=_methods(calibration, scenario_run if sound else None),
        limits=_LIMITS,
        evidence="None in patients. Checked against closed forms and synthetic recordings with known parameters only.",
        level=LEVEL,
    )


_LABELS = {
    "global-coupling": "Global coupling, as a fraction of the value at which rest loses stability",
    "connectivity-exponent": "Exponent of a connection's cross-section in the coupling",
    "homotopic-weight": "Added weight between corresponding regions of both hemispheres",
    "shared-signal-variance": "Variance of a signal shared by all regions, relative to a region's own",
}


def _conclusion(calibration: RestingStateCalibration, run: ScenarioRun | None) -> str:
    if not calibration.sound:
        return f"No twin is reported: {'; '.join(calibration.reasons)}."
    median, low, high = calibration.interval("g", LEVEL)
    text = (
        f"The twin reproduces the measured functional connectivity with r = {calibration.fit:.2f} "
        f"(from the connectome alone: {calibration.baselines['SC^0.25']:.2f}) at a global coupling of {median:.2f} "
        f"({LEVEL:.0%} interval {low:.2f} to {high:.2f}) of the critical value."
    )
    if run is None:
        return text
    change = np.median(run.endpoints["resection-working-point-change"])
    return f"{text} Removing {run.target_label} from the model would change that coupling by {change:+.3f}."


def _scenarios(run: ScenarioRun) -> tuple[Scenario, ...]:
    def quantities(prefix: str) -> tuple[Quantity, ...]:
        return tuple(_endpoint(run, code) for code in ENDPOINTS if code.startswith(prefix))

    return (
        Scenario(
            code="resection",
            label=f"Resection of {run.target_label}",
            description=f"{run.target_label} is removed from the network with all its connections.",
            endpoints=quantities("resection"),
        ),
        Scenario(
            code="stimulation",
            label=f"Stimulation of {run.target_label}",
            description=(
                f"A constant current into {run.target_label}, of the strength that moves its own BOLD by "
                f"{EVOKED_SD:g} resting standard deviations in the linear model; not calibrated to a device."
            ),
            endpoints=quantities("stimulation"),
        ),
    )


def _endpoint(run: ScenarioRun, code: str) -> Quantity:
    label, unit = ENDPOINTS[code]
    low, median, high = np.quantile(run.endpoints[code], [0.5 * (1 - LEVEL), 0.5, 0.5 * (1 + LEVEL)])
    return Quantity(
        code=code, label=label, unit=unit, value=float(median), low=float(low), high=float(high), level=LEVEL
    )


def _checks(calibration: RestingStateCalibration) -> tuple[Check, ...]:
    reported = [p for p in calibration.parameters if not p.nuisance]
    worst = max(p.r_hat for p in reported)
    fewest = min(min(p.ess_bulk, p.ess_tail) for p in reported)
    sampler = calibration.sampler
    baseline = calibration.baselines["SC^0.25"]
    bins = sum(calibration.band_counts)
    checks: list[tuple[str, str, float, str, bool]] = [
        (
            "recording-length",
            "Fourier bins of the recording between 0.01 and 0.1 Hz",
            float(bins),
            f"≥ {ENOUGH_BINS}, about 270 s",
            bins >= ENOUGH_BINS,
        ),
        ("r-hat", "Agreement of the chains (largest rank-normalised R-hat)", worst, "≤ 1.01", worst <= 1.01),
        ("effective-sample-size", "Independent draws (smallest bulk or tail)", fewest, "≥ 400", fewest >= 400),
        (
            "divergences",
            "Divergent transitions",
            float(sampler.divergences),
            "≤ 0.1 %",
            sampler.divergences <= 0.001 * sampler.draws,
        ),
        ("e-bfmi", "Energy exploration (E-BFMI)", sampler.e_bfmi, "≥ 0.3", sampler.e_bfmi >= 0.3),
        (
            "fc-fit",
            "Fit to the measured functional connectivity (r)",
            calibration.fit,
            f"> {baseline:.2f}, the connectome alone",
            calibration.fit > baseline,
        ),
    ]
    checks += [
        (
            f"predictive-{check.name.replace(' ', '-').lower()}",
            f"Posterior predictive check: {check.name}",
            check.p_value,
            "0.05 to 0.95",
            0.05 <= check.p_value <= 0.95,
        )
        for check in calibration.checks
    ]
    if np.isfinite(calibration.split_half_z):
        z = calibration.split_half_z
        checks.append(
            ("split-half", "Difference of g between the halves of the recording (z)", z, "|z| ≤ 2", abs(z) <= 2.0)
        )
    return tuple(
        Check(code=code, label=label, value=float(value), limit=limit, passed=bool(passed))
        for code, label, value, limit, passed in checks
    )


def _methods(calibration: RestingStateCalibration, run: ScenarioRun | None) -> tuple[str, ...]:
    bands = f"{calibration.band_edges[0]:g} to {calibration.band_edges[-1]:g} Hz"
    sentences = [
        f"Feature: cross-spectra of {len(calibration.region_labels)} regions averaged over "
        f"{len(calibration.band_counts)} bands from {bands} ({sum(calibration.band_counts)} Fourier bins); "
        "likelihood: Whittle.",
        "Model: slow fluctuations of a stable linear network, x ∝ (I − gW)⁻¹ noise; W is the cross-section of a "
        "connection to a power plus a homotopic weight, scaled to a largest eigenvalue of 1.",
        "Inferred: g, p, h, the variance of a shared signal, observation noise, one power per band and one gain per "
        "region; how much of its neighbours a region's signal shows; and, since tractography errs, from which weight "
        "on a connection is taken as real.",
        _tractography(calibration),
        f"Sampler: NumPyro NUTS, {calibration.sampler.draws} draws in 4 chains from overdispersed starts.",
        "Ceiling: a recording of this length from the model itself would agree with the fit with "
        f"r = {calibration.noise_ceiling:.2f}.",
    ]
    if run is not None:
        sentences.append(
            f"Scenarios: {len(run.draws)} posterior draws lifted to Montbrió-Pazó-Roxin populations with conduction "
            "delays (velocity 6 m/s, a literature value) and Balloon-Windkessel BOLD; each intervention beside the "
            "untouched twin with the same noise."
        )
    return tuple(sentences)


def _tractography(calibration: RestingStateCalibration) -> str:
    median, low, high = calibration.interval("w0", LEVEL)
    _, location, scale = calibration.priors["b"]
    thin, middle, thick = np.exp(location + scale * scipy.stats.norm.ppf([0.5 * (1 - LEVEL), 0.5, 0.5 * (1 + LEVEL)]))
    return (
        f"Tractography's error: a connection of {median:.1f} times the median weight ({LEVEL:.0%} interval {low:.1f} "
        f"to {high:.1f}) is as likely real as not; weights are true cross-sections to the power {middle:.2f} (prior "
        f"{thin:.2f} to {thick:.2f}, from digital patients), which widens p."
    )


_LIMITS = (
    "Research use only; not a medical device. No result here has been compared with an outcome in patients.",
    "Global coupling is not a stable trait of a person in one run of resting fMRI. Its interval holds what runs and "
    "their preparation were seen to change (0.1 on its logit), from few recordings. Do not compare single values over "
    "time.",
    "That a person's own connectome predicts that person's activity better than another's has not been shown for this "
    "model.",
    "Tractography's errors enter the intervals as false weak connections and distorted weights, in a form seen on "
    "digital patients; connections that it missed and errors of the parcellation are not in them.",
    "Conduction velocity is taken from the literature, not inferred.",
    "Resection takes a region's tonic drive away from the others; the brain's own compensation is not modelled.",
    "Scenarios describe small changes around rest; they predict neither symptoms, nor recovery, nor seizures.",
    "The strength of stimulation is relative to the model and cannot be converted to a current of a device.",
)


def _calibrate(
    connectome: Connectome,
    recordings: Recordings,
    *,
    rng_seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None,
) -> RestingStateCalibration:
    if recordings.bold is None:
        raise Rejected(
            "no-recording",
            rule="the resting-state twin is calibrated to the patient's resting fMRI",
            got="a case without one",
            action="send the study with its resting fMRI series",
        )
    return calibrate_resting_state(
        connectome,
        recordings.bold.time_series,
        recordings.bold.repetition_time,
        rng_seed=rng_seed,
        progress=progress,
        checkpoint=checkpoint,
    )


def _run_scenarios(
    connectome: Connectome,
    _recordings: Recordings,
    calibration: RestingStateCalibration,
    *,
    rng_seed: int,
    duration: float,
    progress: Progress,
) -> ScenarioRun:
    return run_scenarios(connectome, calibration, rng_seed=rng_seed, duration=duration, progress=progress)


APPLICATION = Application(
    name=NAME,
    title="Resting state",
    needs="diffusion MRI, T1 and resting fMRI",
    requires=(("bold",),),
    credibility=NAME,
    calibration=RestingStateCalibration,
    scenarios=ScenarioRun,
    calibrate=_calibrate,
    run_scenarios=_run_scenarios,
    findings=findings,
    pictures=pictures,
    second_opinion=second_opinion,
)
