"""Where the training simulations lie among all summaries, and how far outside of them a recording is.

Every summary is taken to its normal score: the standard normal quantile of its rank among the training simulations,
continued linearly from the median through their extremes. Skewed summaries, such as connectivity near the critical
coupling, then no longer lend the whole cloud tails so long that a summary ten times beyond all simulations hides in
them. The Mahalanobis distance of the scores judges summaries together. Tenth after tenth of the simulations is measured
by the rest, so that the limit is that of recordings to which nothing was fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float

_KNOTS = 65
_FOLDS = 10
_LEAST_VARIANCE = 0.01  # of a summary's own; below, simulations hardly ever differ and a recording is not judged by it


@dataclass(frozen=True, kw_only=True)
class Support:
    """The region of summaries that was simulated.

    Parameters
    ----------
    knots : each summary at equally spaced normal scores, the first and last its extremes
    last_score : normal score of the extremes; the first is its negative
    centre, whitener : take scores to uncorrelated ones of unit variance
    distances : of every training simulation from the centre, by the others' centre and whitener; sorted
    """

    knots: Float[np.ndarray, "knot feature"]
    last_score: float
    centre: Float[np.ndarray, " feature"]
    whitener: Float[np.ndarray, "feature feature"]
    distances: Float[np.ndarray, " simulation"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "simulation feature"]) -> Support:
        """The support of training simulations, none of their summaries constant."""
        last = float(scipy.stats.norm.ppf(1.0 - 0.5 / len(features)))
        knots = np.quantile(features, scipy.stats.norm.cdf(np.linspace(-last, last, _KNOTS)), axis=0)
        knots[0], knots[-1] = features.min(axis=0), features.max(axis=0)
        scores = _scores(features, knots, last)
        fold = np.arange(len(scores)) % _FOLDS
        distances = np.empty(len(scores))
        for k in range(_FOLDS):
            distances[fold == k] = _distances(scores[fold == k], *_whitening(scores[fold != k]))
        centre, whitener = _whitening(scores)
        return cls(knots=knots, last_score=last, centre=centre, whitener=whitener, distances=np.sort(distances))

    def scores(self, features: Float[np.ndarray, " feature"]) -> Float[np.ndarray, " feature"]:
        """Normal score of each summary."""
        return np.asarray(_scores(features[None], self.knots, self.last_score)[0])

    def distance(self, features: Float[np.ndarray, " feature"]) -> float:
        """Mahalanobis distance of the scores from the training simulations' centre."""
        return float(_distances(self.scores(features)[None], self.centre, self.whitener)[0])

    def quantile(self, distance: float) -> float:
        """Fraction of the training simulations nearer to the centre; 1 where the distance is no number."""
        return float(np.searchsorted(self.distances, distance) / len(self.distances)) if np.isfinite(distance) else 1.0

    def to_arrays(self) -> dict[str, np.ndarray]:
        """By the names of the fields, as `from_arrays` takes them."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Support:
        named: dict[str, Any] = {**arrays, "last_score": float(arrays["last_score"])}
        return cls(**named)


def _scores(features: np.ndarray, knots: np.ndarray, last: float) -> np.ndarray:
    levels = np.linspace(-last, last, len(knots))
    low, median, high = knots[0], knots[len(knots) // 2], knots[-1]
    inside = np.stack([np.interp(features[:, k], knots[:, k], levels) for k in range(features.shape[1])], axis=1)
    beyond = np.where(features > median, high - median, median - low)
    # A summary that half of the simulations share goes on by its whole range.
    outside = last * (features - median) / np.where(beyond > 0, beyond, high - low)
    return np.where((features < low) | (features > high), outside, inside)


def _whitening(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    eigenvalues, vectors = np.linalg.eigh(np.atleast_2d(np.cov(scores, rowvar=False)))
    return scores.mean(axis=0), np.asarray(vectors / np.sqrt(np.maximum(eigenvalues, _LEAST_VARIANCE)))


def _distances(scores: np.ndarray, centre: np.ndarray, whitener: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm((scores - centre) @ whitener, axis=1))
