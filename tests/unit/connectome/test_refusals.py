"""What a connectome is not built from, and how that is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.connectome import Connectome, build_connectome, desikan_killiany, regional_bold
from vbt.connectome._gradients import gradients_of
from vbt.connectome._images import image_of
from vbt.connectome._quality import anatomy_checks, connection_checks, diffusion_checks
from vbt.errors import Rejected, TwinError, Unsound

VOLUMES = 8
SERIES = image_of(np.zeros((4, 4, 4, VOLUMES), dtype=np.float32), np.eye(4))
BVALS = np.array([0.0, *[1000.0] * 7])
BVECS = np.concatenate([np.zeros((1, 3)), np.eye(3), [[0.6, 0.8, 0], [0.8, 0, 0.6], [0, 0.6, 0.8], [0.6, 0, -0.8]]])


def refusal(expected: type[TwinError], call, *arguments, **named) -> TwinError:
    with pytest.raises(expected) as refused:
        call(*arguments, **named)
    return refused.value


def test_a_full_gradient_table_is_taken():
    table = gradients_of(SERIES, BVALS, BVECS)
    assert (table.directions, table.shell) == (7, 1000.0)


def test_the_highest_shell_with_enough_directions_is_used():
    bvals = np.repeat([0.0, 1000.0, 3000.0, 4000.0], [1, 7, 7, 2])
    bvecs = np.concatenate([BVECS, BVECS[1:], BVECS[1:3]])
    series = image_of(np.zeros((4, 4, 4, 17), dtype=np.float32), np.eye(4))
    table = gradients_of(series, bvals, bvecs)
    assert table.shell == 3000.0
    assert table.in_shell.sum() == 7


@pytest.mark.parametrize(
    ("code", "bvals", "bvecs"),
    [
        ("diffusion-gradients-mismatch", BVALS[:-1], BVECS),
        ("diffusion-gradients-mismatch", BVALS, BVECS * 0.5),
        ("diffusion-gradients-mismatch", BVALS, np.where(np.arange(VOLUMES)[:, None] == 3, np.nan, BVECS)),
        ("diffusion-without-b0", np.full(VOLUMES, 1000.0), np.concatenate([[[0, 0, 1.0]], BVECS[1:]])),
        ("diffusion-too-few-directions", BVALS, np.where(np.arange(VOLUMES)[:, None] > 4, [0, 0, 1.0], BVECS)),
        ("diffusion-too-few-directions", np.zeros(VOLUMES), BVECS),
        ("diffusion-weighting-too-low", BVALS * 0.3, BVECS),
    ],
)
def test_a_broken_gradient_table_is_rejected(code, bvals, bvecs):
    assert refusal(Rejected, gradients_of, SERIES, bvals, bvecs).code == code


def test_opposite_directions_count_once():
    bvecs = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3), [[0.6, 0.8, 0]]])
    assert "4 directions" in str(refusal(Rejected, gradients_of, SERIES, BVALS, bvecs))


def test_a_t1_that_is_no_volume_is_rejected():
    flat = image_of(np.zeros((64, 64, 3), dtype=np.float32), np.eye(4))
    assert refusal(Rejected, build_connectome, SERIES, BVALS, BVECS, flat, rng_seed=0).code == "t1-malformed"


def test_a_template_that_does_not_match_is_unsound(template_head):
    far = dataclasses.replace(template_head, template_correlation=0.1)
    assert refusal(Unsound, anatomy_checks, far, desikan_killiany()).code == "registration-failed"


def test_a_brain_of_impossible_size_is_unsound(template_head):
    tiny = dataclasses.replace(template_head, mask=template_head.mask & False)
    assert refusal(Unsound, anatomy_checks, tiny, desikan_killiany()).code == "brain-implausible"


def test_swapped_hemispheres_fail_their_check(template_head):
    checks = {check.code: check for check in anatomy_checks(template_head, desikan_killiany())}
    assert checks["hemispheres"].passed
    mirrored = dataclasses.replace(template_head, labels=template_head.labels[::-1].copy())
    mirrored_checks = {check.code: check for check in anatomy_checks(mirrored, desikan_killiany())}
    assert not mirrored_checks["hemispheres"].passed


def test_diffusion_that_does_not_show_the_white_matter_is_unsound(straight):
    white = straight.fibres.anisotropy > 0.4
    arguments = (straight.diffusion, straight.fibres, straight.anatomy)
    contrast = {check.code: check for check in diffusion_checks(*arguments, white, ~white)}["anisotropy-contrast"]
    assert contrast.passed
    assert refusal(Unsound, diffusion_checks, *arguments, ~white, white).code == "diffusion-not-aligned"


def test_too_few_streamlines_are_unsound(straight):
    few = straight.streamlines.chosen(np.arange(straight.streamlines.count) < 500)
    assert refusal(Unsound, connection_checks, few, straight.edges).code == "too-few-streamlines"


@pytest.mark.parametrize(
    ("code", "volumes", "repetition_time"),
    [("fmri-too-short", 10, 2.0), ("fmri-without-repetition-time", 50, 0.0)],
)
def test_a_functional_run_without_time_is_rejected(template_head, code, volumes, repetition_time):
    run = image_of(np.zeros((4, 4, 4, volumes), dtype=np.float32), np.eye(4))
    assert refusal(Rejected, regional_bold, run, repetition_time, template_head, ("a",)).code == code


def test_a_functional_run_beside_the_head_is_unsound(template_head):
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 5000
    run = image_of(np.random.default_rng(0).random((20, 20, 20, 45)).astype(np.float32), affine)
    assert refusal(Unsound, regional_bold, run, 2.0, template_head, ("a",)).code in {
        "registration-failed",
        "fmri-not-aligned",
    }


@pytest.mark.parametrize(
    "broken",
    [
        {"weights": np.eye(2)},
        {"weights": np.array([[0, -1.0], [-1, 0]])},
        {"tract_lengths": np.full((2, 2), np.nan)},
        {"region_labels": ("a", "a")},
        {"centres": np.zeros((3, 3))},
    ],
)
def test_a_malformed_connectome_is_rejected(broken):
    whole = {
        "weights": np.array([[0, 1.0], [1, 0]]),
        "tract_lengths": np.array([[0, 50.0], [50, 0]]),
        "region_labels": ("a", "b"),
        "centres": np.zeros((2, 3)),
        "is_cortical": np.array([True, True]),
        "parcellation": "two",
    }
    assert refusal(Rejected, Connectome, **{**whole, **broken}).code == "connectome-malformed"
