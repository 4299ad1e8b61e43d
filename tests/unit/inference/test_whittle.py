"""The likelihood against direct evaluation, its gradient against finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vbt.errors import Rejected
from vbt.inference import band_spectra, whittle


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T + np.eye(6)
    bins = [rng.normal(size=(k, 6)) + 1j * rng.normal(size=(k, 6)) for k in (3, 7)]
    spectra = np.stack([b.T @ b.conj() / len(b) for b in bins])
    return covariance, np.array([0.7, 1.3]), 0.2, rng.normal(size=6) * 0.3, spectra.real, np.array([3.0, 7.0]), bins


def test_it_is_the_complex_gaussian_density_of_the_bins(problem):
    covariance, power, noise, log_gain, spectra, counts, bins = problem
    gain = np.diag(np.exp(log_gain))
    direct = 0.0
    for c, b in zip(power, bins, strict=True):
        S = gain @ (c * covariance + noise * np.eye(6)) @ gain
        for x in b:
            direct += np.linalg.slogdet(S)[1] + (x.conj() @ np.linalg.solve(S, x)).real
    with jax.enable_x64(True):
        value = float(whittle(*map(jnp.asarray, (covariance, power, noise, log_gain, spectra, counts))))
    assert value == pytest.approx(direct, rel=1e-12)


def test_its_gradient_is_that_of_finite_differences(problem):
    covariance, power, noise, log_gain, spectra, counts, _ = problem
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(6, 6))
    directions = (direction + direction.T, rng.normal(size=2), 0.3, rng.normal(size=6))
    with jax.enable_x64(True):

        def along(t):
            moved = [
                jnp.asarray(x) + t * d for x, d in zip((covariance, power, noise, log_gain), directions, strict=True)
            ]
            return whittle(*moved, jnp.asarray(spectra), jnp.asarray(counts))

        step = 1e-5
        numeric = (float(along(step)) - float(along(-step))) / (2 * step)
        assert float(jax.grad(along)(0.0)) == pytest.approx(numeric, rel=1e-7)


def test_bands_hold_every_bin_once_and_correlation_is_that_of_the_filtered_recording():
    rng = np.random.default_rng(0)
    bold = rng.normal(size=(300, 12)).cumsum(axis=0)
    spectra = band_spectra(bold, 2.0)
    frequency = np.fft.rfftfreq(300, 2.0)
    inside = (frequency >= 0.01) & (frequency < 0.1)
    assert spectra.counts.sum() == inside.sum()
    import scipy.signal

    transform = np.fft.rfft(scipy.signal.detrend(bold, axis=0), axis=0)
    transform[~inside] = 0
    filtered = np.fft.irfft(transform, n=300, axis=0)
    np.testing.assert_allclose(spectra.correlation, np.corrcoef(filtered.T), atol=1e-10)
    np.testing.assert_allclose(spectra.scale, filtered.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "repetition_time", "code"),
    [
        ((400, 12), 6.0, "bold-sampled-too-slowly"),
        ((40, 12), 2.0, "bold-too-short"),
        ((400, 6), 2.0, "bold-too-few-regions"),
    ],
)
def test_recordings_that_cannot_inform_the_model_are_rejected_by_rule(shape, repetition_time, code):
    with pytest.raises(Rejected) as caught:
        band_spectra(np.random.default_rng(0).normal(size=shape), repetition_time)
    assert caught.value.code == code


def test_a_flat_region_is_rejected():
    bold = np.random.default_rng(0).normal(size=(400, 12))
    bold[:, 3] = 5.0
    with pytest.raises(Rejected, match="1 regions without"):
        band_spectra(bold, 2.0)
