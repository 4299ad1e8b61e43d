"""The delayed network on a connectome small enough to be fitted hundreds of times, for simulation-based calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from vbt.inference._delayed_spectrum import DelayedNetwork, strength_scaled
from vbt.inference._delayed_spectrum_calibration import calibrate_delayed_spectrum
from vbt.inference._delayed_spectrum_fit import SPECTRAL_PRIORS
from vbt.inference._delayed_spectrum_inputs import LikelihoodName
from vbt.inference._delayed_spectrum_likelihood import COORDINATES, LOGARITHMIC, SpectralLikelihood
from vbt.inference._sbc import Refused, Simulated

SAMPLING_RATE = 128.0


def small_connectome(
    regions: int, rng_seed: int
) -> tuple[Float[np.ndarray, "region region"], Float[np.ndarray, "region region"], Float[np.ndarray, "region region"]]:
    """Weights, tract lengths (mm) and lesion fractions of a connectome with lesions on a third of its tracts."""
    rng = np.random.default_rng(rng_seed)
    places = rng.normal(size=(regions, 3)) * (25.0, 40.0, 25.0)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) * 1.3
    weights = np.triu(np.exp(-distances / 60.0) * rng.lognormal(sigma=0.7, size=distances.shape), 1)
    lesions = np.triu((rng.random(distances.shape) < 0.35) * rng.uniform(0.2, 0.8, distances.shape), 1)
    return weights + weights.T, distances, lesions + lesions.T


def draw_signals(
    likelihood: SpectralLikelihood,
    x: Float[np.ndarray, " dimension"],
    samples: int,
    sampling_rate: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "time channel"]:
    """A recording whose Fourier bins are independent with the model's spectrum, band by band.

    Within ± .5 Hz of a band's centre the spectrum is that at the centre, which is what the likelihood takes it for.
    """
    grid = np.fft.rfftfreq(samples, 1.0 / sampling_rate)
    expected = np.linalg.cholesky(likelihood.modelled(x))
    nearest = np.abs(grid[:, None] - likelihood.frequencies[None]).argmin(axis=1)
    white = rng.normal(scale=np.sqrt(0.5), size=(2, len(grid), likelihood.channels))
    bins = np.einsum("fij,fj->fi", expected[nearest], white[0] + 1j * white[1])
    return np.asarray(np.fft.irfft(bins * np.sqrt(samples * sampling_rate), n=samples, axis=0))


def prior_point(names: tuple[str, ...], rng: np.random.Generator) -> dict[str, float]:
    """Parameters drawn from their priors."""
    point = {}
    for name in names:
        prior = SPECTRAL_PRIORS[name]
        normal = rng.normal()
        point[name] = _of_normal(prior.family, prior.arguments, normal)
    return point


def _of_normal(family: str, arguments: tuple[float, float], normal: float) -> float:
    """A draw from a prior, of a standard normal one."""
    location, scale = arguments
    if family == "log-normal":
        return float(np.exp(location + scale * normal))
    return float(location + scale * normal) if family == "normal" else float(scale * abs(normal))


@dataclass(frozen=True, kw_only=True)
class DelayedSpectrumSbc:
    """`SbcModel` of the delayed network: truths from the prior, recordings with exactly the model's spectrum."""

    regions: int = 8
    seconds: float = 60.0
    likelihood: LikelihoodName = "cross-spectrum"
    connectome_seed: int = 0
    name: str = "delayed_spectrum"
    parameters: tuple[str, ...] = field(default=COORDINATES)

    def draw(self, rng: np.random.Generator) -> Simulated:
        weights, lengths, lesions = small_connectome(self.regions, self.connectome_seed)
        network = DelayedNetwork.of(strength_scaled(weights), lengths, lesions)
        frequencies = np.arange(2.0, 42.0)
        empty = np.zeros((len(frequencies), self.regions, self.regions), dtype=complex)
        exact = SpectralLikelihood(network, frequencies, np.ones(len(frequencies)), empty)
        truth = prior_point(exact.names, rng)
        x = np.array([np.log(truth[name]) if name in LOGARITHMIC else truth[name] for name in exact.names])
        return Simulated(
            truth=truth, recording=draw_signals(exact, x, int(self.seconds * SAMPLING_RATE), SAMPLING_RATE, rng)
        )

    def fit(self, recording: Float[np.ndarray, "time region"], *, rng_seed: int) -> Mapping[str, np.ndarray] | Refused:
        weights, lengths, lesions = small_connectome(self.regions, self.connectome_seed)
        calibration = calibrate_delayed_spectrum(
            weights,
            lengths,
            recording,
            SAMPLING_RATE,
            region_labels=tuple(f"area{i}" for i in range(self.regions)),
            lesion_fraction=lesions,
            likelihood=self.likelihood,
            rng_seed=rng_seed,
        )
        return calibration.draws if calibration.sound else Refused(reasons=calibration.reasons)
