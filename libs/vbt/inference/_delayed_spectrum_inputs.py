"""Weights, tract lengths, lesions, sensors and bands become one likelihood, or a reason why they cannot."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np

from vbt.errors import Rejected
from vbt.inference._delayed_spectrum import DelayedNetwork, strength_scaled
from vbt.inference._delayed_spectrum_bands import FEWEST_CHANNELS, NarrowBands
from vbt.inference._delayed_spectrum_likelihood import SpectralLikelihood

LikelihoodName = Literal["cross-spectrum", "power"]
_RANK = 1e-6


def exact_likelihood(
    weights: np.ndarray,
    tract_lengths: np.ndarray,
    lesions: np.ndarray,
    gain: np.ndarray | None,
    bands: NarrowBands,
    likelihood: LikelihoodName,
) -> tuple[SpectralLikelihood, float]:
    """The likelihood of spectra in units of their mean power, and that unit."""
    spectra, cross = bands.spectra, likelihood == "cross-spectrum"
    if cross:
        spectra, gain = _at_full_rank(spectra, gain)
    unit = float(np.diagonal(spectra, axis1=1, axis2=2).real.mean())
    network = DelayedNetwork.of(strength_scaled(weights), tract_lengths, lesions, gain)
    workers = min(2, len(os.sched_getaffinity(0)))
    return (
        SpectralLikelihood(network, bands.frequencies, bands.counts, spectra / unit, cross=cross, workers=workers),
        unit,
    )


def _at_full_rank(spectra: np.ndarray, gain: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Channels combined so that neither the recording nor the gain is of lower rank than there are combinations.

    A common reference and components taken out of a recording lower its rank, more sensors than regions that of the
    gain. Orthogonal combinations keep white sensor noise white.
    """
    channels = spectra.shape[-1]
    values, vectors = np.linalg.eigh(spectra.real.mean(axis=0))
    kept = vectors[:, values > _RANK**2 * values[-1]]
    if gain is not None:
        left, singular, _ = np.linalg.svd(kept.T @ gain, full_matrices=False)
        kept = kept @ left[:, singular > _RANK * singular[0]]
    if kept.shape[1] == channels:
        return spectra, gain
    if kept.shape[1] < FEWEST_CHANNELS:
        raise Rejected(
            "recording-too-few-channels",
            rule=f"delays show between channels, of which at least {FEWEST_CHANNELS} independent ones are needed",
            got=f"{kept.shape[1]}",
            action="send more channels",
        )
    return kept.T @ spectra @ kept, kept.T if gain is None else kept.T @ gain


def checked_lesions(
    weights: np.ndarray,
    tract_lengths: np.ndarray,
    region_labels: tuple[str, ...],
    lesion_fraction: np.ndarray | None,
) -> np.ndarray:
    """The lesion fraction of connected pairs, of a connectome that can carry a delayed rhythm."""
    regions = len(region_labels)
    given = {"weights": weights, "tract_lengths": tract_lengths, "lesion_fraction": lesion_fraction}
    for name, matrix in given.items():
        if matrix is not None and matrix.shape != (regions, regions):
            raise ValueError(f"{name} must have shape {(regions, regions)}, got {matrix.shape}")
    hollow = weights * ~np.eye(regions, dtype=bool)
    if not (np.isfinite(hollow).all() and (hollow >= 0).all()):
        raise Rejected(
            "connectome-weights-not-finite",
            rule="connection weights are finite and not negative",
            got=f"{int((~(hollow >= 0)).sum() + np.isinf(hollow).sum())} that are not",
            action="build the connectome again",
        )
    isolated = int((hollow.sum(axis=0) + hollow.sum(axis=1) == 0).sum())
    if isolated:
        raise Rejected(
            "connectome-isolated-regions",
            rule="every region has a connection",
            got=f"{isolated} of {regions} regions without",
            action="leave those regions out, here and in the recording or the gain",
        )
    connected = hollow > 0
    if not (np.isfinite(tract_lengths[connected]).all() and (tract_lengths[connected] > 0).all()):
        raise Rejected(
            "connectome-tracts-without-length",
            rule="every connection has a positive tract length",
            got=f"{int((~(tract_lengths[connected] > 0)).sum())} of {int(connected.sum())} without",
            action="build the connectome with streamline lengths",
        )
    if lesion_fraction is None:
        return np.zeros((regions, regions))
    if not ((lesion_fraction >= 0) & (lesion_fraction <= 1)).all():
        raise Rejected(
            "lesion-fraction-out-of-range",
            rule="the fraction of a tract's streamlines that cross a lesion is between 0 and 1",
            got=f"{int((~((lesion_fraction >= 0) & (lesion_fraction <= 1))).sum())} shares outside",
            action="compute the shares from the lesion mask again",
        )
    return np.where(connected, lesion_fraction, 0.0)


def check_sensors(signals: np.ndarray, gain: np.ndarray | None, regions: int) -> None:
    expected = (regions,) if gain is None else (len(gain),)
    if signals.ndim != 2 or signals.shape[1:] != expected:
        raise ValueError(f"signals must have {expected[0]} columns, got shape {signals.shape}")
    if gain is not None and (gain.ndim != 2 or gain.shape[1] != regions or not np.isfinite(gain).all()):
        raise ValueError(f"gain must be finite with one column for each of {regions} regions, got {gain.shape}")
