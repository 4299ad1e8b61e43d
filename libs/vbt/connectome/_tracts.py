"""The streamlines behind a connectome's weights, tract by tract, small enough to keep beside it.

A tract is all streamlines that join the same two regions. Points are resampled to equal distances near 2 mm and held
in tenths of a millimetre of the T1's scanner frame, so that a lesion drawn on any image of that frame meets them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vbt.connectome._edges import joins_two_regions
from vbt.connectome._tracking import Streamlines
from vbt.errors import Rejected

UNITS_PER_MM = 10
_SPACING_MM = 2.0
_FARTHEST_MM = 3000.0
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Tracts:
    """Streamlines that join two regions, sorted by tract.

    Parameters
    ----------
    points : of all streamlines one after the other, tenths of a millimetre, T1's scanner RAS+ frame
    offsets : streamline ``i`` is ``points[offsets[i]:offsets[i + 1]]``
    regions : indices of the two regions it joins, the smaller first
    region_labels : as in the connectome
    """

    points: Int[np.ndarray, "point 3"]
    offsets: Int[np.ndarray, " streamline+1"]
    regions: Int[np.ndarray, "streamline 2"]
    region_labels: tuple[str, ...]

    @property
    def count(self) -> int:
        """Streamlines in all tracts."""
        return len(self.regions)

    @property
    def counts(self) -> Float[np.ndarray, "region region"]:
        """Streamlines of every tract, symmetric."""
        return self.per_tract(np.ones(self.count))

    def streamline(self, index: int) -> Float[np.ndarray, "point 3"]:
        """Points of one streamline, mm."""
        return np.asarray(self.points[self.offsets[index] : self.offsets[index + 1]] / UNITS_PER_MM)

    def per_tract(self, values: Float[np.ndarray, " streamline"]) -> Float[np.ndarray, "region region"]:
        """Sum of the streamlines' values over every tract, symmetric, zero diagonal."""
        total = np.zeros((len(self.region_labels),) * 2)
        np.add.at(total, (self.regions[:, 0], self.regions[:, 1]), values)
        return np.asarray(total + total.T)

    def chosen(self, which: Bool[np.ndarray, " streamline"]) -> Tracts:
        """Some of the streamlines."""
        sizes = np.diff(self.offsets)
        return Tracts(
            points=self.points[np.repeat(which, sizes)],
            offsets=np.concatenate([[0], np.cumsum(sizes[which])]),
            regions=self.regions[which],
            region_labels=self.region_labels,
        )

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same tracts: first points and steps between."""
        buffer = io.BytesIO()
        first = np.zeros(len(self.points), dtype=bool)
        first[self.offsets[:-1]] = True
        # Neighbours lie two millimetres apart, so a step fits a byte and compresses to half of it.
        steps = np.diff(self.points, axis=0, prepend=self.points[:1])[~first]
        np.savez_compressed(
            buffer,
            starts=self.points[first],
            steps=steps.astype(np.int8),
            sizes=np.diff(self.offsets).astype(np.uint16),
            regions=self.regions.astype(np.uint16),
            region_labels=np.array(self.region_labels),
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Tracts:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            offsets = np.concatenate([[0], np.cumsum(archive["sizes"].astype(np.int64))])
            moves = np.zeros((offsets[-1], 3), dtype=np.int32)
            later = np.ones(len(moves), dtype=bool)
            later[offsets[:-1]] = False
            moves[later] = archive["steps"]
            starts = archive["starts"].astype(np.int32)
            travelled = np.cumsum(moves, axis=0)
            origin = np.repeat(starts - travelled[offsets[:-1]], np.diff(offsets), axis=0)
            return cls(
                points=(travelled + origin).astype(np.int16),
                offsets=offsets,
                regions=archive["regions"].astype(np.int64),
                region_labels=tuple(str(label) for label in archive["region_labels"]),
            )


def tracts_of(streamlines: Streamlines, to_world: Float[np.ndarray, "4 4"], region_labels: tuple[str, ...]) -> Tracts:
    """The streamlines that join two regions, in the T1's scanner frame.

    Parameters
    ----------
    to_world : diffusion voxel coordinates to the T1's scanner RAS+ mm
    """
    joining = np.flatnonzero(joins_two_regions(streamlines))
    regions = np.sort(streamlines.ends[joining] - 1, axis=1).astype(np.int64)
    order = np.lexsort((regions[:, 1], regions[:, 0]))
    joining, regions = joining[order], regions[order]
    parts, sizes = [], []
    for begin in range(0, len(joining), _CHUNK):
        points, size = _resampled(streamlines, joining[begin : begin + _CHUNK])
        parts.append(_quantised(points @ to_world[:3, :3].T + to_world[:3, 3]))
        sizes.append(size)
    return Tracts(
        points=np.concatenate([*parts, np.zeros((0, 3), dtype=np.int16)]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([*sizes, np.zeros(0, dtype=np.int64)]))]),
        regions=regions,
        region_labels=region_labels,
    )


def _resampled(
    streamlines: Streamlines, which: Int[np.ndarray, " chosen"]
) -> tuple[Float[np.ndarray, "point 3"], Int[np.ndarray, " chosen"]]:
    """Points at equal distances from end to end, both ends kept."""
    begin = streamlines.offsets[which]
    steps = streamlines.offsets[which + 1] - begin - 1
    sizes = np.maximum(np.rint(steps * streamlines.step / _SPACING_MM).astype(np.int64), 1) + 1
    rank = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    along = rank * np.repeat(steps / (sizes - 1), sizes)
    before = np.minimum(along.astype(np.int64), np.repeat(steps - 1, sizes))
    part = (along - before)[:, None]
    index = np.repeat(begin, sizes) + before
    return np.asarray((1 - part) * streamlines.points[index] + part * streamlines.points[index + 1]), sizes


def _quantised(world: Float[np.ndarray, "point 3"]) -> Int[np.ndarray, "point 3"]:
    if len(world) and np.abs(world).max() > _FARTHEST_MM:
        raise Rejected(
            "t1-malformed",
            rule=f"the T1's affine places the brain within {_FARTHEST_MM:.0f} mm of the scanner's origin",
            got=f"a point {np.abs(world).max():.0f} mm away",
            action="send the T1 with the scanner's coordinates",
        )
    return np.asarray(np.rint(world * UNITS_PER_MM), dtype=np.int16)
