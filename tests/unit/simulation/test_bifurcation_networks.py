"""Networks lose their rest where closed forms say, delays included, and noise shows it coming."""

from __future__ import annotations

import dataclasses
from concurrent.futures import CancelledError

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import lambertw

from vbt.errors import Unsound
from vbt.simulation import Network, resect
from vbt.simulation.bifurcation import (
    DelayedLinear,
    characteristic_roots,
    coupling_bands,
    distance_to_threshold,
    early_warning,
    equilibria,
    follow_equilibria,
    network,
    node,
    resting_point,
    sweep_coupling,
)
from vbt.simulation.neural_masses.jansen_rit import JansenRit
from vbt.simulation.neural_masses.linear import Linear
from vbt.simulation.neural_masses.montbrio_pazo_roxin import MontbrioPazoRoxin
from vbt.simulation.neural_masses.stuart_landau import StuartLandau
from vbt.simulation.neural_masses.wilson_cowan import WilsonCowan

FOLD = -3.1361341  # η at which the quiet state of J = 15, Δ = 1 ends: −π²r² − 3/(4π²r²) at J(r) = 15


def scalar(delay, coefficient=-1.0):
    """x' = coefficient · x(t − delay)."""
    here = np.zeros((1, 1), dtype=int)
    return DelayedLinear(
        present=np.zeros((1, 1)),
        delays=np.array([delay]),
        rows=here,
        columns=here,
        blocks=np.full((1, 1, 1), coefficient),
    )


def quiet(weights, eta=-5.0, **rest):
    return Network(
        mass=MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=eta),
        weights=np.asarray(weights, float),
        tract_lengths=np.zeros(np.shape(weights)),
        velocity=1.0,
        **rest,
    )


@pytest.mark.parametrize("delay", [0.3, 1.5, 1.6, 20.0])
def test_characteristic_roots_are_lamberts(delay):
    roots = characteristic_roots(scalar(delay), 6)
    exact = np.array([lambertw(-delay, k) / delay for k in range(-6, 6)])
    exact = exact[np.argsort(-exact.real)][:6]
    np.testing.assert_allclose(np.sort(roots.real)[::-1], exact.real, rtol=1e-9)
    np.testing.assert_allclose(np.sort(np.abs(roots.imag)), np.sort(np.abs(exact.imag)), rtol=1e-9)


def test_alike_regions_have_their_roots_as_often_as_there_are_modes():
    # All-to-all among three: the modes couple with 2, −1 and −1, each root solving λ + 1 = 0.9 μ e^{−λ τ}.
    ring = Network(
        mass=Linear(decay=1.0),
        weights=np.ones((3, 3)) - np.eye(3),
        tract_lengths=np.full((3, 3), 2.0),
        velocity=1.0,
        coupling=0.9,
    )
    roots = network(ring, "coupling", delayed=True).eigenvalues(np.zeros(3), 0.9)
    exact = [lambertw(0.9 * mu * 2.0 * np.exp(2.0), k) / 2.0 - 1.0 for mu in (2, -1, -1) for k in range(-4, 5)]
    rightmost = np.sort(np.real(exact))[::-1][:10]
    np.testing.assert_allclose(roots.real[:10], rightmost, rtol=1e-8)


def test_linear_delay_equation_oscillates_from_a_quarter_turn_of_delay():
    # x' = −x(t − τ) as a network of one, its delay 1 mm over the velocity: τ = π/2 at v = 2/π.
    alone = Network(
        mass=Linear(decay=0.0), weights=np.ones((1, 1)), tract_lengths=np.ones((1, 1)), velocity=1.0, coupling=-1.0
    )
    (hopf,) = follow_equilibria(network(alone, "velocity", delayed=True), 0.4, 2.0).bifurcations
    assert hopf.kind == "hopf"
    assert 1.0 / hopf.parameter == pytest.approx(np.pi / 2, rel=1e-8)
    assert hopf.angular_frequency == pytest.approx(1.0, rel=1e-8)
    leading = [characteristic_roots(scalar(delay))[0].real for delay in (1.5, 1.6)]
    assert leading[0] < 0 < leading[1]
    # Lambert's W gives ×0.0196 and ×4.37 over 180 time units.
    np.testing.assert_allclose(np.exp(180 * np.array(leading)), [0.0196, 4.37], rtol=0.01)


@pytest.mark.parametrize(("delay", "frequency"), [(5.0, 16.432), (10.0, 10.570), (20.0, 6.248)])
def test_delayed_oscillators_synchronise_below_their_own_frequency(delay, frequency):
    strength, omega = 300.0, 2 * np.pi * 40
    pair = Network(
        mass=StuartLandau(omega=omega),
        weights=np.array([[0.0, 1.0], [1.0, 0.0]]),
        tract_lengths=np.array([[0.0, delay], [delay, 0.0]]),
        velocity=1.0,
        coupling=strength,
    )
    diagram = follow_equilibria(network(pair, "a", delayed=True), -300.0, 400.0, starts=16, sites=1)
    found = {round(hopf.frequency, 3): hopf for hopf in diagram.of_kind("hopf")}
    hopf = min(found.values(), key=lambda h: abs(h.frequency - frequency))
    Omega = hopf.angular_frequency
    assert hopf.frequency == pytest.approx(frequency, rel=1e-4)
    assert Omega == pytest.approx(omega - strength * np.sin(Omega * delay / 1000), rel=1e-9)
    assert hopf.parameter == pytest.approx(strength * (1 - np.cos(Omega * delay / 1000)), rel=1e-8)


def test_delays_shorter_than_anything_change_nothing():
    rng = np.random.default_rng(0)
    weights = rng.random((4, 4)) * (1 - np.eye(4))
    columns = Network(mass=JansenRit(p=0.02), weights=weights, tract_lengths=1e-7 * weights, velocity=1.0, coupling=3.0)
    rest = resting_point(columns)
    late = network(columns, "coupling", delayed=True).eigenvalues(rest.state, 3.0)
    np.testing.assert_allclose(late[:4].real, rest.eigenvalues[:4].real, rtol=1e-5)


def test_network_of_alike_regions_folds_where_the_closed_form_says():
    # Every region receives r through weights that sum to 1, so the network at coupling G is a node with J + G.
    weights = np.array([[0.0, 0.3, 0.7], [0.6, 0.0, 0.4], [0.5, 0.5, 0.0]])
    sweep = sweep_coupling(quiet(weights), 0.0, 40.0)
    r = sweep.threshold.state[0]
    assert sweep.threshold.kind == "fold"
    assert -(np.pi**2) * r**2 - 3 / (4 * np.pi**2 * r**2) == pytest.approx(-5.0, rel=1e-7)
    assert 15.0 + sweep.threshold.parameter == pytest.approx(2 * np.pi**2 * r + 1 / (2 * np.pi**2 * r**3), rel=1e-7)
    quietly = sweep.leading[: int(sweep.coupling.argmax())].real
    assert quietly[0] == pytest.approx(-2.44874, rel=1e-5)
    assert (np.diff(quietly) > 0).all()


def test_distance_of_an_uncoupled_region_is_that_of_its_own_fold():
    eta = np.array([-5.0, -4.0, -3.5])
    distances = distance_to_threshold(quiet(np.zeros((3, 3)), eta, region_labels=("a", "b", "c")), "eta", 5.0)
    np.testing.assert_allclose(distances.upward, FOLD - eta, rtol=1e-6)
    assert np.isinf(distances.downward).all()
    assert distances.upward_kind == ("fold",) * 3
    assert distances.downward_kind == ("end of the range",) * 3
    assert distances.nearest == "c"
    # Only the region with the leading eigenvalue moves it: λ = 2V + √(2r(J − 2π²r)) along the fold's branch.
    assert distances.sensitivity[2] > 0.1
    np.testing.assert_allclose(distances.sensitivity[:2], 0.0, atol=1e-6)


def test_input_from_a_region_shortens_the_distance_of_its_target():
    directed = np.zeros((2, 2))
    directed[1, 0] = 15.0  # weights[target, source]: region 0 drives region 1
    distances = distance_to_threshold(quiet(directed), "eta", 5.0)
    drive = 15.0 * equilibria(node(MontbrioPazoRoxin(Delta=1.0, J=15.0), "eta"), -5.0)[0].state[0]
    assert distances.upward[1] == pytest.approx(FOLD + 5.0 - drive, rel=1e-6)
    # Region 0 may move until its rate, times 15, carries region 1 over: earlier than its own fold.
    assert distances.upward[0] < FOLD + 5.0 - 1e-3
    rates = equilibria(node(MontbrioPazoRoxin(Delta=1.0, J=15.0), "eta"), -5.0 + distances.upward[0])
    assert 15.0 * rates[0].state[0] == pytest.approx(FOLD + 5.0, rel=1e-6)


def test_removed_regions_are_left_out():
    weights = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    cut = resect(quiet(weights, np.array([-5.0, -4.8, -4.6]), region_labels=("a", "b", "c")), (2,))
    distances = distance_to_threshold(cut, "eta", 3.0)
    assert distances.region_labels == ("a", "b")
    whole = distance_to_threshold(quiet(weights[:2, :2], np.array([-5.0, -4.8])), "eta", 3.0)
    np.testing.assert_allclose(distances.upward, whole.upward, rtol=1e-9)


def test_fluctuations_of_coupled_linear_regions_have_the_lyapunov_covariance():
    # Specification §0: J = [[−1, .4], [.4, −1]] with unit noise has the variance 0.59524; here σ = 2, 10 ms a unit.
    pair = Network(
        mass=Linear(decay=1.0, milliseconds_per_unit=10.0),
        weights=np.array([[0.0, 0.4], [0.4, 0.0]]),
        tract_lengths=np.zeros((2, 2)),
        velocity=1.0,
        sigma=(2.0,),
    )
    seen = early_warning(pair, 7.0)
    np.testing.assert_allclose(seen.variance, 4 * 0.59524, rtol=1e-5)
    covariance = np.array([[0.59524, 0.23810], [0.23810, 0.59524]])
    lagged = expm(0.7 * np.array([[-1.0, 0.4], [0.4, -1.0]])) @ covariance
    np.testing.assert_allclose(seen.autocorrelation, lagged[0, 0] / 0.59524, rtol=1e-4)
    assert seen.relaxation_time == pytest.approx(10 / 0.6)


@pytest.mark.parametrize("delay", [0.5, 1.0, 1.4])
def test_fluctuations_of_the_delay_equation_have_kuechlers_variance(delay):
    alone = Network(
        mass=Linear(decay=0.0),
        weights=np.ones((1, 1)),
        tract_lengths=np.ones((1, 1)),
        velocity=1.0 / delay,
        coupling=-1.0,
        sigma=(1.0,),
    )
    # Küchler & Mensch (1992): x' = −x(t − τ) + ξ has the variance (1 + sin τ) / (2 cos τ).
    exact = (1 + np.sin(delay)) / (2 * np.cos(delay))
    assert early_warning(alone, 1.0, delayed=True).variance[0] == pytest.approx(exact, rel=1e-4)


def test_warnings_grow_towards_the_threshold():
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    noisy = quiet(weights, sigma=(0.0, 0.01))
    threshold = sweep_coupling(noisy, 0.0, 40.0).threshold.parameter
    seen = [early_warning(dataclasses.replace(noisy, coupling=g * threshold), 5.0) for g in (0.0, 0.9, 0.9999)]
    for measure in ("relaxation_time", "variance", "autocorrelation"):
        values = [np.min(getattr(warning, measure)) for warning in seen]
        assert values[0] < values[1] < values[2], measure
    # Critical slowing at a fold: the leading eigenvalue goes as the root of the distance.
    near = [sweep_root(noisy, threshold * (1 - distance)) for distance in (1e-4, 4e-4)]
    assert near[1] / near[0] == pytest.approx(2.0, rel=0.02)


def sweep_root(net, coupling):
    return resting_point(dataclasses.replace(net, coupling=coupling)).eigenvalues[0].real


def test_bands_over_draws_count_those_that_still_rest():
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    draws = [quiet(weights, eta) for eta in (-5.2, -5.0, -4.8)]
    bands = coupling_bands(draws, 0.0, 20.0, points=81)
    singly = [sweep_coupling(draw, 0.0, 20.0).threshold.parameter for draw in draws]
    np.testing.assert_allclose(bands.thresholds, singly)
    exact = [np.mean([g <= t for t in singly]) for g in bands.coupling]
    np.testing.assert_allclose(bands.share_stable, exact)
    assert set(np.round(bands.share_stable, 3)) == {0.0, 0.333, 0.667, 1.0}
    inside = bands.share_stable > 0
    assert (bands.low[inside] <= bands.median[inside]).all()
    assert (bands.high[inside] < 0).all()
    assert np.isnan(bands.median[~inside]).all()


def test_rest_that_does_not_exist_is_unsound():
    rhythmic = Network(mass=WilsonCowan(P=1.5), weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), velocity=1.0)
    with pytest.raises(Unsound, match="none at coupling 1") as refused:
        resting_point(rhythmic)
    assert refused.value.code == "no-stable-equilibrium"


def test_cancelling_stops_between_steps():
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(CancelledError):
        distance_to_threshold(quiet(np.zeros((3, 3))), "eta", 5.0, cancelled=cancelled)
    assert len(asked) == 4


def test_questions_without_an_answer_are_refused_by_name():
    net = quiet(np.zeros((2, 2)))
    with pytest.raises(
        ValueError, match="can be continued in tau, Delta, J, eta, I, stimulus, coupling, velocity, got 'K'"
    ):
        network(net, "K")
    with pytest.raises(ValueError, match=r"region must be in \[0, 2\)"):
        network(net, "eta", region=2)
    with pytest.raises(ValueError, match="delayed=True"):
        network(net, "velocity")
    with pytest.raises(ValueError, match="sigma = 0"):
        early_warning(net, 1.0)
    with pytest.raises(ValueError, match="a node has one eta"):
        node(MontbrioPazoRoxin(eta=np.array([-5.0, -4.0])), "J")
