"""One gate that every posterior passes before a number of it is reported."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vbt.inference._nuts import Draws

with warnings.catch_warnings():
    # ArviZ announces its next major version at import; we pin the present one.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

R_HAT_LIMIT = 1.01
ESS_LIMIT = 400.0
NUISANCE_R_HAT_LIMIT = 1.05
NUISANCE_ESS_LIMIT = 100.0
E_BFMI_LIMIT = 0.3
DIVERGENCE_LIMIT = 0.001
SATURATION_LIMIT = 0.01
SHRINKAGE_LIMIT = 0.3
CHI_SQUARE_LIMIT = 1.05
STARTS_LIMIT = 3
NOVELTY_LIMIT = 0.999


@dataclass(frozen=True, kw_only=True)
class ParameterDiagnostics:
    """How well one parameter was sampled and how much the recording says about it.

    Parameters
    ----------
    r_hat : rank-normalised split R-hat
    ess_bulk, ess_tail : effective sample sizes
    shrinkage : 1 − posterior variance / prior variance, on the scale on which the prior is normal
    nuisance : not used for any scenario, held to looser limits for the verdict; reported only where ``converged``
    """

    name: str
    r_hat: float
    ess_bulk: float
    ess_tail: float
    shrinkage: float
    nuisance: bool = False

    @property
    def converged(self) -> bool:
        """Within the limits of a number that is reported."""
        return self.r_hat <= R_HAT_LIMIT and min(self.ess_bulk, self.ess_tail) >= ESS_LIMIT

    @property
    def identifiable(self) -> bool:
        return self.shrinkage >= SHRINKAGE_LIMIT


@dataclass(frozen=True, kw_only=True)
class SamplerDiagnostics:
    """How the chains behaved as a whole."""

    divergences: int
    draws: int
    e_bfmi: float
    saturated: float


@dataclass(frozen=True, kw_only=True)
class FitDiagnostics:
    """How well the best fit explains the recording, and whether independent searches found the same.

    Parameters
    ----------
    chi_square : mean squared residual in units of the fitted noise's prior scale or of the known noise; NaN where
        the likelihood has no residual
    starts_agreeing, starts : searches that ended within 5 nats of the best, of how many
    """

    chi_square: float
    starts_agreeing: int
    starts: int


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """How far a recording lies from everything that an amortised posterior was trained on.

    ``quantile`` is the fraction of training simulations that lie nearer to their centre.
    """

    distance: float
    quantile: float


def diagnose(
    name: str,
    draws: Float[np.ndarray, "chain draw"],
    standard: Float[np.ndarray, "chain draw"],
    *,
    nuisance: bool = False,
) -> ParameterDiagnostics:
    """Diagnostics of one parameter from its draws and from the same draws as standard-normal deviates of the prior.

    References
    ----------
    Vehtari et al. (2021), Bayesian Anal. 16, 667.
    """
    return ParameterDiagnostics(
        name=name,
        r_hat=float(arviz.rhat(draws, method="rank")),  # type: ignore[no-untyped-call]
        ess_bulk=float(arviz.ess(draws, method="bulk")),  # type: ignore[no-untyped-call]
        ess_tail=float(arviz.ess(draws, method="tail")),  # type: ignore[no-untyped-call]
        shrinkage=float(1.0 - standard.var()),
        nuisance=nuisance,
    )


def diagnose_sampler(draws: Draws) -> SamplerDiagnostics:
    """Divergences, the smallest energy Bayesian fraction of missing information over chains, and tree depth."""
    return SamplerDiagnostics(
        divergences=int(draws.diverging.sum()),
        draws=int(draws.diverging.size),
        e_bfmi=float(np.min(arviz.bfmi(draws.energy))),  # type: ignore[no-untyped-call]
        saturated=draws.saturated,
    )


def gate(
    parameters: tuple[ParameterDiagnostics, ...],
    sampler: SamplerDiagnostics | None,
    *,
    fit: FitDiagnostics | None = None,
    novelty: Novelty | None = None,
) -> tuple[str, ...]:
    """Why the posterior must not be reported; empty when it may be. The same for every engine.

    Parameters
    ----------
    sampler : None for an amortised posterior, whose draws are independent
    fit : where the posterior stands on searches for its mode
    novelty : where it stands on simulations that a network was trained on
    """
    return (
        *_parameter_reasons(parameters),
        *(_sampler_reasons(sampler) if sampler else ()),
        *(_fit_reasons(fit) if fit else ()),
        *(_novelty_reasons(novelty) if novelty else ()),
    )


def _parameter_reasons(parameters: tuple[ParameterDiagnostics, ...]) -> list[str]:
    reasons = []
    for p in parameters:
        r_hat, ess = (NUISANCE_R_HAT_LIMIT, NUISANCE_ESS_LIMIT) if p.nuisance else (R_HAT_LIMIT, ESS_LIMIT)
        if not p.r_hat <= r_hat:
            reasons.append(f"chains disagree on {p.name}: R-hat {p.r_hat:.3f}, limit {r_hat}")
        smallest = min(p.ess_bulk, p.ess_tail)
        if not smallest >= ess:
            reasons.append(f"too few independent draws of {p.name}: {smallest:.0f}, limit {ess:.0f}")
    return reasons


def _sampler_reasons(sampler: SamplerDiagnostics) -> list[str]:
    reasons = []
    if sampler.divergences > DIVERGENCE_LIMIT * sampler.draws:
        reasons.append(f"{sampler.divergences} divergent transitions of {sampler.draws}, limit {DIVERGENCE_LIMIT:.1%}")
    if not sampler.e_bfmi >= E_BFMI_LIMIT:
        reasons.append(f"energy explored too slowly: E-BFMI {sampler.e_bfmi:.2f}, limit {E_BFMI_LIMIT}")
    if sampler.saturated >= SATURATION_LIMIT:
        reasons.append(
            f"{sampler.saturated:.1%} of trajectories reached the largest tree, limit {SATURATION_LIMIT:.0%}"
        )
    return reasons


def _fit_reasons(fit: FitDiagnostics) -> list[str]:
    reasons = []
    if fit.chi_square > CHI_SQUARE_LIMIT:
        reasons.append(
            f"the model does not explain the recording: chi²/N {fit.chi_square:.2f}, limit {CHI_SQUARE_LIMIT}"
        )
    if fit.starts_agreeing < STARTS_LIMIT:
        reasons.append(f"searches disagree: {fit.starts_agreeing} of {fit.starts} ended alike, limit {STARTS_LIMIT}")
    return reasons


def _novelty_reasons(novelty: Novelty) -> list[str]:
    if novelty.quantile <= NOVELTY_LIMIT:
        return []
    return [
        f"out of distribution: farther from the training simulations than {novelty.quantile:.2%} of them, "
        f"limit {NOVELTY_LIMIT:.1%}"
    ]


def warnings_of(sampler: SamplerDiagnostics) -> tuple[str, ...]:
    """What the reader should know although it does not stop the report."""
    if 0 < sampler.divergences <= DIVERGENCE_LIMIT * sampler.draws:
        return (f"{sampler.divergences} divergent transitions of {sampler.draws}",)
    return ()
