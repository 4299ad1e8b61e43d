"""A recording becomes one averaged cross-spectrum per frequency band."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.signal
from jaxtyping import Float, Int

from vbt.errors import Rejected

EDGES = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
FEWEST_BINS = 8
FEWEST_REGIONS = 10


@dataclass(frozen=True, kw_only=True)
class BandSpectra:
    """Cross-spectra averaged over the Fourier bins of each band.

    Parameters
    ----------
    edges : Hz, one more than there are bands
    counts : number of Fourier bins in each band, the degrees of freedom of its average
    spectra : real part of the averaged cross-periodogram, regions scaled to unit mean power over all bins
    correlation : functional connectivity of the recording within the bands
    scale : standard deviation of each region within the bands, in the units of the recording
    """

    edges: tuple[float, ...]
    counts: Int[np.ndarray, " band"]
    spectra: Float[np.ndarray, "band region region"]
    correlation: Float[np.ndarray, "region region"]
    scale: Float[np.ndarray, " region"]


def band_spectra(bold: Float[np.ndarray, "time region"], repetition_time: float) -> BandSpectra:
    """Cross-spectra of a recording in the resting-state bands, .01 to .1 Hz.

    The full-length Fourier transform without taper, so that the number of bins is the true count of independent
    ordinates. A linear trend is removed first. Bands too narrow for the recording are merged with the next. Power that
    rises or falls within a band is evened out, or the average would hold fewer independent bins than it counts; how
    power differs between bands is left to the model.

    Raises
    ------
    Rejected
        where the sampling is too slow for the bands, the recording too short, or a region is flat or not finite.
    """
    _check(bold, repetition_time)
    detrended = scipy.signal.detrend(bold, axis=0)
    frequencies = np.fft.rfftfreq(len(bold), repetition_time)
    transform = np.fft.rfft(detrended, axis=0)
    edges = _merged(frequencies)
    inside = (frequencies >= edges[0]) & (frequencies < edges[-1])
    power = (np.abs(transform[inside]) ** 2).mean(axis=0)
    scaled = transform / np.sqrt(power)
    trend = np.poly1d(np.polyfit(frequencies[inside], np.log((np.abs(scaled[inside]) ** 2).mean(axis=1)), 2))
    spectra, counts = [], []
    for low, high in itertools.pairwise(edges):
        chosen = (frequencies >= low) & (frequencies < high)
        slope = trend(frequencies[chosen])
        band = scaled[chosen] * np.exp(0.5 * (np.log(np.exp(slope).mean()) - slope))[:, None]
        spectra.append((band.T @ band.conj()).real / len(band))
        counts.append(len(band))
    return BandSpectra(
        edges=edges,
        counts=np.array(counts),
        spectra=np.stack(spectra),
        correlation=np.asarray((scaled[inside].T @ scaled[inside].conj()).real / inside.sum()),
        scale=np.sqrt(2.0 * power * inside.sum()) / len(bold),
    )


def _check(bold: np.ndarray, repetition_time: float) -> None:
    if not repetition_time > 0 or 0.5 / repetition_time < EDGES[-1]:
        raise Rejected(
            "bold-sampled-too-slowly",
            rule=f"fluctuations up to {EDGES[-1]:g} Hz need a BOLD sample at least every {0.5 / EDGES[-1]:g} s",
            got=f"a repetition time of {repetition_time:g} s",
            action="send a functional series with a shorter repetition time",
        )
    shortest = FEWEST_BINS / (EDGES[-1] - EDGES[0])
    if len(bold) * repetition_time < shortest:
        raise Rejected(
            "bold-too-short",
            rule=f"BOLD must last at least {shortest:.0f} s so that the bands hold {FEWEST_BINS} Fourier bins",
            got=f"{len(bold) * repetition_time:.0f} s",
            action="send a longer functional series",
        )
    if bold.shape[1] < FEWEST_REGIONS:
        raise Rejected(
            "bold-too-few-regions",
            rule=f"at least {FEWEST_REGIONS} connected regions need a BOLD signal",
            got=f"{bold.shape[1]}",
            action="check the field of view and the registration of the functional series",
        )
    if not np.isfinite(bold).all() or (np.ptp(bold, axis=0) == 0).any():
        flat = int((~np.isfinite(bold).all(axis=0) | ~(np.ptp(bold, axis=0) > 0)).sum())
        raise Rejected(
            "bold-without-signal",
            rule="every region used has a finite, varying BOLD signal",
            got=f"{flat} regions without",
            action="leave those regions out",
        )


def _merged(frequencies: np.ndarray) -> tuple[float, ...]:
    """The standard edges, without those that would leave a band with fewer than two bins."""
    kept = [EDGES[0]]
    for edge in EDGES[1:]:
        if ((frequencies >= kept[-1]) & (frequencies < edge)).sum() >= 2:
            kept.append(edge)
    kept[-1] = EDGES[-1]
    return tuple(kept)
