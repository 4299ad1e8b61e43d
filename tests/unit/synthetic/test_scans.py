"""The scans show the patient: directions in the right frame, activity in the right place."""

from __future__ import annotations

import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel
from scipy.spatial import cKDTree

from vbt.connectome import Connectome
from vbt.simulation import effective_weights, static_covariance
from vbt.synthetic import DiffusionProtocol, FunctionalProtocol, PatientSettings, SyntheticPatient, TwinParameters
from vbt.synthetic._acquisition import head_positions, moved
from vbt.synthetic._activity import simulate_bold
from vbt.synthetic._diffusion import even_directions, gradient_scheme, signal
from vbt.synthetic._phantom import Fixels, fixels_on


def test_fibre_attenuates_along_itself_as_a_stick_and_a_zeppelin() -> None:
    one = Fixels(
        voxel=np.array([0]),
        bundle=np.array([0]),
        direction=np.array([[0.0, 0.0, 1.0]]),
        fraction=np.array([1.0]),
    )
    nothing = {tissue: np.zeros(1) for tissue in ("white", "grey", "csf", "head")}
    along, across = (signal(one, nothing, 2000.0, np.array(g))[0] for g in ([0.0, 0, 1], [1.0, 0, 0]))
    assert along == pytest.approx(np.exp(-2.0 * 1.7), rel=1e-5)
    assert across == pytest.approx(0.65 + 0.35 * np.exp(-2.0 * 0.4), rel=1e-5)


def test_directions_are_even_over_the_sphere() -> None:
    vectors = even_directions(45)
    both = np.concatenate([vectors, -vectors])
    distance, _ = cKDTree(both).query(both, k=2)
    nearest = np.degrees(2 * np.arcsin(distance[:, 1] / 2))
    # 90 caps on a sphere: the best packing keeps points about 22 degrees apart.
    assert nearest.min() > 17
    assert np.linalg.norm(vectors.mean(axis=0)) < 0.25


def test_scheme_spreads_unweighted_volumes() -> None:
    bvals, bvecs = gradient_scheme(DiffusionProtocol())
    assert bvals[0] == 0
    assert (bvals == 0).sum() == 5
    assert np.diff(np.flatnonzero(bvals == 0)).max() <= 11
    np.testing.assert_allclose(np.linalg.norm(bvecs, axis=1), bvals > 0)


def test_tensors_point_along_the_bundles(patient: SyntheticPatient) -> None:
    scan = patient.diffusion
    affine = np.asarray(scan.image.affine)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    fixels = fixels_on(list(patient.bundles), affine, scan.image.shape[:3])
    alone = np.bincount(fixels.voxel, minlength=int(np.prod(scan.image.shape[:3])))[fixels.voxel] == 1
    strong = alone & (fixels.fraction > 0.4)
    data = np.asarray(scan.image.dataobj, float).reshape(-1, len(scan.bvals))[fixels.voxel[strong]]
    table = gradient_table(scan.bvals, bvecs=scan.bvecs @ axes)
    directions = TensorModel(table).fit(data).evecs[:, :, 0] @ axes.T
    angle = np.degrees(np.arccos(np.clip(np.abs((directions * fixels.direction[strong]).sum(axis=1)), 0, 1)))
    assert strong.sum() > 50
    assert np.median(angle) < 6


def test_painted_activity_is_read_back_from_its_grey_matter(patient: SyntheticPatient) -> None:
    image = patient.functional.image
    anatomy = patient.anatomy
    affine = np.linalg.inv(np.asarray(image.affine))
    series = np.asarray(image.dataobj, float)
    for label in ("lh.superiorfrontal", "rh.precentral", "lh.lateraloccipital"):
        region = anatomy.region_labels.index(label)
        points = anatomy.points(np.argwhere(anatomy.labels == region + 1).astype(float))
        voxels = np.rint(points @ affine[:3, :3].T + affine[:3, 3]).astype(int)
        seen = series[tuple(voxels.T)].mean(axis=0)
        others = np.delete(patient.regional_bold, region, axis=1)
        assert np.corrcoef(seen, patient.regional_bold[:, region])[0, 1] > 0.6
        assert np.abs(np.corrcoef(seen, others.T)[0, 1:]).max() < 0.6


def test_head_that_moved_appears_moved() -> None:
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    volume = np.zeros((9, 9, 9), np.float32)
    volume[4, 4, 4] = 1
    shift = np.eye(4)
    shift[:3, 3] = [2.0, 0, -4.0]  # mm, world
    seen = moved(volume, affine, shift)
    assert np.unravel_index(seen.argmax(), seen.shape) == (3, 4, 2)


def test_first_volume_is_where_the_head_is() -> None:
    positions = head_positions(np.random.default_rng(0), 5, 1.0, 1.0, wander=0.5)
    assert np.array_equal(positions[0], np.eye(4))
    np.testing.assert_allclose(
        positions[:, :3, :3] @ positions[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (5, 1, 1)), atol=1e-12
    )


def test_simulated_activity_has_the_twins_covariance(patient: SyntheticPatient) -> None:
    """Functional connectivity of the lifted twin against the closed form of the linear network it stands for."""
    truth: Connectome = patient.connectome
    twin = TwinParameters(g=0.8, sc_exponent=0.4, homotopic=0.5)
    bold = simulate_bold(truth, twin, FunctionalProtocol(volumes=200, signal_percent=1.0), seed=1)
    weights = effective_weights(truth.weights, truth.region_labels, twin.sc_exponent, twin.homotopic)
    covariance = static_covariance(weights, twin.g)
    scale = np.sqrt(np.diag(covariance))
    upper = np.triu_indices(83, 1)
    expected = (covariance / np.outer(scale, scale))[upper]
    assert np.corrcoef(np.corrcoef(bold.T)[upper], expected)[0, 1] > 0.6
    assert np.median(bold.std(axis=0)) == pytest.approx(1.0)


def test_small_settings_keep_every_kind_of_scan() -> None:
    small, full = PatientSettings.small(), PatientSettings()
    assert small.diffusion.directions >= 6
    assert small.functional.volumes < full.functional.volumes
    assert small.anatomical.slice_mm <= 2.5
