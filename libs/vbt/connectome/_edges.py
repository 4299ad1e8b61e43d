"""Streamlines become connections: how many join two regions, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vbt.connectome._tracking import Streamlines

_REFERENCE_MM = 100.0


@dataclass(frozen=True, kw_only=True)
class Edges:
    """The connections that streamlines make.

    Parameters
    ----------
    counts : streamlines between two regions, symmetric, zero diagonal
    strengths : sum over those streamlines of 100 mm over the length. Seeds fill the fibres' volume, so the count
        estimates a bundle's volume and this its cross-section.
    tract_lengths : median length of those streamlines, mm, 0 where there is none
    """

    counts: Float[np.ndarray, "region region"]
    strengths: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]


def joins_two_regions(streamlines: Streamlines) -> Bool[np.ndarray, " path"]:
    """Which paths run from one region to another."""
    ends = streamlines.ends
    return np.asarray((ends > 0).all(axis=1) & (ends[:, 0] != ends[:, 1]))


def edges_of(streamlines: Streamlines, regions: int) -> Edges:
    """Connections from the paths that join two regions.

    References
    ----------
    Hagmann et al. (2008), PLoS Biology 6, e159 (division by the length).
    """
    joined = joins_two_regions(streamlines)
    pair = np.sort(streamlines.ends[joined] - 1, axis=1)
    lengths = streamlines.lengths[joined]
    counts, strengths, median = np.zeros((3, regions, regions))
    key = pair[:, 0] * regions + pair[:, 1]
    order = np.argsort(key, kind="stable")
    present, first = np.unique(key[order], return_index=True)
    for edge, members in zip(present, np.split(lengths[order], first[1:]), strict=True):
        i, j = divmod(int(edge), regions)
        counts[i, j] = counts[j, i] = len(members)
        strengths[i, j] = strengths[j, i] = (_REFERENCE_MM / members).sum()
        median[i, j] = median[j, i] = np.median(members)
    return Edges(counts=counts, strengths=strengths, tract_lengths=median)
