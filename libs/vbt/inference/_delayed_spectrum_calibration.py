"""Calibrating conduction: a connectome, its lesions and a resting recording in, a checked posterior of velocity out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from vbt.errors import Unsound
from vbt.inference._calibration import Calibration
from vbt.inference._checkpoint import Checkpoint
from vbt.inference._delayed_spectrum_bands import narrow_bands
from vbt.inference._delayed_spectrum_checks import STATISTIC, Fit, fit_at
from vbt.inference._delayed_spectrum_connectome_error import (
    LARGEST_ERROR,
    NEEDED_ERROR,
    ConnectomeError,
    connectome_error,
    widened,
)
from vbt.inference._delayed_spectrum_fit import (
    SPECTRAL_PRIORS,
    START_VELOCITIES,
    NutsSettings,
    Sampled,
    Search,
    as_coordinates,
    example,
    sample,
    search,
)
from vbt.inference._delayed_spectrum_inputs import LikelihoodName, check_sensors, checked_lesions, exact_likelihood
from vbt.inference._delayed_spectrum_likelihood import COORDINATES
from vbt.inference._delayed_spectrum_surrogate import DEGREES, EFFICIENCY_LIMIT, PARETO_K_LIMIT, Fidelity
from vbt.inference._gate import (
    DIVERGENCE_LIMIT,
    FitDiagnostics,
    ParameterDiagnostics,
    SamplerDiagnostics,
    diagnose,
    diagnose_sampler,
    gate,
    warnings_of,
)
from vbt.inference._nuts import Draws, Posterior
from vbt.simulation import digest, one_blas_thread, record

WARMUP = 150
DRAWS = 500
_SHORT = 50
ROUNDS = 3  # chains run on, up to this many times DRAWS, where the gate is not passed yet
NO_CHAINS = SamplerDiagnostics(divergences=0, draws=1, e_bfmi=1.0, saturated=0.0)
_NUISANCES = ("decay", "noise")
_OF_THE_CONNECTOME = (
    "velocity is absolute only as far as the connectome is: its interval allows for such errors of weights as the "
    "residuals show, not for others; under the same connectome compare recordings instead"
)


@dataclass(frozen=True, kw_only=True)
class SpectralCalibration(Calibration):
    """Posterior of the delayed Stuart-Landau network for one patient.

    ``draws``: ``velocity`` v m/s, ``coupling`` G per s (of `strength_scaled` weights), ``frequency`` ω₀/2π Hz,
    ``decay`` per s, ``noise`` as a ratio to the mean channel power of a reference network, and, only where tracts have
    lesions, ``gamma`` ≥ 0 by its prior: a tract all of whose streamlines cross a lesion has its delay times 1 + γ.

    Parameters
    ----------
    likelihood : ``"cross-spectrum"``, or ``"power"`` of each channel as if channels were independent
    frequencies : Hz, centres of the bands; ``counts`` the Fourier bins in each
    observed, fitted : power of every channel, the same unit squared per Hz; for cross-spectra seen through a gain that
        has fewer independent sensors than sensors, of those combinations
    search_velocities : m/s, where the search from each starting velocity ended
    fit : ``chi_square`` is not a mean square but the largest of the residual checks' figures in units of what chance
        exceeds once in 1000 recordings; where that is above its limit, ``connectome_error`` over the largest one
        admitted, as its ``label`` says
    connectome_error : spread of the errors of log weights that explain the residuals' excess over chance, for which
        the posterior was widened; 0 where there is none
    fidelity : how well the draws stand for the exact likelihood's
    connectome : digest of weights and tract lengths, for `spectral_difference`
    """

    likelihood: LikelihoodName
    frequencies: Float[np.ndarray, " band"]
    counts: Float[np.ndarray, " band"]
    observed: Float[np.ndarray, "band channel"]
    fitted: Float[np.ndarray, "band channel"]
    search_velocities: tuple[float, ...]
    fit: FitDiagnostics
    fidelity: Fidelity
    connectome_error: float
    connectome: str
    sampling_rate: float
    seconds: float

    @property
    def has_lesions(self) -> bool:
        return "gamma" in self.draws


@one_blas_thread
def calibrate_delayed_spectrum(
    weights: Float[np.ndarray, "region region"],
    tract_lengths: Float[np.ndarray, "region region"],
    signals: Float[np.ndarray, "time channel"],
    sampling_rate: float,
    *,
    region_labels: tuple[str, ...],
    rng_seed: int,
    gain: Float[np.ndarray, "channel region"] | None = None,
    lesion_fraction: Float[np.ndarray, "region region"] | None = None,
    likelihood: LikelihoodName = "cross-spectrum",
    progress: Callable[[str, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
    warmup: int = WARMUP,
    draws: int = DRAWS,
    rounds: int = ROUNDS,
) -> SpectralCalibration:
    """Fit conduction velocity, coupling, natural frequency and lesion delay to a resting recording's cross-spectra.

    The expected spectrum is `delayed_spectrum` with one amplitude, integrated out, and white noise. The likelihood is
    Whittle's of the cross-spectra in 40 bands of .5 Hz between 2 and 41 Hz. Where its residuals are larger than chance
    it is widened by what errors of the connectome that explain them do to its mode. NUTS runs on a polynomial surrogate
    of it, whose draws are compared with the exact likelihood.

    Parameters
    ----------
    weights, tract_lengths : ``[target, source]``; lengths in mm
    signals : one column per region, or with a ``gain`` one per sensor; the raw recording, not filtered between 1 and
        42 Hz
    sampling_rate : Hz
    gain : what a unit of each region's activity gives at each sensor; its unit does not matter
    lesion_fraction : of every tract the fraction of streamlines that cross a lesion, 0 to 1; None or all 0 leaves gamma
        out
    progress : called with a message and the fraction done; an exception from it stops the calibration
    checkpoint : where searched nodes and chains are kept while they run

    Raises
    ------
    Rejected
        where recording or connectome cannot inform the model, naming the rule and the value.
    ValueError
        where shapes do not fit together.
    """
    tell = progress or (lambda _message, _fraction: None)
    lesions = checked_lesions(weights, tract_lengths, region_labels, lesion_fraction)
    check_sensors(signals, gain, len(region_labels))
    tell("cross-spectra", 0.0)
    bands = narrow_bands(signals, sampling_rate)
    exact, unit = exact_likelihood(weights, tract_lengths, lesions, gain, bands, likelihood)
    found = search(exact, tell=lambda message, fraction: tell(message, 0.2 * fraction))
    fit = fit_at(exact, found.mode, rng_seed)
    error = None
    if not _diagnostics(fit, found, None).explained:
        error = connectome_error(
            exact, found, fit, rng_seed, tell=lambda message, part: tell(message, 0.2 + 0.1 * part)
        )
        if error.admitted:
            found = widened(exact.names, found, error)
    # A recording that the best fit does not explain is refused whatever the chains do: short ones show what it is like.
    refused = bool(gate((), NO_CHAINS, fit=_diagnostics(fit, found, error)))

    def enough(posterior: Posterior, so_far: Draws) -> bool:
        hopeless = so_far.diverging.sum() > DIVERGENCE_LIMIT * rounds * draws * len(so_far.diverging)
        return bool(hopeless) or not gate(_parameters(posterior, so_far), diagnose_sampler(so_far))

    settings = NutsSettings(
        warmup=min(warmup, _SHORT) if refused else warmup,
        draws=min(draws, 2 * _SHORT) if refused else draws,
        rounds=1 if refused else rounds,
        refits=1 if refused else len(DEGREES),
        rng_seed=rng_seed,
        enough=enough,
    )
    # float64 for this computation only: the switch is thread-local and ends with the block.
    with jax.enable_x64(True):
        sampled = sample(
            exact, found, settings, tell=lambda message, part: tell(message, 0.3 + 0.67 * part), checkpoint=checkpoint
        )
        named, parameters = _named(sampled.posterior, sampled.draws), _parameters(sampled.posterior, sampled.draws)
    tell("checking the fit", 0.97)
    medians = {name: np.atleast_1d(np.median(value)) for name, value in named.items()}
    if error is None:
        fit = fit_at(exact, as_coordinates(medians, exact.names)[0], rng_seed)
    diagnostics = _diagnostics(fit, found, error)
    reasons = gate((), NO_CHAINS, fit=diagnostics) if refused else _reasons(parameters, sampled, diagnostics)
    inputs = {"weights": weights, "tract_lengths": tract_lengths, "signals": signals}
    optional = {"gain": gain, "lesion_fraction": lesion_fraction}
    calibration = SpectralCalibration(
        region_labels=tuple(region_labels),
        used_regions=np.arange(len(region_labels)),
        draws=named,
        priors={name: (SPECTRAL_PRIORS[name].family, *SPECTRAL_PRIORS[name].arguments) for name in exact.names},
        parameters=parameters,
        sampler=diagnose_sampler(sampled.draws),
        verdict="unsound" if reasons else "sound",
        reasons=reasons,
        warnings=_warnings(parameters, sampled, fit, error, lesion_fraction is not None),
        checks=fit.checks,
        likelihood=likelihood,
        frequencies=bands.frequencies,
        counts=bands.counts,
        observed=unit * np.diagonal(exact.spectra, axis1=1, axis2=2).real,
        fitted=unit * np.diagonal(fit.fitted, axis1=1, axis2=2).real,
        search_velocities=tuple(float(np.exp(end[0])) for end in found.found),
        fit=diagnostics,
        fidelity=sampled.fidelity,
        connectome_error=0.0 if error is None else error.spread,
        connectome=digest(np.stack([weights, tract_lengths]).astype(float)),
        sampling_rate=float(sampling_rate),
        seconds=len(signals) / sampling_rate,
        manifest=record(
            "vbt.inference.calibrate_delayed_spectrum",
            inputs={**inputs, **{name: array for name, array in optional.items() if array is not None}},
            outputs={"draws": np.stack(list(named.values()))},
            parameters={
                "likelihood": likelihood,
                "sampling_rate": float(sampling_rate),
                "warmup": warmup,
                "draws": draws,
                "rounds": rounds,
            },
            seeds=(rng_seed,),
            dt=None,
            precision="double",
            batch_shape=sampled.draws.density.shape,
        ),
    )
    tell("calibrated", 1.0)
    return calibration


def spectral_difference(
    name: str, later: SpectralCalibration, earlier: SpectralCalibration
) -> tuple[float, float, float, float]:
    """How a parameter differs between two recordings under one connectome: median, 90 % interval, and P(lower later).

    The draws of two recordings are independent, so any pairing of them is a draw of the difference. Both fits share
    the connectome's errors, which move both values alike and largely leave the difference; intervals that were widened
    for them make that of the difference too wide.

    Raises
    ------
    Unsound
        where one of the two calibrations is.
    ValueError
        where they do not share the connectome.
    """
    if later.connectome != earlier.connectome:
        raise ValueError("a difference is taken between recordings under the same connectome")
    for calibration in (later, earlier):
        if not calibration.sound:
            raise Unsound(
                "spectral-difference-of-an-unsound-fit",
                rule="both calibrations of a difference are sound",
                got=calibration.reasons[0],
                action="record again, or compare other recordings",
            )
    first, second = (np.asarray(calibration.draws[name]).reshape(-1) for calibration in (later, earlier))
    count = min(first.size, second.size)
    shuffled = np.random.default_rng(0).permutation(second)[:count]
    change = first[:count] - shuffled
    low, median, high = np.quantile(change, [0.05, 0.5, 0.95])
    return float(median), float(low), float(high), float((change < 0).mean())


def _diagnostics(fit: Fit, found: Search, error: ConnectomeError | None) -> FitDiagnostics:
    return FitDiagnostics(
        chi_square=fit.chi_square if error is None else error.spread / LARGEST_ERROR,
        starts_agreeing=found.starts_agreeing,
        starts=len(START_VELOCITIES),
        label=STATISTIC if error is None else NEEDED_ERROR,
    )


def _named(posterior: Posterior, draws: Draws) -> dict[str, np.ndarray]:
    """Draws by parameter, ``(chain, draw)``."""
    chains, count, dimension = draws.unconstrained.shape
    flat = posterior.constrained(draws.unconstrained.reshape(-1, dimension), example(dimension))
    return {name: flat[name].reshape(chains, count) for name in COORDINATES[:dimension]}


def _parameters(posterior: Posterior, draws: Draws) -> tuple[ParameterDiagnostics, ...]:
    chains, count, dimension = draws.unconstrained.shape
    standard = posterior.split(draws.unconstrained.reshape(-1, dimension))
    return tuple(
        diagnose(name, value, standard[f"{name}_normal"].reshape(chains, count), nuisance=name in _NUISANCES)
        for name, value in _named(posterior, draws).items()
    )


def _reasons(parameters: tuple[ParameterDiagnostics, ...], sampled: Sampled, fit: FitDiagnostics) -> tuple[str, ...]:
    reasons = list(gate(parameters, diagnose_sampler(sampled.draws), fit=fit))
    velocity = parameters[0]
    if not velocity.identifiable:
        reasons.append(f"the recording does not identify velocity: shrinkage {velocity.shrinkage:.2f}")
    agreement = sampled.fidelity
    if not agreement.good:
        reasons.append(
            f"draws do not stand for the exact likelihood: efficiency {agreement.efficiency:.2f}, limit "
            f"{EFFICIENCY_LIMIT}, Pareto k {agreement.pareto_k:.2f}, limit {PARETO_K_LIMIT}"
        )
    return tuple(reasons)


def _warnings(
    parameters: tuple[ParameterDiagnostics, ...],
    sampled: Sampled,
    fit: Fit,
    error: ConnectomeError | None,
    lesions: bool,
) -> tuple[str, ...]:
    warnings = [_OF_THE_CONNECTOME, *warnings_of(diagnose_sampler(sampled.draws), fit.checks)]
    if error is not None and error.admitted:
        warnings.append(
            f"the connectome explains the recording only with errors of its weights by {error.spread:.2f} of their "
            "natural logarithm; every interval was widened by what such errors do to the fit"
        )
    unseen = [p for p in parameters[1:] if not p.identifiable and not p.nuisance]
    warnings += [f"the recording does not identify {p.name}: shrinkage {p.shrinkage:.2f}" for p in unseen]
    if lesions and "gamma" not in {p.name for p in parameters}:
        warnings.append("no connection meets a lesion: there is no lesion delay to infer")
    return tuple(warnings)
