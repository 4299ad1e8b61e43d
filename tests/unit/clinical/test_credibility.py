"""Every application says what it may be used for and what evidence exists, "none" included."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vbt.clinical.applications import NAMES, application_of
from vbt.clinical.credibility import CATEGORIES, calibration_of, credibility, names
from vbt.inference import SBC_MODELS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", NAMES)
def test_every_application_has_an_entry(name):
    assert application_of(name).credibility in names()


@pytest.mark.parametrize("name", ["epilepsy", "multiple_sclerosis", "resting_state"])
def test_an_entry_is_whole(name):
    entry = credibility(name)
    assert tuple(evidence.category for evidence in entry.evidence) == CATEGORIES
    assert "Research use only" in entry.context_of_use
    assert entry.anomalies
    assert entry.limits
    for evidence in entry.evidence:
        assert evidence.category in entry.sentence
        for where in evidence.where.split(", "):
            assert not where or where.startswith("vbt ") or (ROOT / where).exists(), where


def test_nothing_is_claimed_in_patients():
    for name in names():
        status = {evidence.category: evidence.status for evidence in credibility(name).evidence}
        assert status["in vivo validation"] == status["population-based validation"] == "none"


def test_kept_calibrations_are_of_known_models_and_passed():
    for name in names():
        for model in credibility(name).calibrated:
            kept = calibration_of(model)
            assert kept is None or (kept.model == model and model in SBC_MODELS and kept.fitted >= kept.fewest)


def test_an_entry_that_breaks_a_rule_is_refused():
    entry = credibility("epilepsy")
    with pytest.raises(ValueError, match="each category"):
        dataclasses.replace(entry, evidence=entry.evidence[1:])
    with pytest.raises(ValueError, match="risk"):
        dataclasses.replace(entry, model_influence="high", model_risk="low")
    claimed = dataclasses.replace(entry.evidence[3], status="adequate")
    with pytest.raises(ValueError, match="where"):
        dataclasses.replace(entry, evidence=(*entry.evidence[:3], claimed, *entry.evidence[4:]))
    with pytest.raises(ValueError, match="knows"):
        credibility("ageing")
