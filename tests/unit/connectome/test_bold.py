"""A functional run that was painted region by region gives the painted series back."""

from __future__ import annotations

import numpy as np
import pytest

from vbt.connectome import RegionalBold, desikan_killiany, regional_bold
from vbt.connectome._bold import _nuisance
from vbt.connectome._images import affine_of, image_of
from vbt.connectome._motion import Motion
from vbt.connectome._registration import isotropic_grid, pull_rigidly

VOLUMES, REPETITION_TIME, SPACING = 48, 2.0, 4.0
SHIFT_MM = 3.0


@pytest.fixture(scope="module")
def painted(template_head):
    """A run on a grid of its own, 3 mm away from the T1, and the percent signal change put into each region."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((VOLUMES, 83))
    grid = isotropic_grid(template_head.image(template_head.t1), SPACING)
    affine = affine_of(grid).copy()
    affine[2, 3] += SHIFT_MM
    tissue = template_head.tissue
    bright = 200 * (tissue.fluid + 0.75 * tissue.grey + 0.6 * tissue.white)
    rest = pull_rigidly(template_head.image(bright), grid, np.eye(4))
    labels = pull_rigidly(template_head.image(template_head.labels), grid, np.eye(4), labels=True).astype(int)
    change = np.concatenate([np.zeros((VOLUMES, 1)), truth], axis=1) / 100
    slow = 1 + 0.02 * np.linspace(-1, 1, VOLUMES)
    volumes = np.stack([1000 * rest * slow[t] * (1 + change[t][labels]) for t in range(VOLUMES)], axis=3)
    volumes += rng.normal(0, 200, volumes.shape)
    return image_of(volumes.astype(np.float32), affine), truth


@pytest.fixture(scope="module")
def bold(painted, template_head) -> RegionalBold:
    return regional_bold(painted[0], REPETITION_TIME, template_head, desikan_killiany().region_labels)


def test_painted_activity_comes_back(bold, painted):
    _, truth = painted
    straight = np.stack([np.ones(VOLUMES), np.linspace(-1, 1, VOLUMES), np.linspace(-1, 1, VOLUMES) ** 2], axis=1)
    flat = truth - straight @ np.linalg.lstsq(straight, truth, rcond=None)[0]
    likeness = [np.corrcoef(bold.time_series[:, i], flat[:, i])[0, 1] for i in range(83)]
    gain = (bold.time_series * flat).sum(axis=0) / (flat**2).sum(axis=0)
    assert np.median(likeness) > 0.85
    assert 0.6 < np.median(gain) < 1.1


def test_drift_is_gone(bold):
    time = np.linspace(-1, 1, VOLUMES)
    assert np.abs(bold.time_series.mean(axis=0)).max() < 1e-6
    assert np.abs(time @ bold.time_series).max() < 1e-6


def test_a_head_at_rest_is_seen_at_rest(bold):
    assert bold.framewise_displacement[0] == 0
    assert bold.framewise_displacement.mean() < 0.3


def test_archive_gives_the_series_back_and_the_same_bytes(bold):
    content = bold.to_npz()
    again = RegionalBold.from_npz(content)
    np.testing.assert_array_equal(again.time_series, bold.time_series)
    assert again.region_labels == bold.region_labels
    assert again.repetition_time == REPETITION_TIME
    assert again.to_npz() == content


def test_regions_outside_the_run_have_no_series(template_head, painted):
    image, _ = painted
    upper = image_of(np.asarray(image.dataobj)[:, :, 16:], affine_of(image) @ _shifted(16))
    partial = regional_bold(upper, REPETITION_TIME, template_head, desikan_killiany().region_labels)
    series = dict(zip(partial.region_labels, partial.time_series.T, strict=True))
    assert not series["lh.entorhinal"].any()
    assert series["lh.precentral"].any()
    assert np.isfinite(partial.time_series).all()


@pytest.mark.parametrize(("step_mm", "regressors"), [(0.19, 5), (0.21, 11)])
def test_motion_is_regressed_out_only_where_the_head_moved(template_head, painted, step_mm, regressors):
    image, _ = painted
    volumes = np.asarray(image.dataobj)
    there = np.random.default_rng(1).choice([-1.0, 1.0], (VOLUMES, 5))
    parameters = np.zeros((VOLUMES, 6))
    parameters[:, 0] = step_mm * np.cumsum(np.where(np.arange(VOLUMES) % 2, 1.0, -1.0)) * VOLUMES / (VOLUMES - 1)
    parameters[:, 1:] = 1e-9 * there  # so that all six are columns of their own
    motion = Motion(transforms=np.repeat(np.eye(4)[None], VOLUMES, axis=0), parameters=parameters)
    aligned = volumes.reshape(-1, VOLUMES).T
    table = _nuisance(aligned, template_head, np.eye(4), image_of(volumes[..., 0], affine_of(image)), motion)
    assert table.shape == (VOLUMES, regressors)


def _shifted(slices: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[2, 3] = slices
    return matrix
