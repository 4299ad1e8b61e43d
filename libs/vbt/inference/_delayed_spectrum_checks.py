"""Does the fitted spectrum explain the recording: whitened by it, Fourier bins must look like independent noise.

M_b = (sR_b)^{−1/2} P_b (sR_b)^{−1/2} is then the sample covariance of K_b independent unit vectors. Three figures, each
1 in the mean where the model holds: the squared departure from 1 of the power in each band over channels, of each
channel over bands, and of the off-diagonal entries from 0, in units of what K_b bins leave to chance. Recordings drawn
from the fit say how far chance alone takes each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Complex, Float

from vbt.inference._delayed_spectrum_likelihood import SpectralLikelihood
from vbt.inference._gate import PredictiveCheck

REPLICATES = 100
STATISTIC = "largest residual statistic over its 99.9 % point"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Expected spectra at one point, amplitude included, and what is left of the recording.

    ``chi_square`` is `STATISTIC`: the largest of the figures in units of what chance exceeds once in 1000 recordings;
    ``deviations`` the figures' standard deviations by chance.
    """

    fitted: Complex[np.ndarray, "band channel channel"]
    residuals: Complex[np.ndarray, "band channel channel"]
    checks: tuple[PredictiveCheck, ...]
    chi_square: float
    deviations: dict[str, float]


def fit_at(likelihood: SpectralLikelihood, x: Float[np.ndarray, " dimension"], rng_seed: int) -> Fit:
    """Residuals of the recording at one point, and the checks on them."""
    fitted, inverses, residuals = _residuals(likelihood, x)
    # Without cross-spectra the channels' residuals stay correlated as the model says; replicates must be so too.
    factors = None if likelihood.cross else inverses @ np.linalg.cholesky(fitted)
    observed = _figures(residuals, likelihood.counts, likelihood.cross)
    rng = np.random.default_rng(rng_seed)
    replicated = [
        _figures(_replicate(residuals.shape, likelihood.counts, factors, rng), likelihood.counts, likelihood.cross)
        for _ in range(REPLICATES)
    ]
    checks, ratios = [], []
    for name, value in observed.items():
        others = np.array([figures[name] for figures in replicated])
        checks.append(
            PredictiveCheck(
                name=name,
                observed=value,
                replicated=float(np.median(others)),
                p_value=float((others > value).mean()),
                plug_in=True,
            )
        )
        ratios.append(value / _rarely_exceeded(others))
    return Fit(
        fitted=fitted,
        residuals=residuals,
        checks=tuple(checks),
        chi_square=max(ratios),
        deviations={name: float(np.std([figures[name] for figures in replicated])) for name in observed},
    )


def figures_at(likelihood: SpectralLikelihood, x: Float[np.ndarray, " dimension"]) -> dict[str, float]:
    """The checks' figures alone."""
    return _figures(_residuals(likelihood, x)[2], likelihood.counts, likelihood.cross)


def _residuals(likelihood: SpectralLikelihood, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected spectra, their inverse square roots, and the recording whitened by them."""
    fitted = likelihood.amplitude(x) * likelihood.modelled(x)
    inverses = _inverse_roots(fitted if likelihood.cross else _diagonal_of(fitted))
    return fitted, inverses, inverses @ likelihood.spectra @ inverses


def _rarely_exceeded(figures: np.ndarray) -> float:
    """The 99.9 % quantile of a scaled chi-square with the replicates' mean and variance (Satterthwaite)."""
    mean, variance = figures.mean(), figures.var(ddof=1)
    return float(scipy.stats.gamma.ppf(0.999, mean**2 / variance, scale=variance / mean))


def _figures(residuals: np.ndarray, counts: np.ndarray, cross: bool) -> dict[str, float]:
    channels = residuals.shape[-1]
    power = np.diagonal(residuals, axis1=1, axis2=2).real
    by_band = counts * channels * (power.mean(axis=1) - 1.0) ** 2
    by_channel = counts.sum() * ((counts @ power) / counts.sum() - 1.0) ** 2
    figures = {"power by frequency": float(by_band.mean()), "power by channel": float(by_channel.mean())}
    if cross:
        off = (np.abs(residuals) ** 2).sum(axis=(1, 2)) - (power**2).sum(axis=1)
        figures["coherence"] = float((counts * off).mean() / (channels * (channels - 1)))
    return figures


def _replicate(
    shape: tuple[int, ...], counts: np.ndarray, factors: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    bands = []
    for band, count in enumerate(counts.astype(int)):
        white = rng.normal(scale=np.sqrt(0.5), size=(2, shape[1], count))
        bins = white[0] + 1j * white[1]
        if factors is not None:
            bins = factors[band] @ bins
        bands.append(bins @ bins.conj().T / count)
    return np.stack(bands)


def _diagonal_of(spectra: np.ndarray) -> np.ndarray:
    return np.asarray(spectra * np.eye(spectra.shape[-1]))


def _inverse_roots(spectra: np.ndarray) -> np.ndarray:
    """Inverse Hermitian square roots, which mix channels least."""
    values, vectors = np.linalg.eigh(spectra)
    return np.asarray((vectors / np.sqrt(values)[:, None, :]) @ vectors.conj().swapaxes(1, 2))
