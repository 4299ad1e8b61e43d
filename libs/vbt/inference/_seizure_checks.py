"""Whether the Epileptor network explains a recording: residuals against their own noise, and when regions recruit."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vbt.inference._gate import PredictiveCheck
from vbt.inference._seizure_model import MIDWAY

_LAGS = 5


def chi_square(residual: Float[np.ndarray, "time sensor"]) -> float:
    """Variance of the residual over that of its noise, taken from its changes between samples: 1 if it is noise alone.

    The noise level is a parameter, so the residual's size alone says nothing: a model that misses the seizure would
    call it noise. But what a model misses lasts, and noise does not. Half the mean squared change from sample to sample
    is the noise's variance whatever lasts; the ratio is 1/(1 − ρ) with ρ the lag-one correlation (von Neumann 1941).
    """
    changes = np.diff(residual, axis=0)
    return float((residual**2).mean() / (0.5 * (changes**2).mean()))


def residual_checks(residual: Float[np.ndarray, "time sensor"], rng_seed: int) -> tuple[PredictiveCheck, ...]:
    """The residual's worst sensor against residuals of as many sensors that hold nothing but noise.

    A region that the model gets wrong, or a sensor whose gain is wrong, hides in chi²/N among the many that are right.
    """
    rng = np.random.default_rng(rng_seed)
    noise = residual.std()
    measured = _worst(residual / noise)
    replicates = np.array([_worst(rng.normal(size=residual.shape)) for _ in range(200)])
    names = ("lasting residual of the worst sensor", "noise of the loudest sensor")
    return tuple(
        PredictiveCheck(
            name=name,
            observed=float(measured[i]),
            replicated=float(np.median(replicates[:, i])),
            p_value=float((replicates[:, i] > measured[i]).mean()),
        )
        for i, name in enumerate(names)
    )


def _worst(residual: np.ndarray) -> tuple[float, float]:
    """Largest mean correlation of a sensor with itself some samples earlier, and largest variance of a sensor."""
    centred = residual - residual.mean(axis=0)
    power = (centred**2).mean(axis=0)
    lagged = [(centred[lag:] * centred[:-lag]).mean(axis=0) / power for lag in range(1, _LAGS + 1)]
    return float(np.mean(lagged, axis=0).max()), float(power.max())


def recruitment(x: Float[np.ndarray, "draw time region"], sampling_period: float) -> Float[np.ndarray, "draw region"]:
    """When each region first passes midway from rest to burst; NaN where it never does."""
    above = x > MIDWAY
    first = above.argmax(axis=1)
    before = np.take_along_axis(x, np.maximum(first - 1, 0)[:, None], axis=1)[:, 0]
    at = np.take_along_axis(x, first[:, None], axis=1)[:, 0]
    part = np.where(first > 0, (MIDWAY - before) / np.where(at > before, at - before, 1.0), 1.0)
    onset = np.maximum(first - 1 + part, 0.0) * sampling_period
    return np.asarray(np.where(above.any(axis=1), onset, np.nan))
