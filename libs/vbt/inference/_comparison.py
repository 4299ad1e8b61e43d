"""Two posteriors of one model on one recording: the same but for their Monte Carlo error, or not."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.stats
from jaxtyping import Float

from vbt.inference._calibration import Calibration

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

_FALSE_ALARM = 6e-5  # of equal posteriors; four standard errors for a single number


def moved(first: Calibration, second: Calibration) -> str:
    """The parameter whose mean moved most, where it moved by more than chance allows over all of them; else ``""``."""
    if {name: draws.shape[2:] for name, draws in first.draws.items()} != {
        name: draws.shape[2:] for name, draws in second.draws.items()
    }:
        return "the parameters differ"
    z = {name: _shift(draws, second.draws[name]) for name, draws in first.draws.items()}
    count = sum(value.size for value in z.values())
    limit = float(scipy.stats.norm.isf(0.5 * _FALSE_ALARM / max(count, 1)))
    worst = max(z, key=lambda name: float(z[name].max(initial=0.0)), default="")
    if not worst or not z[worst].max(initial=0.0) > limit:
        return ""
    return f"{worst} moved by {z[worst].max():.1f} Monte Carlo errors, limit {limit:.1f}"


def _shift(
    first: Float[np.ndarray, "chain draw *region"], second: Float[np.ndarray, "chain draw *region"]
) -> Float[np.ndarray, " value"]:
    """Difference of the means in standard errors, a value per region where there are several."""
    flat = [draws.reshape(*draws.shape[:2], -1) for draws in (first, second)]
    difference = np.abs(flat[0].mean(axis=(0, 1)) - flat[1].mean(axis=(0, 1)))
    variance = sum(_squared_error(draws) for draws in flat)
    # Draws that do not vary have no error: any difference is one.
    return np.where(difference == 0.0, 0.0, difference / np.sqrt(np.maximum(variance, 1e-300)))


def _squared_error(draws: Float[np.ndarray, "chain draw value"]) -> Float[np.ndarray, " value"]:
    ess = [float(arviz.ess(draws[..., i], method="mean")) for i in range(draws.shape[2])]  # type: ignore[no-untyped-call]
    return np.asarray(draws.var(axis=(0, 1)) / np.maximum(np.nan_to_num(ess, nan=draws.shape[0] * draws.shape[1]), 1.0))
