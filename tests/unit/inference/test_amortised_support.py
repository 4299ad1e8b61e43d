"""What was simulated has a support: normal scores inside of it, distances that do not flatter it, and an outside."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from vbt.inference._amortised_support import Support


@pytest.fixture(scope="module")
def skewed():
    """Eleven summaries as skewed as connectivity near criticality, and one that is not, all of them correlated."""
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal(np.zeros(12), 0.3 + 0.7 * np.eye(12), size=3000)
    return np.column_stack([np.exp(1.5 * normal[:, :11]), normal[:, 11]])


@pytest.fixture(scope="module")
def support(skewed):
    return Support.of(skewed[:2000])


def test_scores_are_the_normal_quantiles_of_ranks(skewed, support):
    """Of a log-normal variable the score is its logarithm over its scale, within and beyond what was seen."""
    for exponent in (-1.5, 0.0, 1.0, 2.0):
        row = np.full(12, np.exp(1.5 * exponent))
        np.testing.assert_allclose(support.scores(row)[:11], exponent, atol=0.25)
    highest = skewed[:2000].max(axis=0)
    last = scipy.stats.norm.ppf(1 - 0.5 / 2000)
    np.testing.assert_allclose(support.scores(highest), last)
    median = np.median(skewed[:2000], axis=0)
    np.testing.assert_allclose(support.scores(median + 3 * (highest - median)), 3 * last, rtol=0.01)


def test_recordings_of_its_own_kind_are_as_far_out_as_the_limit_says(skewed, support):
    beyond = np.mean([support.quantile(support.distance(row)) > 0.99 for row in skewed[2000:]])
    assert beyond == pytest.approx(0.01, abs=0.008)


def test_few_simulations_do_not_make_their_own_kind_novel(skewed):
    """A covariance fits its own 60 simulations too well: over half of all others lie beyond nine tenths of them."""
    support = Support.of(skewed[:60])
    distance = np.array([support.distance(row) for row in skewed[2000:]])
    fitted = np.sort([support.distance(row) for row in skewed[:60]])
    assert (distance > np.quantile(fitted, 0.9)).mean() > 0.5
    assert (distance > np.quantile(support.distances, 0.9)).mean() < 0.3


def test_one_summary_far_beyond_all_simulations_does_not_hide_behind_the_tails_of_the_others(skewed, support):
    """As white noise did: ten standard deviations off in one summary, common in all others."""
    stranger = np.median(skewed, axis=0)
    stranger[11] = 10.0
    assert support.quantile(support.distance(stranger)) == 1.0
    assert int(np.abs(support.scores(stranger)).argmax()) == 11
    # The rule before, a Mahalanobis distance of the summaries as they are, took it for one of its own.
    seen = skewed[:2000]
    inverse = np.linalg.inv(np.cov(seen, rowvar=False))
    away = np.einsum("ij,jk,ik->i", seen - seen.mean(axis=0), inverse, seen - seen.mean(axis=0))
    assert (away < (stranger - seen.mean(axis=0)) @ inverse @ (stranger - seen.mean(axis=0))).mean() < 0.999


def test_a_summary_that_is_no_number_is_outside(skewed, support):
    broken = np.median(skewed, axis=0)
    broken[3] = np.nan
    assert support.quantile(support.distance(broken)) == 1.0


def test_a_support_survives_as_arrays(skewed, support):
    again = Support.from_arrays(support.to_arrays())
    assert again.distance(skewed[-1]) == support.distance(skewed[-1])
