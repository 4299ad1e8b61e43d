"""One gate that every posterior passes before a number of it is reported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

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
MCSE_LIMIT = 0.05
NUISANCE_MCSE_LIMIT = 0.1
E_BFMI_LIMIT = 0.3
DIVERGENCE_LIMIT = 0.001
SATURATION_LIMIT = 0.01
SHRINKAGE_LIMIT = 0.3
CHI_SQUARE_LIMIT = 1.05
STARTS_LIMIT = 3
NOVELTY_LIMIT = 0.99
DISAGREEMENT_LIMIT = 1.0
PREDICTIVE_LIMITS = (0.05, 0.95)
_LISTED = 3  # reasons of one kind; a network of 84 regions can fail in 260 places


@dataclass(frozen=True, kw_only=True)
class ParameterDiagnostics:
    """How well one parameter was sampled and how much the recording says about it.

    Parameters
    ----------
    r_hat : rank-normalised split R-hat
    ess_bulk, ess_tail : effective sample sizes
    shrinkage : 1 − posterior variance / prior variance, on the scale on which the prior is normal
    nuisance : not used for any scenario, held to looser limits for the verdict; reported only where ``converged``
    mcse : Monte Carlo standard error of the mean over the posterior standard deviation; NaN in records of an earlier
        version
    """

    name: str
    r_hat: float
    ess_bulk: float
    ess_tail: float
    shrinkage: float
    nuisance: bool = False
    mcse: float = float("nan")

    @property
    def converged(self) -> bool:
        """Within the limits of a number that is reported."""
        enough = min(self.ess_bulk, self.ess_tail) >= ESS_LIMIT
        return self.r_hat <= R_HAT_LIMIT and enough and not self.mcse > MCSE_LIMIT

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
    """How well the best fit explains the recording, and how many searches from scattered starts ended at it.

    The searches share likelihood and priors: their agreement speaks for the search, not for the model.

    Parameters
    ----------
    chi_square : the fit statistic that ``label`` names, held to `CHI_SQUARE_LIMIT`. ``"chi²/N"`` is the mean squared
        residual in units of the fitted noise's prior scale or of the known noise; NaN where the likelihood has no
        residual
    starts_agreeing, starts : searches that ended within 5 nats of the best, of how many
    """

    chi_square: float
    starts_agreeing: int
    starts: int
    label: str = "chi²/N"

    @property
    def explained(self) -> bool:
        """Whether the statistic is within its limit, or there is none."""
        return not self.chi_square > CHI_SQUARE_LIMIT


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """How far a recording lies from everything that an amortised posterior was trained on.

    Parameters
    ----------
    distance : from the training simulations' centre
    quantile : fraction of the training simulations that lie nearer to it
    disagreement : largest distance of one trained network's mean from that of all, in posterior standard deviations
    disagreement_limit : what the networks reach on simulations that none of them has seen, where they bring it
    outermost : the summary that lies farthest out by itself, at the normal score ``outermost_score``; may be empty
    """

    distance: float
    quantile: float
    disagreement: float = 0.0
    disagreement_limit: float = DISAGREEMENT_LIMIT
    outermost: str = ""
    outermost_score: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PredictiveCheck:
    """One statistic of the recording against recordings that the fitted model would give.

    ``p_value`` is the fraction of replicated recordings with a larger value; near 0 or 1 the model misses it. Where the
    check is ``decisive`` such a miss refuses the posterior, else it is a warning. ``plug_in`` replicates come from one
    point of the posterior, not from its draws: a residual check, whose p-values lie too near 1/2.
    """

    name: str
    observed: float
    replicated: float
    p_value: float
    decisive: bool = False
    plug_in: bool = False

    @property
    def missed(self) -> bool:
        low, high = PREDICTIVE_LIMITS
        return not low <= self.p_value <= high


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
        mcse=float(arviz.ess(draws, method="mean")) ** -0.5,  # type: ignore[no-untyped-call]
    )


def diagnose_sampler(draws: Draws) -> SamplerDiagnostics:
    """Divergences, the smallest energy Bayesian fraction of missing information over chains, and tree depth."""
    return SamplerDiagnostics(
        divergences=int(draws.diverging.sum()),
        draws=int(draws.diverging.size),
        e_bfmi=float(np.min(arviz.bfmi(draws.energy))),  # type: ignore[no-untyped-call]
        saturated=draws.saturated,
    )


@overload
def gate(
    parameters: tuple[ParameterDiagnostics, ...],
    sampler: SamplerDiagnostics,
    *,
    fit: FitDiagnostics | None = None,
    novelty: Novelty | None = None,
    checks: Sequence[PredictiveCheck] = (),
) -> tuple[str, ...]: ...


@overload
def gate(
    parameters: tuple[ParameterDiagnostics, ...],
    sampler: None,
    *,
    fit: FitDiagnostics | None = None,
    novelty: Novelty,
    checks: Sequence[PredictiveCheck] = (),
) -> tuple[str, ...]: ...


def gate(
    parameters: tuple[ParameterDiagnostics, ...],
    sampler: SamplerDiagnostics | None,
    *,
    fit: FitDiagnostics | None = None,
    novelty: Novelty | None = None,
    checks: Sequence[PredictiveCheck] = (),
) -> tuple[str, ...]:
    """Why the posterior must not be reported; empty when it may be. The same for every engine.

    A mode, its curvature or a variational fit is a start and has neither chains nor training simulations: it cannot
    pass here, and so its spread is never reported as uncertainty.

    Parameters
    ----------
    sampler : None for an amortised posterior, whose draws are independent; such a one must bring its ``novelty``
    fit : where the posterior stands on searches for its mode
    novelty : where it stands on simulations that a network was trained on
    checks : posterior predictive or residual checks; only the decisive ones refuse
    """
    if sampler is None and novelty is None:
        raise ValueError("a posterior is drawn by a sampler or by a network that says how novel the recording is to it")
    return (
        *_parameter_reasons(parameters),
        *(_sampler_reasons(sampler) if sampler else ()),
        *(_fit_reasons(fit) if fit else ()),
        *(_novelty_reasons(novelty) if novelty else ()),
        *(_missed(check) for check in checks if check.decisive and check.missed),
    )


def _parameter_reasons(parameters: tuple[ParameterDiagnostics, ...]) -> list[str]:
    found: dict[str, list[tuple[float, str]]] = {"chains": [], "draws": [], "mean": []}
    for p in parameters:
        r_hat, ess, mcse = limits_of(p)
        if not p.r_hat <= r_hat:
            found["chains"].append((p.r_hat, f"chains disagree on {p.name}: R-hat {p.r_hat:.3f}, limit {r_hat}"))
        smallest = min(p.ess_bulk, p.ess_tail)
        if not smallest >= ess:
            text = f"too few independent draws of {p.name}: {smallest:.0f}, limit {ess:.0f}"
            found["draws"].append((-smallest, text))
        if p.mcse > mcse:
            text = f"the mean of {p.name} is too uncertain: Monte Carlo error {p.mcse:.3f} sd, limit {mcse}"
            found["mean"].append((p.mcse, text))
    return [reason for kind in found.values() for reason in _worst(kind)]


def _worst(reasons: list[tuple[float, str]]) -> list[str]:
    """All reasons of one kind where they are few; of many the worst, and how many more there are."""
    if len(reasons) <= _LISTED:
        return [text for _, text in reasons]
    severity = [np.inf if np.isnan(value) else value for value, _ in reasons]
    return [f"{reasons[int(np.argmax(severity))][1]}, and so for {len(reasons) - 1} parameters more"]


def limits_of(parameter: ParameterDiagnostics) -> tuple[float, float, float]:
    """Largest R-hat, smallest effective sample size and largest Monte Carlo error for the verdict."""
    if parameter.nuisance:
        return NUISANCE_R_HAT_LIMIT, NUISANCE_ESS_LIMIT, NUISANCE_MCSE_LIMIT
    return R_HAT_LIMIT, ESS_LIMIT, MCSE_LIMIT


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
    if not fit.explained:
        reasons.append(
            f"the model does not explain the recording: {fit.label} {fit.chi_square:.2f}, limit {CHI_SQUARE_LIMIT}"
        )
    if fit.starts_agreeing < STARTS_LIMIT:
        reasons.append(f"searches disagree: {fit.starts_agreeing} of {fit.starts} ended alike, limit {STARTS_LIMIT}")
    return reasons


def _novelty_reasons(novelty: Novelty) -> list[str]:
    reasons = []
    if not novelty.quantile <= NOVELTY_LIMIT:
        reasons.append(
            f"out of distribution: farther from the training simulations than {novelty.quantile:.2%} of them, "
            f"limit {NOVELTY_LIMIT:.1%}{_outermost(novelty)}"
        )
    if not novelty.disagreement <= novelty.disagreement_limit:
        reasons.append(
            f"the trained networks disagree: by {novelty.disagreement:.2f} standard deviations, "
            f"limit {novelty.disagreement_limit:.2f}"
        )
    return reasons


def _outermost(novelty: Novelty) -> str:
    return f"; farthest out {novelty.outermost}, at {novelty.outermost_score:+.1f} sd" if novelty.outermost else ""


def _missed(check: PredictiveCheck) -> str:
    return (
        f"the fitted model misses {check.name}: {check.observed:.3g} measured, {check.replicated:.3g} replicated, "
        f"p {check.p_value:.2f}"
    )


def warnings_of(sampler: SamplerDiagnostics | None, checks: Sequence[PredictiveCheck] = ()) -> tuple[str, ...]:
    """What the reader should know although it does not stop the report."""
    missed = tuple(_missed(check) for check in checks if check.missed and not check.decisive)
    if sampler is not None and 0 < sampler.divergences <= DIVERGENCE_LIMIT * sampler.draws:
        return (f"{sampler.divergences} divergent transitions of {sampler.draws}", *missed)
    return missed
