"""The lifted twin obeys the linear network it was lifted from, and conditions change nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.simulation import (
    Bold,
    ReplayManifest,
    RestingTwin,
    TemporalAverage,
    at_rest,
    effective_weights,
    resect,
    simulate,
    static_covariance,
    working_point,
)


def both(period: float) -> list:
    """Activity, then BOLD."""
    return [TemporalAverage(period), Bold(period)]


LABELS = tuple(f"{side}.{name}" for side in ("lh", "rh") for name in "abcdef")


@pytest.fixture(scope="module")
def tracts():
    rng = np.random.default_rng(3)
    weights = rng.lognormal(size=(12, 12)) * (rng.random((12, 12)) < 0.6)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    lengths = rng.uniform(12.0, 120.0, (12, 12))
    return weights, np.triu(lengths, 1) + np.triu(lengths, 1).T


@pytest.fixture(scope="module")
def lifted(tracts):
    coupled = effective_weights(tracts[0], LABELS, 0.7, 0.4)
    return coupled, RestingTwin(), RestingTwin().lift(coupled, tracts[1], 0.85)


def test_effective_weights_are_symmetric_with_unit_radius_and_homotopic_links(tracts):
    coupled = effective_weights(tracts[0], LABELS, 0.7, 0.4)
    assert np.allclose(coupled, coupled.T)
    assert np.linalg.eigvalsh(coupled)[-1] == pytest.approx(1.0)
    without = effective_weights(tracts[0], LABELS, 0.7, 0.0)
    added = coupled / coupled[0, 1 + np.argmax(coupled[0, 1:6])] - without / without[0, 1 + np.argmax(coupled[0, 1:6])]
    homotopic = np.zeros((12, 12), dtype=bool)
    homotopic[np.arange(6), np.arange(6) + 6] = True
    assert (added[homotopic] > 1e-6).all()
    assert np.allclose(added[~(homotopic | homotopic.T)], 0.0, atol=1e-9)


def test_slow_input_is_answered_as_by_the_linear_network(lifted):
    coupled, twin, network = lifted
    push = 1e-6 * np.random.default_rng(1).normal(size=12)
    still = dataclasses.replace(network, sigma=())
    pushed = dataclasses.replace(still, mass=dataclasses.replace(network.mass, I=push))
    run = simulate([still, pushed], [0, 0], duration=2.0, monitors=both(2.0), dt=1.0, precision="double")
    answer = run.final_state[1, 0] - run.final_state[0, 0]
    expected = twin.fixed_point.static_gain(twin.mass) * np.linalg.solve(np.eye(12) - 0.85 * coupled, push)
    np.testing.assert_allclose(answer, expected, rtol=2e-4)


def test_simulated_connectivity_is_that_of_the_linear_network(lifted):
    """At low noise, within the Monte-Carlo error of the Fourier bins between .01 and .1 Hz."""
    coupled, _, network = lifted
    run = simulate([network] * 8, range(8), duration=300.0, transient=40.0, monitors=both(2.0), dt=1.0)
    spectrum = np.fft.rfft(run.observations[1].values - run.observations[1].values.mean(axis=1, keepdims=True), axis=1)
    frequency = np.fft.rfftfreq(run.observations[1].values.shape[1], 2.0)
    bins = spectrum[:, (frequency >= 0.01) & (frequency < 0.1)].reshape(-1, 12)
    response = np.linalg.inv(np.eye(12) - 0.85 * coupled)
    # Whitened by the closed form the bins are independent: mean eigenvalue 1 after scaling, scatter 1/√bins.
    white = np.linalg.solve(response, bins.T)
    gram = (white @ white.conj().T).real / len(bins.T[0])
    gram /= np.trace(gram) / 12
    z = (gram - np.eye(12)) * np.sqrt(len(bins))
    off = z[np.triu_indices(12, 1)] * np.sqrt(2)
    assert np.sqrt((off**2).mean()) < 1.35
    assert np.abs(np.diag(z)).max() < 4.0
    assert np.median(run.observations[1].values.std(axis=1)) == pytest.approx(0.5, rel=0.2)


def test_the_halved_time_step_changes_nothing_that_is_reported(lifted):
    _, _, network = lifted
    quiet = dataclasses.replace(network, sigma=(), mass=dataclasses.replace(network.mass, I=1e-5))
    coarse, fine = (
        simulate([quiet], [0], duration=2.0, monitors=both(2.0), dt=dt, precision="double").final_state[0]
        for dt in (1.0, 0.5)
    )
    np.testing.assert_allclose(coarse, fine, rtol=1e-6)


def test_removing_an_isolated_region_leaves_the_others_untouched_to_the_last_bit(tracts):
    weights = effective_weights(tracts[0], LABELS, 0.7, 0.4)
    weights[4, :] = weights[:, 4] = 0.0
    network = RestingTwin().lift(weights, tracts[1], 0.8)
    run = simulate([network, resect(network, (4,))], [5, 5], duration=4.0, monitors=both(2.0), dt=1.0)
    others = np.delete(np.arange(12), 4)
    assert np.array_equal(run.observations[1].values[0][:, others], run.observations[1].values[1][:, others])
    assert np.isnan(run.observations[1].values[1][:, 4]).all()


def test_a_resected_network_rests_where_newton_says(lifted):
    network = dataclasses.replace(at_rest(resect(lifted[2], (2,))), sigma=())
    run = simulate([network], [0], duration=2.0, monitors=both(2.0), dt=1.0, precision="double")
    others = np.delete(np.arange(12), 2)
    np.testing.assert_allclose(run.final_state[0][:, others], network.initial[:, others], rtol=1e-9)
    assert np.abs(run.observations[1].values[0][:, others]).max() < 1e-9


def test_working_point_of_the_untouched_twin_is_its_global_coupling(lifted):
    assert working_point(lifted[2]) == pytest.approx(0.85)
    assert working_point(at_rest(resect(lifted[2], (2,)))) < 0.85


def test_static_covariance_is_the_squared_response(lifted):
    response = np.linalg.inv(np.eye(12) - 0.5 * lifted[0])
    np.testing.assert_allclose(static_covariance(lifted[0], 0.5), response @ response)


def test_manifest_survives_json(lifted):
    run = simulate([lifted[2]], [7], duration=2.0, monitors=both(2.0), dt=1.0)
    assert ReplayManifest.from_json(run.manifest.to_json()) == run.manifest
    assert run.manifest.seeds == (7,)
    assert run.manifest.batch_shape == (12, 16)
