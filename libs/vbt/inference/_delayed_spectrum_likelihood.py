"""How likely band-averaged cross-spectra are under the delayed network, its overall amplitude integrated out.

A band's K Fourier bins are independent complex Gaussian vectors with covariance s R, R the network's cross-spectrum
plus white noise of ratio n, s one amplitude for all bands and channels. Under the prior 1/s the amplitude integrates
out exactly: −log L = Σ_b K_b log det R_b + M log Σ_b K_b tr(R_b⁻¹ P_b), M = Σ_b K_b · channels. The fallback uses
each channel's power alone, as if channels were independent: det and trace of the diagonals.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Complex, Float

from vbt.inference._delayed_spectrum import DelayedNetwork, Point, Responses

COORDINATES = ("velocity", "coupling", "frequency", "decay", "noise", "gamma")
LOGARITHMIC = ("velocity", "coupling", "decay", "noise")
REFERENCE = Point(velocity=8.0, coupling=900.0, frequency=40.0, decay=5.0)


@dataclass(frozen=True)
class SpectralLikelihood:
    """The recording and the network that is to explain it; points are vectors of the first ``dimension`` coordinates.

    Coordinates are those of `COORDINATES`, the `LOGARITHMIC` ones as logarithms; without lesions gamma is left out.
    ``noise`` is measured in the mean power of a channel at `REFERENCE`.
    """

    network: DelayedNetwork
    frequencies: Float[np.ndarray, " band"]
    counts: Float[np.ndarray, " band"]
    spectra: Complex[np.ndarray, "band channel channel"]
    cross: bool = True
    workers: int = 1
    noise_unit: float = field(init=False)

    def __post_init__(self) -> None:
        reference = self.network.responses(REFERENCE, self.frequencies).spectra()
        object.__setattr__(self, "noise_unit", float(np.diagonal(reference, axis1=1, axis2=2).real.mean()))

    @property
    def names(self) -> tuple[str, ...]:
        return COORDINATES if self.network.lesion_fraction.any() else COORDINATES[:-1]

    @property
    def channels(self) -> int:
        return int(self.spectra.shape[-1])

    @property
    def degrees(self) -> float:
        """M, the number of complex ordinates."""
        return float(self.counts.sum()) * self.channels

    def thinned(self, every: int) -> SpectralLikelihood:
        """Every n-th band only, for a first look."""
        return self._of(slice(None, None, every))

    def below(self, highest: float) -> SpectralLikelihood:
        """The bands up to a frequency in Hz only."""
        return self._of(self.frequencies <= highest)

    def _of(self, kept: slice | np.ndarray) -> SpectralLikelihood:
        return replace(self, frequencies=self.frequencies[kept], counts=self.counts[kept], spectra=self.spectra[kept])

    def point(self, x: Float[np.ndarray, " dimension"]) -> tuple[Point, float]:
        """The network's parameters and the noise ratio at a vector of coordinates."""
        value = {name: float(v) for name, v in zip(self.names, x, strict=True)}
        value.update({name: float(np.exp(value[name])) for name in LOGARITHMIC})
        noise = value.pop("noise")
        return Point(**value), noise

    def modelled(self, x: Float[np.ndarray, " dimension"]) -> Complex[np.ndarray, "band channel channel"]:
        """R, the expected cross-spectrum up to the amplitude."""
        point, noise = self.point(x)
        floor = noise * self.noise_unit * np.eye(self.channels)
        return np.asarray(self.network.responses(point, self.frequencies).spectra() + floor)

    def value_and_gradient(self, x: Float[np.ndarray, " dimension"]) -> tuple[float, Float[np.ndarray, " dimension"]]:
        """−log L and its gradient, exact to rounding; (inf, 0) where the spectrum is not positive definite."""
        with ThreadPoolExecutor(self.workers) as pool:
            parts = list(pool.map(lambda chunk: self._part(x, chunk), self._chunks()))
            value, ratio = self._joined(parts)
            if not np.isfinite(value):
                return np.inf, np.zeros(len(self.names))
            gradients = list(pool.map(lambda part: part.gradient(ratio), parts))
        return value, np.sum([[by[name] for name in self.names] for by in gradients], axis=0)

    def value(self, x: Float[np.ndarray, " dimension"]) -> float:
        """−log L alone, at less than half the cost."""
        with ThreadPoolExecutor(self.workers) as pool:
            return self._joined(list(pool.map(lambda chunk: self._part(x, chunk), self._chunks())))[0]

    def amplitude(self, x: Float[np.ndarray, " dimension"]) -> float:
        """The most likely s."""
        return sum(self._part(x, chunk).trace for chunk in self._chunks()) / self.degrees

    def _chunks(self) -> list[np.ndarray]:
        # As many as there may be workers anywhere, so that sums round the same on every machine.
        return [part for part in np.array_split(np.arange(len(self.frequencies)), 4) if len(part)]

    def _joined(self, parts: list[_Part]) -> tuple[float, float]:
        """−log L, and M / Σ K tr(R⁻¹P)."""
        determinant, trace = sum(part.determinant for part in parts), sum(part.trace for part in parts)
        if not (np.isfinite(determinant) and trace > 0):
            return np.inf, 0.0
        return determinant + self.degrees * float(np.log(trace)), self.degrees / trace

    def _part(self, x: np.ndarray, chunk: np.ndarray) -> _Part:
        point, noise = self.point(x)
        responses = self.network.responses(point, self.frequencies[chunk])
        floor = noise * self.noise_unit
        expected = responses.spectra() + floor * np.eye(self.channels)
        part = _cross if self.cross else _power
        return part(responses, floor, expected, self.spectra[chunk], self.counts[chunk, None, None])


@dataclass(frozen=True)
class _Part:
    """Some bands' Σ K log det R and Σ K tr(R⁻¹P), and the two derivatives by R."""

    responses: Responses
    floor: float
    determinant: float
    trace: float
    by_determinant: Complex[np.ndarray, "band channel channel"]
    by_trace: Complex[np.ndarray, "band channel channel"]

    def gradient(self, ratio: float) -> dict[str, float]:
        """Of Σ K log det R + ratio · Σ K tr(R⁻¹P)."""
        cotangent = self.by_determinant + ratio * self.by_trace
        floor = self.floor * float(np.trace(cotangent, axis1=1, axis2=2).real.sum())
        return {**self.responses.pulled_back(cotangent), "noise": floor}


def _cross(responses: Responses, floor: float, expected: np.ndarray, observed: np.ndarray, counts: np.ndarray) -> _Part:
    sign, logarithm = np.linalg.slogdet(expected)
    if not (sign.real > 0.5).all():
        return _Part(responses, floor, np.inf, np.nan, expected, expected)
    inverse = np.linalg.inv(expected)
    whitened = inverse @ observed
    trace = float((counts[:, 0, 0] * np.trace(whitened, axis1=1, axis2=2).real).sum())
    return _Part(
        responses,
        floor,
        float((counts[:, 0, 0] * logarithm).sum()),
        trace,
        counts * inverse,
        -counts * (whitened @ inverse),
    )


def _power(responses: Responses, floor: float, expected: np.ndarray, observed: np.ndarray, counts: np.ndarray) -> _Part:
    power = np.diagonal(expected, axis1=1, axis2=2).real
    measured = np.diagonal(observed, axis1=1, axis2=2).real
    eye, weight = np.eye(power.shape[1]), counts[:, 0]
    return _Part(
        responses,
        floor,
        float((weight * np.log(power)).sum()),
        float((weight * measured / power).sum()),
        (weight / power)[:, :, None] * eye,
        -(weight * measured / power**2)[:, :, None] * eye,
    )
