"""The second opinion says what it found, withholds what it did not, and says how far it is from the first."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from vbt.clinical._resting_state_amortised import difference, opinion_of, second_opinion
from vbt.clinical.application import Recordings
from vbt.clinical.findings import Quantity, TwinFindings
from vbt.clinical.second_opinion import Opinion
from vbt.connectome import RegionalBold
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


def _found(calibration, linear=None):
    opinion = opinion_of(calibration, linear or _calibration(1.0))
    return opinion, {quantity.code: quantity for quantity in opinion.parameters}


def test_numbers_come_with_intervals_and_what_is_not_identifiable_is_withheld():
    _, found = _found(_calibration(1.0))
    assert found["population-coupling"].low < expit(1.0) < found["population-coupling"].high
    assert "not identifiable" in found["interhemispheric-loss"].withheld


def test_a_novel_recording_gives_no_number_and_says_why():
    opinion, found = _found(_calibration(1.0, verdict="unsound", reasons=("out of distribution: far",)))
    assert all("out of distribution" in q.withheld for q in found.values())
    assert opinion.verdict == "refused"
    assert opinion.conclusion == "Second opinion: refused because out of distribution: far."
    assert all(check.code != "second-opinion-agreement" for check in opinion.quality)


def test_agreement_is_in_joint_standard_deviations():
    """Means 1.5 and 1 on the logit, standard deviations .3 each: 0.5/(0.3·√2)."""
    assert difference(_calibration(1.0), _calibration(1.5)) == pytest.approx(0.5 / (0.3 * np.sqrt(2)), rel=0.05)
    near, _ = _found(_calibration(1.0), _calibration(1.2))
    assert near.quality[-1].passed
    assert near.conclusion.startswith("Second opinion: agrees, with a coupling of 0.73 (90% interval 0.6")
    far, _ = _found(_calibration(1.0), _calibration(2.5))
    assert far.quality[-1].code == "second-opinion-agreement"
    assert not far.quality[-1].passed
    assert far.conclusion.startswith("Second opinion: disagrees")


def test_the_method_names_the_learned_component_and_its_digest():
    (said,) = _found(_calibration(1.0))[0].methods
    assert "learned component" in said
    assert "abababababab" in said


def test_beside_the_findings_it_changes_none_of_their_numbers():
    first = TwinFindings(
        application="resting_state",
        context_of_use="test",
        verdict="sound",
        conclusion="First.",
        parameters=(Quantity(code="global-coupling", label="g", unit="1", value=0.7),),
    )
    opinion, _ = _found(_calibration(1.0))
    joined = Opinion.from_json(opinion.to_json()).joined(first)
    assert joined.parameters == (*first.parameters, *opinion.parameters)
    assert joined.verdict == "sound"
    assert joined.conclusion == f"First. {opinion.conclusion}"
    assert TwinFindings.from_json(joined.to_json()) == joined


@pytest.mark.parametrize(
    ("samples", "verdict", "why"),
    [
        (60, "sound", "need 180 s of BOLD, and this has 120 s"),
        (150, "unsound", "the first calibration gives no number"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_trained(samples, verdict, why):
    bold = RegionalBold(
        time_series=np.zeros((samples, 2)),
        repetition_time=2.0,
        region_labels=("lh.a", "rh.a"),
        framewise_displacement=np.zeros(samples),
        tsnr=np.ones(2),
        voxels=np.ones(2),
    )
    said = second_opinion(
        None, Recordings(bold=bold), _calibration(1.0, verdict=verdict), rng_seed=1, simulations=48, progress=print
    )
    assert why in said.opinion.conclusion
    assert set(said.archives()) == {"second-opinion.json"}
