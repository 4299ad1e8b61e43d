"""Calibration recovers what made the recording, says how sure it is, and refuses what did not converge."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from vbt.inference import (
    PRIORS,
    ParameterDiagnostics,
    RestingStateCalibration,
    SamplerDiagnostics,
    band_spectra,
    calibrate_resting_state,
    coupling_at,
    gate,
    model_correlation,
    used_regions,
)
from vbt.inference._linear_network import coupling, resting_state, signal_correlation
from vbt.inference._nuts import Posterior
from vbt.inference._resting_state import nearness_of, observe
from vbt.simulation import effective_weights

TRUTH = {"g": 0.8, "p": 0.7, "h": 0.5}


@pytest.fixture(scope="module")
def calibration(connectome, recording, tracked):
    rng = np.random.default_rng(1)
    bold = recording(connectome, rng, **TRUTH)
    return calibrate_resting_state(tracked(connectome, rng), bold, 2.0, rng_seed=3)


def test_a_recording_of_the_model_passes_the_gate(calibration):
    assert calibration.reasons == ()
    assert calibration.verdict == "sound"
    assert calibration.diagnostics("g").identifiable


def test_the_truth_lies_in_wide_intervals(calibration):
    for name, value in TRUTH.items():
        _, low, high = calibration.interval(name, 0.99)
        assert low < value < high, name


def test_the_fit_beats_the_connectome_and_reaches_its_ceiling(calibration):
    assert calibration.fit > max(calibration.baselines.values())
    assert calibration.fit == pytest.approx(calibration.noise_ceiling, abs=0.1)
    assert all(0.01 < check.p_value < 0.99 for check in calibration.checks)


def test_a_calibration_survives_its_archive(calibration):
    content = calibration.to_npz()
    again = RestingStateCalibration.from_npz(content)
    assert again.to_npz() == content
    assert again.manifest == calibration.manifest
    assert again.interval("p") == calibration.interval("p")


def test_the_same_seed_gives_the_same_draws(connectome, recording):
    bold = recording(connectome, np.random.default_rng(2), **TRUTH)
    first, second = (calibrate_resting_state(connectome, bold, 2.0, rng_seed=3, draws=25, rounds=1) for _ in range(2))
    assert all(np.array_equal(first.draws[name], second.draws[name]) for name in first.draws)
    assert first.verdict == "unsound"  # 100 draws cannot pass for 400
    assert any("too few independent draws" in reason for reason in first.reasons)


def test_mode_and_curvature_cover_the_truth_as_often_as_they_claim(connectome_of, recording, tracked):
    """12 recordings, truth and tractography drawn anew: 36 intervals of 90 %; below 27 has probability below 0.3 %."""
    inside, posterior = 0, None
    for seed in range(12):
        rng = np.random.default_rng(seed)
        connectome = connectome_of(seed)
        truth = {"g": rng.uniform(0.5, 0.95), "p": rng.uniform(0.4, 1.0), "h": rng.uniform(0.1, 0.8)}
        spectra = band_spectra(recording(connectome, rng, **truth), 2.0)
        with jax.enable_x64(True):
            measured = tracked(connectome, rng)
            observed = observe(measured.weights, measured.region_labels, nearness_of(measured.centres), spectra)
            posterior = posterior or Posterior(resting_state, observed)
            mode = posterior.mode(observed, starts=2, rng_seed=seed)
            where = posterior.split(mode.location[None])
            spread = posterior.split(np.sqrt(np.diag(mode.covariance))[None])
            z = np.linspace(-6.0, 6.0, 4001)
            for name, value in truth.items():
                true_z = np.interp(value, np.asarray(PRIORS[name].of_normal(z)), z)
                inside += abs(true_z - where[f"{name}_normal"][0]) < 1.645 * spread[f"{name}_normal"][0]
    assert inside >= 27


def test_coupling_in_the_model_is_the_one_that_scenarios_use(connectome):
    value = {"p": 0.6, "h": 0.3, "w0": 0.4, "k": 2.5, "b": 1.2}
    spectra = band_spectra(np.random.default_rng(0).normal(size=(400, 24)), 2.0)
    with jax.enable_x64(True):
        observed = observe(connectome.weights, connectome.region_labels, nearness_of(connectome.centres), spectra)
        mine = np.asarray(coupling(observed, value))
    np.testing.assert_allclose(mine, coupling_at(connectome.weights, connectome.region_labels, value))


def test_replicates_are_drawn_from_the_model_that_was_fitted(connectome):
    value = {"g": 0.8, "p": 0.6, "h": 0.3, "u": 2.0, "w0": 0.4, "k": 2.5, "b": 1.2, "r": 0.3, "m": 0.4}
    near = nearness_of(connectome.centres)
    spectra = band_spectra(np.random.default_rng(0).normal(size=(400, 24)), 2.0)
    with jax.enable_x64(True):
        observed = observe(connectome.weights, connectome.region_labels, near, spectra)
        mine = np.asarray(signal_correlation(observed, value))
    np.testing.assert_allclose(mine, model_correlation(connectome.weights, connectome.region_labels, near, value))


def test_what_neighbours_mix_in_is_seen_and_leaves_the_coupling(connectome, recording):
    """Each region's signal shows 0.3 exp(−distance/9 mm) of every other's."""
    bold = recording(connectome, np.random.default_rng(8), g=0.7, p=0.7, h=0.5)
    mixed = bold @ (np.eye(24) + 0.3 * nearness_of(connectome.centres)).T
    found = []
    for series in (bold, mixed):
        spectra = band_spectra(series, 2.0)
        with jax.enable_x64(True):
            weights, labels = connectome.weights, connectome.region_labels
            observed = observe(weights, labels, nearness_of(connectome.centres), spectra)
            posterior = Posterior(resting_state, observed)
            mode = posterior.mode(observed, starts=2, rng_seed=0)
            found.append(
                {k: float(v[0]) for k, v in posterior.constrained(mode.location[None], observed).items() if v.ndim == 1}
            )
    assert found[0]["m"] < 0.15 < 0.2 < found[1]["m"] < 0.45
    assert found[1]["g"] == pytest.approx(found[0]["g"], abs=0.03)


def test_a_flawless_tractography_leaves_the_simulator_s_coupling(connectome):
    value = {"p": 0.6, "h": 0.3, "w0": 1e-9, "k": 5.0, "b": 1.0}
    known = effective_weights(connectome.weights, connectome.region_labels, 0.6, 0.3)
    np.testing.assert_allclose(coupling_at(connectome.weights, connectome.region_labels, value), known)


def test_false_weak_connections_do_not_move_the_exponent(connectome, recording, tracked):
    """Without an error model of tractography: .48 to .66 here, .64 to .72 on a digital patient whose truth is .4."""
    rng = np.random.default_rng(5)
    bold = recording(connectome, rng, g=0.8, p=0.5, h=0.4)
    calibration = calibrate_resting_state(tracked(connectome, rng), bold, 2.0, rng_seed=3)
    assert calibration.sound
    _, low, high = calibration.interval("p", 0.95)
    assert low < 0.5 < high


def test_calibrating_leaves_the_caller_s_precision_alone(calibration):
    assert calibration.draws["g"].dtype == np.float64
    assert jax.numpy.ones(1).dtype == jax.numpy.float32


def test_brainstem_and_silent_regions_are_left_out(connectome):
    labels = ("brainstem", *connectome.region_labels[1:])
    bold = np.random.default_rng(0).normal(size=(10, 24))
    bold[:, 5], bold[2, 7] = 1.0, np.nan
    used = used_regions(dataclasses.replace(connectome, region_labels=labels), bold)
    assert np.flatnonzero(~used).tolist() == [0, 5, 7]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"r_hat": 1.02}, "chains disagree"),
        ({"ess_tail": 399.0}, "too few"),
        ({"r_hat": float("nan")}, "chains disagree"),
    ],
)
def test_the_gate_refuses_what_did_not_converge(change, reason):
    good = ParameterDiagnostics(name="g", r_hat=1.0, ess_bulk=900.0, ess_tail=800.0, shrinkage=0.9)
    sampler = SamplerDiagnostics(divergences=0, draws=1500, e_bfmi=0.9, saturated=0.0)
    assert gate((good,), sampler) == ()
    assert reason in gate((dataclasses.replace(good, **change),), sampler)[0]


@pytest.mark.parametrize("change", [{"divergences": 2}, {"e_bfmi": 0.2}, {"saturated": 0.02}])
def test_the_gate_refuses_a_sampler_in_trouble(change):
    sampler = SamplerDiagnostics(divergences=0, draws=1500, e_bfmi=0.9, saturated=0.0)
    assert gate((), dataclasses.replace(sampler, **change))
