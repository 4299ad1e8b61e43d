"""Calibrating the resting-state twin: a patient's connectome and BOLD in, a checked posterior out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from vbt.connectome import Connectome
from vbt.errors import Rejected
from vbt.inference._bands import EDGES, BandSpectra, band_spectra
from vbt.inference._calibration import Calibration, PredictiveCheck
from vbt.inference._checkpoint import Checkpoint
from vbt.inference._gate import (
    ParameterDiagnostics,
    SamplerDiagnostics,
    diagnose,
    diagnose_sampler,
    gate,
    warnings_of,
)
from vbt.inference._linear_network import PRIORS, Observed, resting_state
from vbt.inference._nuts import CHAINS, Draws, Mode, Posterior
from vbt.simulation import effective_weights, homotopic_pairs, one_blas_thread, record, static_covariance

WARMUP = 125
DRAWS = 300
ROUNDS = 4  # chains run on, up to this many times DRAWS, where the gate is not passed yet
_STARTS = 4
_REPLICATES = 100
_BRAINSTEM = "brainstem"
_OF_THE_NETWORK = ("g", "p", "h")
_OF_MEASURING = ("w0", "k", "b", "r", "m")
_NEIGHBOURS_MM = 9.0
_SCALARS = (*_OF_THE_NETWORK, "u", "n", *_OF_MEASURING)


@dataclass(frozen=True, kw_only=True)
class RestingStateCalibration(Calibration):
    """Posterior of the resting-state linear network for one patient; band powers are ``c[0]``, ``c[1]``, …

    Parameters
    ----------
    empirical_fc, fitted_fc : correlation within .01 to .1 Hz, measured and at the posterior median
    fit : Pearson r of the two over region pairs
    baselines : the same r for trivial predictors that know no dynamics
    noise_ceiling : median r between the fitted FC and recordings of this length that the model itself would give
    split_half_z : difference of logit g between the halves of the recording in standard errors; NaN where too short
    bold_sd : percent; standard deviation within the bands of the median region
    band_edges : Hz; ``band_counts`` Fourier bins per band
    """

    sampler: SamplerDiagnostics
    repetition_time: float
    empirical_fc: Float[np.ndarray, "used used"]
    fitted_fc: Float[np.ndarray, "used used"]
    fit: float
    baselines: Mapping[str, float]
    noise_ceiling: float
    split_half_z: float
    bold_sd: float
    band_edges: tuple[float, ...]
    band_counts: tuple[int, ...]


@one_blas_thread
def calibrate_resting_state(
    connectome: Connectome,
    bold: Float[np.ndarray, "time region"],
    repetition_time: float,
    *,
    rng_seed: int,
    progress: Callable[[str, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
    warmup: int = WARMUP,
    draws: int = DRAWS,
    rounds: int = ROUNDS,
) -> RestingStateCalibration:
    """Fit the linear network to the patient's own resting BOLD.

    Slow fluctuations obey x ∝ (I − gW)⁻¹ ξ, W made of the streamline weights to the power p and a homotopic weight h.
    Inferred: g, p, h, the variance u of a signal shared by all regions, observation noise n, one power per frequency
    band and one gain per region, and of tractography's errors (`coupling_at`) the weight w0 at which a connection is as
    likely real as not and the steepness k there. The exponent b by which tractography distorts weights and the run's
    own departure r of logit g have priors, and widen p and g; m is how much of its neighbours a region's signal shows.
    The feature is the cross-spectrum averaged over bands between .01 and .1 Hz.

    Parameters
    ----------
    bold : one column per region of the connectome; a region without signal is constant or NaN
    repetition_time : s
    progress : called with a message and the fraction done
    checkpoint : where the chains are kept while they run
    warmup, draws, rounds : per chain; the chains run on for another round of ``draws`` until the gate is passed

    Raises
    ------
    Rejected
        where the recording cannot inform the model, naming the rule and the value.
    """
    tell = progress or (lambda _message, _fraction: None)
    used = used_regions(connectome, bold)
    index = np.flatnonzero(used)
    labels = tuple(connectome.region_labels[i] for i in index)
    weights = connectome.weights[np.ix_(index, index)]
    nearness = nearness_of(connectome.centres[index])
    tell("cross-spectra", 0.0)
    spectra = band_spectra(bold[:, index], repetition_time)
    # float64 for this computation only: the switch is thread-local and ends with the block.
    with jax.enable_x64(True):
        observed = observe(weights, labels, nearness, spectra)
        posterior = _posterior(len(index), len(spectra.counts))
        tell("finding the mode", 0.02)
        mode = posterior.mode(observed, starts=_STARTS, rng_seed=rng_seed)
        if progress is None:
            heard = None
        else:

            def heard(phase: str, fraction: float, divergences: int) -> None:
                tell(f"{phase}, {divergences} divergent", 0.05 + 0.9 * fraction)

        fitted = functools.partial(_Fit, connectome, weights, labels, nearness, spectra, observed, posterior)
        sampled = posterior.sample(
            observed,
            mode,
            warmup=warmup,
            draws=draws,
            rng_seed=rng_seed,
            enough=lambda so_far: not fitted(so_far).reasons,
            rounds=rounds,
            progress=heard,
            checkpoint=checkpoint,
        )
        fit = fitted(sampled)
        tell("checking the fit", 0.95)
        halves = _split_half_z(fit, bold[:, index], repetition_time, rng_seed)
        calibration = _calibration(fit, index, repetition_time, halves, rng_seed, bold)
    tell("calibrated", 1.0)
    return calibration


def used_regions(connectome: Connectome, bold: Float[np.ndarray, "time region"]) -> Bool[np.ndarray, " region"]:
    """Cortical and subcortical regions with a connection and a BOLD signal; the brainstem is left out."""
    if bold.ndim != 2 or bold.shape[1] != len(connectome.region_labels):
        raise Rejected(
            "bold-not-on-the-parcellation",
            rule="BOLD has one column per region of the connectome",
            got=f"shape {bold.shape} for {len(connectome.region_labels)} regions",
            action="extract regional BOLD with the connectome's own parcellation",
        )
    strength = connectome.weights.sum(axis=0) + connectome.weights.sum(axis=1)
    finite = np.isfinite(bold).all(axis=0)
    varies = finite & (np.ptp(np.where(finite, bold, 0.0), axis=0) > 0)
    named = np.array([_BRAINSTEM not in label.lower().replace("-", "") for label in connectome.region_labels])
    return np.asarray(named & varies & (strength > 0))


def nearness_of(centres: Float[np.ndarray, "region 3"]) -> Float[np.ndarray, "region region"]:
    """exp(−distance/9 mm) between regions, 0 on the diagonal: how neighbours' signals mix on digital patients."""
    near = np.exp(-np.linalg.norm(centres[:, None] - centres[None], axis=-1) / _NEIGHBOURS_MM)
    np.fill_diagonal(near, 0.0)
    return np.asarray(near)


def observe(
    weights: np.ndarray, region_labels: tuple[str, ...], nearness: np.ndarray, spectra: BandSpectra
) -> Observed:
    """The connectome and cross-spectra as the model's data."""
    relative = _relative(weights)
    connected = relative > 0.0
    arrays = (
        np.log(np.where(connected, relative, 1.0)),
        connected,
        homotopic_pairs(region_labels),
        nearness,
        spectra.spectra,
        spectra.counts,
    )
    return Observed(*(jnp.asarray(array, dtype=float) for array in arrays))


@functools.lru_cache(maxsize=4)
def _posterior(regions: int, bands: int) -> Posterior:
    """The compiled model for a number of regions and bands."""
    square = jnp.eye(regions)
    shapes = Observed(square, square, square, square, jnp.stack([square] * bands), jnp.ones(bands))
    return Posterior(resting_state, shapes)


@dataclass(frozen=True)
class _Fit:
    connectome: Connectome
    weights: np.ndarray
    labels: tuple[str, ...]
    nearness: np.ndarray
    spectra: BandSpectra
    observed: Observed
    posterior: Posterior
    sampled: Draws

    @functools.cached_property
    def constrained(self) -> dict[str, np.ndarray]:
        """Draws by name, ``(chain, draw, …)``."""
        chains, count, dimension = self.sampled.unconstrained.shape
        flat = self.posterior.constrained(self.sampled.unconstrained.reshape(-1, dimension), self.observed)
        return {name: value.reshape(chains, count, *value.shape[1:]) for name, value in flat.items()}

    @functools.cached_property
    def standard(self) -> dict[str, np.ndarray]:
        """The same draws as standard-normal quantiles of their priors."""
        chains, count, dimension = self.sampled.unconstrained.shape
        split = self.posterior.split(self.sampled.unconstrained.reshape(-1, dimension))
        by_name = {name.removesuffix("_normal"): value for name, value in split.items()}
        return {name: value.reshape(chains, count, *value.shape[1:]) for name, value in by_name.items()}

    @functools.cached_property
    def scalars(self) -> dict[str, np.ndarray]:
        """Draws of every parameter but the regional gains, ``(chain, draw)``."""
        return _scalars(self.constrained)

    @functools.cached_property
    def parameters(self) -> tuple[ParameterDiagnostics, ...]:
        standard = _scalars(self.standard)
        return tuple(
            diagnose(name, values, standard[name], nuisance=name not in _OF_THE_NETWORK)
            for name, values in self.scalars.items()
        )

    @functools.cached_property
    def sampler(self) -> SamplerDiagnostics:
        return diagnose_sampler(self.sampled)

    @functools.cached_property
    def reasons(self) -> tuple[str, ...]:
        # The many regional gains are not gated one by one; if they did not mix, the density of the whole shows it.
        density = diagnose("posterior density", self.sampled.density, self.standard["g"], nuisance=True)
        return gate((*self.parameters, density), self.sampler)


def _scalars(by_name: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    bands = {f"c[{band}]": by_name["c"][..., band] for band in range(by_name["c"].shape[-1])}
    return {**{name: by_name[name] for name in _SCALARS}, **bands}


def coupling_at(
    weights: Float[np.ndarray, "region region"], region_labels: tuple[str, ...], value: Mapping[str, Any]
) -> Float[np.ndarray, "region region"]:
    """The symmetric coupling W that a measured connectome gives at one posterior draw, its largest eigenvalue 1.

    With w a connection's weight in units of the median one, the connection is real with probability 1/(1 + (w/w0)^−k)
    and its true weight is w^{1/b}; the rest is `vbt.simulation.effective_weights` with p and h.
    """
    relative = _relative(weights)
    p, h, w0, k, b = (float(value[name]) for name in ("p", "h", "w0", "k", "b"))
    presence = relative**k / (relative**k + w0**k)
    return effective_weights(relative ** (1.0 / b), region_labels, p, h, presence=presence)


def _relative(weights: np.ndarray) -> np.ndarray:
    """Symmetrised weights in units of the median connection."""
    symmetric = 0.5 * (weights + weights.T)
    return np.asarray(symmetric / np.median(symmetric[symmetric > 0.0]))


def model_correlation(
    weights: np.ndarray, labels: tuple[str, ...], nearness: np.ndarray, value: Mapping[str, Any]
) -> np.ndarray:
    """Correlation of slow fluctuations at one posterior draw; the NumPy twin of the model's own."""
    coupled = coupling_at(weights, labels, value)
    run = scipy.special.expit(scipy.special.logit(float(value["g"])) + float(value["r"]))
    mixing = np.eye(len(labels)) + float(value["m"]) * nearness
    covariance = mixing @ (static_covariance(coupled, run) + float(value["u"]) / len(labels)) @ mixing.T
    return _correlation(covariance)


def _correlation(covariance: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(deviation, deviation))


def _pairs(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])


def _r(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(_pairs(first), _pairs(second))[0, 1])


def _calibration(
    fit: _Fit, index: np.ndarray, repetition_time: float, halves: float, rng_seed: int, bold: np.ndarray
) -> RestingStateCalibration:
    draws, parameters, reasons = fit.scalars, fit.parameters, fit.reasons
    if not parameters[0].identifiable:
        reasons = (*reasons, f"the recording does not identify g: shrinkage {parameters[0].shrinkage:.2f}")
    medians = {name: np.median(value, axis=(0, 1)) for name, value in fit.constrained.items()}
    modelled = model_correlation(fit.weights, fit.labels, fit.nearness, medians)
    fitted = _correlation(modelled + float(medians["n"]) * np.eye(len(fit.labels)))
    empirical = _correlation(fit.spectra.correlation)
    checks, ceiling = _predictive_checks(fit, empirical, fitted, rng_seed)
    symmetric = 0.5 * (fit.weights + fit.weights.T)
    return RestingStateCalibration(
        region_labels=fit.labels,
        used_regions=index,
        repetition_time=repetition_time,
        draws=draws,
        priors={name: (prior.family, *prior.arguments) for name, prior in PRIORS.items()},
        parameters=parameters,
        sampler=fit.sampler,
        verdict="unsound" if reasons else "sound",
        reasons=reasons,
        warnings=warnings_of(fit.sampler),
        empirical_fc=empirical,
        fitted_fc=fitted,
        fit=_r(empirical, fitted),
        baselines={"SC": _r(empirical, symmetric), "SC^0.25": _r(empirical, symmetric**0.25)},
        noise_ceiling=ceiling,
        checks=checks,
        split_half_z=halves,
        bold_sd=float(np.median(fit.spectra.scale)),
        band_edges=fit.spectra.edges,
        band_counts=tuple(int(count) for count in fit.spectra.counts),
        manifest=record(
            "vbt.inference.calibrate_resting_state",
            inputs={"weights": fit.connectome.weights, "bold": bold},
            outputs={"draws": np.stack(list(draws.values()))},
            parameters={
                "repetition_time": repetition_time,
                "sampler": "NumPyro NUTS",
                "warmup_and_draws": list(fit.sampled.energy.shape),
            },
            seeds=(rng_seed,),
            dt=None,
            precision="double",
            batch_shape=(CHAINS,),
        ),
    )


def _predictive_checks(
    fit: _Fit, empirical: np.ndarray, fitted: np.ndarray, rng_seed: int
) -> tuple[tuple[PredictiveCheck, ...], float]:
    """FC of recordings replicated from posterior draws against the FC that was measured."""
    rng = np.random.default_rng(rng_seed)
    total = fit.constrained["g"].size
    observed = {
        "mean FC": _pairs(empirical).mean(),
        "spread of FC": _pairs(empirical).std(),
        "fit r": _r(empirical, fitted),
    }
    replicated: dict[str, list[float]] = {name: [] for name in observed}
    for draw in rng.choice(total, size=min(_REPLICATES, total), replace=False):
        fc = _replicate(fit, int(draw), rng)
        replicated["mean FC"].append(_pairs(fc).mean())
        replicated["spread of FC"].append(_pairs(fc).std())
        replicated["fit r"].append(_r(fc, fitted))
    checks = tuple(
        PredictiveCheck(
            name=name,
            observed=float(value),
            replicated=float(np.median(replicated[name])),
            p_value=float((np.array(replicated[name]) > value).mean()),
        )
        for name, value in observed.items()
    )
    return checks, float(np.median(replicated["fit r"]))


def _replicate(fit: _Fit, draw: int, rng: np.random.Generator) -> np.ndarray:
    """FC of one recording with the bins of the measured one, bands weighted as fitted."""
    value = {name: array.reshape(-1, *array.shape[2:])[draw] for name, array in fit.constrained.items()}
    correlation = model_correlation(fit.weights, fit.labels, fit.nearness, value)
    counts = fit.spectra.counts
    noise = value["n"] * (counts * value["c"]).sum() / counts.sum()
    regions = len(fit.labels)
    total = np.zeros((regions, regions))
    for power, count in zip(value["c"], counts, strict=True):
        factor = np.linalg.cholesky(power * correlation + noise * np.eye(regions))
        normal = rng.normal(size=(2, count, regions)) @ factor.T
        total += np.einsum("kfi,kfj->ij", normal, normal)
    return _correlation(total)


def _split_half_z(fit: _Fit, bold: np.ndarray, repetition_time: float, rng_seed: int) -> float:
    """Do the halves of the recording agree on g? By Laplace approximation, on the scale where the prior is normal."""
    half = len(bold) // 2
    try:
        pieces = [band_spectra(part, repetition_time) for part in (bold[:half], bold[half : 2 * half])]
    except Rejected:
        return float("nan")
    if any(len(piece.counts) != len(EDGES) - 1 for piece in pieces) or len(fit.spectra.counts) != len(EDGES) - 1:
        return float("nan")
    location, variance = [], []
    for piece in pieces:
        observed = observe(fit.weights, fit.labels, fit.nearness, piece)
        mode: Mode = fit.posterior.mode(observed, starts=2, rng_seed=rng_seed)
        location.append(float(fit.posterior.split(mode.location[None])["g_normal"][0]))
        variance.append(float(fit.posterior.split(np.diag(mode.covariance)[None])["g_normal"][0]))
    return float((location[0] - location[1]) / np.sqrt(sum(variance)))
