"""Noise is measured, corrupted volumes are seen, and the order of the model follows the directions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.connectome._diffusion import _refuse_ruins, _resembling, _signal_to_noise
from vbt.connectome._fibres import harmonic_order
from vbt.connectome._gradients import Gradients
from vbt.errors import Unsound


def test_known_noise_is_measured(straight):
    series = straight.diffusion
    # The phantom carries Gaussian noise of 10 on a b0 of 1000.
    assert _signal_to_noise(series.data, series.mask, series.gradients) == pytest.approx(100, rel=0.15)


def test_a_corrupted_volume_is_left_out():
    rng = np.random.default_rng(0)
    tissue = rng.uniform(200, 800, (12, 12, 12, 1))
    volumes = tissue * rng.uniform(0.7, 1.3, (12, 12, 12, 20))
    table = Gradients(bvals=np.array([0.0, *[1000.0] * 19]), bvecs=np.eye(3)[np.arange(20) % 3])
    mask = np.ones((12, 12, 12), dtype=bool)
    assert _resembling(volumes, mask, table).all()
    volumes[..., 7] = rng.permuted(volumes[..., 7])
    assert np.flatnonzero(~_resembling(volumes, mask, table)).tolist() == [7]


def test_too_few_directions_after_exclusion_are_unsound(straight):
    table = straight.diffusion.gradients
    left = dataclasses.replace(table, bvals=table.bvals[:6], bvecs=table.bvecs[:6])
    with pytest.raises(Unsound) as refused:
        _refuse_ruins(left, 40)
    assert refused.value.code == "diffusion-corrupted"


@pytest.mark.parametrize(
    ("directions", "order"), [(6, 0), (14, 0), (15, 4), (27, 4), (28, 6), (44, 6), (45, 8), (256, 8)]
)
def test_the_harmonic_order_never_asks_for_more_than_the_directions_give(directions, order):
    assert harmonic_order(directions) == order
    assert (order + 1) * (order + 2) // 2 <= directions


@pytest.mark.parametrize("degrees", [0, 30, 115])
def test_vectors_turn_into_the_frame_of_an_oblique_grid(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([-2.0, 3.0, 4.0])
    table = Gradients(bvals=np.array([0.0, 1000.0]), bvecs=np.array([[0, 0, 0], [c, s, 0]]))
    np.testing.assert_allclose(table.voxel_frame(affine), [[0, 0, 0], [-1, 0, 0]], atol=1e-12)
