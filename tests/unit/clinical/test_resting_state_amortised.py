"""The second opinion says what it found, withholds what it did not, and says how far it is from the first."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from vbt.clinical._resting_state_amortised import (
    SecondOpinion,
    difference,
    opinion_checks,
    opinion_method,
    opinion_quantities,
)
from vbt.inference import AmortisedCalibration, Novelty, ParameterDiagnostics
from vbt.simulation import record


def _calibration(logit_g: float, **change) -> AmortisedCalibration:
    rng = np.random.default_rng(0)
    draws = {"g": expit(logit_g + 0.3 * rng.normal(size=(4, 500)))}
    draws |= {name: rng.random((4, 500)) for name in ("p", "h", "alpha")}
    whole = AmortisedCalibration(
        region_labels=("lh.a", "rh.a"),
        used_regions=np.arange(2),
        draws=draws,
        priors={"g": ("uniform", 0.2, 0.98)},
        parameters=tuple(
            ParameterDiagnostics(
                name=name,
                r_hat=1.0,
                ess_bulk=2000.0,
                ess_tail=1900.0,
                shrinkage=0.1 if name == "alpha" else 0.9,
                nuisance=name != "g",
                mcse=0.02,
            )
            for name in draws
        ),
        sampler=None,
        verdict="sound",
        reasons=(),
        warnings=(),
        checks=(),
        manifest=record(
            "test", inputs={}, outputs={}, parameters={}, seeds=(1,), dt=None, precision="single", batch_shape=(4,)
        ),
        novelty=Novelty(distance=5.0, quantile=0.4, disagreement=0.2),
        network="ab" * 32,
        card="{}",
        seconds=300.0,
    )
    return dataclasses.replace(whole, **change)


def test_numbers_come_with_intervals_and_what_is_not_identifiable_is_withheld():
    found = {q.code: q for q in opinion_quantities(SecondOpinion(calibration=_calibration(1.0), network=b""))}
    assert found["population-coupling"].low < expit(1.0) < found["population-coupling"].high
    assert "not identifiable" in found["interhemispheric-loss"].withheld


def test_a_novel_recording_gives_no_number():
    refused = _calibration(1.0, verdict="unsound", reasons=("out of distribution: far",))
    found = opinion_quantities(SecondOpinion(calibration=refused, network=b""))
    assert all("out of distribution" in q.withheld for q in found)


def test_agreement_is_in_joint_standard_deviations():
    """Means 1.5 and 1 on the logit, standard deviations .3 each: 0.5/(0.3·√2)."""
    assert difference(_calibration(1.0), _calibration(1.5)) == pytest.approx(0.5 / (0.3 * np.sqrt(2)), rel=0.05)
    opinion = SecondOpinion(calibration=_calibration(1.0), network=b"")
    assert opinion_checks(opinion, _calibration(1.2))[-1].passed
    last = opinion_checks(opinion, _calibration(2.5))[-1]
    assert last.code == "second-opinion-agreement"
    assert not last.passed
    unsound = _calibration(2.5, verdict="unsound", reasons=("x",))
    assert all(check.code != "second-opinion-agreement" for check in opinion_checks(opinion, unsound))


def test_the_method_names_the_learned_component_and_its_digest():
    said = opinion_method(SecondOpinion(calibration=_calibration(1.0), network=b""))
    assert "learned component" in said
    assert "abababababab" in said
