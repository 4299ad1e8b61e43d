"""A small connectome and recordings drawn from the model itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, logit

from vbt.connectome import Connectome
from vbt.inference import PRIORS
from vbt.simulation import effective_weights, static_covariance

REGIONS = 24


def _connectome(seed: int) -> Connectome:
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(REGIONS // 2, 3)) * (12.0, 40.0, 25.0) + (35.0, 0.0, 0.0)
    centres = np.vstack([half * (-1, 1, 1), half])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    weights = 1000 * np.exp(-distance / 20) * rng.lognormal(size=distance.shape) * (rng.random(distance.shape) < 0.5)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    names = [f"area{i}" for i in range(REGIONS // 2)]
    return Connectome(
        weights=weights,
        tract_lengths=distance * (weights > 0),
        region_labels=tuple(f"{side}.{name}" for side in ("lh", "rh") for name in names),
        centres=centres,
        is_cortical=np.ones(REGIONS, dtype=bool),
        parcellation="test",
    )


@pytest.fixture(scope="session")
def connectome() -> Connectome:
    return _connectome(0)


@pytest.fixture(scope="session")
def connectome_of() -> Callable[[int], Connectome]:
    return _connectome


@pytest.fixture(scope="session")
def tracked() -> Callable[[Connectome, np.random.Generator], Connectome]:
    """A connectome as tractography would see it: weights to a power from its prior, and false weak connections."""

    def measure(connectome: Connectome, rng: np.random.Generator) -> Connectome:
        location, scale = PRIORS["b"].arguments
        weights = connectome.weights ** np.exp(location + scale * rng.normal())
        weakest = np.quantile(weights[weights > 0], 0.05)
        false = weakest * 10 ** rng.uniform(-2.0, 0.0, weights.shape) * (rng.random(weights.shape) < 0.5)
        false = np.triu(false, 1) + np.triu(false, 1).T
        return dataclasses.replace(connectome, weights=np.where(weights > 0, weights, false))

    return measure


@pytest.fixture(scope="session")
def recording() -> Callable[..., np.ndarray]:
    """BOLD with exactly the model's spectrum: independent complex Gaussian Fourier bins, gains differing by region.

    The run's own coupling departs from g as the prior of r says.
    """

    def draw(
        connectome: Connectome,
        rng: np.random.Generator,
        *,
        g: float,
        p: float,
        h: float,
        u: float = 2.0,
        n: float = 0.05,
    ) -> np.ndarray:
        samples, repetition_time = 400, 2.0
        regions = len(connectome.region_labels)
        g = expit(logit(g) + PRIORS["r"].arguments[1] * rng.normal())
        covariance = static_covariance(effective_weights(connectome.weights, connectome.region_labels, p, h), g)
        covariance = covariance + u / regions
        deviation = np.sqrt(np.diag(covariance))
        factor = np.linalg.cholesky(covariance / np.outer(deviation, deviation))
        frequency = np.fft.rfftfreq(samples, repetition_time)

        def white() -> np.ndarray:
            return rng.normal(size=(len(frequency), regions)) + 1j * rng.normal(size=(len(frequency), regions))

        power = np.exp(-frequency / 0.08)
        inside = (frequency >= 0.01) & (frequency < 0.1)
        bins = np.sqrt(power)[:, None] * (white() @ factor.T) + np.sqrt(n * power[inside].mean()) * white()
        return np.fft.irfft(bins, n=samples, axis=0) * rng.lognormal(0.0, 0.3, regions)

    return draw
