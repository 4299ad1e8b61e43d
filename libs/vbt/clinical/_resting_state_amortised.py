"""A second opinion on the working point: the same network as simulated populations, read by other features.

The linear network is fitted to cross-spectra by an exact likelihood. Here populations are simulated on the patient's
own connectome and flows learn what connectivity, its dynamics and spectrum say of the same coupling. Where both agree
the number does not hang on the linear approximation; where they do not, the reader is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import scipy.special

from vbt.clinical._resting_state_quantities import LEVEL, parameter_quantity
from vbt.clinical.application import Progress, Recordings
from vbt.clinical.findings import Check, Quantity
from vbt.clinical.second_opinion import Opinion, SecondOpinion, Verdict
from vbt.connectome import Connectome
from vbt.errors import Rejected
from vbt.inference import (
    AmortisedCalibration,
    AmortisedPosterior,
    Calibration,
    Checkpoint,
    RestingStateCalibration,
    calibrate_amortised,
    gate_checks,
    samples_used,
)

AGREEMENT = 2.0  # joint standard deviations between both posteriors

_LABELS = {
    "g": ("population-coupling", "Second opinion: global coupling, as a fraction of the critical value"),
    "p": ("population-connectivity-exponent", "Second opinion: exponent of a connection's cross-section"),
    "h": ("population-homotopic-weight", "Second opinion: added weight between corresponding regions"),
    "alpha": ("interhemispheric-loss", "Second opinion: fraction taken away from connections between hemispheres"),
}


def second_opinion(
    connectome: Connectome,
    recordings: Recordings,
    linear: RestingStateCalibration,
    *,
    rng_seed: int,
    simulations: int,
    networks: Iterable[bytes] = (),
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> SecondOpinion:
    """Train on this patient's connectome, unless a network that was is there, and calibrate.

    A recording that the features cannot be read from, or a first calibration without numbers, gives a refusal at once.
    """
    bold = recordings.bold
    if bold is None or not linear.sound:
        return _not_asked("the first calibration gives no number that it could be compared with")
    try:
        samples_used(len(bold.time_series), bold.repetition_time)
    except Rejected as refusal:
        return _not_asked(f"{refusal.rule}, and this has {refusal.got}")
    calibration, network = calibrate_amortised(
        connectome,
        bold.time_series,
        bold.repetition_time,
        rng_seed=rng_seed,
        simulations=simulations,
        trained=_read(networks),
        progress=progress,
        checkpoint=checkpoint,
    )
    return SecondOpinion(
        opinion=opinion_of(calibration, linear),
        posterior=calibration.to_npz(),
        network=network.to_npz(),
        card=calibration.card,
    )


def opinion_of(calibration: AmortisedCalibration, linear: Calibration) -> Opinion:
    """What the report says of the amortised posterior, beside the linear network's."""
    verdict: Verdict
    if not calibration.sound:
        verdict, conclusion = "refused", f"Second opinion: refused because {'; '.join(calibration.reasons)}."
    else:
        apart = difference(calibration, linear)
        verdict = "agrees" if abs(apart) <= AGREEMENT else "disagrees"
        median, low, high = calibration.interval("g", LEVEL)
        conclusion = (
            f"Second opinion: {verdict}, with a coupling of {median:.2f} ({LEVEL:.0%} interval {low:.2f} to "
            f"{high:.2f}), {abs(apart):.1f} joint standard deviations away (limit {AGREEMENT:g})."
        )
    return Opinion(
        verdict=verdict,
        conclusion=conclusion,
        parameters=_quantities(calibration),
        quality=tuple(_checks(calibration, linear)),
        methods=(_method(calibration),),
    )


def difference(amortised: Calibration, linear: Calibration) -> float:
    """Of logit g, over the root of both variances; both engines mean the same g by the same network."""
    means, variances = [], []
    for calibration in (linear, amortised):
        logit = scipy.special.logit(calibration.draws["g"].clip(1e-6, 1.0 - 1e-6))
        means.append(float(logit.mean()))
        variances.append(float(logit.var()))
    return (means[0] - means[1]) / math.sqrt(sum(variances))


def _read(networks: Iterable[bytes]) -> Iterator[AmortisedPosterior]:
    for content in networks:
        yield AmortisedPosterior.from_npz(content)


def _not_asked(why: str) -> SecondOpinion:
    return SecondOpinion(opinion=Opinion(verdict="refused", conclusion=f"Second opinion: refused because {why}."))


def _quantities(calibration: AmortisedCalibration) -> tuple[Quantity, ...]:
    refused = f"the second opinion did not pass its checks: {'; '.join(calibration.reasons)}"
    return tuple(
        parameter_quantity(calibration, name, code=code, label=label, refused=refused)
        for name, (code, label) in _LABELS.items()
    )


def _checks(calibration: AmortisedCalibration, linear: Calibration) -> Iterator[Check]:
    """The gate's figures, and how far both engines are apart on the coupling."""
    for check in gate_checks(calibration):
        if math.isfinite(check.value):
            yield Check(
                code=f"second-opinion-{check.code}",
                label=f"Second opinion: {check.label}",
                value=check.value,
                limit=check.limit,
                passed=check.passed,
            )
    if calibration.sound and linear.sound:
        apart = difference(calibration, linear)
        yield Check(
            code="second-opinion-agreement",
            label="Global coupling of the linear network less that of the populations, in joint standard deviations",
            value=apart,
            limit=f"within ± {AGREEMENT:g}",
            passed=abs(apart) <= AGREEMENT,
        )


def _method(calibration: AmortisedCalibration) -> str:
    return (
        "Second opinion: neural posterior estimation (an ensemble of flows) trained on simulations of Montbrió-Pazó-"
        f"Roxin populations on this connectome, from {calibration.seconds:.0f} s of the recording by its "
        "connectivity, dynamics of connectivity and spectrum; drawn by a learned component, network "
        f"{calibration.network[:12]}."
    )
