"""Simulation-based calibration lets a right posterior through, finds a wrong one, and its band is the one it claims."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from vbt.errors import Rejected
from vbt.inference import SBC_MODELS, Refused, SbcResult, Simulated, rank_picture, sbc, sbc_model
from vbt.inference._ecdf_band import band, counts, outside_band
from vbt.inference._sbc import _kind


@dataclass
class NormalMean:
    """μ ~ N(0, 1) seen four times with unit noise: the posterior is N(Σx/5, 1/5), here shifted and rescaled."""

    shift: float = 0.0
    widen: float = 1.0
    refuse_above: float = np.inf
    name: str = "normal_mean"
    parameters: tuple[str, ...] = ("mu",)

    def draw(self, rng):
        mu = rng.normal()
        return Simulated(truth={"mu": mu}, recording=mu + rng.normal(size=4))

    def fit(self, recording, *, rng_seed):
        if recording.sum() > 1.5 * self.refuse_above:
            raise Rejected("too-loud", rule="r", got="g", action="a")
        if recording.sum() > self.refuse_above:
            return Refused(reasons=(f"sum too large: {recording.sum():.3f}",))
        sd = np.sqrt(0.2)
        draws = np.random.default_rng(rng_seed).normal(size=(4, 250))
        return {"mu": recording.sum() / 5.0 + sd * (self.shift + self.widen * draws)}


def test_an_exact_posterior_passes():
    result = sbc(NormalMean(), 400, rng_seed=1)
    (mu,) = result.parameters
    assert result.passed
    assert result.fitted == 400
    for level in (0.5, 0.9):
        _, low, high = mu.coverage(level)
        assert low < level < high
    assert mu.shrinkage == pytest.approx(0.8, abs=0.04)
    assert mu.r == pytest.approx(np.sqrt(0.8), abs=0.05)
    assert mu.z.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("wrong", [{"shift": 0.4}, {"shift": -0.4}, {"widen": 0.6}, {"widen": 1.7}])
def test_a_biased_or_wrongly_sure_posterior_fails(wrong):
    assert not sbc(NormalMean(**wrong), 300, rng_seed=1).passed


def test_refusals_are_counted_and_leave_the_ranks_uniform():
    """What is refused by the recording alone does not bias the posteriors that are kept."""
    result = sbc(NormalMean(refuse_above=1.5), 500, rng_seed=2)
    assert set(result.refusals) == {"sum too large", "too-loud"}
    assert result.fitted == 500 - sum(result.refusals.values()) < 400
    assert result.passed


def test_too_few_fits_are_kept_and_no_pass():
    for few in (9, 27, 99):
        result = sbc(NormalMean(), few, rng_seed=1)
        assert not result.passed
        assert result.outcome == "too few to tell"
        kept = json.loads(result.to_json())
        assert (kept["passed"], kept["outcome"], kept["fitted"]) == (False, "too few to tell", few)
    assert sbc(NormalMean(), 100, rng_seed=1).outcome == "passed"
    assert sbc(NormalMean(widen=0.2), 50, rng_seed=1).outcome == "failed"
    none = sbc(NormalMean(refuse_above=-np.inf), 12, rng_seed=1)
    assert none.fitted == 0
    assert not none.passed
    assert SbcResult.from_json(none.to_json()).to_json() == none.to_json()


@pytest.mark.parametrize(
    ("one", "two", "kind"),
    [
        ("2.2% of trajectories reached the largest tree, limit 1%", "95.6% of trajectories reached the largest tree",
         "n of trajectories reached the largest tree"),
        ("25 divergent transitions of 2000, limit 0.1%", "3 divergent transitions of 4000, limit 0.1%",
         "n divergent transitions of n"),
        ("chains disagree on eta[0]: R-hat 1.020, limit 1.01", "chains disagree on eta[lh.insula]: R-hat 1.3",
         "chains disagree on eta"),
        ("recording-too-short", "recording-too-short", "recording-too-short"),
    ],
)  # fmt: skip
def test_one_cause_is_one_reason_whatever_its_figures(one, two, kind):
    assert _kind(one) == _kind(two) == kind


def test_every_engine_that_reports_a_number_has_a_model():
    assert {"resting_state", "resting_state_amortised", "delayed_spectrum", "seizure"} <= set(SBC_MODELS)
    for name in SBC_MODELS:
        assert sbc_model(name).name == name


def test_a_result_survives_its_archive_and_repeats():
    first, second = (sbc(NormalMean(), 30, rng_seed=5) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert SbcResult.from_json(first.to_json()).to_json() == first.to_json()
    longer = sbc(NormalMean(), 40, rng_seed=5)
    np.testing.assert_array_equal(longer.parameters[0].ranks[:30], first.parameters[0].ranks)
    assert rank_picture(first) == rank_picture(second)


@pytest.mark.parametrize(("replicates", "draws", "level"), [(50, 99, 0.95), (300, 99, 0.95), (100, 19, 0.99)])
def test_uniform_ranks_leave_the_band_as_rarely_as_it_says(replicates, draws, level):
    rng = np.random.default_rng(0)
    trials = 4000
    left = sum(outside_band(rng.integers(draws + 1, size=replicates), draws, level).any() for _ in range(trials))
    # Never more often than claimed (a count is discrete, so it may be rarer), within four standard errors.
    error = np.sqrt(level * (1 - level) / trials)
    assert 0.4 * (1 - level) < left / trials < (1 - level) + 4 * error


def test_the_band_is_narrower_than_bonferroni_s_and_wider_than_pointwise():
    from scipy.stats import binom

    low, high = band(300, 99, 0.95)
    middle = binom(300, 0.5)
    assert middle.ppf(0.025 / 99) < low[49] < middle.ppf(0.025)
    assert middle.ppf(0.975) < high[49] < middle.ppf(1 - 0.025 / 99)


def test_counts_are_those_of_the_distribution_function():
    assert counts(np.array([0, 2, 2, 3]), 3).tolist() == [1, 1, 3]
