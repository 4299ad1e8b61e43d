"""The two resting-state engines on a connectome small enough to be fitted hundreds of times."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float

from vbt.connectome import Connectome
from vbt.inference._amortised_resting_state import AmortisedTwin, train_amortised
from vbt.inference._amortised_simulations import PARAMETERS, values_of
from vbt.inference._bands import EDGES
from vbt.inference._linear_network import PRIORS
from vbt.inference._resting_state import calibrate_resting_state, model_correlation, nearness_of
from vbt.inference._sbc import Refused, Simulated

REPETITION_TIME = 2.0


def small_connectome(regions: int, rng_seed: int) -> Connectome:
    """Two mirrored hemispheres, log-normal weights that fall off with distance, half of the pairs connected."""
    rng = np.random.default_rng(rng_seed)
    half = rng.normal(size=(regions // 2, 3)) * (12.0, 40.0, 25.0) + (35.0, 0.0, 0.0)
    centres = np.vstack([half * (-1, 1, 1), half])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    weights = 1000.0 * np.exp(-distance / 20.0) * rng.lognormal(size=distance.shape)
    weights = np.triu(weights * (rng.random(distance.shape) < 0.5), 1)
    weights = weights + weights.T
    return Connectome(
        weights=weights,
        tract_lengths=np.where(weights > 0, np.maximum(distance, 8.0), 0.0),
        region_labels=tuple(f"{side}.area{i}" for side in ("lh", "rh") for i in range(regions // 2)),
        centres=centres,
        is_cortical=np.ones(regions, dtype=bool),
        parcellation="small",
    )


@dataclass(frozen=True, kw_only=True)
class RestingStateSbc:
    """`SbcModel` of the linear network: truths from its prior, recordings with exactly its spectrum, NUTS and gate.

    Every parameter is drawn, of tractography's errors and of measuring too; those with one value are ranked, without
    n and the band powers, whose unit the recording's own normalisation sets.
    """

    regions: int = 24
    samples: int = 400
    connectome_seed: int = 0
    name: str = "resting_state"
    parameters: tuple[str, ...] = ("g", "p", "h", "u", "m")

    def draw(self, rng: np.random.Generator) -> Simulated:
        connectome = small_connectome(self.regions, self.connectome_seed)
        truth = {name: _from_prior(name, rng) for name in PRIORS if name not in ("c", "d")}
        near = nearness_of(connectome.centres)
        correlation = model_correlation(connectome.weights, connectome.region_labels, near, truth)
        powers = np.array([_from_prior("c", rng) for _ in range(len(EDGES) - 1)])
        gains = np.array([_from_prior("d", rng) for _ in range(self.regions)])
        return Simulated(truth=truth, recording=gains * self._bold(correlation, powers, truth["n"], rng))

    def _bold(
        self, correlation: np.ndarray, powers: np.ndarray, noise: float, rng: np.random.Generator
    ) -> Float[np.ndarray, "time region"]:
        frequency = np.fft.rfftfreq(self.samples, REPETITION_TIME)
        band = np.digitize(frequency, EDGES) - 1
        inside = (band >= 0) & (band < len(powers))
        power = np.where(inside, powers[band.clip(0, len(powers) - 1)], 0.0)
        white = rng.normal(size=(4, len(frequency), self.regions))
        signal = (white[0] + 1j * white[1]) @ np.linalg.cholesky(correlation).T
        bins = np.sqrt(power)[:, None] * signal
        bins += np.sqrt(noise * power[inside].mean()) * (white[2] + 1j * white[3])
        return np.asarray(np.fft.irfft(bins, n=self.samples, axis=0))

    def fit(self, recording: np.ndarray, *, rng_seed: int) -> Mapping[str, np.ndarray] | Refused:
        connectome = small_connectome(self.regions, self.connectome_seed)
        calibration = calibrate_resting_state(connectome, recording, REPETITION_TIME, rng_seed=rng_seed)
        return calibration.draws if calibration.sound else Refused(reasons=calibration.reasons)


def _from_prior(name: str, rng: np.random.Generator) -> float:
    prior = PRIORS[name]
    location, scale = prior.arguments
    normal = rng.normal()
    if prior.family == "logit-normal":
        return float(scipy.special.expit(location + scale * normal))
    if prior.family == "log-normal":
        return float(np.exp(location + scale * normal))
    return float(location + scale * normal) if prior.family == "normal" else float(scale * abs(normal))


@dataclass(frozen=True, kw_only=True)
class AmortisedSbc:
    """`SbcModel` of the populations' network: trained once, then every replicate is a simulation and a look-up."""

    regions: int = 40
    samples: int = 150
    simulations: int = 1600
    connectome_seed: int = 0
    rng_seed: int = 1
    name: str = "resting_state_amortised"
    parameters: tuple[str, ...] = PARAMETERS

    def draw(self, rng: np.random.Generator) -> Simulated:
        deviates = rng.normal(size=(1, len(PARAMETERS)))
        bold = self.twin.model.simulate(deviates, rng_seed=int(rng.integers(2**31)))
        return Simulated(truth=values_of(deviates[0]), recording=bold[0])

    def fit(self, recording: np.ndarray, *, rng_seed: int) -> Mapping[str, np.ndarray] | Refused:
        calibration = self.twin.calibrate(recording, rng_seed=rng_seed, predict=False)
        return calibration.draws if calibration.sound else Refused(reasons=calibration.reasons)

    @functools.cached_property
    def twin(self) -> AmortisedTwin:
        return train_amortised(
            small_connectome(self.regions, self.connectome_seed),
            np.arange(self.regions),
            samples=self.samples,
            repetition_time=REPETITION_TIME,
            rng_seed=self.rng_seed,
            simulations=self.simulations,
        )
