"""Streamlines become connections: how many join two regions, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vbt.connectome._tracking import Streamlines


@dataclass(frozen=True, kw_only=True)
class Edges:
    """The connections that streamlines make.

    Parameters
    ----------
    counts : streamlines between two regions, symmetric, zero diagonal
    tract_lengths : median length of those streamlines, mm, 0 where there is none
    """

    counts: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]


def joins_two_regions(streamlines: Streamlines) -> Bool[np.ndarray, " path"]:
    """Which paths run from one region to another."""
    ends = streamlines.ends
    return np.asarray((ends > 0).all(axis=1) & (ends[:, 0] != ends[:, 1]))


def edges_of(streamlines: Streamlines, regions: int) -> Edges:
    """Counts and median lengths over the paths that join two regions."""
    joined = joins_two_regions(streamlines)
    pair = np.sort(streamlines.ends[joined] - 1, axis=1)
    lengths = streamlines.lengths[joined]
    counts = np.zeros((regions, regions))
    median = np.zeros((regions, regions))
    key = pair[:, 0] * regions + pair[:, 1]
    order = np.argsort(key, kind="stable")
    present, first = np.unique(key[order], return_index=True)
    for edge, members in zip(present, np.split(lengths[order], first[1:]), strict=True):
        i, j = divmod(int(edge), regions)
        counts[i, j] = counts[j, i] = len(members)
        median[i, j] = median[j, i] = np.median(members)
    return Edges(counts=counts, tract_lengths=median)
