"""What an SEEG contact sees of a region, when a network of Epileptors can rest, and how resections are searched."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest
from scipy.optimize import brentq

from vbt.clinical._epilepsy_gain import CORTICAL_THICKNESS, hidden, largest_share, region_volumes, seeg_gain
from vbt.clinical._epilepsy_resections import minimal, random_sets, resectable, search
from vbt.clinical._epilepsy_rest import (
    equilibrium,
    isolated_threshold,
    leading_eigenvalue,
    margin,
    network_thresholds,
    resting_z,
)
from vbt.clinical._epilepsy_stimulation import provoked
from vbt.clinical._epilepsy_twins import Twins, coupling_weights, evenly, unseen_as_healthy
from vbt.simulation import Epileptor2D, Network
from vbt.simulation.bifurcation import resting_point

PUBLISHED_THRESHOLD = -2.036870  # of the two-dimensional Epileptor at τ₀ = 10


def _image(voxels: np.ndarray, size: float = 1.0) -> nib.Nifti1Image:
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = -0.5 * size * (np.array(voxels.shape) - 1)  # the middle of the image is the origin
    return nib.Nifti1Image(voxels.astype(np.int16), affine)


def _distances(shape: int, size: float) -> np.ndarray:
    axis = size * (np.arange(shape) - 0.5 * (shape - 1))
    return np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)


def _random_weights(rng: np.random.Generator, regions: int) -> np.ndarray:
    weights = rng.lognormal(0.0, 1.0, (regions, regions))
    weights = weights + weights.T
    np.fill_diagonal(weights, 0.0)
    return coupling_weights(weights)


def test_gain_of_one_voxel_is_its_area_over_the_squared_distance() -> None:
    voxels = np.zeros((9, 9, 9))
    voxels[0, 4, 4] = 1  # 8 mm to the left of the middle
    gain = seeg_gain(_image(voxels, 2.0), 1, np.array([[0.0, 0.0, 0.0], [0.0, 6.0, 0.0]]))
    area = 8.0 / CORTICAL_THICKNESS
    np.testing.assert_allclose(gain[:, 0], [area / 64.0, area / 100.0])


@pytest.mark.parametrize(("inner", "outer"), [(5.0, 9.0), (0.0, 6.0)])
def test_gain_at_the_middle_of_a_shell_is_the_integral_of_the_inverse_square(inner: float, outer: float) -> None:
    distances = _distances(81, 0.25)
    voxels = (distances >= inner) & (distances < outer)
    gain = seeg_gain(_image(voxels, 0.25), 1, np.zeros((1, 3)))
    assert gain[0, 0] == pytest.approx(4.0 * math.pi * (outer - inner) / CORTICAL_THICKNESS, rel=0.01)


def test_gain_does_not_depend_on_how_the_image_lies() -> None:
    rng = np.random.default_rng(0)
    image = _image(rng.integers(0, 4, (6, 7, 8)), 3.0)
    turn = np.array([[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, -2.0], [0.0, 0.0, 1.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    turned = nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine)
    contacts = rng.normal(0.0, 6.0, (4, 3))
    np.testing.assert_allclose(
        seeg_gain(image, 3, contacts), seeg_gain(turned, 3, contacts @ turn[:3, :3].T + turn[:3, 3])
    )


def test_region_without_voxels_is_hidden_and_has_no_volume() -> None:
    voxels = np.zeros((5, 5, 5))
    voxels[:2], voxels[3:] = 1, 3
    image = _image(voxels, 2.0)
    gain = seeg_gain(image, 3, np.array([[-3.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    assert hidden(gain).tolist() == [False, True, False]
    assert largest_share(gain)[[0, 2]].min() > 0.5
    np.testing.assert_allclose(region_volumes(image, 3), [0.4, 0.0, 0.4])


def test_isolated_threshold_is_the_published_one() -> None:
    assert isolated_threshold() == pytest.approx(PUBLISHED_THRESHOLD, abs=1e-6)


def test_equilibrium_is_the_one_of_the_bifurcation_package() -> None:
    rng = np.random.default_rng(1)
    weights, eta = _random_weights(rng, 5), rng.uniform(-3.5, -2.4, 5)
    network = Network(
        mass=Epileptor2D(x0=eta, K=1.3), weights=weights, tract_lengths=np.zeros((5, 5)), velocity=1.0,
    )  # fmt: skip
    expected = resting_point(network)
    x = equilibrium(eta, 1.3, weights)
    np.testing.assert_allclose(np.concatenate([x, resting_z(x)]), expected.state, atol=1e-6)
    assert leading_eigenvalue(eta, 1.3, weights) == pytest.approx(expected.eigenvalues.real.max(), abs=1e-6)


def test_margin_without_coupling_is_the_distance_of_the_most_excitable_region_to_its_threshold() -> None:
    weights = _random_weights(np.random.default_rng(2), 4)
    eta = np.array([-3.0, -2.4, -2.9, -3.3])
    assert margin(eta, 0.0, weights) == pytest.approx(PUBLISHED_THRESHOLD + 2.4, abs=1e-4)
    assert margin(eta + 1.0, 0.0, weights) == pytest.approx(PUBLISHED_THRESHOLD + 1.4, abs=1e-4)


def test_equal_regions_lose_rest_together_whatever_their_coupling() -> None:
    weights = _random_weights(np.random.default_rng(3), 4)
    assert margin(np.full(4, -2.5), 2.0, weights) == pytest.approx(PUBLISHED_THRESHOLD + 2.5, abs=1e-4)


def test_network_threshold_is_where_the_coupled_jacobian_turns_unstable() -> None:
    weights, eta = _random_weights(np.random.default_rng(4), 10), np.full(10, -3.2)

    def leading(value: float) -> float:
        return leading_eigenvalue(np.r_[value, eta[1:]], 0.5, weights)

    lost = brentq(leading, -2.3, -1.6)
    assert lost > PUBLISHED_THRESHOLD + 0.03  # neighbours at rest hold a region back
    found = network_thresholds(np.r_[lost, eta[1:]], 0.5, weights)[0]
    assert found == pytest.approx(lost, abs=0.01)


def test_twin_seizes_exactly_where_it_cannot_rest() -> None:
    rng = np.random.default_rng(5)
    weights, eta = _random_weights(rng, 6), rng.uniform(-3.4, -2.6, (24, 6))
    eta[:, 0] = rng.uniform(-2.4, -1.5, 24)
    margins = np.array([margin(draw, 1.0, weights) for draw in eta])
    clear = np.abs(margins) > 0.03
    twins = Twins(eta=eta, coupling=np.ones(24), weights=weights, units=200.0)
    seizes = twins.recruited([()], 24)[0].any(axis=1)
    assert clear.sum() > 15
    assert 4 < (margins < 0).sum() < 20
    np.testing.assert_array_equal(seizes[clear], margins[clear] < 0.0)


def test_few_draws_are_taken_from_all_chains_and_not_from_the_first() -> None:
    quiet_chain, seizing_chain = np.full((30, 2), -3.4), np.full((30, 2), -1.6)
    twins = Twins(
        eta=np.concatenate([quiet_chain, seizing_chain]), coupling=np.zeros(60), weights=np.ones((2, 2)) - np.eye(2),
        units=200.0,
    )  # fmt: skip
    assert twins.recruited([()], 4)[0].any(axis=1).tolist() == [False, False, True, True]
    provoking = provoked(twins, [0], 4, seconds_per_unit=2.0)
    assert provoking.shape == (2, 1, 4)
    assert np.bincount(evenly(600, 100) // 150, minlength=4).tolist() == [25] * 4


def test_removing_what_starts_seizures_frees_those_it_recruited() -> None:
    weights = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.05], [0.0, 0.05, 0.0]])
    twins = Twins(eta=np.array([[-1.6, -2.2, -3.4]]), coupling=np.array([1.0]), weights=weights, units=200.0)
    untouched, without_onset, without_other = twins.recruited([(), (0,), (2,)], 1)[:, 0]
    assert untouched.tolist() == [True, True, False]
    assert not without_onset.any()
    assert without_other.tolist() == [True, True, False]


def test_pulses_provoke_seizures_in_excitable_regions_and_slow_ones_less() -> None:
    weights = coupling_weights(np.ones((4, 4)) - np.eye(4))
    twins = Twins(eta=np.array([[-1.6, -1.8, -3.6, -3.6]]), coupling=np.array([0.5]), weights=weights, units=200.0)
    fast, slow = provoked(twins, [0, 1, 2], 1, seconds_per_unit=0.5)[:, :, 0]
    assert fast.tolist() == [True, True, False]
    assert not slow.any()


def test_draws_of_unseen_regions_start_no_seizures_and_others_stay() -> None:
    eta = np.array([[-1.5, -1.0], [-3.0, -2.5], [-2.0, -2.8], [-1.7, -3.1]])
    kept = unseen_as_healthy(eta, np.array([True, False]))
    np.testing.assert_array_equal(kept[:, 0], eta[:, 0])
    assert kept[:, 1].tolist() == [-2.5, -2.5, -2.8, -3.1]


def test_search_finds_the_smallest_set_that_helps_and_tries_all_pairs() -> None:
    needed, asked = {2, 5, 7}, []

    def recruit(sets: object) -> np.ndarray:
        asked.extend(sets)
        return np.array([[len(needed - set(chosen))] * 3 for chosen in sets])

    tried = search([1, 2, 3, 5, 7], recruit, np.ones(9), 4)
    assert tried[0].regions == (2, 5, 7)
    assert tried[0].free == 1.0
    assert sum(len(chosen) == 2 for chosen in asked) == 10
    assert max(len(chosen) for chosen in asked) == 3  # stops where nothing seizes


def test_smaller_of_two_resections_that_help_alike_comes_first() -> None:
    volumes = np.array([5.0, 3.0, 4.0])
    tried = search([0, 1, 2], lambda sets: np.zeros((len(sets), 2), dtype=int), volumes, 2)
    assert [one.regions for one in tried[:3]] == [(1,), (2,), (0,)]


def test_set_of_which_a_part_does_as_well_is_not_listed() -> None:
    def recruit(sets: object) -> np.ndarray:
        return np.array([[0 if 4 in chosen else 2 - len(chosen) // 2] for chosen in sets])

    listed = [one.regions for one in minimal(search([1, 3, 4], recruit, np.ones(5), 2))]
    assert listed == [(4,), (1, 3), (1,), (3,)]


def test_random_sets_differ_and_stay_among_the_candidates() -> None:
    sets = random_sets([3, 4, 6, 8], 2, 6, seed=1)
    assert len(set(sets)) == 6
    assert {region for chosen in sets for region in chosen} <= {3, 4, 6, 8}
    assert sets == random_sets([3, 4, 6, 8], 2, 6, seed=1)


def test_deep_nuclei_are_never_proposed() -> None:
    labels = ("lh.hippocampus", "rh.thalamusproper", "brainstem", "lh.insula", "lh.putamen", "rh.amygdala")
    assert resectable(labels).tolist() == [True, False, False, True, False, True]
