"""The power of fast activity over time, which follows a seizure from region to region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from scipy.signal import ShortTimeFFT, get_window

from vbt.electrophysiology._recording import SEIZURE_OFFSET, SEIZURE_ONSET, SensorRecording
from vbt.errors import Rejected

_WINDOW = 1.0  # s
_HOPS_PER_VALUE = 4
_HALF_NOTCH = 2.0  # Hz: the main lobe of a Hann window of one second
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
_MAINS = (50.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Log power of fast activity.

    Parameters
    ----------
    values : natural logarithm of the power within the band, V²
    start : s from the recording's beginning to the first value
    sampling_period : s
    positions : mm in the T1's scanner RAS+ frame
    onset, offset : s from the recording's beginning, of the first seizure, where they are annotated
    """

    values: Float[np.ndarray, "time sensor"]
    start: float
    sampling_period: float
    sensor_labels: tuple[str, ...]
    positions: Float[np.ndarray, "sensor 3"]
    onset: float | None = None
    offset: float | None = None

    @property
    def times(self) -> Float[np.ndarray, " time"]:
        """s from the recording's beginning."""
        return self.start + self.sampling_period * np.arange(len(self.values))


def seizure_envelope(
    recording: SensorRecording,
    *,
    band: tuple[float, float] = (10.0, 110.0),
    smoothing: float = 2.0,
    sampling_rate: float = 2.0,
) -> Envelope:
    """Log power within a band in sliding windows of one second, smoothed and resampled; bad channels are left out.

    The mains' frequency and its harmonics are left out of the band by 2 Hz to each side (50 and 60 Hz where the
    recording does not say which), and the power is that of the whole band by the mean of the rest.

    Parameters
    ----------
    band : Hz
    smoothing : s, full width at half maximum of a Gaussian over the log power
    sampling_rate : Hz of the values; `Envelope.sampling_period` is what it came to in whole samples

    Raises
    ------
    Rejected
        ``sampling-rate-too-low`` where the band's end is not below half the recording's rate, ``recording-too-short``
        where it has no whole window.

    References
    ----------
    Vattikonda et al. 2021, 10.1038/s42003-021-02751-5: log power of SEEG in a sliding window, smoothed.
    """
    rate = recording.sampling_rate
    require_rate(rate, band[1])
    length = round(_WINDOW * rate)
    hop = max(1, round(rate / (sampling_rate * _HOPS_PER_VALUE)))
    if len(recording.signals) < 2 * length:
        raise Rejected(
            "recording-too-short",
            rule=f"the power of a seizure is taken in windows of {_WINDOW:g} s, two at least",
            got=f"{len(recording.signals) / rate:.3g} s",
            action="attach a longer piece",
        )
    good = [index for index in range(len(recording.channel_labels)) if index not in recording.bad_channels]
    transform = ShortTimeFFT(get_window("hann", length), hop, rate, scale_to="psd", fft_mode="onesided2X")
    last = transform.upper_border_begin(len(recording.signals))[1]
    whole = slice(transform.lower_border_end[1] - transform.p_min, last - transform.p_min)
    within = (transform.f >= band[0]) & (transform.f < band[1])
    kept = within & ~_of_mains(transform.f, recording.power_line)
    if not kept.any():
        raise ValueError(f"the band {band} Hz has nothing but the mains' frequency")
    width = float(within.sum() * transform.delta_f)
    values = np.stack(
        [_log_power(transform, recording.signals[:, index], whole, kept, width) for index in good], axis=1
    )
    smooth = gaussian_filter1d(values, smoothing / _FWHM * rate / hop, axis=0, mode="nearest")
    first, period = transform.t(len(recording.signals))[whole][0], _HOPS_PER_VALUE * hop / rate
    return Envelope(
        values=smooth[::_HOPS_PER_VALUE],
        start=float(first),
        sampling_period=period,
        sensor_labels=tuple(recording.channel_labels[index] for index in good),
        positions=recording.positions[good],
        onset=_first(recording, SEIZURE_ONSET),
        offset=_first(recording, SEIZURE_OFFSET),
    )


def require_rate(rate: float, highest: float) -> None:
    """Refuse a sampling rate that does not reach a band: 2.2 samples a cycle, as filters against aliasing need."""
    if rate < 2.2 * highest:
        raise Rejected(
            "sampling-rate-too-low",
            rule=f"activity up to {highest:g} Hz needs {2.2 * highest:g} samples a second or more",
            got=f"{rate:g} Hz",
            action="export the recording at the rate it was taken with",
        )


def _of_mains(frequencies: Float[np.ndarray, " bin"], mains: float) -> Bool[np.ndarray, " bin"]:
    near = np.zeros(len(frequencies), dtype=bool)
    for base in (mains,) if mains else _MAINS:
        harmonic = base * np.maximum(np.round(frequencies / base), 1.0)
        near |= np.abs(frequencies - harmonic) <= _HALF_NOTCH
    return near


def _log_power(
    transform: ShortTimeFFT,
    signal: Float[np.ndarray, " time"],
    whole: slice,
    kept: Bool[np.ndarray, " bin"],
    width: float,
) -> Float[np.ndarray, " window"]:
    density = transform.spectrogram(signal - signal.mean())[kept, whole].mean(axis=0)
    return np.asarray(np.log(np.maximum(density * width, np.finfo(float).tiny)))


def _first(recording: SensorRecording, label: str) -> float | None:
    return next((event.onset for event in recording.events if event.label == label), None)
