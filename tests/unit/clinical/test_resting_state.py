"""Scenarios keep to the twin's closed forms; findings hold back what may not be said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.clinical.findings import Check, TwinFindings
from vbt.clinical.resting_state import EVOKED_SD, ScenarioRun, findings, run_scenarios, strongest_hub
from vbt.connectome import Connectome
from vbt.errors import Rejected, Unsound
from vbt.inference import ParameterDiagnostics, PredictiveCheck, RestingStateCalibration, SamplerDiagnostics
from vbt.simulation import ReplayManifest, effective_weights

LABELS = tuple(f"{side}.area{i}" for side in ("lh", "rh") for i in range(6))


@pytest.fixture(scope="module")
def connectome():
    rng = np.random.default_rng(0)
    weights = rng.lognormal(size=(12, 12)) * (rng.random((12, 12)) < 0.6)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    centres = rng.normal(size=(12, 3)) * 40
    lengths = np.linalg.norm(centres[:, None] - centres[None], axis=-1) * (weights > 0)
    return Connectome(
        weights=weights,
        tract_lengths=lengths,
        region_labels=LABELS,
        centres=centres,
        is_cortical=np.ones(12, dtype=bool),
        parcellation="test",
    )


@pytest.fixture(scope="module")
def calibration():
    rng = np.random.default_rng(1)
    draws = {"g": 0.8 + 0.01 * rng.normal(size=(4, 50)), "p": 0.7 + 0.02 * rng.normal(size=(4, 50))}
    draws |= {"h": 0.4 + 0.02 * rng.normal(size=(4, 50)), "u": np.ones((4, 50)), "n": np.full((4, 50), 0.1)}
    draws |= {"w0": np.full((4, 50), 1e-6), "k": np.full((4, 50), 4.0), "b": np.ones((4, 50))}
    good = {"r_hat": 1.0, "ess_bulk": 900.0, "ess_tail": 800.0, "shrinkage": 0.9}
    return RestingStateCalibration(
        region_labels=LABELS,
        used_regions=np.arange(12),
        repetition_time=2.0,
        draws=draws,
        priors={"b": ("log-normal", 0.14, 0.15)},
        parameters=tuple(ParameterDiagnostics(name=name, nuisance=name not in "gph", **good) for name in draws),
        sampler=SamplerDiagnostics(divergences=0, draws=1500, e_bfmi=0.9, saturated=0.0),
        verdict="sound",
        reasons=(),
        warnings=(),
        empirical_fc=np.eye(12),
        fitted_fc=np.eye(12),
        fit=0.5,
        baselines={"SC": 0.2, "SC^0.25": 0.3},
        noise_ceiling=0.6,
        checks=(PredictiveCheck(name="mean FC", observed=0.2, replicated=0.2, p_value=0.5),),
        split_half_z=float("nan"),
        bold_sd=0.5,
        band_edges=(0.01, 0.1),
        band_counts=(54,),
        manifest=ReplayManifest(
            entry="test",
            inputs={},
            outputs={},
            parameters={},
            seeds=(0,),
            prng="threefry2x32",
            dt=None,
            precision="double",
            batch_shape=(4,),
            xla_flags="",
            jax_version="",
            jaxlib_version="",
            device_kind="cpu",
            llvmlite_version="0",
        ),
    )


@pytest.fixture(scope="module")
def run(connectome, calibration):
    return run_scenarios(connectome, calibration, rng_seed=5, draws=2, duration=120.0)


def test_the_target_answers_the_stimulus_as_the_linear_model_says(run):
    expected = EVOKED_SD * 0.5
    assert np.median(run.endpoints["stimulation-evoked-bold"]) == pytest.approx(expected, rel=0.12)
    assert run.evoked_bold.argmax() == run.target


def test_removing_the_hub_takes_the_network_away_from_its_critical_point(run, connectome, calibration):
    """At least as far as the spectral radius that is left says; the lost tonic drive adds to it."""
    coupled = effective_weights(connectome.weights, LABELS, 0.7, 0.4)
    left = np.delete(np.delete(coupled, run.target, 0), run.target, 1)
    linear = 0.8 * (np.linalg.eigvalsh(left)[-1] - 1.0)
    assert (run.endpoints["resection-working-point-change"] < linear + 0.02).all()
    assert run.target == strongest_hub(connectome, calibration)


def test_the_resected_region_has_no_connectivity(run):
    assert np.isnan(run.resected_fc[run.target]).all()
    others = np.delete(np.arange(12), run.target)
    assert np.isfinite(run.resected_fc[np.ix_(others, others)]).all()


def test_a_run_survives_its_archive_and_repeats_to_the_last_bit(run, connectome, calibration):
    content = run.to_npz()
    assert ScenarioRun.from_npz(content).to_npz() == content
    assert run_scenarios(connectome, calibration, rng_seed=5, draws=2, duration=120.0).to_npz() == content


@pytest.mark.parametrize("verdict", ["sound", "unsound"])
def test_a_calibration_of_an_earlier_model_is_refused_and_said_to_be_made_again(connectome, calibration, verdict):
    """Before tractography's errors were inferred, a posterior had no draws of them."""
    kept = {name: calibration.draws[name] for name in ("g", "p", "h", "u", "n")}
    earlier = RestingStateCalibration.from_npz(
        dataclasses.replace(calibration, draws=kept, priors={}, verdict=verdict).to_npz()
    )
    with pytest.raises(Rejected, match=r"without w0, k, b; calibrate the case again") as refused:
        findings((), earlier, None)
    assert refused.value.code == "calibration-outdated"
    if earlier.sound:
        with pytest.raises(Rejected, match="calibrate the case again"):
            run_scenarios(connectome, earlier, rng_seed=0)


def test_an_unsound_calibration_yields_reasons_and_no_number(connectome, calibration, run):
    unsound = dataclasses.replace(calibration, verdict="unsound", reasons=("chains disagree on g",))
    with pytest.raises(Unsound, match="passed its gate"):
        run_scenarios(connectome, unsound, rng_seed=0)
    report = findings((), unsound, run)
    assert report.verdict == "unsound"
    assert report.scenarios == ()
    assert all(quantity.value is None for quantity in report.parameters)
    assert "chains disagree on g" in report.conclusion


def test_what_the_recording_does_not_identify_is_withheld_alone(calibration, run):
    parameters = tuple(dataclasses.replace(p, shrinkage=0.1) if p.name == "p" else p for p in calibration.parameters)
    report = findings((), dataclasses.replace(calibration, parameters=parameters), run)
    withheld = {quantity.code for quantity in report.parameters if quantity.value is None}
    assert withheld == {"connectivity-exponent"}


def test_findings_carry_every_scenario_endpoint_and_survive_json(calibration, run):
    check = Check(code="motion", label="Motion", value=0.1, limit="< 0.5 mm", passed=True)
    report = findings((check,), calibration, run)
    assert TwinFindings.from_json(report.to_json()) == report
    assert report.quality[0] == check
    codes = {quantity.code for scenario in report.scenarios for quantity in scenario.endpoints}
    assert codes == set(run.endpoints)
    assert report.evidence.startswith("None in patients")
