"""Summaries of a recording are what closed forms and simple signals say they are."""

from __future__ import annotations

import numpy as np
import pytest

from vbt.inference._features import (
    apart,
    band_powers,
    functional_connectivity,
    functional_connectivity_dynamics,
    in_band,
    moments,
)

TR = 2.0
TIME = np.arange(300) * TR


def test_connectivity_of_sinusoids_is_the_cosine_of_their_phase():
    phases = np.array([0.0, 0.5, np.pi / 2, np.pi])
    fc = functional_connectivity(np.sin(2 * np.pi * 0.05 * TIME[:, None] + phases))
    np.testing.assert_allclose(fc, np.cos(phases[:, None] - phases), atol=1e-9)


def test_power_of_a_sinusoid_is_in_its_band_alone():
    shares = band_powers(np.sin(2 * np.pi * np.array([0.02, 0.04, 0.06, 0.09]) * TIME[:, None]), TR)
    np.testing.assert_allclose(shares, np.eye(4), atol=1e-3)


def test_white_noise_has_power_in_proportion_to_bandwidth():
    shares = band_powers(np.random.default_rng(0).normal(size=(5000, 20)), TR).mean(axis=1)
    np.testing.assert_allclose(shares, np.array([0.015, 0.025, 0.025, 0.025]) / 0.09, rtol=0.05)


def test_what_is_outside_the_band_is_taken_away_and_what_is_inside_stays():
    inside = np.sin(2 * np.pi * 0.05 * TIME)[:, None]
    outside = np.sin(2 * np.pi * 0.2 * TIME)[:, None] + 0.005 * TIME[:, None] + 3.0
    np.testing.assert_allclose(in_band(inside, TR), inside, atol=0.05)
    assert np.abs(in_band(inside + outside, TR) - in_band(inside, TR)).max() < 0.02


def test_moments_are_those_of_known_laws():
    rng = np.random.default_rng(0)
    found = moments(np.column_stack([rng.normal(2.0, 3.0, 200_000), rng.exponential(1.0, 200_000)]))
    np.testing.assert_allclose(found, [[2, 1], [3, 1], [0, 2], [0, 6]], atol=0.5)


def test_dynamics_of_a_stationary_signal_lie_within_its_surrogates():
    """Phase-shuffled copies keep spectrum and connectivity: a stationary signal's FCD varies no more than theirs."""
    rng = np.random.default_rng(3)
    loading = rng.normal(size=(10, 10)) + 2.0

    def signal():
        return in_band(rng.normal(size=(300, 10)) @ loading.T, TR)

    def spread(bold):
        return apart(functional_connectivity_dynamics(bold, TR), TR).var()

    stationary = signal()
    transform = np.fft.rfft(stationary, axis=0)
    null = []
    for _ in range(60):
        shift = np.exp(2j * np.pi * rng.random(len(transform)))[:, None]
        null.append(spread(np.fft.irfft(transform * shift, n=300, axis=0)))
    assert spread(stationary) < np.quantile(null, 0.95)
    switching = np.vstack([signal()[:150], signal()[:150] @ np.diag([1, -1] * 5)])
    assert spread(switching) > np.quantile(null, 0.95)


def test_dynamics_are_one_where_nothing_changes_and_low_where_connectivity_flips():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(30, 8)) @ rng.normal(size=(8, 8))
    again = functional_connectivity_dynamics(np.vstack([first, first]), TR, stride=60.0)
    np.testing.assert_allclose(again, 1.0)
    flipped = functional_connectivity_dynamics(np.vstack([first, first * np.array([1, -1] * 4)]), TR, stride=60.0)
    assert flipped[0, 1] < 0.5


def test_windows_apart_share_no_sample():
    fcd = np.add.outer(np.arange(50), -np.arange(50)).astype(float)
    assert np.abs(apart(fcd, TR)).min() == 30  # 60 s at 2 s


def test_a_window_longer_than_the_recording_is_an_error():
    with pytest.raises(ValueError, match="window"):
        functional_connectivity_dynamics(np.zeros((20, 3)), TR)
