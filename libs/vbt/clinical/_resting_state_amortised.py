"""A second opinion on the working point: the same network as simulated populations, read by other features.

The linear network is fitted to cross-spectra by an exact likelihood. Here populations are simulated on the patient's
own connectome and flows learn what connectivity, its dynamics and spectrum say of the same coupling. Where both agree
the number does not hang on the linear approximation; where they do not, the reader is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy.special

from vbt.clinical.findings import Check, Quantity
from vbt.connectome import Connectome, RegionalBold
from vbt.inference import AmortisedCalibration, Calibration, Checkpoint, calibrate_amortised, gate_checks
from vbt.inference._amortised_resting_state import Progress

LEVEL = 0.90
AGREEMENT = 2.0  # joint standard deviations between both posteriors

_LABELS = {
    "g": ("population-coupling", "Global coupling, as a fraction of the value at which rest loses stability"),
    "p": ("population-connectivity-exponent", "Exponent of a connection's cross-section in the coupling"),
    "h": ("population-homotopic-weight", "Added weight between corresponding regions of both hemispheres"),
    "alpha": ("interhemispheric-loss", "Fraction taken away from all connections between the hemispheres"),
}


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """What the amortised engine says beside the linear network.

    Parameters
    ----------
    calibration : posterior and verdict
    network : the trained network, an artifact (``.npz``) by the digest that the calibration names
    """

    calibration: AmortisedCalibration
    network: bytes


def second_opinion(
    connectome: Connectome,
    bold: RegionalBold,
    *,
    rng_seed: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> SecondOpinion:
    """Train on this patient's connectome and calibrate: minutes, so only where it is asked for.

    Raises
    ------
    Rejected : where the recording is too short or sampled too slowly for the features
    """
    calibration, network = calibrate_amortised(
        connectome,
        bold.time_series,
        bold.repetition_time,
        rng_seed=rng_seed,
        progress=progress,
        checkpoint=checkpoint,
    )
    return SecondOpinion(calibration=calibration, network=network.to_npz())


def opinion_quantities(opinion: SecondOpinion) -> tuple[Quantity, ...]:
    """Each parameter with its interval, or why there is none."""
    return tuple(_quantity(opinion.calibration, name) for name in _LABELS)


def opinion_checks(opinion: SecondOpinion, linear: Calibration) -> tuple[Check, ...]:
    """The gate's figures, and how far both engines are apart on the coupling."""
    checks = tuple(
        Check(
            code=f"second-opinion-{check.code}",
            label=f"Second opinion: {check.label}",
            value=check.value,
            limit=check.limit,
            passed=check.passed,
        )
        for check in gate_checks(opinion.calibration)
    )
    if not (opinion.calibration.sound and linear.sound):
        return checks
    apart = difference(opinion.calibration, linear)
    agreement = Check(
        code="second-opinion-agreement",
        label="Global coupling of the linear network less that of the populations, in joint standard deviations",
        value=apart,
        limit=f"within ± {AGREEMENT:g}",
        passed=abs(apart) <= AGREEMENT,
    )
    return (*checks, agreement)


def difference(amortised: Calibration, linear: Calibration) -> float:
    """Of logit g, over the root of both variances; both engines mean the same g by the same network."""
    means, variances = [], []
    for calibration in (linear, amortised):
        logit = scipy.special.logit(calibration.draws["g"].clip(1e-6, 1.0 - 1e-6))
        means.append(float(logit.mean()))
        variances.append(float(logit.var()))
    return (means[0] - means[1]) / math.sqrt(sum(variances))


def opinion_method(opinion: SecondOpinion) -> str:
    """One sentence for the methods section."""
    return (
        "Second opinion: neural posterior estimation (an ensemble of flows) trained on simulations of Montbrió-Pazó-"
        f"Roxin populations on this connectome, from {opinion.calibration.seconds:.0f} s of the recording by its "
        "connectivity, dynamics of connectivity and spectrum; drawn by a learned component, network "
        f"{opinion.calibration.network[:12]}."
    )


def _quantity(calibration: AmortisedCalibration, name: str) -> Quantity:
    code, label = _LABELS[name]
    diagnostics = calibration.diagnostics(name)
    withheld = None
    if not calibration.sound:
        withheld = f"the second opinion did not pass its checks: {'; '.join(calibration.reasons)}"
    elif not diagnostics.identifiable:
        withheld = f"not identifiable from this recording (shrinkage {diagnostics.shrinkage:.2f}, limit 0.30)"
    if withheld is not None:
        return Quantity(code=code, label=label, unit="1", withheld=withheld, level=LEVEL)
    median, low, high = calibration.interval(name, LEVEL)
    return Quantity(
        code=code,
        label=label,
        unit="1",
        value=median,
        low=low,
        high=high,
        level=LEVEL,
        r_hat=diagnostics.r_hat,
        ess=diagnostics.ess_bulk,
    )
