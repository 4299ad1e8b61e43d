"""A band that the distribution function of uniform ranks leaves anywhere with a known probability only."""

from __future__ import annotations

import functools

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int


def band(replicates: int, draws: int, level: float) -> tuple[Int[np.ndarray, " rank"], Int[np.ndarray, " rank"]]:
    """Lowest and highest number of ranks ≤ r, for r from 0 to ``draws`` − 1, of uniform ranks 0 to ``draws``.

    All of them lie within the band, both ends included, with a probability of at least ``level``: the exact adjustment
    of pointwise binomial intervals.

    References
    ----------
    Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32, algorithm 2.
    """
    return _band(replicates, draws, level)


def counts(ranks: Int[np.ndarray, " replicate"], draws: int) -> Int[np.ndarray, " rank"]:
    """Number of ranks ≤ r for r from 0 to ``draws`` − 1."""
    return np.cumsum(np.bincount(ranks, minlength=draws + 1))[:draws]


def outside_band(ranks: Int[np.ndarray, " replicate"], draws: int, level: float) -> Bool[np.ndarray, " rank"]:
    """Where the distribution function of ranks among ``draws`` draws leaves the band."""
    low, high = band(len(ranks), draws, level)
    found = counts(ranks, draws)
    return np.asarray((found < low) | (found > high))


@functools.lru_cache(maxsize=32)
def _band(replicates: int, draws: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    narrow, wide = (1.0 - level) / draws, 1.0 - level  # Bonferroni is too wide, pointwise too narrow
    for _ in range(30):
        middle = np.sqrt(narrow * wide)
        if _probability(*_pointwise(replicates, draws, middle), replicates) >= level:
            narrow = middle
        else:
            wide = middle
    return _pointwise(replicates, draws, narrow)


def _pointwise(replicates: int, draws: int, tail: float) -> tuple[np.ndarray, np.ndarray]:
    at = np.arange(1, draws + 1) / (draws + 1)
    law = scipy.stats.binom(replicates, at)
    return law.ppf(0.5 * tail).astype(int), law.ppf(1.0 - 0.5 * tail).astype(int)


def _probability(low: np.ndarray, high: np.ndarray, replicates: int) -> float:
    """That counts of uniform ranks stay between both at every rank: a Markov chain in the count."""
    draws = len(low)
    states: Float[np.ndarray, " count"] = np.array([1.0])
    first = 0
    for step in range(draws):
        share = 1.0 / (draws + 1 - step)
        before = first + np.arange(len(states))
        after = np.arange(low[step], high[step] + 1)
        gained = after[None, :] - before[:, None]
        moves = scipy.stats.binom.pmf(gained, (replicates - before)[:, None], share)
        states, first = states @ moves, int(low[step])
    return float(states.sum())
