"""Phantoms whose truth is known: fibre bundles between two regions, and a head made of the template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial import cKDTree

from vbt.connectome import Anatomy, desikan_killiany, mni_templates
from vbt.connectome._diffusion import Diffusion
from vbt.connectome._edges import Edges, edges_of
from vbt.connectome._fibres import Fibres, estimate_fibres
from vbt.connectome._gradients import Gradients
from vbt.connectome._images import array_of
from vbt.connectome._motion import motion_of
from vbt.connectome._tissue import Tissue
from vbt.connectome._tracking import Streamlines, track

GRID = (90, 90, 32)
BALL_MM, TUBE_MM = 8.0, 5.0
B_VALUE = 2000.0


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A phantom that has been tracked."""

    anatomy: Anatomy
    diffusion: Diffusion
    fibres: Fibres
    streamlines: Streamlines
    edges: Edges


Phantom = Callable[..., Tracked]


def even_directions(count: int) -> np.ndarray:
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    height = 1 - (np.arange(count) + 0.5) / count
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


def grid_over(axes: np.ndarray, spacing: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """An affine with the given axes, and the shape with which it covers the phantom."""
    corners = np.array([[x, y, z] for x in (0, GRID[0]) for y in (0, GRID[1]) for z in (0, GRID[2])], dtype=float)
    along = corners @ np.linalg.inv(axes).T
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ along.min(axis=0)
    shape = np.ceil(np.ptp(along, axis=0) / spacing).astype(int) + 1
    return affine, (int(shape[0]), int(shape[1]), int(shape[2]))


def _nearest(paths: list[np.ndarray], points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per path, the distance of every point from it and its direction there."""
    found = []
    for path in paths:
        distance, closest = cKDTree(path).query(points)
        found.append((distance, np.gradient(path, axis=0)[closest]))
    return found


def phantom_anatomy(paths: list[np.ndarray]) -> Anatomy:
    """Tubes of white matter around the paths, a ball-shaped region at each end, fluid elsewhere; region 1, 2 for the
    first path, 3, 4 for the second."""
    points = np.indices(GRID).reshape(3, -1).T.astype(float)
    white = np.zeros(len(points), dtype=bool)
    labels = np.zeros(len(points), dtype=np.int32)
    for number, (path, (distance, _)) in enumerate(zip(paths, _nearest(paths, points), strict=True)):
        white |= distance <= TUBE_MM
        for side, end in enumerate((path[0], path[-1])):
            labels[np.linalg.norm(points - end, axis=1) <= BALL_MM] = 2 * number + side + 1
    grey = labels > 0
    return Anatomy(
        t1=np.where(grey, 100, np.where(white, 150, 30)).reshape(GRID).astype(np.float32),
        mask=np.ones(GRID, dtype=bool),
        tissue=Tissue(
            fluid=(~white & ~grey).reshape(GRID).astype(np.float32),
            grey=grey.reshape(GRID).astype(np.float32),
            white=(white & ~grey).reshape(GRID).astype(np.float32),
        ),
        labels=labels.reshape(GRID),
        affine=np.eye(4),
        template_correlation=0.9,
        white_matter_overlap=0.9,
        folded=0.0,
    )


def phantom_diffusion(paths: list[np.ndarray], axes: np.ndarray, spacing: float) -> Diffusion:
    affine, shape = grid_over(axes, spacing)
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    bvecs = np.concatenate([np.zeros((1, 3)), even_directions(45)])
    bvals = np.concatenate([[0.0], np.full(45, B_VALUE)])
    fibre = np.zeros((len(points), len(bvals)))
    filled = np.zeros(len(points))
    for distance, tangent in _nearest(paths, points):
        inside = distance <= TUBE_MM + 1
        axis = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
        apparent = 0.2e-3 + 1.5e-3 * (axis @ bvecs.T) ** 2
        fibre += inside[:, None] * np.exp(-bvals * apparent)
        filled += inside
    still = np.exp(-bvals * 0.9e-3)
    signal = np.where(filled[:, None] > 0, fibre / np.maximum(filled, 1)[:, None], still)
    noise = np.random.default_rng(0).normal(0, 0.01, signal.shape)
    return Diffusion(
        data=(1000 * np.abs(signal + noise)).reshape(*shape, len(bvals)).astype(np.float32),
        gradients=Gradients(bvals=bvals, bvecs=bvecs),
        mask=np.ones(shape, dtype=bool),
        affine=affine,
        to_anatomy=np.eye(4),
        motion=motion_of(np.tile(np.eye(4), (len(bvals), 1, 1)), np.zeros(3)),
        snr=100.0,
        denoised=False,
        excluded=0,
    )


def tracked(paths: list[np.ndarray], axes: np.ndarray | None = None, spacing: float = 2.5, seed: int = 1) -> Tracked:
    anatomy = phantom_anatomy(paths)
    diffusion = phantom_diffusion(paths, np.eye(3) if axes is None else axes, spacing)
    white = diffusion.anatomical(anatomy, anatomy.tissue.white)
    fibres = estimate_fibres(diffusion, white > 0.9, white > 0.1)
    streamlines = track(fibres, diffusion, anatomy, seeds=2000, rng=np.random.default_rng(seed))
    return Tracked(
        anatomy=anatomy,
        diffusion=diffusion,
        fibres=fibres,
        streamlines=streamlines,
        edges=edges_of(streamlines, 2 * len(paths)),
    )


def line(start: tuple[float, float, float], end: tuple[float, float, float]) -> np.ndarray:
    return np.linspace(start, end, 120)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return tracked


@pytest.fixture(scope="session")
def straight() -> Tracked:
    """One bundle along x, 70 mm from the middle of one region to that of the other."""
    return tracked([line((10, 45, 16), (80, 45, 16))])


@pytest.fixture(scope="session")
def crossing() -> Tracked:
    """Two bundles that cross at a right angle."""
    return tracked([line((10, 45, 16), (80, 45, 16)), line((45, 10, 16), (45, 80, 16))])


@pytest.fixture(scope="session")
def template_head() -> Anatomy:
    """The MNI brain as if it were a patient's, regions where the atlas has them."""
    templates, atlas = mni_templates(), desikan_killiany()
    t1, grey, white = (array_of(i) for i in (templates.t1, templates.grey_matter, templates.white_matter))
    box = (slice(10, 187), slice(12, 221), slice(0, 170))
    affine = templates.t1.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [b.start for b in box]
    labels = np.zeros(t1.shape, dtype=np.int32)
    start = np.rint(np.linalg.inv(templates.t1.affine) @ atlas.image.affine[:, 3]).astype(int)[:3]
    values = array_of(atlas.image, np.int32)
    labels[tuple(slice(s, s + n) for s, n in zip(start, values.shape, strict=True))] = values
    mask = t1 > 0
    return Anatomy(
        t1=t1[box],
        mask=mask[box],
        tissue=Tissue(
            fluid=np.clip(mask - grey - white, 0, 1)[box].astype(np.float32), grey=grey[box], white=white[box]
        ),
        labels=(labels * (grey > 0.3) * mask)[box],
        affine=affine,
        template_correlation=1.0,
        white_matter_overlap=1.0,
        folded=0.0,
    )
