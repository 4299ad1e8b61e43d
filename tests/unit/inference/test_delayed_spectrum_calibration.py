"""Calibrating conduction on recordings drawn from the model, on recordings that are not, and on unusable ones."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vbt.errors import Rejected, Unsound
from vbt.inference import SpectralCalibration, calibrate_delayed_spectrum, spectral_difference
from vbt.inference._delayed_spectrum import DelayedNetwork, strength_scaled
from vbt.inference._delayed_spectrum_connectome_error import LARGEST_ERROR, NEEDED_ERROR
from vbt.inference._delayed_spectrum_likelihood import COORDINATES, SpectralLikelihood
from vbt.inference._delayed_spectrum_sbc import draw_signals, small_connectome
from vbt.inference._delayed_spectrum_surrogate import (
    Nodes,
    bent_back,
    fidelity,
    fit_surrogate,
    quasi_random,
    straightened,
    tempered,
)

REGIONS = 8
LABELS = tuple(f"area{i}" for i in range(REGIONS))
RATE = 128.0
TRUTH = {"velocity": 7.0, "coupling": 900.0, "frequency": 40.5, "decay": 5.0, "noise": 0.05, "gamma": 1.5}


def recording(truth, *, seconds=60, seed=0, gain=None):
    weights, lengths, lesions = small_connectome(REGIONS, 0)
    network = DelayedNetwork.of(strength_scaled(weights), lengths, lesions, gain)
    channels, frequencies = REGIONS if gain is None else len(gain), np.arange(2.0, 42.0)
    likelihood = SpectralLikelihood(network, frequencies, np.ones(40), np.zeros((40, channels, channels), complex))
    x = np.array([truth[n] if n in ("frequency", "gamma") else np.log(truth[n]) for n in COORDINATES])
    return draw_signals(likelihood, x, int(seconds * RATE), RATE, np.random.default_rng(seed))


def calibrated(signals, *, lesioned=True, **settings):
    weights, lengths, lesions = small_connectome(REGIONS, 0)
    settings = {"region_labels": LABELS, "rng_seed": 0, "lesion_fraction": lesions if lesioned else None} | settings
    return calibrate_delayed_spectrum(weights, lengths, signals, settings.pop("rate", RATE), **settings)


class Kept(dict):
    """A checkpoint in memory."""

    def load(self, name):
        return self.get(name)

    def save(self, name, content):
        self[name] = content


@pytest.fixture(scope="module")
def calibration():
    return calibrated(recording(TRUTH))


def test_velocity_coupling_and_lesion_delay_are_recovered(calibration):
    assert calibration.sound, calibration.reasons
    assert calibration.has_lesions
    for name, true in TRUTH.items():
        draws = calibration.draws[name]
        assert abs(np.median(draws) - true) < 3.5 * draws.std(), name
    assert calibration.interval("velocity")[0] == pytest.approx(7.0, rel=0.1)
    assert calibration.diagnostics("gamma").identifiable
    assert calibration.fidelity.efficiency > 0.9
    assert "absolute only as far as the connectome" in calibration.warnings[0]


def test_the_posterior_survives_its_archive(calibration):
    again = SpectralCalibration.from_npz(calibration.to_npz())
    assert again.to_npz() == calibration.to_npz()
    assert (again.fit, again.fidelity, again.likelihood) == (
        calibration.fit,
        calibration.fidelity,
        calibration.likelihood,
    )


def test_a_killed_calibration_goes_on_bit_for_bit(calibration):
    class Killed(Exception):
        pass

    kept = Kept()

    def kill(_message, fraction):
        if fraction > 0.55:
            raise Killed

    with pytest.raises(Killed):
        calibrated(recording(TRUTH), checkpoint=kept, progress=kill)
    assert "surrogate-0-nodes" in kept
    assert any("chain" in name for name in kept)
    resumed = calibrated(recording(TRUTH), checkpoint=kept)
    np.testing.assert_array_equal(resumed.draws["velocity"], calibration.draws["velocity"])


def test_sensors_under_a_common_reference_see_the_same_velocity():
    rng = np.random.default_rng(5)
    gain = rng.normal(size=(12, REGIONS))
    signals = recording(TRUTH, gain=gain, seed=3)
    found = calibrated(signals - signals.mean(axis=1, keepdims=True), gain=gain)
    assert found.sound, found.reasons
    # 12 sensors of 8 regions hold 8 independent combinations.
    assert found.observed.shape[1] == REGIONS
    draws = found.draws["velocity"]
    assert abs(np.median(draws) - 7.0) < 3.5 * draws.std()
    assert found.interval("velocity")[0] == pytest.approx(7.0, rel=0.1)


def test_slower_conduction_is_told_from_the_difference(calibration):
    slower = calibrated(recording({**TRUTH, "velocity": 5.5}, seed=9))
    median, low, high, lower = spectral_difference("velocity", slower, calibration)
    assert low < -1.5 < high
    assert high < 0
    assert median == pytest.approx(-1.5, abs=0.6)
    assert lower > 0.99
    with pytest.raises(Unsound):
        spectral_difference("velocity", dataclasses.replace(slower, verdict="unsound", reasons=("r",)), calibration)
    with pytest.raises(ValueError, match="same connectome"):
        spectral_difference("velocity", dataclasses.replace(slower, connectome="0"), calibration)


def test_intervals_allow_for_the_errors_of_a_connectome_that_its_residuals_show(calibration):
    weights, lengths, lesions = small_connectome(REGIONS, 0)
    upper = np.triu(np.random.default_rng(8).normal(size=weights.shape), 1)
    wrong = weights * np.exp(0.3 * (upper + upper.T))
    found = calibrate_delayed_spectrum(
        wrong, lengths, recording(TRUTH), RATE, region_labels=LABELS, rng_seed=0, lesion_fraction=lesions
    )
    assert calibration.connectome_error == 0.0
    assert found.sound, found.reasons
    assert 0.1 < found.connectome_error < 0.8
    assert found.fit.chi_square == found.connectome_error / LARGEST_ERROR
    assert any("only with errors of its weights" in warning for warning in found.warnings)
    for name in ("velocity", "gamma"):
        assert found.draws[name].std() > 1.5 * calibration.draws[name].std()
        _, low, high = found.interval(name)
        assert low < TRUTH[name] < high


def test_a_recording_with_its_channels_exchanged_is_beyond_any_error_of_the_connectome():
    found = calibrated(recording(TRUTH)[:, [3, 5, 0, 7, 1, 6, 2, 4]])
    assert not found.sound
    assert any(NEEDED_ERROR in reason for reason in found.reasons)


def test_a_recording_of_another_kind_is_refused():
    rng = np.random.default_rng(2)
    samples = int(60 * RATE)
    grid = np.fft.rfftfreq(samples)
    pink = np.fft.rfft(rng.normal(size=(samples, REGIONS)), axis=0) / np.sqrt(np.maximum(grid, grid[1]))[:, None]
    found = calibrated(np.fft.irfft(pink, n=samples, axis=0))
    assert not found.sound
    assert found.fit.chi_square > 1.05


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: {"signals": s[: int(15 * RATE)]}, "recording-too-short"),
        (lambda s: {"signals": s, "rate": 80.0}, "recording-sampling-rate-too-low"),
        (lambda s: {"signals": np.where(np.arange(REGIONS) == 2, 1.0, s)}, "recording-flat-channels"),
        (lambda s: {"signals": np.where(np.arange(REGIONS) == 2, np.nan, s)}, "recording-flat-channels"),
        (lambda s: {"signals": np.clip(s, -1.5 * s.std(), 1.5 * s.std())}, "recording-clipped-channels"),
        (lambda s: {"signals": s[:, :1], "gain": np.ones((1, REGIONS))}, "recording-too-few-channels"),
        (lambda s: {"signals": s, "gain": np.ones((REGIONS, REGIONS))}, "recording-too-few-channels"),
        (lambda s: {"signals": s, "lesion_fraction": np.full((REGIONS, REGIONS), 1.2)}, "lesion-fraction-out-of-range"),
    ],
)
def test_what_cannot_inform_the_model_is_refused_by_name(change, code):
    settings = change(recording(TRUTH, seconds=30))
    with pytest.raises(Rejected) as refusal:
        calibrated(**settings)
    assert refusal.value.code == code


def test_a_connectome_with_isolated_regions_or_tracts_without_length_is_refused():
    weights, lengths, _ = small_connectome(REGIONS, 0)
    signals = recording(TRUTH, seconds=30)
    cut = weights.copy()
    cut[3] = cut[:, 3] = 0.0
    with pytest.raises(Rejected, match="1 of 8 regions without"):
        calibrate_delayed_spectrum(cut, lengths, signals, RATE, region_labels=LABELS, rng_seed=0)
    with pytest.raises(Rejected, match="tract length"):
        calibrate_delayed_spectrum(weights, 0 * lengths, signals, RATE, region_labels=LABELS, rng_seed=0)
    with pytest.raises(ValueError, match="signals must have 8 columns"):
        calibrate_delayed_spectrum(weights, lengths, signals[:, :5], RATE, region_labels=LABELS, rng_seed=0)


def _quartic(x):
    u = x - np.array([1.0, -2.0])
    return 3.0 + u @ u + 0.2 * u[0] ** 3 - 0.1 * u[0] ** 2 * u[1] ** 2


class Quartic:
    def value_and_gradient(self, x):
        return _quartic(x), np.array([(_quartic(x + e) - _quartic(x - e)) / 2e-5 for e in 1e-5 * np.eye(2)])


def test_the_surrogate_of_a_quartic_is_the_quartic_and_opens_no_well_far_away():
    centre, factor = np.array([1.0, -2.0]), np.diag([0.7, 0.7])
    points = centre + quasi_random(40, 2, 0) @ factor.T
    found = [Quartic().value_and_gradient(p) for p in points]
    nodes = Nodes(x=points, values=np.array([v for v, _ in found]), gradients=np.stack([g for _, g in found]))
    surrogate = fit_surrogate(nodes, centre, factor, np.full(2, -np.inf), 0.98 * np.eye(2), 4)
    for x in points[:10]:
        assert float(surrogate(x, np)) == pytest.approx(_quartic(x), abs=1e-6)
        assert float(surrogate(jnp.asarray(x))) == pytest.approx(_quartic(x), abs=1e-3)
    far = centre + np.array([[60.0, 60.0], [-60.0, 60.0], [0.0, 90.0]])
    assert min(float(surrogate(x, np)) for x in far) > 1000.0


class Logistic:
    """Of exp x alone, so that it is flat where the recording cannot tell exp x from 0."""

    def value_and_gradient(self, x):
        theta = np.exp(x)
        return float(((theta - 1.0) ** 2).sum()), 2.0 * (theta - 1.0) * theta


def test_a_logarithm_that_runs_to_minus_infinity_is_straightened():
    shift = np.zeros(1)
    points = bent_back(np.array([0.7]) + 0.3 * quasi_random(24, 1, 0), shift)
    np.testing.assert_allclose(bent_back(straightened(points, shift), shift), points, atol=1e-9)
    found = [Logistic().value_and_gradient(p) for p in points]
    nodes = Nodes(x=points, values=np.array([v for v, _ in found]), gradients=np.stack([g for _, g in found]))
    errors = []
    for of in (shift, np.full(1, -np.inf)):
        centre, factor = straightened(np.zeros(1), of), np.full((1, 1), 0.3)
        surrogate = fit_surrogate(nodes, centre, factor, of, np.full((1, 1), 0.3), 4)
        at = np.array([[-6.0], [-2.0], [0.0], [0.4]])
        exact = [Logistic().value_and_gradient(x)[0] for x in at]
        errors.append(max(abs(float(surrogate(x, np)) - e) for x, e in zip(at, exact, strict=True)))
    assert errors[0] < 0.1
    assert errors[1] > 3.0 * errors[0]


def test_weights_are_tempered_until_a_quarter_of_the_draws_is_left():
    even = tempered(np.array([0.0, 0.1, -0.1, 0.0]))
    np.testing.assert_allclose(even, np.exp([0.0, 0.1, -0.1, 0.0]) / np.exp([0.0, 0.1, -0.1, 0.0]).sum())
    wild = tempered(np.linspace(0.0, 400.0, 200))
    assert 50.0 <= 1.0 / (wild**2).sum() < 70.0
    assert wild[-1] == wild.max()


def test_draws_from_a_wrong_surrogate_are_found_out():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=200)
    assert fidelity(exact, exact + 0.01 * rng.normal(size=200)).good
    assert not fidelity(exact, exact + 1.0 * rng.normal(size=200)).good
    assert not fidelity(exact, np.where(np.arange(200) == 3, np.inf, exact)).good
