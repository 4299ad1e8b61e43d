"""What is read off a resting BOLD recording before a network sees it: connectivity, its dynamics, spectrum, moments."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.signal
import scipy.stats
from jaxtyping import Float

WINDOW = 60.0  # s
STRIDE = 2.0
BAND = (0.01, 0.1)
POWER_EDGES = (0.01, 0.025, 0.05, 0.075, 0.1)


def in_band(
    bold: Float[np.ndarray, "time region"], repetition_time: float, band: tuple[float, float] = BAND
) -> Float[np.ndarray, "time region"]:
    """The recording without its linear trend and without what fluctuates outside the band (Hz), by Fourier bins."""
    frequencies = np.fft.rfftfreq(len(bold), repetition_time)
    transform = np.fft.rfft(scipy.signal.detrend(bold, axis=0), axis=0)
    transform[(frequencies < band[0]) | (frequencies >= band[1])] = 0.0
    return np.asarray(np.fft.irfft(transform, n=len(bold), axis=0))


def functional_connectivity(bold: Float[np.ndarray, "time region"]) -> Float[np.ndarray, "region region"]:
    """Pearson correlation between regions."""
    return np.asarray(np.corrcoef(bold, rowvar=False))


def functional_connectivity_dynamics(
    bold: Float[np.ndarray, "time region"],
    repetition_time: float,
    *,
    window: float = WINDOW,
    stride: float = STRIDE,
) -> Float[np.ndarray, "window window"]:
    """Correlation between the functional connectivities of sliding windows, over region pairs.

    Parameters
    ----------
    window, stride : s; rounded to whole samples, the stride to at least one

    References
    ----------
    Hansen et al. (2015), NeuroImage 105, 525; 60 s windows that overlap by 58 s.
    """
    length, step = round(window / repetition_time), max(1, round(stride / repetition_time))
    if length < 3 or length > len(bold):
        raise ValueError(f"a window of {window:g} s holds {length} of {len(bold)} samples, at least 3 are needed")
    pairs = np.triu_indices(bold.shape[1], 1)
    starts = range(0, len(bold) - length + 1, step)
    windows = np.stack([functional_connectivity(bold[at : at + length])[pairs] for at in starts])
    return np.asarray(np.corrcoef(windows))


def apart(fcd: Float[np.ndarray, "window window"], repetition_time: float) -> Float[np.ndarray, " pair"]:
    """The entries of windows that share no sample."""
    step = max(1, round(STRIDE / repetition_time))
    length = round(WINDOW / repetition_time)
    return fcd[np.triu_indices(len(fcd), -(-length // step))]


def band_powers(
    bold: Float[np.ndarray, "time region"], repetition_time: float, edges: tuple[float, ...] = POWER_EDGES
) -> Float[np.ndarray, "band region"]:
    """Share of each region's power in each band (Hz), of its power in all of them."""
    frequencies = np.fft.rfftfreq(len(bold), repetition_time)
    power = np.abs(np.fft.rfft(scipy.signal.detrend(bold, axis=0), axis=0)) ** 2
    bands = np.stack(
        [power[(frequencies >= low) & (frequencies < high)].sum(axis=0) for low, high in itertools.pairwise(edges)]
    )
    return np.asarray(bands / bands.sum(axis=0))


def moments(bold: Float[np.ndarray, "time region"]) -> Float[np.ndarray, "4 region"]:
    """Mean, standard deviation, skewness and excess kurtosis of every region."""
    return np.stack(
        [bold.mean(axis=0), bold.std(axis=0), scipy.stats.skew(bold, axis=0), scipy.stats.kurtosis(bold, axis=0)]
    )
