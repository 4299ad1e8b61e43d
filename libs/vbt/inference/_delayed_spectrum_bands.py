"""A recording of brain rhythms becomes one averaged cross-spectrum per narrow band, or a reason why it cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.signal
from jaxtyping import Bool, Complex, Float

from vbt.errors import Rejected

CENTRES = np.arange(2.0, 42.0)  # Hz
HALF_WIDTH = 0.25  # Hz
FEWEST_BINS = 10
FEWEST_CHANNELS = 4
LARGEST_CLIPPED = 0.002
_NYQUIST_MARGIN = 1.2


@dataclass(frozen=True, kw_only=True)
class NarrowBands:
    """Cross-spectra averaged over the Fourier bins within ± .25 Hz of every centre.

    Parameters
    ----------
    frequencies : Hz
    counts : Fourier bins in each band, the degrees of freedom of its average
    spectra : two-sided density per Hz in the squared unit of the recording; S_ij belongs to x_i x_j*
    """

    frequencies: Float[np.ndarray, " band"]
    counts: Float[np.ndarray, " band"]
    spectra: Complex[np.ndarray, "band channel channel"]


def narrow_bands(signals: Float[np.ndarray, "time channel"], sampling_rate: float) -> NarrowBands:
    """Cross-spectra between 2 and 41 Hz, one per Hz.

    The full-length Fourier transform without taper, so that bins are independent and their number is the true count
    of degrees of freedom; a linear trend is removed first.

    Raises
    ------
    Rejected
        where sampling is too slow for 41 Hz, the recording too short, channels too few, flat, clipped or not finite.
    """
    require_bands(signals, sampling_rate)
    transform = np.fft.rfft(scipy.signal.detrend(signals, axis=0), axis=0) / np.sqrt(len(signals) * sampling_rate)
    grid = np.fft.rfftfreq(len(signals), 1.0 / sampling_rate)
    counts, spectra = [], []
    for centre in CENTRES:
        # Open on one side, so that a bin on an edge counts once and every band has as many.
        bins = transform[(grid >= centre - HALF_WIDTH) & (grid < centre + HALF_WIDTH)]
        counts.append(float(len(bins)))
        spectra.append(bins.T @ bins.conj() / len(bins))
    return NarrowBands(frequencies=CENTRES.copy(), counts=np.array(counts), spectra=np.stack(spectra))


def require_bands(signals: Float[np.ndarray, "time channel"], sampling_rate: float) -> None:
    """Raise `Rejected` where a recording cannot give the bands."""
    if signals.ndim != 2:
        raise ValueError(f"signals must have shape (time, channel), got {signals.shape}")
    highest = float(CENTRES[-1]) + HALF_WIDTH
    if not sampling_rate >= 2.0 * _NYQUIST_MARGIN * highest:
        raise Rejected(
            "recording-sampling-rate-too-low",
            rule=f"rhythms up to {highest:g} Hz need at least {2.0 * _NYQUIST_MARGIN * highest:.0f} samples per s",
            got=f"{sampling_rate:g} per s",
            action="send the recording before it was downsampled",
        )
    shortest = FEWEST_BINS / (2.0 * HALF_WIDTH)
    if len(signals) < shortest * sampling_rate:
        raise Rejected(
            "recording-too-short",
            rule=f"bands {2.0 * HALF_WIDTH:g} Hz wide need {shortest:.0f} s to hold {FEWEST_BINS} Fourier bins each",
            got=f"{len(signals) / sampling_rate:.1f} s",
            action="send a longer resting recording",
        )
    if signals.shape[1] < FEWEST_CHANNELS:
        raise Rejected(
            "recording-too-few-channels",
            rule=f"delays show between channels, of which at least {FEWEST_CHANNELS} are needed",
            got=f"{signals.shape[1]}",
            action="send more channels",
        )
    unusable = ~_finite(signals) | _flat(signals)
    if unusable.any():
        raise Rejected(
            "recording-flat-channels",
            rule="every channel has finite, varying values",
            got=f"{int(unusable.sum())} of {len(unusable)} channels without",
            action="leave those channels out, here and in the gain",
        )
    clipped = _clipped(signals)
    if clipped.any():
        raise Rejected(
            "recording-clipped-channels",
            rule=f"at most {LARGEST_CLIPPED:.1%} of a channel's samples lie on its largest or smallest value",
            got=f"{int(clipped.sum())} of {len(clipped)} channels with more",
            action="leave those channels out, here and in the gain, or cut the clipped stretch",
        )


def _finite(signals: np.ndarray) -> Bool[np.ndarray, " channel"]:
    return np.asarray(np.isfinite(signals).all(axis=0))


def _flat(signals: np.ndarray) -> Bool[np.ndarray, " channel"]:
    # Constant but for rounding counts as flat.
    spread = np.ptp(signals, axis=0)
    return np.asarray(~(spread > 1e-9 * np.abs(signals).max(axis=0)))


def _clipped(signals: np.ndarray) -> Bool[np.ndarray, " channel"]:
    extremes = [(signals == extreme).mean(axis=0) for extreme in (signals.max(axis=0), signals.min(axis=0))]
    return np.asarray(np.maximum(*extremes) > LARGEST_CLIPPED)
