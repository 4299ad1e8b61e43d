"""Resting recordings of the populations on a patient's own connectome, over the prior of what is to be inferred.

The network is the one that scenarios are run on: Montbrió-Pazó-Roxin populations at a common quiescent state, coupled
by the streamline weights to the power p and a homotopic weight h, at a fraction g of the coupling at which that state
is lost (`vbt.simulation.RestingTwin`). As in the Virtual Ageing Brain (Lavanga et al. 2023) a fraction α of every
connection between the hemispheres is taken away. What measuring adds has the priors of the linear network: a signal
shared by all regions, mixing between neighbours, and noise. It is drawn with each recording and not inferred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from vbt.connectome import Connectome
from vbt.inference._features import BAND, in_band
from vbt.inference._linear_network import PRIORS
from vbt.inference._resting_state import nearness_of
from vbt.simulation import Bold, Network, RestingTwin, effective_weights, homotopic_pairs, simulate, static_covariance

PARAMETERS = ("g", "p", "h", "alpha")
COUPLING_RANGE = (0.2, 0.98)
AMORTISED_PRIORS: dict[str, tuple[str, float, float]] = {
    "g": ("uniform", *COUPLING_RANGE),
    "p": ("log-normal", *PRIORS["p"].arguments),
    "h": ("half-normal", *PRIORS["h"].arguments),
    "alpha": ("uniform", 0.0, 1.0),
}
STEP_MS = 1.0
TRANSIENT = 20.0  # s


def of_deviate(name: str, deviate: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """A parameter at the standard normal deviate of its prior."""
    family, first, second = AMORTISED_PRIORS[name]
    if family == "uniform":
        return np.asarray(first + (second - first) * scipy.stats.norm.cdf(deviate))
    if family == "log-normal":
        return np.asarray(np.exp(first + second * deviate))
    return np.asarray(second * scipy.stats.norm.ppf(0.5 * (1.0 + scipy.stats.norm.cdf(deviate))))


@dataclass(frozen=True, kw_only=True)
class PopulationModel:
    """A patient's network and how it is recorded.

    Parameters
    ----------
    weights : symmetric, of the regions used
    tract_lengths : mm, symmetric; the distance between centres where no tract was seen
    between : pairs of regions in different hemispheres
    samples : of a recording, ``repetition_time`` s apart
    """

    region_labels: tuple[str, ...]
    weights: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]
    nearness: Float[np.ndarray, "region region"]
    between: Bool[np.ndarray, "region region"]
    samples: int
    repetition_time: float

    @property
    def homotopic(self) -> Bool[np.ndarray, "region region"]:
        return np.asarray(homotopic_pairs(self.region_labels) > 0)

    def coupling(self, value: dict[str, float]) -> Float[np.ndarray, "region region"]:
        """W, its largest eigenvalue 1."""
        kept = self.weights * (1.0 - value["alpha"] * self.between)
        return effective_weights(kept, self.region_labels, value["p"], value["h"])

    def network(self, value: dict[str, float]) -> Network:
        return RestingTwin().lift(self.coupling(value), self.tract_lengths, value["g"])

    def simulate(
        self, deviates: Float[np.ndarray, "run parameter"], *, rng_seed: int
    ) -> Float[np.ndarray, "run time region"]:
        """One recording per row of standard normal deviates, as it would be measured."""
        values = [values_of(row) for row in deviates]
        run = simulate(
            [self.network(value) for value in values],
            [int(seed) for seed in np.random.default_rng(rng_seed).integers(2**62, size=len(values))],
            duration=self.samples * self.repetition_time,
            transient=TRANSIENT,
            monitors=[Bold(period=self.repetition_time)],
            dt=STEP_MS,
        )
        rng = np.random.default_rng([rng_seed, 1])
        activity = np.asarray(run.observations[0].values, dtype=float)
        return np.stack([self._measured(bold, value, rng) for bold, value in zip(activity, values, strict=True)])

    def _measured(self, bold: np.ndarray, value: dict[str, float], rng: np.random.Generator) -> np.ndarray:
        shared, noise, mixing = (PRIORS[name].arguments[1] * abs(rng.normal()) for name in ("u", "n", "m"))
        own = bold - bold.mean(axis=0)
        # u is in units of the variance that a region's own noise would give it without its neighbours.
        unit = np.median(own.var(axis=0)) / np.median(np.diag(static_covariance(self.coupling(value), value["g"])))
        signal = own + np.sqrt(shared / own.shape[1] * unit) * _alike(own, rng)[:, None]
        signal = signal + mixing * signal @ self.nearness.T
        return np.asarray(signal + np.sqrt(noise) * self._white(signal, rng))

    def _white(self, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """White noise with the signal's variance within the band, region by region."""
        frequencies = np.fft.rfftfreq(len(signal), self.repetition_time)
        share = ((frequencies >= BAND[0]) & (frequencies < BAND[1])).mean()
        deviation = in_band(signal, self.repetition_time).std(axis=0) / np.sqrt(share)
        return np.asarray(deviation * rng.normal(size=signal.shape))


def values_of(deviates: Float[np.ndarray, " parameter"]) -> dict[str, float]:
    return {name: float(of_deviate(name, z)) for name, z in zip(PARAMETERS, deviates, strict=True)}


def population_model(connectome: Connectome, used: Any, *, samples: int, repetition_time: float) -> PopulationModel:
    """The network of the regions used (their indices)."""
    square = np.ix_(used, used)
    labels = tuple(connectome.region_labels[i] for i in used)
    weights = 0.5 * (connectome.weights[square] + connectome.weights[square].T)
    np.fill_diagonal(weights, 0.0)
    centres = connectome.centres[used]
    lengths = 0.5 * (connectome.tract_lengths[square] + connectome.tract_lengths[square].T)
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    side = np.array([label.partition(".")[0] for label in labels])
    return PopulationModel(
        region_labels=labels,
        weights=weights,
        tract_lengths=np.where(lengths > 0, lengths, distance),
        nearness=nearness_of(centres),
        between=np.asarray(side[:, None] != side[None, :]),
        samples=samples,
        repetition_time=repetition_time,
    )


def _alike(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian signal of unit variance with the regions' mean amplitude spectrum."""
    transform = np.fft.rfft(signal / signal.std(axis=0), axis=0)
    amplitude = np.sqrt((np.abs(transform) ** 2).mean(axis=1))
    white = rng.normal(size=len(amplitude)) + 1j * rng.normal(size=len(amplitude))
    shared = np.fft.irfft(amplitude * white, n=len(signal))
    return np.asarray(shared / shared.std())
