"""New lesions, repair and loss keep to their closed forms, and a therapy is compared over the same chance events."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from vbt.clinical._multiple_sclerosis_progression import (
    BURDEN,
    NO_THERAPY,
    THERAPIES,
    Damage,
    Events,
    RatePriors,
    Rates,
    Therapy,
    WhiteMatter,
)

REGIONS = 12
RATES = Rates(lesions=3.0, repair=0.1, loss=0.05)
HALVED = Therapy(code="half", label="Half", relative_risk=0.5, source="test")


@pytest.fixture(scope="module")
def white() -> WhiteMatter:
    return made()


def made(lesioned=None, lesions=0) -> WhiteMatter:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(REGIONS, 3)) * 40
    weights = np.triu(rng.lognormal(size=(REGIONS, REGIONS)), 1)
    weights += weights.T
    lengths = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    return WhiteMatter(weights, lengths, centres, lesioned=lesioned, lesions=lesions)


def healthy() -> Damage:
    return Damage(np.zeros((REGIONS, REGIONS)), np.zeros((REGIONS, REGIONS)))


def counts(white: WhiteMatter, therapy: Therapy, futures: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.array([(white.events(2.0, RATES, rng).marks < therapy.relative_risk).sum() for _ in range(futures)])


@pytest.mark.parametrize(("therapy", "expected"), [(NO_THERAPY, 6.0), (HALVED, 3.0)])
def test_new_lesions_are_poisson_with_and_without_a_therapy(white, therapy, expected):
    found = counts(white, therapy)
    assert found.mean() == pytest.approx(expected, rel=0.04)
    assert found.var() == pytest.approx(expected, rel=0.1)


def test_a_relative_risk_of_one_changes_nothing_to_the_last_bit(white):
    events = white.events(5.0, RATES, np.random.default_rng(1))
    without_effect = Therapy(code="none", label="None", relative_risk=1.0, source="test")
    years = np.array([1.0, 2.0, 5.0])
    for one, other in zip(
        white.course(healthy(), events, RATES, NO_THERAPY, years),
        white.course(healthy(), events, RATES, without_effect, years),
        strict=True,
    ):
        np.testing.assert_array_equal(one.demyelinated, other.demyelinated)
        np.testing.assert_array_equal(one.lost, other.lost)


def test_a_stronger_therapy_never_does_worse_in_the_same_future(white):
    for seed in range(20):
        events = white.events(5.0, RATES, np.random.default_rng(seed))
        ends = [
            white.course(healthy(), events, RATES, therapy, np.array([5.0]))[0]
            for therapy in sorted(THERAPIES, key=lambda t: t.relative_risk)
        ]
        for better, worse in itertools.pairwise(ends):
            assert (better.demyelinated + better.lost <= worse.demyelinated + worse.lost + 1e-12).all()


def test_a_therapy_lets_through_the_lesions_below_its_relative_risk_alone(white):
    events = white.events(5.0, RATES, np.random.default_rng(4))
    below = events.marks < HALVED.relative_risk
    assert 0 < below.sum() < len(below)
    kept = Events(**{name: values[below] for name, values in vars(events).items()})
    (expected,) = white.course(healthy(), kept, RATES, NO_THERAPY, np.array([5.0]))
    (found,) = white.course(healthy(), events, RATES, HALVED, np.array([5.0]))
    np.testing.assert_array_equal(found.demyelinated, expected.demyelinated)
    np.testing.assert_array_equal(found.lost, expected.lost)


def test_without_new_lesions_repair_or_loss_nothing_changes(white):
    still = Rates(lesions=0.0, repair=0.0, loss=0.0)
    rng = np.random.default_rng(2)
    start = Damage(rng.random((REGIONS, REGIONS)) * 0.4, rng.random((REGIONS, REGIONS)) * 0.4)
    events = white.events(5.0, still, rng)
    assert len(events.times) == 0
    (end,) = white.course(start, events, still, NO_THERAPY, np.array([5.0]))
    np.testing.assert_array_equal(end.demyelinated, start.demyelinated)
    np.testing.assert_array_equal(end.lost, start.lost)


def test_repair_and_loss_follow_the_solution_of_their_equations(white):
    start = Damage(np.full((REGIONS, REGIONS), 0.4), np.full((REGIONS, REGIONS), 0.1))
    none = white.events(0.0, RATES, np.random.default_rng(0))
    therapy = dataclasses.replace(HALVED, repair=2.0)
    ends = white.course(start, none, RATES, therapy, np.linspace(0.5, 5.0, 10))
    both = 2.0 * RATES.repair + RATES.loss
    assert ends[-1].demyelinated[0, 1] == pytest.approx(0.4 * np.exp(-both * 5.0), rel=1e-12)
    gone = 0.4 * RATES.loss / both * (1 - np.exp(-both * 5.0))
    assert ends[-1].lost[0, 1] == pytest.approx(0.1 + gone, rel=1e-12)


def test_a_lesion_demyelinates_what_the_patients_own_lesions_do_on_average():
    rng = np.random.default_rng(5)
    lesioned = np.triu(rng.random((REGIONS, REGIONS)) * 0.2, 1)
    lesioned += lesioned.T
    white = made(lesioned, lesions=8)
    assert white.burden == pytest.approx(white.share(lesioned) / 8)
    events = white.events(50.0, RATES, rng)
    for index in range(len(events.times)):
        reach = white.reach(events, index)
        assert (reach <= 1.0).all()
        np.testing.assert_array_equal(reach, reach.T)
        if reach.max() < 1.0:
            assert white.share(reach) == pytest.approx(white.burden, rel=1e-9)
    assert made().burden == BURDEN


def test_a_lesion_reaches_its_own_tract_most(white):
    events = Events(times=np.array([1.0]), marks=np.array([0.1]), tracts=np.array([7]), along=np.array([0.5]))
    reach = white.reach(events, 0)
    own = (white._one[7], white._two[7])
    assert reach[own] == reach.max()


def test_lesions_fall_on_tracts_by_their_volume(white):
    events = white.events(2000.0, RATES, np.random.default_rng(0))
    share = np.bincount(events.tracts, minlength=len(white._volumes)) / len(events.tracts)
    expected = white._volumes / white._volumes.sum()
    assert np.abs(share - expected).max() < 4 * np.sqrt(expected.max() / len(events.tracts))


def test_a_tract_never_has_more_than_all_its_axons_damaged(white):
    heavy = dataclasses.replace(RATES, lesions=400.0)
    (end,) = white.course(
        healthy(), white.events(5.0, heavy, np.random.default_rng(1)), heavy, NO_THERAPY, np.array([5.0])
    )
    assert (end.demyelinated + end.lost <= 1.0 + 1e-12).all()
    assert (end.demyelinated >= 0).all()
    assert (end.of_survivors <= 1.0 + 1e-12).all()


def test_rates_have_the_median_that_is_assumed():
    rng = np.random.default_rng(0)
    drawn = np.array([dataclasses.astuple(RatePriors().drawn(rng)) for _ in range(4000)])
    assumed = [median for median, _ in dataclasses.astuple(RatePriors())]
    np.testing.assert_allclose(np.median(drawn, axis=0), assumed, rtol=0.04)


@pytest.mark.parametrize("change", [{"relative_risk": 1.2}, {"relative_risk": -0.1}, {"repair": -1.0}])
def test_a_therapy_that_the_process_cannot_keep_to_is_a_programming_error(change):
    with pytest.raises(ValueError, match="relative risk"):
        dataclasses.replace(HALVED, **change)
