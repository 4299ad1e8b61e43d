from __future__ import annotations

import dataclasses

import nibabel as nib
import numpy as np
import pytest

from vbt.electrophysiology import SensorRecording, require_usable, without
from vbt.errors import Rejected

RATE = 256.0


@pytest.fixture
def recording() -> SensorRecording:
    signals = np.random.default_rng(0).normal(0.0, 40e-6, (int(40 * RATE), 12))
    return SensorRecording(
        kind="seeg",
        signals=signals,
        sampling_rate=RATE,
        channel_labels=tuple(f"A{n}" for n in range(1, 13)),
        positions=np.arange(12)[:, None] * np.array([3.5, 0.0, 0.0]),
    )


@pytest.fixture
def labels() -> nib.Nifti1Image:
    """A brain of ±40 mm around (20, 0, 0) whose white matter has no label."""
    image = np.zeros((41, 41, 41), dtype=np.int16)
    image[5:36, 5:36, 5:36] = 3
    image[8:33, 8:33, 8:33] = 0
    return nib.Nifti1Image(image, np.array([[2.0, 0, 0, -20], [0, 2.0, 0, -40], [0, 0, 2.0, -40], [0, 0, 0, 1]]))


def _spoiled(recording: SensorRecording, channel: int, values: np.ndarray) -> SensorRecording:
    signals = recording.signals.copy()
    signals[:, channel] = values
    return dataclasses.replace(recording, signals=signals)


def test_a_good_recording_passes_every_check(recording: SensorRecording, labels: nib.Nifti1Image) -> None:
    checks = require_usable(recording, labels=labels)
    assert all(check.passed for check in checks)
    np.testing.assert_array_equal(without(recording, checks).signals, recording.signals)


def test_each_spoiled_channel_is_flagged_by_its_name_and_left_out(
    recording: SensorRecording, labels: nib.Nifti1Image
) -> None:
    wave = recording.signals[:, 0]
    spoiled = _spoiled(recording, 0, np.where(np.arange(len(wave)) == 77, np.nan, wave))
    spoiled = _spoiled(spoiled, 1, np.zeros_like(wave))
    spoiled = _spoiled(spoiled, 2, np.clip(wave, -60e-6, 60e-6))
    spoiled = _spoiled(spoiled, 3, wave * 1e6)
    positions = spoiled.positions.copy()
    positions[4], positions[5] = np.nan, (20.0, 0.0, 60.0)
    spoiled = dataclasses.replace(spoiled, positions=positions, bad_channels=(6,))
    checks = require_usable(spoiled, fewest_channels=5, labels=labels)
    assert {check.code: check.channels for check in checks if not check.passed} == {
        "channels-not-finite": ("A1",),
        "flat-channels": ("A2",),
        "clipped-channels": ("A3",),
        "amplitudes-implausible": ("A4",),
        "channels-without-position": ("A5",),
        "electrodes-outside-brain": ("A6",),
        "channels-marked-bad": ("A7",),
    }
    left = without(spoiled, checks)
    assert (left.channel_labels, left.left_out) == (("A8", "A9", "A10", "A11", "A12"), 7)


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("flat-channels", lambda wave: wave * 0.0),
        ("clipped-channels", lambda wave: np.clip(wave, -4e-5, 4e-5)),
        ("channels-not-finite", lambda wave: wave + np.inf),
        ("amplitudes-implausible", lambda wave: wave * 1e-6),
    ],
)
def test_too_few_good_channels_are_refused_by_what_took_most(
    recording: SensorRecording, code: str, spoil: object
) -> None:
    spoiled = recording
    for channel in range(7):
        spoiled = _spoiled(spoiled, channel, spoil(recording.signals[:, channel]))  # type: ignore[operator]
    with pytest.raises(Rejected) as refused:
        require_usable(spoiled)
    assert refused.value.code == code
    assert "5 usable of 12" in refused.value.got
    assert "A7" in refused.value.got


def test_electrodes_of_another_frame_are_refused(recording: SensorRecording, labels: nib.Nifti1Image) -> None:
    shifted = dataclasses.replace(recording, positions=recording.positions + np.array([60.0, 0.0, 0.0]))
    with pytest.raises(Rejected) as refused:
        require_usable(shifted, fewest_channels=1, labels=labels)
    assert refused.value.code == "electrodes-outside-brain"


def test_a_short_slow_or_sparse_recording_is_refused_with_its_value(recording: SensorRecording) -> None:
    cases = {
        "recording-too-short": (dataclasses.replace(recording, signals=recording.signals[: int(10 * RATE)]), "10 s"),
        "sampling-rate-too-low": (dataclasses.replace(recording, sampling_rate=100.0), "100 Hz"),
        "too-few-channels": (without(recording, require_usable(recording)), "12 usable of 12"),
    }
    for code, (bad, got) in cases.items():
        with pytest.raises(Rejected) as refused:
            require_usable(bad, fewest_channels=13)
        assert (refused.value.code, refused.value.got) == (code, got)
