"""Calibrating the epileptic twin: a connectome and a seizure's log power in, excitabilities with intervals out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from vbt.inference._calibration import Calibration
from vbt.inference._checkpoint import Checkpoint, Within
from vbt.inference._gate import (
    CHI_SQUARE_LIMIT,
    DIVERGENCE_LIMIT,
    SHRINKAGE_LIMIT,
    STARTS_LIMIT,
    FitDiagnostics,
    ParameterDiagnostics,
    PredictiveCheck,
    SamplerDiagnostics,
    diagnose,
    diagnose_sampler,
    gate,
    warnings_of,
)
from vbt.inference._nuts import CHAINS, Draws, Mode, Posterior, stretched
from vbt.inference._seizure_checks import chi_square, recruitment, residual_checks
from vbt.inference._seizure_feature import Units, observe, require_fitting
from vbt.inference._seizure_model import (
    ETA_MEAN,
    ETA_SCALE,
    PRIORS,
    REST,
    ObservedSeizure,
    activity,
    expected,
    threshold,
)
from vbt.inference._seizure_posterior import posterior_of
from vbt.inference._seizure_search import Search, search
from vbt.inference._seizure_sides import Sides, one_side
from vbt.simulation import one_blas_thread, record

SECONDS_PER_UNIT = 2.0
STARTS, MOST_STARTS = 6, 16
WARMUP, DRAWS, ROUNDS = 100, 150, 8  # per chain; chains run on, a round at a time, until the gate is passed
_TARGET_ACCEPTANCE = 0.95
_CAREFUL = 0.99
_PILOT = 100  # draws per chain that show how far the posterior reaches
_SPREAD = 1.0  # of the chains' beginnings about the modes, in posterior standard deviations of every direction
_ONSET_DRAWS = 200
_NETWORK = ("K", "amplitude", "offset", "noise")


@dataclass(frozen=True, kw_only=True)
class SeizureCalibration(Calibration):
    """Posterior of the network of two-dimensional Epileptors for one seizure.

    Draws: ``eta`` (chain, draw, region) is excitability, ``K`` the coupling of weights that are divided by their
    largest row sum, ``amplitude`` and ``offset`` turn gain·x into the feature, ``noise`` and ``baseline`` are standard
    deviations in the feature's unit, of noise and of sensors' own constant levels; ``x0`` and ``z0`` (chain, draw,
    region) the state one sample before the first. Where the search for modes failed the draws are few and the verdict
    is unsound.

    Parameters
    ----------
    onset : s from the beginning of the feature to each region's first burst; NaN where it does not recruit
    onset_draws : indices of the draws in ``onset``, chains end to end
    fitted, observed : the feature at the best mode, each sensor's own level included, and as measured
    time : s
    gain : as given
    shrinkage : of each region's excitability, 1 − posterior variance / prior variance; below .3 the implantation does
        not see the region
    seconds_per_unit : of model time
    fit : the search's evidence
    """

    onset: Float[np.ndarray, "draw region"]
    fitted: Float[np.ndarray, "time sensor"]
    observed: Float[np.ndarray, "time sensor"]
    time: Float[np.ndarray, " time"]
    sensor_labels: tuple[str, ...]
    gain: Float[np.ndarray, "sensor region"]
    shrinkage: Float[np.ndarray, " region"]
    seconds_per_unit: float
    onset_draws: tuple[int, ...] = ()
    fit: FitDiagnostics | None = None

    @property
    def identifiable_regions(self) -> Bool[np.ndarray, " region"]:
        """Regions on whose excitability the recording says enough for a number."""
        return np.asarray(self.shrinkage >= SHRINKAGE_LIMIT)

    def onset_zone(self, level: float = 0.5) -> Bool[np.ndarray, " region"]:
        """Regions more likely than ``level`` to leave rest on their own: above the model's own threshold."""
        likely = (self.draws["eta"] > threshold()).mean(axis=(0, 1)) > level
        return np.asarray(likely & self.identifiable_regions)


@one_blas_thread
def calibrate_seizure(
    weights: Float[np.ndarray, "region region"],
    gain: Float[np.ndarray, "sensor region"],
    feature: Float[np.ndarray, "time sensor"],
    sampling_period: float,
    *,
    region_labels: tuple[str, ...],
    sensor_labels: tuple[str, ...],
    rng_seed: int,
    progress: Callable[[str, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
    prior_mean: Float[np.ndarray, " region"] | None = None,
    seconds_per_unit: float = SECONDS_PER_UNIT,
    starts: int = STARTS,
    most_starts: int = MOST_STARTS,
    warmup: int = WARMUP,
    draws: int = DRAWS,
    rounds: int = ROUNDS,
    units: Units | None = None,
) -> SeizureCalibration:
    """Invert the network of two-dimensional Epileptors from one seizure's log power.

    The feature is amplitude·(gain·x)(t) + offset + noise, and a constant of each sensor's own that is integrated out.
    Modes are searched from many starts by multiple shooting; NUTS then runs from different ones of those that agree.

    Parameters
    ----------
    weights : ``weights[target, source]``
    gain : how much of each region's activity each sensor sees; no sign
    feature : log power, with an onset; any unit and level
    sampling_period : s
    progress : called with a message and the fraction done; an exception from it cancels
    checkpoint : where starts and chains are kept while they run
    prior_mean : of excitability, where a clinician's hypothesis moves it from −3
    seconds_per_unit : s of one unit of model time, in which a burst lasts three to four
    starts, most_starts : of the search; beyond ``starts`` only until four agree
    warmup, draws, rounds : per chain; the chains run on for another round of ``draws`` until the gate is passed
    units : in which the priors of amplitude, levels and noise are written; the feature's own spread where None

    Raises
    ------
    Rejected
        ``shapes-differ``, ``not-a-number``, ``blind-sensors``, ``isolated-regions``, ``too-few-sensors``,
        ``feature-too-short``, ``flat-sensors``, ``no-seizure``

    References
    ----------
    Hashemi et al. (2020), NeuroImage 217, 116839; Proix et al. (2014), J. Neurosci. 34, 15009.
    """
    tell = progress or (lambda _message, _fraction: None)
    units_per_sample = sampling_period / seconds_per_unit
    require_fitting(weights, gain, feature, units_per_sample, region_labels, sensor_labels)
    # A region's connection with itself carries no difference.
    weights = weights * (1.0 - np.eye(len(weights)))
    mean = np.full(len(weights), ETA_MEAN) if prior_mean is None else prior_mean
    units = units or Units.of(gain, feature)
    with jax.enable_x64(True):
        observed = observe(weights, gain, feature, units_per_sample, mean, units)
        posterior = posterior_of(observed)
        found = search(
            posterior,
            observed,
            starts=starts,
            most_starts=most_starts,
            rng_seed=rng_seed,
            tell=lambda message, fraction: tell(message, 0.2 * fraction),
            checkpoint=checkpoint,
        )
        sides, found = one_side(posterior, observed, found)
        fit = fit_of(posterior, sides.observed, found)
        sampled = sample(
            posterior,
            sides,
            found,
            fit,
            settings=(warmup, draws, rounds),
            rng_seed=rng_seed,
            tell=lambda message, fraction: tell(message, 0.2 + 0.75 * fraction),
            checkpoint=checkpoint,
        )
        tell("checking the fit", 0.95)
        inferred = Inferred(posterior, sides, found, fit, sampled, units, region_labels)
        calibration = _calibration(
            inferred, gain, feature, sampling_period, seconds_per_unit, sensor_labels, rng_seed, weights
        )
    tell("calibrated", 1.0)
    return calibration


def fit_of(posterior: Posterior, observed: ObservedSeizure, found: Search) -> FitDiagnostics:
    """chi²/N at the best mode, and how many starts agree with it."""
    residual, _ = _residual(posterior, observed, found)
    return FitDiagnostics(chi_square=chi_square(residual), starts_agreeing=found.agreeing, starts=len(found.potentials))


def _residual(
    posterior: Posterior, observed: ObservedSeizure, found: Search
) -> tuple[Float[np.ndarray, "time sensor"], Float[np.ndarray, "time region"]]:
    """What the best mode leaves over, each sensor's own level taken off, and the activity there."""
    value = posterior.constrained(found.modes[:1], observed)
    site = {name: jnp.asarray(value[f"{name}_value"][0]) for name in PRIORS}
    samples = observed.values.shape[0]
    x = activity(observed, site["eta"], site["K"], site["x"], site["z"], samples)[0]
    residual = np.asarray(observed.values - expected(observed.gain, site, x))
    level = float(site["baseline"] ** 2 / (site["noise"] ** 2 + samples * site["baseline"] ** 2))
    return residual - level * residual.sum(axis=0), np.asarray(x)


def sample(
    posterior: Posterior,
    sides: Sides,
    found: Search,
    fit: FitDiagnostics,
    *,
    settings: tuple[int, int, int],
    rng_seed: int,
    tell: Callable[[str, float], None],
    checkpoint: Checkpoint | None,
) -> Draws:
    """NUTS from different modes among those that agree, spread about them; only a pilot where the search failed.

    The pilot says where the posterior reaches farther than the curvature at its mode; chains that diverge are run again
    with smaller steps.
    """
    warmup, draws, rounds = settings
    failed = fit.chi_square > CHI_SQUARE_LIMIT or fit.starts_agreeing < STARTS_LIMIT
    if failed:
        warmup, draws, rounds = 25, 25, 1
    most = DIVERGENCE_LIMIT * CHAINS * draws * rounds

    def enough(so_far: Draws) -> bool:
        # More draws do not take divergences away.
        lost = int(so_far.diverging.sum()) > most
        return lost or not gate(diagnose_draws(posterior, sides, so_far), diagnose_sampler(so_far), fit=fit)

    def run(mode: Mode, starts: np.ndarray, target: float, name: str, draws: int, rounds: int) -> Draws:
        begun, share = (0.0, 0.2) if name == "pilot" else (0.2, 0.8)

        def heard(phase: str, fraction: float, divergences: int) -> None:
            tell(f"{phase}, {divergences} divergent ({name})", begun + share * fraction)

        return posterior.sample(
            sides.observed,
            mode,
            warmup=warmup,
            draws=draws,
            rng_seed=rng_seed,
            starts=starts,
            target_acceptance=target,
            max_tree_depth=5 if failed else 8,
            enough=enough,
            rounds=rounds,
            progress=heard,
            checkpoint=None if checkpoint is None else Within(checkpoint, f"{name}-"),
        )

    rng = np.random.default_rng(rng_seed)
    begins = found.modes[np.arange(CHAINS) % max(found.agreeing, 1)]
    begins = begins + _SPREAD * rng.normal(size=begins.shape) @ np.linalg.cholesky(found.mode.covariance).T
    pilot = run(found.mode, begins, _TARGET_ACCEPTANCE, "pilot", 25 if failed else _PILOT, 1)
    if failed:
        return pilot
    mode = stretched(found.mode, pilot)
    for name, target in (("chains", _TARGET_ACCEPTANCE), ("smaller steps", _CAREFUL)):
        sampled = run(mode, pilot.unconstrained[:, -1], target, name, draws, rounds)
        if int(sampled.diverging.sum()) <= DIVERGENCE_LIMIT * sampled.diverging.size:
            break
    return sampled


def constrained(posterior: Posterior, sides: Sides, sampled: Draws) -> dict[str, np.ndarray]:
    """Draws by name in the model's units, ``(chain, draw, …)``, regions on the other side included."""
    chains, count, dimension = sampled.unconstrained.shape
    every = sampled.unconstrained.reshape(-1, dimension)
    flat = posterior.constrained(every, sides.observed)
    flat["eta_value"] = sides.crossed(flat["eta_value"], posterior.split(every)["equilibrium"], flat["K_value"])
    return {name.removesuffix("_value"): value.reshape(chains, count, *value.shape[1:]) for name, value in flat.items()}


def diagnose_draws(
    posterior: Posterior,
    sides: Sides,
    sampled: Draws,
    labels: tuple[str, ...] | None = None,
    units: Units | None = None,
) -> tuple[ParameterDiagnostics, ...]:
    """Diagnostics of every number that is reported.

    Excitability of a region that the sensors do not see is withheld, so it is held to a nuisance's limits.
    """
    chains, count, dimension = sampled.unconstrained.shape
    value = constrained(posterior, sides, sampled)
    standard = {
        name: part.reshape(chains, count, *part.shape[1:])
        for name, part in posterior.split(sampled.unconstrained.reshape(-1, dimension)).items()
    }
    of_eta = (value["eta"] - np.asarray(sides.observed.prior_mean)) / ETA_SCALE
    found = []
    for region in range(of_eta.shape[-1]):
        name = f"eta[{labels[region] if labels else region}]"
        unseen = 1.0 - of_eta[..., region].var() < SHRINKAGE_LIMIT
        found.append(diagnose(name, value["eta"][..., region], of_eta[..., region], nuisance=bool(unseen)))
    physical = in_feature_units(value, units or Units(centre=0.0, scale=1.0, gain=1.0))
    for name, site, nuisance in (
        ("K", "K", False),
        ("amplitude", "amplitude", True),
        ("offset", "level", True),
        ("noise", "noise", True),
        ("baseline", "baseline", True),
    ):
        found.append(diagnose(name, physical[name], standard[site], nuisance=nuisance))
    density = diagnose("posterior density", sampled.density, standard["K"], nuisance=True)
    return (*found, density)


def in_feature_units(value: Mapping[str, np.ndarray], units: Units) -> dict[str, np.ndarray]:
    """Draws by the names and in the units in which they are reported."""
    return {
        "eta": value["eta"],
        "K": value["K"],
        "amplitude": value["amplitude"] * units.scale / units.gain,
        "offset": units.centre + units.scale * (value["level"] - REST * value["amplitude"]),
        "noise": units.scale * value["noise"],
        "baseline": units.scale * value["baseline"],
        "x0": value["x"],
        "z0": value["z"],
    }


@dataclass(frozen=True)
class Inferred:
    """A posterior with its draws, and what its verdict rests on."""

    posterior: Posterior
    sides: Sides
    found: Search
    fit: FitDiagnostics
    sampled: Draws
    units: Units
    region_labels: tuple[str, ...]

    @functools.cached_property
    def draws(self) -> dict[str, np.ndarray]:
        return in_feature_units(constrained(self.posterior, self.sides, self.sampled), self.units)

    @functools.cached_property
    def parameters(self) -> tuple[ParameterDiagnostics, ...]:
        return diagnose_draws(self.posterior, self.sides, self.sampled, self.region_labels, self.units)

    @functools.cached_property
    def sampler(self) -> SamplerDiagnostics:
        return diagnose_sampler(self.sampled)

    @functools.cached_property
    def shrinkage(self) -> Float[np.ndarray, " region"]:
        return np.array([p.shrinkage for p in self.parameters[: len(self.region_labels)]])

    @functools.cached_property
    def residual(self) -> Float[np.ndarray, "time sensor"]:
        return _residual(self.posterior, self.sides.observed, self.found)[0]

    def reasons(self, checks: tuple[PredictiveCheck, ...], onset: np.ndarray) -> tuple[str, ...]:
        """Why the posterior must not be reported: the gate's reasons, and that nothing seizes or nothing is seen."""
        reasons = gate(self.parameters, self.sampler, fit=self.fit, checks=checks)
        if np.isfinite(onset).any(axis=1).mean() < 0.95:
            reasons = (*reasons, "no region recruits in the fitted model: what it explains is no seizure")
        if not (self.shrinkage >= SHRINKAGE_LIMIT).any():
            reasons = (*reasons, f"the recording identifies no region: shrinkage {self.shrinkage.max():.2f} at most")
        return reasons


def activities(inferred: Inferred, which: np.ndarray) -> Float[np.ndarray, "draw time region"]:
    """x of every region over the recording at some draws, chains end to end."""
    flat = {name: inferred.draws[name].reshape(-1, *inferred.draws[name].shape[2:])[which] for name in _STATE}
    eta, coupling, x, z = (jnp.asarray(flat[name]) for name in _STATE)
    return np.asarray(_activities(inferred.sides.observed, (eta, coupling, x, z)))


_STATE = ("eta", "K", "x0", "z0")


@jax.jit
def _activities(observed: ObservedSeizure, draws: tuple[Any, Any, Any, Any]) -> Any:
    def one(draw: tuple[Any, Any, Any, Any]) -> Any:
        eta, coupling, x, z = draw
        return activity(observed, eta, coupling, x, z, observed.values.shape[0])[0]

    return jax.lax.map(one, draws)


def _calibration(
    inferred: Inferred,
    gain: np.ndarray,
    feature: np.ndarray,
    sampling_period: float,
    seconds_per_unit: float,
    sensor_labels: tuple[str, ...],
    rng_seed: int,
    weights: np.ndarray,
) -> SeizureCalibration:
    regions = len(inferred.region_labels)
    total = inferred.sampled.energy.size
    which = np.unique(np.linspace(0, total - 1, min(_ONSET_DRAWS, total)).round().astype(int))
    onset = recruitment(activities(inferred, which), sampling_period)
    checks = residual_checks(inferred.residual, rng_seed)
    reasons = inferred.reasons(checks, onset)
    return SeizureCalibration(
        region_labels=inferred.region_labels,
        used_regions=np.arange(regions),
        draws=inferred.draws,
        priors=dict(PRIORS),
        parameters=inferred.parameters,
        sampler=inferred.sampler,
        verdict="unsound" if reasons else "sound",
        reasons=reasons,
        warnings=warnings_of(inferred.sampler, checks),
        checks=checks,
        onset=onset,
        onset_draws=tuple(int(draw) for draw in which),
        fitted=feature - inferred.units.scale * inferred.residual,
        observed=feature,
        time=sampling_period * np.arange(len(feature)),
        sensor_labels=sensor_labels,
        gain=gain,
        shrinkage=inferred.shrinkage,
        seconds_per_unit=seconds_per_unit,
        fit=inferred.fit,
        manifest=record(
            "vbt.inference.calibrate_seizure",
            inputs={"weights": weights, "gain": gain, "feature": feature},
            outputs={"eta": inferred.draws["eta"]},
            parameters={
                "sampling_period": sampling_period,
                "seconds_per_unit": seconds_per_unit,
                "sampler": "NumPyro NUTS",
                "warmup_and_draws": list(inferred.sampled.energy.shape),
            },
            seeds=(rng_seed,),
            dt=float(inferred.sides.observed.dt),
            precision="double",
            batch_shape=(CHAINS,),
        ),
    )
