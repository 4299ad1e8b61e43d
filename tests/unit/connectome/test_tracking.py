"""Bundles of known course and length are found as they are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vbt.connectome import conduction_delays
from vbt.connectome._edges import edges_of, joins_two_regions

REGION_MM = 8.0
INTO_REGION_MM = 2.0
VOXEL_MM = 2.5
TILT = np.deg2rad(27)
TILTED = np.array([[np.cos(TILT), -np.sin(TILT), 0], [np.sin(TILT), np.cos(TILT), 0], [0, 0, 1.0]])


def test_a_straight_bundle_has_its_length(straight):
    between = 70 - 2 * REGION_MM
    assert straight.edges.counts[0, 1] > 150
    assert straight.edges.tract_lengths[0, 1] == pytest.approx(between + 2 * INTO_REGION_MM, abs=VOXEL_MM)


def test_a_curved_bundle_has_its_arc_length(phantom):
    angle = np.linspace(0, np.pi, 150)
    arc = np.stack([45 + 32 * np.cos(angle), 20 + 32 * np.sin(angle), np.full(150, 16.0)], axis=1)
    found = phantom([arc])
    between = np.pi * 32 - 2 * REGION_MM
    assert found.edges.counts[0, 1] > 150
    assert found.edges.tract_lengths[0, 1] == pytest.approx(between + 2 * INTO_REGION_MM, abs=2 * VOXEL_MM)


def test_bundles_that_cross_stay_apart(crossing):
    counts = crossing.edges.counts
    along, astray = counts[0, 1] + counts[2, 3], counts[:2, 2:].sum()
    assert min(counts[0, 1], counts[2, 3]) > 150
    assert astray < 0.05 * along


@pytest.mark.parametrize(
    "axes",
    [
        np.diag([-1.0, 1, 1]),
        TILTED,
        TILTED @ np.diag([-1.0, 1, 1]),
        TILTED @ np.diag([1.0, -1, 1]),
        TILTED[:, [1, 0, 2]],
    ],
    ids=["flipped", "oblique", "oblique flipped in x", "oblique flipped in y", "oblique with swapped axes"],
)
def test_gradients_in_the_world_frame_hold_on_any_grid(phantom, axes):
    found = phantom([np.linspace((10, 45, 16), (80, 45, 16), 120)], axes)
    assert found.edges.counts[0, 1] > 150
    assert found.edges.tract_lengths[0, 1] == pytest.approx(70 - 2 * REGION_MM + 2 * INTO_REGION_MM, abs=VOXEL_MM)


def test_weights_do_not_grow_with_length(phantom):
    short = phantom([np.linspace((20, 25, 16), (60, 25, 16), 120), np.linspace((5, 65, 16), (85, 65, 16), 120)])
    near, far = short.edges.strengths[0, 1], short.edges.strengths[2, 3]
    assert short.edges.counts[2, 3] > 1.7 * short.edges.counts[0, 1]
    assert near == pytest.approx(far, rel=0.25)


def test_removing_a_bundle_changes_only_its_edge(crossing):
    ends = np.sort(crossing.streamlines.ends, axis=1)
    other = crossing.streamlines.chosen(~((ends == (1, 2)).all(axis=1)))
    left = edges_of(other, 4)
    for before, after in (
        (crossing.edges.counts, left.counts),
        (crossing.edges.strengths, left.strengths),
        (crossing.edges.tract_lengths, left.tract_lengths),
    ):
        changed = np.argwhere(before != after)
        assert {tuple(pair) for pair in changed.tolist()} == {(0, 1), (1, 0)}


def test_edges_are_symmetric_without_self_connections(crossing):
    for matrix in (crossing.edges.counts, crossing.edges.strengths, crossing.edges.tract_lengths):
        np.testing.assert_array_equal(matrix, matrix.T)
        assert not np.diag(matrix).any()


def test_every_streamline_that_joins_regions_is_counted_once(crossing):
    assert crossing.edges.counts.sum() == 2 * joins_two_regions(crossing.streamlines).sum()


def test_halving_the_velocity_doubles_every_delay_exactly(crossing):
    lengths = crossing.edges.tract_lengths
    np.testing.assert_array_equal(conduction_delays(lengths, 3.5), 2 * conduction_delays(lengths, 7.0))
    assert conduction_delays(np.full((1, 1), 60.0), 6.0)[0, 0] == 10.0


def test_a_velocity_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive"):
        conduction_delays(np.ones((2, 2)), 0.0)


def test_a_new_process_tracks_the_same_streamlines(straight):
    script = f"""
import sys, hashlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import line, tracked
again = tracked([line((10, 45, 16), (80, 45, 16))]).streamlines
print(hashlib.sha256(again.points.tobytes() + again.ends.tobytes()).hexdigest())
"""
    here = hashlib.sha256(straight.streamlines.points.tobytes() + straight.streamlines.ends.tobytes()).hexdigest()
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here
