"""Regions, tissues and transforms that are known beforehand are found again."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vbt.connectome import desikan_killiany, extract_brain, mni_templates
from vbt.connectome._anatomy import dice, label_patient
from vbt.connectome._images import affine_of, array_of, canonical, image_of, on_axes_of
from vbt.connectome._motion import motion_of
from vbt.connectome._registration import (
    isotropic_grid,
    pull_rigidly,
    register_template,
    rigid_registration,
)
from vbt.connectome._tissue import Tissue, segment
from vbt.dicom import Role, anatomical_volume, read_study
from vbt.errors import Rejected

REAL_T1 = Path.home() / ".cache" / "vbt-data" / "philips_elition" / "1301"
LABEL_REACH = 4


def rigid(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix[:3, :3] = matrix[:3, :3] @ turn
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture(scope="module")
def coarse_template() -> nib.Nifti1Image:
    template = mni_templates().t1
    grid = isotropic_grid(template, 3.0)
    return image_of(pull_rigidly(template, grid, np.eye(4)), affine_of(grid))


def test_the_parcellation_has_83_regions_on_their_own_sides():
    atlas = desikan_killiany()
    side = np.array(atlas.hemispheres)
    assert len(atlas.region_labels) == len(set(atlas.region_labels)) == 83
    assert atlas.is_cortical.sum() == 68
    assert (atlas.centres[side == "L", 0] < 0).all()
    assert (atlas.centres[side == "R", 0] > 0).all()
    assert atlas.region_labels[34] == "lh.thalamusproper"
    np.testing.assert_allclose(atlas.centres[34], [-11, -18, 7], atol=4)


def test_a_known_head_movement_is_recovered(coarse_template):
    truth = rigid((4, -3, 5), (3, -5, 4))
    moved = image_of(pull_rigidly(coarse_template, coarse_template, np.linalg.inv(truth)), affine_of(coarse_template))
    found = rigid_registration(coarse_template, moved, levels_mm=(12.0, 6.0, 3.0))
    head = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-80, 60) for z in (-30, 60)], dtype=float)
    assert np.linalg.norm((head @ (found - truth).T)[:, :3], axis=1).max() < 1.0


def test_registration_is_the_same_twice(coarse_template):
    moved = image_of(
        pull_rigidly(coarse_template, coarse_template, rigid((2, 1, 0), (1, 2, 0))), affine_of(coarse_template)
    )
    one, two = (rigid_registration(coarse_template, moved) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_the_template_is_brought_onto_a_brain_of_another_size(coarse_template):
    smaller = affine_of(coarse_template).copy()
    smaller[:3] = np.diag([0.9, 0.92, 0.88]) @ smaller[:3]
    patient = image_of(array_of(coarse_template), smaller)
    warp = register_template(coarse_template, patient, spacing_mm=4.0)
    brain = array_of(coarse_template) > 0
    assert np.corrcoef(warp.pull(coarse_template, patient)[brain], array_of(patient)[brain])[0, 1] > 0.95
    assert warp.folded < 0.01


def test_tissues_of_known_brightness_are_told_apart():
    rng = np.random.default_rng(0)
    depth = np.linalg.norm(np.indices((60, 60, 60)) - 29.5, axis=0)
    truth = np.select([depth < 14, depth < 20, depth < 26], [3, 2, 1], 0)
    t1 = np.array([0.0, 30, 70, 100])[truth] + rng.normal(0, 8, truth.shape) * (truth > 0)
    found = segment(t1.astype(np.float32), truth > 0)
    for number, tissue in enumerate((found.fluid, found.grey, found.white), start=1):
        assert dice(tissue > 0.5, truth == number) > 0.97


def _strip(tissues: str) -> Tissue:
    """Tissue along x, one letter per voxel."""
    fluid, grey, white = (
        np.array([letter == kind for letter in tissues], dtype=np.float32).reshape(-1, 1, 1) for kind in "cgw"
    )
    return Tissue(fluid=fluid, grey=grey, white=white)


def test_white_matter_and_fluid_never_become_cortex():
    atlas = np.full((12, 1, 1), 5, dtype=np.int32)
    labels = label_patient(atlas, _strip("ccccggggwwww"), desikan_killiany()).ravel()
    assert labels.tolist() == [0, 0, 0, 0, 5, 5, 5, 5, 0, 0, 0, 0]


def test_grey_matter_takes_the_nearest_cortical_name_within_reach():
    atlas = np.zeros((12, 1, 1), dtype=np.int32)
    atlas[:2] = 5
    labels = label_patient(atlas, _strip("g" * 12), desikan_killiany()).ravel()
    assert (labels[: 2 + LABEL_REACH] == 5).all()
    assert (labels[2 + LABEL_REACH :] == 0).all()


def test_deep_nuclei_keep_their_name_in_bright_tissue_but_not_in_fluid():
    thalamus = desikan_killiany().region_labels.index("lh.thalamusproper") + 1
    labels = label_patient(np.full((6, 1, 1), thalamus, dtype=np.int32), _strip("ccggww"), desikan_killiany())
    assert labels.ravel().tolist() == [0, 0, thalamus, thalamus, thalamus, thalamus]


def test_framewise_displacement_adds_shifts_and_arcs():
    transforms = np.array([np.eye(4), rigid((0, 0, 0), (1, 0, 0)), rigid((0, 0, np.rad2deg(0.01)), (1, 0, 0))])
    displaced = motion_of(transforms, np.zeros(3)).framewise_displacement
    np.testing.assert_allclose(displaced, [0, 1, 0.5], atol=1e-9)


@pytest.mark.parametrize("axes", [np.eye(3), np.diag([-1, -1, 1.0]), np.eye(3)[[2, 0, 1]], np.eye(3)[[1, 2, 0]] * -1])
def test_turning_to_canonical_axes_and_back_changes_nothing(axes):
    affine = np.eye(4)
    affine[:3, :3] = axes * 2
    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    image = image_of(values, affine)
    turned = canonical(image)
    assert nib.aff2axcodes(affine_of(turned)) == ("R", "A", "S")
    np.testing.assert_array_equal(array_of(on_axes_of(image, array_of(turned))), values)
    world = affine @ [1, 2, 3, 1]
    voxel = np.rint(np.linalg.inv(affine_of(turned)) @ world).astype(int)[:3]
    assert array_of(turned)[tuple(voxel)] == values[1, 2, 3]


def test_an_image_without_contrast_has_no_brain():
    with pytest.raises(Rejected) as refused:
        extract_brain(image_of(np.full((40, 40, 40), 7, dtype=np.float32), np.eye(4)))
    assert refused.value.code == "t1-without-brain"


@pytest.mark.skipif(not REAL_T1.exists(), reason="the Philips patient is not unpacked in ~/.cache/vbt-data")
def test_a_real_t1_gives_a_plausible_brain():
    series = next(s for s in read_study(sorted(REAL_T1.iterdir())).series if s.role is Role.T1)
    t1 = anatomical_volume(series)
    brain = array_of(extract_brain(t1), np.uint8)
    assert 1500 < brain.sum() * abs(np.linalg.det(affine_of(t1)[:3, :3])) / 1000 < 1630
    assert set(np.unique(brain)) == {0, 1}
