from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.electrophysiology import Event, SensorRecording, bipolar, seizure_envelope
from vbt.errors import Rejected

RATE = 512.0
TIME = np.arange(int(40 * RATE)) / RATE


def _recording(*channels: np.ndarray, labels: tuple[str, ...] | None = None, **more: object) -> SensorRecording:
    names = labels or tuple(f"A{n + 1}" for n in range(len(channels)))
    positions = np.arange(len(channels))[:, None] * np.array([3.5, 0.0, 1.0])
    signals = np.stack(channels, axis=1)
    recording = SensorRecording(
        kind="seeg", signals=signals, sampling_rate=RATE, channel_labels=names, positions=positions
    )
    return dataclasses.replace(recording, **more)  # type: ignore[arg-type]


def test_a_sinusoid_has_the_log_of_half_its_squared_amplitude() -> None:
    amplitude = 80e-6
    wave = amplitude * np.sin(2 * np.pi * 30.0 * TIME)
    envelope = seizure_envelope(_recording(wave), band=(10.0, 47.0))
    np.testing.assert_allclose(envelope.values, np.log(amplitude**2 / 2), atol=1e-6)


def test_white_noise_has_its_density_times_the_band() -> None:
    noise = np.random.default_rng(3).normal(0.0, 50e-6, (60, len(TIME)))
    envelope = seizure_envelope(_recording(*noise))
    power = (50e-6) ** 2 / (RATE / 2) * 100.0
    assert np.log(np.exp(envelope.values).mean() / power) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(("mains", "seen"), [(50.0, False), (60.0, True)])
def test_the_mains_and_its_harmonics_are_left_out(mains: float, seen: bool) -> None:
    noise = np.random.default_rng(3).normal(0.0, 5e-6, len(TIME))
    hum = 1e-3 * (np.sin(2 * np.pi * 50.0 * TIME) + np.sin(2 * np.pi * 100.0 * TIME))
    quiet = seizure_envelope(_recording(noise), band=(10.0, 110.0)).values.mean()
    loud = seizure_envelope(_recording(noise + hum, power_line=mains), band=(10.0, 110.0)).values.mean()
    assert bool(loud - quiet > 1.0) is seen


def test_power_that_rises_at_an_instant_is_seen_there() -> None:
    noise = np.random.default_rng(3).normal(0.0, 1.0, len(TIME)) * np.where(TIME < 20.0, 5e-6, 50e-6)
    envelope = seizure_envelope(_recording(noise, events=(Event(label="seizure onset", onset=20.0),)))
    halfway = (envelope.values.min() + envelope.values.max()) / 2
    crossed = envelope.times[np.argmax(envelope.values[:, 0] > halfway)]
    assert crossed == pytest.approx(20.0, abs=1.0)
    assert (envelope.onset, envelope.offset, envelope.sampling_period) == (20.0, None, 0.5)
    assert envelope.times[-1] <= 40.0


def test_bad_channels_have_no_envelope() -> None:
    noise = np.random.default_rng(3).normal(0.0, 1e-5, (3, len(TIME)))
    assert seizure_envelope(_recording(*noise, bad_channels=(1,))).sensor_labels == ("A1", "A3")


def test_a_rate_that_does_not_reach_the_band_is_refused() -> None:
    slow = dataclasses.replace(_recording(TIME), sampling_rate=200.0)
    with pytest.raises(Rejected) as refused:
        seizure_envelope(slow)
    assert (refused.value.code, refused.value.got) == ("sampling-rate-too-low", "200 Hz")


def test_neighbours_of_one_electrode_make_pairs_in_their_middle() -> None:
    labels = ("A'1", "A'2", "A'10", "A'9", "B2", "B1", "B4")
    channels = [np.full(10, float(n)) for n in range(7)]
    pairs = bipolar(_recording(*channels, labels=labels))
    assert pairs.channel_labels == ("A'1-A'2", "A'9-A'10", "B1-B2")
    np.testing.assert_array_equal(pairs.signals[0], [-1.0, 1.0, 1.0])
    np.testing.assert_allclose(pairs.positions[0], [1.75, 0.0, 0.5])
    assert bipolar(pairs) is pairs


def test_no_pair_has_a_bad_contact() -> None:
    recording = _recording(*np.zeros((4, 10)), bad_channels=(1,))
    assert bipolar(recording).channel_labels == ("A3-A4",)
    with pytest.raises(Rejected, match="neighbouring"):
        bipolar(dataclasses.replace(recording, bad_channels=(1, 2)))
