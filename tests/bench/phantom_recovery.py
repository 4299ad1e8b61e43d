"""How well the phantom could be recovered at best: true streamlines scored, and true peaks tracked, over seeds.

    python tests/bench/phantom_recovery.py [SEED ...]

Prints one row per seed and method: Pearson r on true edges, on all pairs, recall, top-K hit, length r and bias.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy import ndimage

from vbt.connectome import Connectome
from vbt.synthetic import PatientSettings, Truth, recovery_scores
from vbt.synthetic._acquisition import AXIAL, grid_affine
from vbt.synthetic._anatomy import Anatomy, make_anatomy
from vbt.synthetic._diffusion import slab_centre
from vbt.synthetic._patient import true_connectome
from vbt.synthetic._phantom import Fixels, cleared, fixels_on
from vbt.synthetic._selection import make_bundles

STEP_MM, SEEDS, LONGEST_MM, SNAP_MM = 1.0, 25_000, 250.0, 3.0
MINIMUM_COSINE, MINIMUM_FRACTION = np.cos(np.deg2rad(45)), 0.08


class PeakField:
    """True fixels of a grid, interpolated: each of 8 neighbours gives its best-aligned peak."""

    def __init__(self, fixels: Fixels, affine: np.ndarray, shape: tuple[int, int, int]) -> None:
        self.shape, self.to_voxel = shape, np.linalg.inv(affine)
        order = np.lexsort((-fixels.fraction, fixels.voxel))
        voxel = fixels.voxel[order]
        first = np.searchsorted(voxel, voxel)
        rank = np.arange(len(voxel)) - first
        keep = rank < 4
        self.directions = np.zeros((np.prod(shape) + 1, 4, 3), np.float32)
        self.fractions = np.zeros((np.prod(shape) + 1, 4), np.float32)
        self.directions[voxel[keep], rank[keep]] = fixels.direction[order][keep]
        self.fractions[voxel[keep], rank[keep]] = fixels.fraction[order][keep]

    def at(self, points: np.ndarray, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit direction nearest the heading, and fibre fraction along it."""
        place = points @ self.to_voxel[:3, :3].T + self.to_voxel[:3, 3]
        low = np.floor(place).astype(int)
        part = place - low
        total = np.zeros_like(heading)
        amount = np.zeros(len(points))
        for corner in np.ndindex(2, 2, 2):
            index = low + corner
            inside = ((index >= 0) & (index < self.shape)).all(axis=1)
            flat = np.where(
                inside, np.ravel_multi_index(tuple(np.clip(index, 0, np.array(self.shape) - 1).T), self.shape), -1
            )
            cosine = np.einsum("nkx,nx->nk", self.directions[flat], heading)
            best = np.where(self.fractions[flat] > 0, np.abs(cosine), -1).argmax(axis=1)
            rows = np.arange(len(points))
            cosine, fraction = cosine[rows, best], self.fractions[flat][rows, best]
            weight = np.prod(np.where(corner, part, 1 - part), axis=1) * fraction * (np.abs(cosine) > MINIMUM_COSINE)
            total += (weight * np.sign(cosine))[:, None] * self.directions[flat][rows, best]
            amount += weight
        return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-9), amount


def track(field: PeakField, points: np.ndarray, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow the peaks until the fibres end: last points and lengths (mm)."""
    points, heading = points.copy(), heading.copy()
    length = np.zeros(len(points))
    alive = np.arange(len(points))
    while alive.size and length.max() < LONGEST_MM:
        ahead, amount = field.at(points[alive], heading[alive])
        alive, ahead = alive[amount > MINIMUM_FRACTION], ahead[amount > MINIMUM_FRACTION]
        points[alive] += STEP_MM * ahead
        heading[alive] = ahead
        length[alive] += STEP_MM
    return points, length


def assigned(anatomy: Anatomy, points: np.ndarray, nearest: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Region (1-based) of the nearest labelled voxel within reach, 0 for none."""
    index = tuple(np.clip(np.rint(anatomy.voxels(points)).astype(int), 0, np.array(anatomy.labels.shape) - 1).T)
    region = anatomy.labels[tuple(nearest[(slice(None), *index)])]
    return np.where(distance[index] <= SNAP_MM, region, 0)


def connectome(anatomy: Anatomy, first: np.ndarray, last: np.ndarray, amount: np.ndarray, length: np.ndarray):
    regions = len(anatomy.region_labels)
    keep = (first > 0) & (last > 0) & (first != last)
    weights, lengths, counts = (np.zeros((regions, regions)) for _ in range(3))
    pair = (first[keep] - 1, last[keep] - 1)
    np.add.at(weights, pair, amount[keep])
    np.add.at(lengths, pair, length[keep])
    np.add.at(counts, pair, 1)
    counts, lengths = counts + counts.T, lengths + lengths.T
    return Connectome(
        weights=weights + weights.T,
        tract_lengths=np.where(counts > 0, lengths / np.maximum(counts, 1), 0),
        region_labels=anatomy.region_labels,
        centres=anatomy.centres(),
        is_cortical=anatomy.is_cortical,
        parcellation=anatomy.parcellation,
    )


def report(method: str, scores: dict) -> None:
    keys = ("pearson_true_edges", "spearman_true_edges", "log_r", "pearson_all_pairs", "recall", "precision",
            "top_k_hit", "length_r", "length_bias")  # fmt: skip
    print(f"  {method:24s}", *(f"{key.replace('pearson_', 'r_')} {scores[key]:.3f}" for key in keys), sep="  ")


def main(seeds: list[int], settings: PatientSettings) -> None:
    for seed in seeds:
        start = time.process_time()
        body, wiring, *_ = np.random.default_rng(seed).spawn(5)
        intact = make_anatomy(body, settings)
        bundles = make_bundles(wiring, intact, settings.bundles)
        anatomy = cleared(intact, bundles)
        truth = Truth(connectome=true_connectome(anatomy, bundles), parameters={})
        lengths = [b.length for b in bundles]
        removed = int(((intact.labels > 0) & (anatomy.labels == 0)).sum())
        print(f"seed {seed}: {len(bundles)} bundles, {min(lengths):.0f}-{max(lengths):.0f} mm, "
              f"{time.process_time() - start:.1f} CPU s, {removed} label voxels cleared")  # fmt: skip
        distance, nearest = ndimage.distance_transform_edt(anatomy.labels == 0, return_indices=True)
        distance *= anatomy.voxel_mm
        lines = [line for b in bundles for line in b.streamlines]
        ends = [assigned(anatomy, np.array([line[i] for line in lines]), nearest, distance) for i in (0, -1)]
        arcs = np.array([np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines])
        report("true streamlines", recovery_scores(truth, connectome(anatomy, *ends, np.ones(len(lines)), arcs)))

        protocol = settings.diffusion
        affine = grid_affine(
            AXIAL, (protocol.voxel_mm,) * 3, protocol.shape, slab_centre(anatomy, protocol.shape[2] * protocol.voxel_mm)
        )
        fixels = fixels_on(bundles, affine, protocol.shape)
        rng = np.random.default_rng(seed)
        pick = rng.choice(len(fixels.voxel), SEEDS, p=fixels.fraction / fixels.fraction.sum())
        place = np.stack(np.unravel_index(fixels.voxel[pick], protocol.shape), axis=-1) + rng.uniform(
            -0.5, 0.5, (SEEDS, 3)
        )
        points, heading = place @ affine[:3, :3].T + affine[:3, 3], fixels.direction[pick]
        field = PeakField(fixels, affine, protocol.shape)
        forward, backward = (track(field, points, sign * heading) for sign in (1, -1))
        ends = [assigned(anatomy, half[0], nearest, distance) for half in (forward, backward)]
        length = forward[1] + backward[1]
        # Seeds are even over fibre volume, so a bundle's count grows with its length.
        report(
            "true peaks, count / length", recovery_scores(truth, connectome(anatomy, *ends, 1 / (length + 1), length))
        )
        print(f"  {time.process_time() - start:.1f} CPU s in all")


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [0, 1, 2, 3, 4], PatientSettings())
