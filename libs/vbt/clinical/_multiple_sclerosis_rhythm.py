"""What a network's delays and its rhythm are at one point of the posterior: speeds, alpha, efficiency.

The rhythm is read from the exact spectrum of the median region: with a few weakly connected regions the mean stays at
the frequency of an uncoupled one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse.csgraph import shortest_path

from vbt.inference import delayed_spectrum, strength_scaled

# Fine where the peak is looked for, coarse above.
FREQUENCIES = np.concatenate([np.arange(2.0, 16.5, 0.5), np.arange(17.0, 42.0)])
_STEP = 0.5
PEAK_BAND = (5.0, 15.0)
ALPHA_BAND = (8.0, 13.0)


@dataclass(frozen=True, kw_only=True)
class Conduction:
    """How fast one posterior draw conducts and how it oscillates; `delayed_spectrum` has the units."""

    velocity: float
    gamma: float
    coupling: float
    frequency: float
    decay: float


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A connectome as the spectrum sees it, and what lesions did to it.

    Parameters
    ----------
    weights : scaled as the calibration scales them
    tract_lengths : mm
    lesioned : share of every tract that is demyelinated
    """

    weights: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]
    lesioned: Float[np.ndarray, "region region"]

    @classmethod
    def of(
        cls,
        weights: Float[np.ndarray, "region region"],
        tract_lengths: Float[np.ndarray, "region region"],
        lesioned: Float[np.ndarray, "region region"] | None,
    ) -> Wiring:
        """A connectome's own weights; no lesions where ``lesioned`` is None."""
        none = np.zeros(weights.shape)
        return cls(
            weights=strength_scaled(weights),
            tract_lengths=np.asarray(tract_lengths, dtype=float),
            lesioned=none if lesioned is None else np.asarray(lesioned, dtype=float),
        )

    def plain_delays(self, draw: Conduction) -> Float[np.ndarray, "region region"]:
        """ms, without lesions."""
        return np.asarray(self.tract_lengths / draw.velocity)

    def extra_delays(self, draw: Conduction) -> Float[np.ndarray, "region region"]:
        """ms, that lesions add."""
        return np.asarray(self.plain_delays(draw) * draw.gamma * self.lesioned)

    def mean(self, values: Float[np.ndarray, "region region"]) -> float:
        """Over connections, each counted by its weight."""
        return float((self.weights * values).sum() / self.weights.sum())

    def effective_velocity(self, draw: Conduction) -> float:
        """m/s: total weighted length over total weighted delay."""
        delays = self.plain_delays(draw) + self.extra_delays(draw)
        return self.mean(self.tract_lengths) / self.mean(delays)

    def efficiency(self) -> float:
        """Global efficiency: mean inverse of the shortest path, a connection being as long as its weight is small.

        References
        ----------
        Latora & Marchiori (2001), Phys. Rev. Lett. 87, 198701.
        """
        joined = self.weights > 0
        length = np.divide(1.0, self.weights, out=np.zeros(self.weights.shape), where=joined)
        distance = shortest_path(length, directed=True)
        apart = ~np.eye(len(distance), dtype=bool)
        return float((1.0 / distance[apart]).mean())

    def rhythm(self, draw: Conduction) -> Rhythm:
        """From the closed spectrum."""
        spectra = delayed_spectrum(
            self.weights,
            self.tract_lengths,
            velocity=draw.velocity,
            coupling=draw.coupling,
            frequency=draw.frequency,
            decay=draw.decay,
            gamma=draw.gamma,
            lesion_fraction=self.lesioned,
            frequencies=FREQUENCIES,
        )
        power = np.median(np.diagonal(spectra, axis1=1, axis2=2).real, axis=1)
        return Rhythm(power=power)


@dataclass(frozen=True)
class Rhythm:
    """Power of the median region at `FREQUENCIES`."""

    power: Float[np.ndarray, " frequency"]

    @property
    def peak(self) -> float:
        """Hz: the highest peak from 5 to 15 Hz, between the grid's points by a parabola; NaN where there is none."""
        height = np.log(self.power)
        inner = height[1:-1]
        tops = 1 + np.flatnonzero((inner > height[:-2]) & (inner >= height[2:]))
        tops = tops[_within(PEAK_BAND)[tops]]
        if not len(tops):
            return float("nan")
        top = tops[np.argmax(height[tops])]
        left, middle, right = height[top - 1 : top + 2]
        return float(FREQUENCIES[top] + 0.5 * _STEP * (left - right) / (left - 2 * middle + right))

    @property
    def centre(self) -> float:
        """Hz: the centre of gravity of the power from 5 to 15 Hz, which moves smoothly where peaks come and go.

        References
        ----------
        Klimesch (1999), Brain Res. Rev. 29, 169 (gravity frequency).
        """
        inside = _within(PEAK_BAND)
        power, at = self.power[inside], FREQUENCIES[inside]
        return float(np.trapezoid(at * power, at) / np.trapezoid(power, at))

    @property
    def alpha_share(self) -> float:
        """Power from 8 to 13 Hz as a part of that from 2 to 41 Hz."""
        inside = _within(ALPHA_BAND)
        whole = np.trapezoid(self.power, FREQUENCIES)
        return float(np.trapezoid(self.power[inside], FREQUENCIES[inside]) / whole)


def _within(band: tuple[float, float]) -> Bool[np.ndarray, " frequency"]:
    return np.asarray(np.abs(FREQUENCIES - np.mean(band)) <= 0.5 * np.ptp(band))
