"""Bundles: tubes around centrelines that fan out into their regions; a weight is a cross-section."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from vbt.synthetic._anatomy import Anatomy
from vbt.synthetic._centrelines import Centreline, Corridors

STREAMLINE_MM2 = 0.25
_PACKING = 0.6
_FAN_MM = 10.0
_FAN_WIDTH = 1.4
_INTO_GREY_MM = 3.0


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One tract of the phantom.

    Parameters
    ----------
    regions : the two regions (0-based) that it joins
    weight : cross-section, mm²
    streamlines : each ``(point, 3)`` in scanner mm; every one stands for `STREAMLINE_MM2` of cross-section
    """

    regions: tuple[int, int]
    weight: float
    streamlines: tuple[Float[np.ndarray, "point 3"], ...]

    @property
    def length(self) -> float:
        """Mean arc length of the streamlines, mm."""
        return float(np.mean([np.linalg.norm(np.diff(s, axis=0), axis=1).sum() for s in self.streamlines]))


class Landings:
    """Where in each region's grey matter streamlines may end: behind its doors, in the middle of the ribbon."""

    def __init__(self, anatomy: Anatomy, corridors: Corridors) -> None:
        self._anatomy, self._corridors = anatomy, corridors
        where = np.argwhere(anatomy.labels)
        number = anatomy.labels[tuple(where.T)]
        order = np.argsort(number, kind="stable")
        first = np.searchsorted(number[order], np.arange(1, len(anatomy.region_labels) + 2))
        self._grey = [anatomy.points(where[order[a:b]].astype(float)) for a, b in pairwise(first)]
        self._trees: dict[int, tuple[cKDTree, Float[np.ndarray, "door 3"]]] = {}

    def nearest(self, region: int, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
        """The landing points behind the doors nearest to the points."""
        if region not in self._trees:
            self._trees[region] = self._prepare(region)
        tree, landings = self._trees[region]
        return np.asarray(landings[tree.query(points)[1]])

    def _prepare(self, region: int) -> tuple[cKDTree, Float[np.ndarray, "door 3"]]:
        doors = self._corridors.doors[region]
        grey = self._grey[region]
        near, index = cKDTree(grey).query(doors, k=min(40, len(grey)), distance_upper_bound=_INTO_GREY_MM)
        weight = np.isfinite(near)[..., None]
        middle = (weight * grey[np.minimum(index, len(grey) - 1)]).sum(axis=1) / weight.sum(axis=1)
        voxel = np.rint(self._anatomy.voxels(middle)).astype(int)
        own = self._anatomy.labels[tuple(voxel.T)] == region + 1
        return cKDTree(doors), np.where(own[:, None], middle, doors)


def tube_radius(weight: float) -> float:
    """Radius (mm) of a bundle of that cross-section, between its fans."""
    return float(np.sqrt(weight / _PACKING / np.pi))


def fan(along: Float[np.ndarray, " point"], length: float) -> Float[np.ndarray, " point"]:
    """How much wider than its middle a tube is, at distances along its centreline (mm)."""
    reach = min(_FAN_MM, length / 3)
    from_end = np.minimum(along, length - along)
    return np.asarray(1 + (_FAN_WIDTH - 1) * np.clip(1 - from_end / reach, 0, 1))


def landing_error(line: Centreline, radius: float, landings: Landings) -> float:
    """Mean distance (mm) that a tube's ends would have to be bent to land; the worse of the two."""
    disc = radius * _FAN_WIDTH * _sunflower(24)
    errors = []
    for end, inner, region in ((0, 1, line.regions[0]), (-1, -2, line.regions[1])):
        outward = line.points[end] - line.points[inner]
        # The last two right singular vectors span the plane across the tube.
        ends = line.points[end] + disc @ np.linalg.svd(outward[None])[2][1:]
        errors.append(float(np.linalg.norm(landings.nearest(region, ends) - ends, axis=1).mean()))
    return max(errors)


def tube(line: Centreline, weight: float, landings: Landings) -> Bundle:
    """Streamlines on a disc carried along the centreline, each ending in its region's grey matter."""
    count = max(4, round(weight / STREAMLINE_MM2))
    offsets = tube_radius(weight) * _sunflower(count)
    first, second, along = _frame(line)
    widened = fan(along, line.length)[None, :, None]
    lines = line.points + widened * (offsets[:, 0, None, None] * first[None] + offsets[:, 1, None, None] * second[None])
    return Bundle(
        regions=line.regions,
        weight=count * STREAMLINE_MM2,
        streamlines=tuple(_landed(lines, along, line, landings)),
    )


def _sunflower(count: int) -> Float[np.ndarray, "seed 2"]:
    """Points that cover the unit disc evenly."""
    index = np.arange(count) + 0.5
    angle = index * np.pi * (3 - np.sqrt(5))
    return np.asarray(np.sqrt(index / count)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1))


def _frame(
    line: Centreline,
) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, "point 3"], Float[np.ndarray, " point"]]:
    """Two normals that do not twist about the curve (Wang et al. 2008, double reflection), and the arc length."""
    points = line.points
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    normal = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    normals = [normal / np.linalg.norm(normal)]
    for i in range(len(points) - 1):
        step = points[i + 1] - points[i]
        scale = step @ step
        reflected = normals[-1] - (2 / scale) * (step @ normals[-1]) * step
        turned = tangents[i] - (2 / scale) * (step @ tangents[i]) * step
        difference = tangents[i + 1] - turned
        size = difference @ difference
        if size > 1e-12:
            reflected = reflected - (2 / size) * (difference @ reflected) * difference
        normals.append(reflected / np.linalg.norm(reflected))
    first = np.array(normals)
    return first, np.cross(tangents, first), np.linspace(0, line.length, len(points))


def _landed(
    lines: Float[np.ndarray, "line point 3"],
    along: Float[np.ndarray, " point"],
    line: Centreline,
    landings: Landings,
) -> Float[np.ndarray, "line point 3"]:
    """Bend the ends into grey matter of the right region."""
    reach = min(_FAN_MM, line.length / 3)
    for end, region, distance in ((0, line.regions[0], along), (-1, line.regions[1], along[-1] - along)):
        blend = np.clip(1 - distance / reach, 0, 1)
        blend = blend**2 * (3 - 2 * blend)
        target = landings.nearest(region, lines[:, end])
        lines = lines + blend[None, :, None] * (target - lines[:, end])[:, None]
    return np.asarray(lines)
