"""Spectra against sinusoids, white noise, Parseval and SciPy, and in a run against SciPy on its trajectory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from vbt.simulation import (
    LeadField,
    Linear,
    Network,
    PowerSpectrum,
    Spectrogram,
    TemporalAverage,
    resect,
    simulate,
)

INTERVAL = 0.004


def _network(**rest: object) -> Network:
    return Network(
        mass=Linear(),
        weights=np.zeros((2, 2)),
        tract_lengths=np.zeros((2, 2)),
        velocity=1.0,
        **rest,  # type: ignore[arg-type]
    )


def _watched(monitor, signal: np.ndarray) -> np.ndarray:
    """What a monitor says of a signal (sample, region) that comes one chunk per sampling interval."""
    with jax.enable_x64(True):
        bound = monitor.bound([_network()])
        every = round(monitor.period / monitor.sampling_interval)

        @jax.jit
        def run(signal):
            def span(carry, chunks):
                step = lambda c, x: (bound.step(c, x[:, None], INTERVAL), None)  # noqa: E731
                carry, _ = jax.lax.scan(step, carry, chunks)
                return bound.sample(carry, ())

            return jax.lax.scan(span, bound.begin(signal[0][:, None]), signal.reshape(-1, every, 2))[1]

        return np.asarray(run(jnp.asarray(signal)))[..., 0]


def _two(signal: np.ndarray) -> np.ndarray:
    return np.stack([signal, 0.5 * signal], axis=-1)


def _welch(signal: np.ndarray, samples: int, overlap: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    return scipy.signal.welch(
        signal, 1.0 / INTERVAL, "hann", samples, int(overlap * samples), detrend="constant", axis=0
    )


@pytest.mark.parametrize(("segment", "overlap"), [(1.0, 0.5), (1.0, 0.0), (0.5, 0.75), (0.996, 0.5)])
def test_power_spectrum_is_welchs(segment, overlap):
    signal = _two(np.random.default_rng(0).normal(size=2490) + np.sin(np.arange(2490) * 0.3))
    monitor = PowerSpectrum(period=2490 * INTERVAL, segment=segment, overlap=overlap)
    density = monitor.spectra(_watched(monitor, signal)[None])[0, 0]
    frequencies, expected = _welch(signal, round(segment / INTERVAL), overlap)
    np.testing.assert_allclose(monitor.frequencies, frequencies)
    np.testing.assert_allclose(density, expected, rtol=1e-9, atol=1e-18)


def test_a_sinusoid_has_its_power_at_its_frequency():
    t = INTERVAL * np.arange(2500)
    monitor = PowerSpectrum(period=10.0, segment=2.0)
    density = monitor.spectra(_watched(monitor, _two(3.0 * np.sin(2 * np.pi * 10.0 * t)))[None])[0, 0, :, 0]
    assert monitor.frequencies[density.argmax()] == 10.0
    assert density.sum() * 0.5 == pytest.approx(3.0**2 / 2.0, rel=1e-9)  # the variance of a sinusoid


def test_white_noise_is_flat_at_its_level():
    """Variance 1 spread evenly to 125 Hz: 2·Δt = 0.008 per Hz."""
    noise = np.random.default_rng(3).normal(size=250 * 200)
    monitor = PowerSpectrum(period=200.0, segment=1.0, highest=100.0)
    density = monitor.spectra(_watched(monitor, _two(noise))[None])[0, 0]
    assert density[2:, 0].mean() == pytest.approx(2.0 * INTERVAL, rel=0.02)
    assert density[2:, 1].mean() == pytest.approx(0.25 * 2.0 * INTERVAL, rel=0.02)
    assert density[2:, 0].std() / density[2:, 0].mean() < 0.12  # about 270 independent segments


def test_the_integral_of_a_spectrum_is_the_variance():
    """Parseval, exactly: one segment, its own window."""
    signal = np.random.default_rng(5).normal(size=250)
    monitor = PowerSpectrum(period=1.0, segment=1.0)
    density = _watched(monitor, _two(signal))[0].reshape(-1, 2)[:, 0]
    window = scipy.signal.get_window("hann", 250)
    expected = ((window * (signal - signal.mean())) ** 2).sum() / (window**2).sum()
    assert density.sum() * 1.0 == pytest.approx(expected, rel=1e-12)


def test_a_spectrogram_has_the_spectrum_of_the_last_segment():
    t = INTERVAL * np.arange(1500)
    signal = _two(np.where(t < 3.0, np.sin(2 * np.pi * 8.0 * t), 2.0 * np.sin(2 * np.pi * 20.0 * t)))
    monitor = Spectrogram(period=0.4, segment=1.0, highest=40.0)
    density = monitor.spectra(_watched(monitor, signal)[None])[0]
    assert np.isnan(density[:2]).all()  # 0.4 s and 0.8 s: no segment yet
    for sample in range(2, 15):
        end = 100 * (sample + 1)
        _, expected = _welch(signal[end - 250 : end], 250)
        np.testing.assert_allclose(density[sample], expected[:41], rtol=1e-9, atol=1e-18)
    assert monitor.frequencies[density[5, :, 0].argmax()] == 8.0
    assert monitor.frequencies[density[-1, :, 0].argmax()] == 20.0


@functools.cache
def _run():
    rest = {"sigma": (0.7,), "region_labels": ("a", "b")}
    field = LeadField(gain=np.array([[1.0, -1.0]]), sensors=("s",), region_labels=("a", "b"), unit="µV")
    network = _network(**rest)
    return simulate(
        [network, resect(network, ("b",))],
        [1, 2],
        duration=4.0,
        transient=0.4,
        monitors=[
            PowerSpectrum(period=2.0, segment=0.5),
            Spectrogram(period=0.5, segment=0.5, highest=30.0),
            PowerSpectrum.of(field, period=4.0, segment=1.0),
            TemporalAverage(INTERVAL),
        ],
        dt=0.1,
        precision="double",
    )


def test_spectra_of_a_run_are_those_of_its_trajectory():
    welch, spectrogram, sensor, trajectory = _run().observations
    activity = trajectory.values[0]
    assert welch.values.shape == (2, 2, 63 * 2)
    for half in range(2):
        _, expected = _welch(activity[500 * half : 500 * (half + 1)], 125)
        np.testing.assert_allclose(welch.values[0, half].reshape(63, 2), expected, rtol=1e-8)
    for sample in range(8):
        _, expected = _welch(activity[125 * sample : 125 * (sample + 1)], 125)
        np.testing.assert_allclose(spectrogram.values[0, sample].reshape(16, 2), expected[:16], rtol=1e-8)
    _, expected = _welch(activity[:, 0] - activity[:, 1], 250)
    np.testing.assert_allclose(sensor.values[0, 0], expected, rtol=1e-8)
    assert (welch.unit, sensor.unit) == ("Hz-1", "(µV)2/Hz")
    assert welch.labels[:4] == ("a 0 Hz", "b 0 Hz", "a 2 Hz", "b 2 Hz")


def test_a_removed_region_has_no_spectrum_and_is_silent_to_sensors():
    welch, _, sensor, trajectory = _run().observations
    by_region = welch.values[1].reshape(2, 63, 2)
    assert np.isfinite(by_region[..., 0]).all()
    assert np.isnan(by_region[..., 1]).all()
    _, expected = _welch(trajectory.values[1, :, 0], 250)
    np.testing.assert_allclose(sensor.values[1, 0], expected, rtol=1e-8)


def test_noise_driven_relaxation_has_a_lorentzian_spectrum():
    """x' = −x + σ ξ with 1 unit = 1 ms: PSD 2σ²/(λ² + (2πf)²) per Hz with λ = 1000 s⁻¹, averaged over the interval."""
    network = _network(sigma=(1.0,))
    run = simulate(
        [network] * 8, range(8), duration=8.0, transient=0.1, monitors=[
            PowerSpectrum(period=8.0, segment=0.1, sampling_interval=0.0005, highest=500.0)
        ], dt=0.1,
    )  # fmt: skip
    monitor = PowerSpectrum(period=8.0, segment=0.1, sampling_interval=0.0005, highest=500.0)
    density = monitor.spectra(run.observations[0].values).mean(axis=(0, 1, 3))[2:]
    f = monitor.frequencies[2:]
    # σ² is 1 per ms of the model's time: 1000 per s
    exact = 2.0 * 1000.0 / (1000.0**2 + (2 * np.pi * f) ** 2) * np.sinc(f * 0.0005) ** 2
    np.testing.assert_allclose(density, exact, rtol=0.08)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"period": 1.0}, "period must hold a segment of 2 s, got 1 s"),
        ({"period": 4.0, "segment": 0.0055}, "whole sampling intervals"),
        ({"period": 4.001}, "period must be whole sampling intervals"),
        ({"period": 4.0, "overlap": 1.0}, r"overlap must be in \[0, 1\)"),
        ({"period": 4.0, "highest": 0.0}, "highest frequency must be positive"),
    ],
)
def test_an_impossible_spectrum_is_refused(settings, rule):
    with pytest.raises(ValueError, match=rule):
        PowerSpectrum(**settings)


def test_the_manifest_tells_how_a_spectrum_was_taken():
    manifest = _run().manifest
    settings = manifest.parameters["monitor_settings"]
    assert settings[0]["segment"] == 0.5
    assert settings[1]["highest"] == 30.0
    assert settings[2]["sensors"] == ["s"]
    assert '"overlap": 0.5' in manifest.to_json()
    assert "monitor 2" in manifest.inputs
