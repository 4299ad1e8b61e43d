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


def test_every_calibrated_model_can_be_calibrated():
    for name in names():
        entry = credibility(name)
        assert set(entry.calibrated) <= set(SBC_MODELS)
        assert len(entry.calibrations) == len(entry.calibrated)


@pytest.mark.parametrize("name", names())
def test_a_kept_calibration_is_shown_with_its_counts_and_as_passed_only_where_it_is(name):
    entry = credibility(name)
    for model, shown in zip(entry.calibrated, entry.calibrations, strict=True):
        kept = calibration_of(model)
        if kept is None:
            assert shown == f"Simulation-based calibration of {model}: no result is kept."
            continue
        assert kept.model == model
        assert f"{kept.replicates} replicates, {kept.fitted} fitted, {kept.refused} refused" in shown
        assert kept.fitted + kept.refused == kept.replicates
        assert ("passed" in shown) is (kept.passed and kept.fitted >= 100)


def test_the_kept_result_says_of_itself_what_is_read_from_it():
    """The file as it lies there, for a reader without this code."""
    folder = ROOT / "libs/vbt/clinical/credibility/calibration"
    for file in folder.glob("*.json"):
        kept = calibration_of(file.stem)
        assert kept is not None
        assert file.read_text() == kept.to_json()


def test_what_was_kept_of_the_conduction_model_is_what_is_told():
    kept = calibration_of("delayed_spectrum")
    assert (kept.replicates, kept.fitted, kept.outcome) == (160, 152, "passed")
    assert {round(p.coverage(0.9)[0], 2) for p in kept.parameters} <= {0.89, 0.9, 0.91, 0.93}
    (told,) = [e for e in credibility("multiple_sclerosis").evidence if e.category.startswith("calculation")]
    assert "152 of 160" in told.summary
    assert "8 were refused" in told.summary


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
