"""Lesions meet the streamlines that run through them, in any frame, and a mask that cannot be one is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from vbt.connectome import LesionedTracts, Tracts, lesion_fractions
from vbt.connectome._tracts import tracts_of
from vbt.errors import Rejected

BUNDLE_MM, LENGTH_MM = 12.0, 80.0


def tracts_from(paths, regions, labels=("lh.a", "rh.a", "lh.b", "rh.b")) -> Tracts:
    return Tracts(
        points=np.rint(np.concatenate(paths) * 10).astype(np.int16),
        offsets=np.concatenate([[0], np.cumsum([len(path) for path in paths])]),
        regions=np.array(regions, dtype=np.int64),
        region_labels=labels,
    )


def bundle(axis: int, count: int = 1500) -> list[np.ndarray]:
    """Parallel streamlines through the origin, spread evenly over a disc across them."""
    radius = BUNDLE_MM * np.sqrt((np.arange(count) + 0.5) / count)
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    along = np.arange(-LENGTH_MM / 2, LENGTH_MM / 2 + 1, 2.0)
    paths = []
    for y, z in zip(radius * np.cos(turn), radius * np.sin(turn), strict=True):
        path = np.stack([along, np.full_like(along, y), np.full_like(along, z)], axis=1)
        paths.append(np.roll(path, axis, axis=1))
    return paths


def image(values: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(values), affine)


def ball(radius: float, affine: np.ndarray, shape: tuple[int, int, int], centre=(0.0, 0.0, 0.0)) -> nib.Nifti1Image:
    world = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(world - centre, axis=1) <= radius
    return image(inside.reshape(shape).astype(np.uint8), affine)


def grid(spacing: float, half_width: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -half_width
    side = round(2 * half_width / spacing) + 1
    return affine, (side, side, side)


@pytest.fixture(scope="module")
def labels() -> nib.Nifti1Image:
    """A ball of 60 mm, right and left of the midline one region each."""
    brain = ball(60.0, *grid(2.0, 70.0))
    values = np.asarray(brain.dataobj).copy()
    values[36:] *= 2
    return image(values, brain.affine)


@pytest.fixture(scope="module")
def crossed() -> Tracts:
    """One bundle from left to right, another from back to front, both through the origin."""
    one, two = bundle(0), bundle(1)
    return tracts_from([*one, *two], [(0, 1)] * len(one) + [(2, 3)] * len(two))


@pytest.mark.parametrize("radius", [4.0, 7.0, 10.0])
def test_a_ball_meets_the_share_of_a_bundle_that_its_shadow_covers(crossed, labels, radius):
    found = lesion_fractions(crossed, ball(radius, *grid(0.5, 15.0)), labels)
    assert found.fraction[0, 1] == pytest.approx((radius / BUNDLE_MM) ** 2, rel=0.03)
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.02)
    assert found.lesions == 1


def test_a_lesion_off_one_bundle_meets_the_other_alone(crossed, labels):
    found = lesion_fractions(crossed, ball(5.0, *grid(1.0, 40.0), centre=(30.0, 0.0, 0.0)), labels)
    assert found.fraction[0, 1] == pytest.approx((5.0 / BUNDLE_MM) ** 2, rel=0.08)
    assert found.fraction[2, 3] == 0.0
    np.testing.assert_array_equal(found.fraction, found.fraction.T)
    assert np.count_nonzero(found.fraction) == 2


def test_taking_streamlines_away_changes_their_tract_alone(crossed, labels):
    mask = ball(8.0, *grid(1.0, 20.0))
    first = np.flatnonzero((crossed.regions == (0, 1)).all(axis=1))
    kept = np.ones(crossed.count, dtype=bool)
    kept[first[len(first) // 2 :]] = False  # the outer ring
    before, after = lesion_fractions(crossed, mask, labels), lesion_fractions(crossed.chosen(kept), mask, labels)
    changed = np.argwhere(before.fraction != after.fraction)
    assert {tuple(pair) for pair in changed.tolist()} == {(0, 1), (1, 0)}
    assert after.fraction[0, 1] == pytest.approx(2 * before.fraction[0, 1], rel=0.03)


@pytest.mark.parametrize("turn", [(-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_the_grid_of_the_mask_does_not_matter(crossed, labels, turn):
    mask = ball(6.0, *grid(1.0, 40.0), centre=(20.0, 3.0, -2.0))
    values = np.asarray(mask.dataobj)
    padded = np.pad(values[:: turn[0], :: turn[1], :: turn[2]], ((5, 2), (0, 3), (4, 0)))
    affine = np.diag([*turn, 1.0])
    first = np.where(np.array(turn) > 0, 0, np.array(values.shape) - 1)
    affine[:3, 3] = mask.affine[:3, :3] @ first + mask.affine[:3, 3] - np.array(turn) * [5, 0, 4]
    found = lesion_fractions(crossed, image(np.swapaxes(padded * 255, 0, 2), affine[:, [2, 1, 0, 3]]), labels)
    expected = lesion_fractions(crossed, mask, labels)
    np.testing.assert_array_equal(found.fraction, expected.fraction)
    assert (found.volume_ml, found.lesions) == (pytest.approx(expected.volume_ml), 1)


def test_a_lesion_thinner_than_the_points_are_apart_is_met(crossed, labels):
    affine, shape = grid(0.5, 15.0)
    sheet = np.zeros(shape, dtype=np.uint8)
    sheet[shape[0] // 2 + 2] = 1  # x = 1 mm, between the points at 0 and 2 mm
    assert lesion_fractions(crossed, image(sheet, affine), labels).fraction[0, 1] == 1.0


def test_lesions_that_touch_at_a_corner_are_one_and_apart_are_two(crossed, labels):
    affine, shape = grid(1.0, 20.0)
    values = np.zeros(shape, dtype=np.uint8)
    values[20, 20, 20] = values[21, 21, 21] = values[30, 20, 20] = 1
    assert lesion_fractions(crossed, image(values, affine), labels).lesions == 2


def _refusals():
    affine, shape = grid(2.0, 40.0)
    few = np.zeros(shape)
    few[20, 20, 18:22] = 1
    numbered, soft, missing = few.copy(), few * 0.7, few.copy()
    numbered[25, 20, 20] = 2
    soft[25, 20, 20] = 0.3
    missing[25, 20, 20] = np.nan
    away = affine.copy()
    away[:3, 3] += 200.0
    return [
        ("lesion-mask-empty", 0 * few, affine),
        ("lesion-mask-not-binary", numbered, affine),
        ("lesion-mask-not-binary", soft, affine),
        ("lesion-mask-not-binary", missing, affine),
        ("lesion-mask-not-binary", -few, affine),
        ("lesion-mask-malformed", np.stack([few, few], axis=3), affine),
        ("lesion-mask-malformed", few, np.zeros((4, 4))),
        ("lesions-outside-brain", few, away),
        ("lesions-implausibly-large", few + 1 - few, affine),
    ]


@pytest.mark.parametrize(("code", "values", "affine"), _refusals())
def test_what_cannot_be_a_lesion_mask_is_refused(crossed, labels, code, values, affine):
    mask = nib.Nifti1Image(values, None)
    mask._affine = affine
    with pytest.raises(Rejected) as refused:
        lesion_fractions(crossed, mask, labels)
    assert refused.value.code == code


def test_tracts_are_the_streamlines_behind_the_weights(crossing):
    tracts = tracts_of(crossing.streamlines, crossing.diffusion.affine, ("a", "b", "c", "d"))
    np.testing.assert_array_equal(tracts.counts, crossing.edges.counts)
    for index in range(0, tracts.count, 17):
        points = tracts.streamline(index)
        gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        assert 1.2 < gaps.min() <= gaps.max() < 2.6
        for region in tracts.regions[index]:
            voxels = np.argwhere(crossing.anatomy.labels == region + 1)
            assert min(np.linalg.norm(voxels - end, axis=1).min() for end in points[[0, -1]]) < 2.5


def test_tracts_follow_the_frame_of_the_t1(straight):
    turned = np.array([[0.0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])
    labels = ("a", "b")
    here = tracts_of(straight.streamlines, straight.diffusion.affine, labels)
    there = tracts_of(straight.streamlines, turned @ straight.diffusion.affine, labels)
    moved = here.points / 10 @ turned[:3, :3].T + turned[:3, 3]
    assert np.abs(there.points / 10 - moved).max() <= 0.1


def test_a_lesion_across_a_tracked_bundle_meets_its_shadow(straight):
    """The bundle runs along x in a tube of 5 mm; a slab across it meets every streamline, a half slab half of them."""
    tracts = tracts_of(straight.streamlines, straight.diffusion.affine, ("a", "b"))
    box = np.ones_like(straight.anatomy.labels)
    box[0] = box[-1] = 2
    labels = straight.anatomy.image(box)
    slab = np.zeros(straight.anatomy.labels.shape, dtype=np.uint8)
    slab[45:48, 25:65] = 1
    half = slab.copy()
    half[:, 46:] = 0
    half[:, 45] = 0
    assert lesion_fractions(tracts, straight.anatomy.image(slab), labels).fraction[0, 1] == 1.0
    assert lesion_fractions(tracts, straight.anatomy.image(half), labels).fraction[0, 1] == pytest.approx(0.46, abs=0.1)


def test_tracts_and_lesions_survive_their_archives(crossed, labels):
    content = crossed.to_npz()
    again = Tracts.from_npz(content)
    assert again.to_npz() == content
    for name in ("points", "offsets", "regions"):
        np.testing.assert_array_equal(getattr(again, name), getattr(crossed, name))
    lesions = lesion_fractions(crossed, ball(6.0, *grid(1.0, 20.0)), labels)
    assert LesionedTracts.from_npz(lesions.to_npz()).to_npz() == lesions.to_npz()
