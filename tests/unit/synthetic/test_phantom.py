"""The phantom is what its truth says, and fair to a tracker."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from vbt.connectome import Connectome
from vbt.synthetic import PatientSettings, SyntheticPatient, Truth, make_patient, recovery_scores
from vbt.synthetic._anatomy import make_anatomy
from vbt.synthetic._phantom import fixels_on


def _voxels(patient: SyntheticPatient, points: np.ndarray) -> tuple[np.ndarray, ...]:
    anatomy = patient.anatomy
    return tuple(np.rint((points - anatomy.affine[:3, 3]) / anatomy.voxel_mm).astype(int).T)


def _arc(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def test_true_lengths_are_mean_arc_lengths(patient: SyntheticPatient) -> None:
    for bundle in patient.bundles:
        i, j = bundle.regions
        mean = np.mean([_arc(line) for line in bundle.streamlines])
        assert patient.connectome.tract_lengths[i, j] == pytest.approx(mean)
        assert patient.connectome.tract_lengths[j, i] == pytest.approx(mean)


def test_true_weights_are_cross_sections(patient: SyntheticPatient) -> None:
    """The fibre volume painted into the tissue is the weight times the length."""
    shape = patient.anatomy.labels.shape
    fixels = fixels_on(list(patient.bundles), patient.anatomy.affine, shape)
    for index, bundle in enumerate(patient.bundles):
        alone = fixels_on([bundle], patient.anatomy.affine, shape)
        # Fans crowd where they land, so some volume is squeezed out there; never is any added.
        painted = alone.fraction.sum() * patient.anatomy.voxel_mm**3
        assert 0.8 * bundle.weight * bundle.length < painted < 1.01 * bundle.weight * bundle.length
        assert fixels.fraction[fixels.bundle == index].sum() > 0


def test_true_streamlines_recover_the_connectome(patient: SyntheticPatient) -> None:
    regions = len(patient.connectome.region_labels)
    weights, lengths = np.zeros((regions, regions)), np.zeros((regions, regions))
    for bundle in patient.bundles:
        for line in bundle.streamlines:
            i, j = patient.anatomy.labels[_voxels(patient, line[[0, -1]])] - 1
            assert i >= 0
            assert j >= 0
            weights[i, j] += 1
            lengths[i, j] += _arc(line)
    lengths = np.divide(lengths, weights, out=np.zeros_like(lengths), where=weights > 0)
    found = dataclasses.replace(patient.connectome, weights=weights, tract_lengths=lengths, normalisation="count")
    scores = recovery_scores(Truth.of(patient), found)
    for name in ("pearson_true_edges", "spearman_true_edges", "log_r", "recall", "precision", "top_k_hit"):
        assert scores[name] > 0.999, name
    assert scores["length_r"] > 0.9999
    assert scores["length_bias"] == pytest.approx(1.0)


def test_no_bundle_passes_foreign_grey_matter(patient: SyntheticPatient) -> None:
    for bundle in patient.bundles:
        passed = np.unique(patient.anatomy.labels[_voxels(patient, np.concatenate(bundle.streamlines))])
        assert set(passed) <= {0, bundle.regions[0] + 1, bundle.regions[1] + 1}


def test_bundles_are_short_and_long_and_commissural(patient: SyntheticPatient) -> None:
    labels = patient.connectome.region_labels
    lengths = [bundle.length for bundle in patient.bundles]
    sides = ["".join(labels[r][:2] for r in bundle.regions) for bundle in patient.bundles]
    assert min(lengths) < 30
    assert max(lengths) > 95
    assert {"lhlh", "rhrh"} <= set(sides)
    assert sum(side in {"lhrh", "rhlh"} for side in sides) >= 2


def test_every_region_keeps_most_of_its_grey_matter(patient: SyntheticPatient) -> None:
    intact = make_anatomy(np.random.default_rng(7).spawn(5)[0], PatientSettings.small())
    before = np.bincount(intact.labels.ravel(), minlength=84)[1:]
    after = np.bincount(patient.anatomy.labels.ravel(), minlength=84)[1:]
    assert (after > 0.6 * before).all()


def test_patient_is_not_the_template(patient: SyntheticPatient) -> None:
    brain = patient.anatomy.brain
    world = patient.anatomy.points(np.argwhere(brain).astype(float))
    offset = np.linalg.norm(patient.anatomy.mni[brain] - world, axis=1)
    assert 2.0 < np.median(offset) < 25.0


def test_deformation_does_not_fold(patient: SyntheticPatient) -> None:
    gradient = [np.gradient(patient.anatomy.mni[..., k], patient.anatomy.voxel_mm) for k in range(3)]
    jacobian = np.linalg.det(np.moveaxis(np.array(gradient), (0, 1), (-2, -1))[patient.anatomy.brain])
    assert jacobian.min() > 0.3


def test_without_deformation_the_patient_is_the_template() -> None:
    still = dataclasses.replace(PatientSettings.small(), scaling=0.0, rotation_degrees=0.0, warp_mm=0.0)
    anatomy = make_anatomy(np.random.default_rng(0), still)
    world = anatomy.points(np.indices(anatomy.labels.shape).reshape(3, -1).T.astype(float))
    np.testing.assert_allclose(anatomy.mni.reshape(-1, 3), world, atol=1e-3)


def test_brain_is_wrapped_in_fluid_bone_and_scalp(patient: SyntheticPatient) -> None:
    anatomy = patient.anatomy
    ring = ndimage.binary_dilation(anatomy.brain) & ~anatomy.brain
    assert (anatomy.csf[ring] > 0).mean() > 0.9
    assert (anatomy.head > 1).sum() > 1000
    assert anatomy.head[0].max() == 0


def test_regional_bold_must_fit_the_protocol() -> None:
    settings = dataclasses.replace(PatientSettings.small(), bundles=2)
    with pytest.raises(ValueError, match="regional BOLD must have shape"):
        make_patient(0, settings, regional_bold=np.zeros((3, 83)))


def test_connectome_is_symmetric_and_labelled_like_the_atlas(patient: SyntheticPatient) -> None:
    truth: Connectome = patient.connectome
    assert np.array_equal(truth.weights, truth.weights.T)
    assert np.array_equal(truth.weights > 0, truth.tract_lengths > 0)
    assert len(truth.region_labels) == 83
