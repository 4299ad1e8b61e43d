"""The bifurcations of the neural masses are where closed forms, the literature and the specification's table say."""

from __future__ import annotations

import numpy as np
import pytest

from vbt.simulation.bifurcation import (
    Steps,
    cycle_near,
    equilibria,
    follow_cycles,
    follow_equilibria,
    follow_fold,
    node,
)
from vbt.simulation.neural_masses.epileptor import Epileptor
from vbt.simulation.neural_masses.epileptor_2d import Epileptor2D
from vbt.simulation.neural_masses.jansen_rit import JansenRit
from vbt.simulation.neural_masses.montbrio_pazo_roxin import MontbrioPazoRoxin
from vbt.simulation.neural_masses.stuart_landau import StuartLandau
from vbt.simulation.neural_masses.wilson_cowan import WilsonCowan
from vbt.simulation.neural_masses.wong_wang import WongWang


def places(points):
    return [point.parameter for point in points]


@pytest.fixture(scope="module")
def montbrio():
    return node(MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-5.0), "eta")


@pytest.fixture(scope="module")
def jansen_rit():
    system = node(JansenRit(), "p")
    return system, follow_equilibria(system, -0.1, 0.4)


@pytest.fixture(scope="module")
def wilson_cowan():
    system = node(WilsonCowan(), "P")
    return system, follow_equilibria(system, 0.0, 3.0)


def test_equilibria_of_the_bistable_population_are_the_quartics_roots(montbrio):
    found = equilibria(montbrio)
    np.testing.assert_allclose(
        [e.state for e in found], [(0.081134, -1.96162), (0.472980, -0.336494), (1.030597, -0.154430)], rtol=1e-5
    )
    assert [e.kind for e in found] == ["stable node", "saddle", "stable focus"]
    assert [e.unstable_dimension for e in found] == [0, 1, 0]
    np.testing.assert_allclose(found[2].eigenvalues, [-0.30886 + 3.31863j, -0.30886 - 3.31863j], rtol=2e-5)


def test_many_starts_give_the_same_answer_twice(montbrio):
    first, second = equilibria(montbrio), equilibria(montbrio)
    assert all((a.state == b.state).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("Delta", "J", "rates", "folds"),
    [
        (1.0, 15.0, (0.753920, 0.162570), (-5.743527, -3.136134)),
        (0.7, 14.5, (0.731364, 0.127475), (-5.348797, -2.451819)),
    ],
)
def test_population_folds_lie_on_the_closed_form_curve(Delta, J, rates, folds):
    system = node(MontbrioPazoRoxin(Delta=Delta, J=J), "eta")
    diagram = follow_equilibria(system, -10.0, 0.0)
    assert [b.kind for b in diagram.bifurcations] == ["fold", "fold"]
    np.testing.assert_allclose(places(diagram.bifurcations), folds, rtol=1e-6)
    for fold, rate in zip(diagram.bifurcations, rates, strict=True):
        r = fold.state[0]
        assert r == pytest.approx(rate, rel=1e-5)
        assert 2 * np.pi**2 * r + Delta**2 / (2 * np.pi**2 * r**3) == pytest.approx(J, rel=1e-7)
        exact = -(np.pi**2) * r**2 - 3 * Delta**2 / (4 * np.pi**2 * r**2)
        assert fold.parameter == pytest.approx(exact, rel=1e-8)
    assert len(diagram.branches) == 1
    assert diagram.branches[0].ends == ("end of the range", "end of the range")


def test_population_folds_meet_in_the_closed_form_cusp(montbrio):
    fold = follow_equilibria(montbrio, -10.0, 0.0).bifurcations[0]
    curve = follow_fold(montbrio, fold, "J", 15.0, ((-12.0, 0.0), (2.0, 20.0)))
    r = curve.states[:, 0]
    np.testing.assert_allclose(curve.second, 2 * np.pi**2 * r + 1 / (2 * np.pi**2 * r**3), rtol=1e-9)
    (cusp,) = curve.points
    assert cusp.kind == "cusp"
    assert cusp.parameter == pytest.approx(-np.sqrt(3.0), rel=1e-7)
    assert cusp.state[0] == pytest.approx((3.0 / (4.0 * np.pi**4)) ** 0.25, rel=1e-6)
    assert cusp.second == pytest.approx(7.79622, rel=1e-6)


@pytest.mark.parametrize(("tau0", "thresholds"), [(2857.0, (-2.061950, -1.0251)), (10.0, (-2.036870, -1.0502))])
def test_two_dimensional_epileptor_seizes_by_hopf_at_a_threshold_that_depends_on_its_time_scale(tau0, thresholds):
    diagram = follow_equilibria(node(Epileptor2D(tau0=tau0), "x0"), -3.0, 0.0)
    assert [b.kind for b in diagram.bifurcations] == ["hopf", "hopf"]
    np.testing.assert_allclose(places(diagram.bifurcations), thresholds, rtol=5e-5)
    # The Jacobian's trace vanishes where −3x² − 4x = 1/τ₀, and the equilibrium gives x₀ there.
    for hopf in diagram.bifurcations:
        x = hopf.state[0]
        assert -3 * x**2 - 4 * x == pytest.approx(1 / tau0, rel=1e-6)
        assert hopf.parameter == pytest.approx(x - (4.1 - x**3 - 2 * x**2) / 4, abs=1e-8)


def test_frozen_fast_epileptor_folds_where_the_cubic_does():
    # τ₀ → ∞ alone: with K = 0 the fold of the fast subsystem is the one of the curve z(x), x = −4/3.
    diagram = follow_equilibria(node(Epileptor2D(tau0=1e9), "x0"), -3.0, -1.5)
    (hopf,) = diagram.bifurcations
    assert hopf.state[0] == pytest.approx(-4.0 / 3.0, rel=1e-6)
    assert hopf.state[1] == pytest.approx(2.914815, rel=1e-6)
    assert hopf.parameter == pytest.approx(-2.062037, rel=1e-6)


def test_six_dimensional_epileptor_loses_its_rest_by_hopf_and_branches_end_at_its_kink():
    diagram = follow_equilibria(node(Epileptor(), "x0"), -3.0, -1.8)
    assert {b.kind for b in diagram.bifurcations} == {"hopf"}
    np.testing.assert_allclose(places(diagram.bifurcations), -2.0605, rtol=1e-4)
    stable = [branch for branch in diagram.branches if branch.is_stable[branch.parameter < -2.1].all()]
    assert len(stable) == 1
    # y2' has a corner at x2 = −0.25, where two of the three equilibria of (x2, y2) meet without a smooth fold.
    cut = [branch for branch in diagram.branches if "kink of the equations" in branch.ends]
    assert len(cut) == 2
    for branch in cut:
        end = 0 if branch.ends[0] == "kink of the equations" else -1
        assert branch.states[end, 3] == pytest.approx(-0.25, abs=1e-6)


def test_jansen_rit_has_the_folds_and_hopfs_of_grimbert_and_faugeras(jansen_rit):
    _, diagram = jansen_rit
    folds, hopfs = diagram.of_kind("fold"), diagram.of_kind("hopf")
    np.testing.assert_allclose(1000 * np.array(places(folds)), [-41.30, 113.586], rtol=1e-4)
    np.testing.assert_allclose(1000 * np.array(places(hopfs)), [-12.147, 89.829, 315.696], rtol=1e-4)
    np.testing.assert_allclose([h.frequency for h in hopfs], [7.24, 10.38, 11.16], rtol=1e-3)
    assert [h.is_supercritical for h in hopfs] == [False, True, True]


def test_merging_eigenvalues_of_jansen_rit_are_no_hopf(jansen_rit):
    system, diagram = jansen_rit

    def unstable_pairs(parameter):
        (twice,) = [e for e in equilibria(system, parameter) if e.unstable_dimension == 2]
        return int(((twice.eigenvalues.real > 0) & (twice.eigenvalues.imag > 1e-12)).sum())

    # At −41.294 s⁻¹ two positive real eigenvalues become a pair: a count of unstable pairs sees a Hopf of frequency 0.
    assert [unstable_pairs(-0.041295), unstable_pairs(-0.041293)] == [0, 1]
    assert not [b for b in diagram.bifurcations if -0.0413 < b.parameter < -0.02]


def test_jansen_rit_of_the_virtual_brain_has_one_hopf_only():
    diagram = follow_equilibria(node(JansenRit(v0=5.52), "p"), -0.1, 0.7)
    np.testing.assert_allclose(1000 * np.array(places(diagram.of_kind("fold"))), [-13.817, 111.789], rtol=1e-4)
    (hopf,) = diagram.of_kind("hopf")
    assert 1000 * hopf.parameter == pytest.approx(516.065, rel=1e-5)
    assert hopf.frequency == pytest.approx(11.22, rel=1e-3)


def test_folds_of_jansen_rit_pass_a_cusp_and_two_double_zeros(jansen_rit):
    system, diagram = jansen_rit
    curve = follow_fold(system, diagram.of_kind("fold")[0], "v0", 6.0, ((-0.2, 0.7), (2.0, 8.0)))
    assert sorted(point.kind for point in curve.points) == ["bogdanov-takens", "bogdanov-takens", "cusp"]
    for point in curve.points:
        there = node(JansenRit(v0=point.second), "p")
        zeros = (np.abs(there.eigenvalues(point.state, point.parameter)) < 1e-4).sum()
        assert zeros == (2 if point.kind == "bogdanov-takens" else 1)
    # Below the cusp no fold is left.
    (cusp,) = [point for point in curve.points if point.kind == "cusp"]
    assert not follow_equilibria(node(JansenRit(v0=cusp.second - 0.02), "p"), -0.1, 0.7).of_kind("fold")
    assert len(follow_equilibria(node(JansenRit(v0=cusp.second + 0.02), "p"), -0.1, 0.7).of_kind("fold")) == 2


def test_jansen_rit_spikes_begin_at_the_fold_of_cycles(jansen_rit):
    system, diagram = jansen_rit
    spikes = follow_cycles(system, diagram.of_kind("hopf")[0], -0.1, 0.4, longest_period=6.0)
    (fold,) = spikes.folds
    assert 1000 * fold.parameter == pytest.approx(137.38, rel=1e-4)
    before = spikes.period < fold.period
    assert not spikes.is_stable[before].any()
    assert spikes.is_stable[~before].all()
    assert spikes.end == "period"  # on to the saddle-node on the cycle at 113.586
    assert 0.11358 < spikes.parameter[-1] < 0.116


def test_jansen_rit_alpha_cycles_join_its_two_upper_hopfs(jansen_rit):
    system, diagram = jansen_rit
    _, first, last = diagram.of_kind("hopf")
    alpha = follow_cycles(system, first, -0.1, 0.4)
    assert alpha.end == "equilibrium"
    assert not alpha.folds
    assert alpha.is_stable.all()
    assert alpha.parameter[-1] == pytest.approx(last.parameter, rel=5e-3)
    assert 1000 / alpha.period[-1] == pytest.approx(last.frequency, rel=1e-3)


def test_wilson_cowan_has_two_folds_and_a_supercritical_hopf(wilson_cowan):
    _, diagram = wilson_cowan
    assert [b.name for b in diagram.bifurcations] == ["fold", "fold", "supercritical hopf"]
    np.testing.assert_allclose(places(diagram.bifurcations), [0.90320, 1.08302, 1.90925], rtol=1e-5)
    assert diagram.bifurcations[0].state[1] == pytest.approx(0.0284, abs=5e-5)
    np.testing.assert_allclose(diagram.bifurcations[2].state, [0.2518, 0.2034], rtol=5e-4)
    assert diagram.bifurcations[2].frequency == pytest.approx(42.9, rel=1e-3)


def test_wilson_cowan_cycles_are_stable_from_the_hopf_to_below_the_fold(wilson_cowan):
    system, diagram = wilson_cowan
    cycles = follow_cycles(
        system, diagram.of_kind("hopf")[0], 0.0, 3.0, longest_period=6.0, steps=Steps(largest=0.2, count=200)
    )
    assert cycles.is_stable.all()
    assert not cycles.folds
    assert cycles.end == "period"
    # They outlive the fold at 1.083 by a little: the orbit is homoclinic to the saddle at 1.0657.
    assert 1.0657 < cycles.parameter.min() < 1.0755
    # The same cycle from a simulation, without the Hopf point.
    simulated = cycle_near(system, np.array([0.2, 0.1]), 1.25, 48.0, settle=2000.0)
    crossing = np.interp(1.25, cycles.parameter[::-1], cycles.period[::-1])
    assert simulated.is_stable
    assert simulated.period == pytest.approx(crossing, rel=2e-3)


@pytest.mark.parametrize(("w", "window"), [(0.9, (0.3308, 0.3312)), (1.0, (0.3200, 0.3252))])
def test_wong_wang_is_bistable_in_a_narrow_window(w, window):
    diagram = follow_equilibria(node(WongWang(w=w), "I0"), 0.25, 0.4)
    assert [b.kind for b in diagram.bifurcations] == ["fold", "fold"]
    np.testing.assert_allclose(places(diagram.bifurcations), window, atol=2.1e-4)  # the table's grid is 0.0002


@pytest.mark.parametrize(("w", "I0", "S"), [(0.9, 0.3, 0.034355), (0.6, 0.33, 0.098018)])
def test_wong_wang_rests_at_the_tabulated_gating(w, I0, S):
    (rest,) = equilibria(node(WongWang(w=w, I0=I0), "I0"))
    assert rest.state[0] == pytest.approx(S, rel=2e-5)
    assert rest.kind == "stable node"


def test_stuart_landau_oscillates_with_the_root_of_its_distance():
    omega = 2 * np.pi * 40
    system = node(StuartLandau(omega=omega), "a")
    diagram = follow_equilibria(system, -10.0, 10.0)
    (hopf,) = diagram.bifurcations
    assert hopf.parameter == pytest.approx(0.0, abs=1e-8)
    assert hopf.frequency == pytest.approx(40.0)
    assert hopf.coefficient == pytest.approx(-2.0 / omega)
    cycles = follow_cycles(system, hopf, -10.0, 10.0, steps=Steps(largest=0.3, count=100))
    assert cycles.end == "end of the range"
    np.testing.assert_allclose([c.high[0] ** 2 for c in cycles.cycles], cycles.parameter, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(cycles.period, 1 / 40, rtol=1e-6)
    # Floquet: the radius decays with −2a over one period.
    multipliers = [c.multipliers[0].real for c in cycles.cycles]
    np.testing.assert_allclose(multipliers, np.exp(-2 * cycles.parameter / 40), rtol=1e-5)
