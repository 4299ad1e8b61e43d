"""Single nodes and small networks against published rests, rhythms and thresholds; derivatives in plain loops."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from vbt.errors import Unsound
from vbt.simulation import Network, PowerSpectrum, TemporalAverage, Trajectory, simulate
from vbt.simulation.neural_masses import neural_mass
from vbt.simulation.neural_masses.montbrio_pazo_roxin import fixed_points
from vbt.simulation.neural_masses.wong_wang_exc_inh import feedback_inhibition


def _slope(mass: Any, state: jax.Array, afferents: tuple[Any, ...] | None = None) -> jax.Array:
    quiet = (0.0,) * len(mass.channels)
    slopes = mass.derivative(tuple(state), quiet if afferents is None else afferents, quiet, 0.0)
    return jnp.stack([slope + jnp.zeros_like(state[0]) for slope in slopes])


@functools.partial(jax.jit, static_argnames=("samples", "every"))
def _runge_kutta(mass: Any, state: jax.Array, dt: float, samples: int, every: int) -> jax.Array:
    def step(_: Any, x: jax.Array) -> jax.Array:
        a = _slope(mass, x)
        b = _slope(mass, x + 0.5 * dt * a)
        c = _slope(mass, x + 0.5 * dt * b)
        d = _slope(mass, x + dt * c)
        return x + dt / 6.0 * (a + 2.0 * b + 2.0 * c + d)

    def sample(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        x = jax.lax.fori_loop(0, every, step, x)
        return x, x

    return jax.lax.scan(sample, state, None, length=samples)[1]


def _course(mass: Any, time: float, dt: float, every: int = 1, start: Any = None) -> np.ndarray:
    """States (sample, variable, ...) of uncoupled nodes, one per entry of the mass's parameters."""
    with jax.enable_x64(True):
        initial = [np.asarray(x, float) for x in (mass.initial_state() if start is None else start)]
        nodes = np.broadcast_shapes(*(np.shape(leaf) for leaf in jax.tree.leaves(mass)), *(x.shape for x in initial))
        state = jnp.stack([jnp.broadcast_to(x, nodes) for x in initial])
        return np.asarray(_runge_kutta(mass, state, dt, round(time / dt / every), every))


def _rest(mass: Any, near: Any) -> tuple[np.ndarray, np.ndarray]:
    """The steady state near a guess, and the eigenvalues there."""
    with jax.enable_x64(True):
        field = jax.jit(lambda x: _slope(mass, x))
        jacobian = jax.jit(jax.jacfwd(lambda x: _slope(mass, x)))
        found = scipy.optimize.root(field, np.array(near, float), jac=jacobian, tol=1e-13)
        assert np.abs(field(found.x)).max() < 1e-9
        return found.x, np.linalg.eigvals(np.asarray(jacobian(found.x)))


def _values(function: Any, *arguments: Any) -> tuple[float, ...]:
    with jax.enable_x64(True):
        return tuple(float(value) for value in function(*arguments))


# Montbrió-Pazó-Roxin


def test_a_slower_membrane_fires_in_proportion_less_and_relaxes_in_proportion_slower():
    Mass = neural_mass("montbrio-pazo-roxin")
    fast, slow = (fixed_points(Mass(Delta=1.0, J=15.0, eta=-5.0, tau=tau))[2] for tau in (1.0, 4.0))
    assert slow.r == pytest.approx(fast.r / 4.0)
    assert slow.eigenvalues[0] == pytest.approx(fast.eigenvalues[0] / 4.0)
    rest, eigenvalues = _rest(Mass(Delta=1.0, J=15.0, eta=-5.0, tau=4.0), (slow.r, slow.V))
    assert rest == pytest.approx((slow.r, slow.V))
    assert sorted(eigenvalues, key=np.imag) == pytest.approx(sorted(slow.eigenvalues, key=np.imag))


def test_static_gain_is_the_slope_of_the_steady_rate_for_any_membrane():
    Mass = neural_mass("montbrio-pazo-roxin")
    below, here, above = (Mass(tau=3.0, I=current) for current in (-1e-5, 0.0, 1e-5))
    slope = (fixed_points(above)[0].r - fixed_points(below)[0].r) / 2e-5
    assert fixed_points(here)[0].static_gain(here) == pytest.approx(slope, rel=1e-6)


# Dopamine Montbrió-Pazó-Roxin


def test_uncoupled_dopamine_node_rests_where_published_whatever_its_dopamine():
    mass = neural_mass("dopamine-montbrio-pazo-roxin")()
    dopamine = np.array([0.0, 0.5, 50.0])
    rest = _course(mass, 2000.0, 0.05, 1000, start=(0.03, -67.0, 0.0, 0.0, 0.0, dopamine))[-1]
    np.testing.assert_allclose(rest[0], 0.0319, atol=5e-5)
    np.testing.assert_allclose(rest[1], -67.48, atol=5e-3)
    assert np.ptp(rest[0]) < 1e-9


def test_dopamine_node_is_the_published_equations_written_out():
    """No other tool in reach has it, so once more by hand, 1,000 random states."""
    rng = np.random.default_rng(3)
    r, V, u, Sa, Sg, Dp, exc, inh, dop = rng.uniform(0.0, 1.0, (9, 1000)) * np.array(
        [[0.5], [-80.0], [5.0], [1.0], [1.0], [5.0], [1e3], [1e3], [1e3]]
    )
    written = (
        2 * 0.04 * r * V + 5 * r - 12 * Sa * r - 12 * Sg * r + 0.04 * 1 / np.pi,
        0.04 * V**2 + 5 * V + 140 + 18 - np.pi**2 * r**2 / 0.04
        + (1 * Dp + 0.2) * 12 * Sa * (0 - V) + 12 * Sg * (-80 - V) - u,
        0.013 * (0.4 * V - u) + 12 * r,
        -Sa / 5 + 0.8 * 1e-4 * exc,
        -Sg / 5 + 1.2 * 1e-4 * inh,
        (1e5 * 1e-4 * dop - 1300 * Dp / (150 + Dp)) / 500,
    )  # fmt: skip
    mass = neural_mass("dopamine-montbrio-pazo-roxin")()
    with jax.enable_x64(True):
        slopes = mass.derivative((r, V, u, Sa, Sg, Dp), (exc, inh, dop), (0.0,) * 3, 0.0)
    for ours, theirs in zip(slopes, written, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_each_connectome_of_the_dopamine_node_opens_its_own_channel():
    weights = np.zeros((3, 4, 4))
    weights[0, 1, 0] = weights[1, 2, 0] = weights[2, 3, 0] = 1000.0
    network = Network(
        mass=neural_mass("dopamine-montbrio-pazo-roxin")(),
        weights=weights,
        tract_lengths=np.full((4, 4), 4.0),
        velocity=4.0,
        initial=np.tile(np.array([0.03, -67.0, 0.0, 0.0, 0.0, 0.0])[:, None], 4),
    )
    run = simulate([network], [0], duration=0.064, monitors=(TemporalAverage(0.0064),), dt=0.1, precision="double")
    assert (run.final_state[0, 3:] > 1e-6).tolist() == [
        [False, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_dopamine_rests_where_release_equals_removal():
    mass = neural_mass("dopamine-montbrio-pazo-roxin")()
    input_ = 60.0
    released = mass.k * mass.wd * input_
    rest = mass.Km * released / (mass.Vmax - released)
    with jax.enable_x64(True):
        slopes = mass.derivative((0.03, -67.0, 0.0, 0.0, 0.0, rest), (0.0, 0.0, input_), (0.0,) * 3, 0.0)
    assert slopes[5] == pytest.approx(0.0, abs=1e-12)
    assert rest == pytest.approx(150.0 * 600.0 / 700.0)


@pytest.mark.parametrize(("exact", "shared"), [(True, True), (False, False)])
def test_exact_reduction_puts_every_conductance_into_the_rate(exact, shared):
    """For quadratic neurons averaged exactly ∂r'/∂r = ∂V'/∂V: both are the slope of one neuron's equation."""
    mass = neural_mass("dopamine-montbrio-pazo-roxin")(dopamine_in_rate=exact)
    with jax.enable_x64(True):
        jacobian = jax.jacfwd(lambda x: _slope(mass, x))(jnp.array([0.1, -50.0, 0.0, 0.2, 0.3, 2.0]))
    assert (float(jacobian[0, 0]) == pytest.approx(float(jacobian[1, 1]))) == shared


@pytest.mark.parametrize("exact", [False, True])
def test_published_reduction_explodes_under_self_excitation_where_the_exact_one_does_not(exact):
    mass = neural_mass("dopamine-montbrio-pazo-roxin")(wi=0.0, wd=0.0, dopamine_in_rate=exact)
    start = np.tile(np.array([0.03, -67.0, 0.0, 0.0, 0.0, 0.0])[:, None], 2)
    network = Network(mass=mass, weights=1e4 * np.eye(2), tract_lengths=np.zeros((2, 2)), velocity=1.0, initial=start)
    expected = contextlib.nullcontext() if exact else pytest.raises(Unsound, match="stays finite")
    with expected:
        run = simulate([network], [0], duration=0.32, monitors=(Trajectory(0.0064),), dt=0.025, precision="double")
        assert run.observations[0].values[0, :, 0].max() < 2.0


# Epileptor


def test_epileptor_never_seizes_at_minus_2_1_and_four_times_at_minus_2_06():
    start = (-1.6, -12.0, 3.0, -0.8, 0.0, 0.0)
    x1 = _course(neural_mass("epileptor")(x0=np.array([-2.1, -2.06])), 11000.0, 0.05, 20, start)[:, 0]
    recent = np.lib.stride_tricks.sliding_window_view(x1, 100, axis=0).max(axis=-1)
    onsets = [np.flatnonzero(np.diff((node > -0.5).astype(int)) == 1) for node in recent.T]
    assert [len(times) for times in onsets] == [0, 4]
    assert np.diff(onsets[1]) == pytest.approx(2923, abs=3)


def test_epileptor_loses_rest_by_a_hopf_bifurcation_near_minus_2_0605():
    def leading(x0: float) -> complex:
        x1 = max(root.real for root in np.roots([1.0, 2.0, 4.0, -4.1 - 4.0 * x0]) if abs(root.imag) < 1e-9)
        z = 4.0 * (x1 - x0)
        # The slow second population rests where x2' = y2' = 0 with y2 = 0.
        x2 = np.roots([-1.0, 0.0, 1.0, 0.45 + 0.2 * x1 - 0.3 * (z - 3.5)])
        near = (x1, 1.0 - 5.0 * x1**2, z, min(x2.real), 0.0, 0.1 * x1)
        return complex(max(_rest(neural_mass("epileptor")(x0=x0), near)[1], key=np.real))

    before, after = leading(-2.0610), leading(-2.0600)
    assert before.real < 0.0 < after.real
    assert abs(before.imag) > 1e-3


def test_a_positive_coupling_and_a_seizing_neighbour_lower_the_permittivity():
    for name in ("epileptor", "epileptor-2d"):
        Mass = neural_mass(name)
        state = tuple(map(float, Mass().initial_state()))
        z = Mass.variables.index("z")
        alone, beside = (
            _values(Mass(K=1.0).derivative, state, (afferent,), (1.0,), 0.0)[z] for afferent in (state[0], 1.0)
        )
        assert beside < alone


# Jansen-Rit


@pytest.mark.parametrize(("v0", "folds"), [(6.0, (113.586, -41.30)), (5.52, (111.789, -13.817))])
def test_jansen_rit_rests_along_the_curve_whose_folds_are_published(v0, folds):
    """Grimbert & Faugeras 2006: y1 − y2 determines every other variable and p (here in 1/s) of a steady state."""
    mass = neural_mass("jansen-rit")(v0=v0)
    with jax.enable_x64(True):
        potential = np.linspace(-5.0, 15.0, 200001)
        y0 = mass.A / mass.a * np.asarray(mass.rate(potential))
        y2 = mass.B / mass.b * mass.c4 * mass.C * np.asarray(mass.rate(mass.c3 * mass.C * y0))
        excitatory = mass.c2 * mass.C * np.asarray(mass.rate(mass.c1 * mass.C * y0))
        y1 = potential + y2
        p = mass.a * y1 / mass.A - excitatory
        zero = np.zeros_like(y0)
        slopes = _slope(neural_mass("jansen-rit")(v0=v0, p=p), jnp.stack([y0, y1, y2, zero, zero, zero]))
    assert np.abs(slopes).max() < 1e-12
    turns = np.flatnonzero(np.diff(np.sign(np.diff(p)))) + 1
    assert 1000.0 * p[turns] == pytest.approx(folds, rel=1e-4)


# Wong-Wang


@pytest.mark.parametrize(("w", "I0", "S"), [(0.9, 0.3, 0.034355), (0.6, 0.33, 0.098018)])
def test_wong_wang_rests_at_the_papers_and_at_tvbs_parameters(w, I0, S):
    assert _rest(neural_mass("wong-wang")(w=w, I0=I0), [S])[0] == pytest.approx([S], rel=2e-5)


def test_isolated_wong_wang_node_rests_at_three_hertz():
    mass = neural_mass("wong-wang-exc-inh")()
    state, eigenvalues = _rest(mass, mass.initial_state())
    assert state == pytest.approx((0.164757, 0.039218), rel=2e-5)
    assert eigenvalues.real.max() < 0.0
    r_E, _ = _values(mass.rates, tuple(state), (0.0,), 0.0)
    I_E, _ = _values(mass.currents, tuple(state), (0.0,), 0.0)
    assert (r_E, I_E) == pytest.approx((3.077, 0.377381), rel=2e-4)


@pytest.mark.parametrize("feedforward", [0.0, 0.5])
def test_feedback_inhibition_holds_every_coupled_node_at_its_resting_rate(feedforward):
    """Deco et al. 2014: I_E − b/a = −0.026 nA and 3.06 Hz at any coupling, with more inhibition than alone."""
    rng = np.random.default_rng(5)
    weights, lengths = rng.random((5, 5)) * (1 - np.eye(5)), rng.uniform(20.0, 150.0, (5, 5))
    mass = neural_mass("wong-wang-exc-inh")(feedforward=feedforward)
    plain = Network(mass=mass, weights=weights, tract_lengths=lengths, velocity=4.0, coupling=0.5)
    J_I = feedback_inhibition(mass, plain.channel_weights[0])
    assert (J_I > 1.0).all()
    tuned = dataclasses.replace(plain, mass=dataclasses.replace(mass, J_I=J_I))
    monitors = (TemporalAverage(0.4),)
    run = simulate([tuned, plain], [0, 0], duration=4.0, monitors=monitors, dt=1.0, precision="double")
    for network, state, balanced in zip((tuned, plain), run.final_state, (True, False), strict=True):
        afferents = network.channel_weights[0] @ state[0]
        with jax.enable_x64(True):
            rates = np.asarray(network.mass.rates(tuple(state), (afferents,), 0.0)[0])
            current = np.asarray(network.mass.currents(tuple(state), (afferents,), 0.0)[0])
        assert (np.abs(rates - 3.06) < 0.1).all() == balanced
        assert (np.abs(current - 125.0 / 310.0 + 0.026) < 1e-5).all() == balanced


def test_inhibition_below_zero_is_refused_by_region():
    mass = neural_mass("wong-wang-exc-inh")(I_ext=np.array([0.0, -0.3]))
    with pytest.raises(ValueError, match=r"must lie in \[0, inf\), got -\d.* in region 1"):
        feedback_inhibition(mass, np.zeros((2, 2)))


# Stuart-Landau


def test_limit_cycle_has_the_amplitude_and_the_frequency_of_the_normal_form():
    mass = neural_mass("stuart-landau")(a=4.0, omega=2.0 * np.pi * 10.0)
    x, y = _course(mass, 8.0, 1e-3, start=(0.01, 0.0))[-500:].T
    np.testing.assert_allclose(np.hypot(x, y), 2.0, rtol=1e-6)
    assert np.polyfit(1e-3 * np.arange(500), np.unwrap(np.arctan2(y, x)), 1)[0] == pytest.approx(20.0 * np.pi, rel=1e-6)


def test_noise_driven_rhythm_has_a_lorentzian_spectrum_as_wide_as_its_damping():
    """Half the peak at |a|/2π on both sides of ω/2π; 64 nodes for 20 s."""
    a, frequency, sigma = -20.0, 40.0, 0.01
    network = Network(
        mass=neural_mass("stuart-landau")(a=a, omega=2.0 * np.pi * frequency),
        weights=np.zeros((4, 4)),
        tract_lengths=np.zeros((4, 4)),
        velocity=1.0,
        sigma=(sigma, sigma),
        initial=np.zeros((2, 4)),
    )
    monitor = PowerSpectrum(period=20.0, segment=2.0, sampling_interval=0.002, highest=80.0)
    run = simulate([network] * 16, range(16), duration=20.0, transient=1.0, monitors=(monitor,), dt=0.1)
    density = monitor.spectra(run.observations[0].values).mean(axis=(0, 1, 3))
    f = monitor.frequencies
    # z has the density 2σ²/(a² + (2π(f − f₀))²), and Re z, one-sided, half the sum of it at f and at −f.
    sides = [1.0 / (a**2 + (2.0 * np.pi * (f - at)) ** 2) for at in (frequency, -frequency)]
    exact = sigma**2 * (sides[0] + sides[1]) * np.sinc(0.002 * f) ** 2
    near = np.abs(f - frequency) < 15.0
    np.testing.assert_allclose(density[near], exact[near], rtol=0.15)
    assert density[near].sum() == pytest.approx(exact[near].sum(), rel=0.02)

    def lorentzian(at, peak, centre, width):
        return peak / (1.0 + ((at - centre) / width) ** 2)

    corrected = density[near] / np.sinc(0.002 * f[near]) ** 2
    (_, centre, width), _ = scipy.optimize.curve_fit(lorentzian, f[near], corrected, (corrected.max(), 39.0, 2.0))
    assert centre == pytest.approx(frequency, abs=0.1)
    assert width == pytest.approx(-a / (2.0 * np.pi), rel=0.05)


# Kuramoto


def test_kuramoto_synchronises_as_much_as_its_coupling_allows():
    """Lorentzian frequencies of half-width γ, all to all: R = √(1 − 2γ/K)."""
    gamma, nodes = 0.5, 4000
    quantiles = (np.arange(nodes) + 0.5) / nodes
    mass = neural_mass("kuramoto")(omega=gamma * np.tan(np.pi * (quantiles - 0.5)))
    coupling = np.array([1.5, 2.0, 3.0])

    @jax.jit
    def final_order(theta: jax.Array) -> jax.Array:
        def slope(at: jax.Array) -> jax.Array:
            sent = mass.sent((at,))
            means = tuple(coupling[:, None] * signal.mean(axis=1, keepdims=True) for signal in sent)
            return mass.derivative((at,), means, (0.0, 0.0), 0.0)[0]

        def step(at: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            first = slope(at)
            at = at + 0.025 * (first + slope(at + 0.05 * first))
            return at, jnp.hypot(jnp.sin(at).mean(axis=1), jnp.cos(at).mean(axis=1))

        return jax.lax.scan(step, theta, None, length=1600)[1][-600:].mean(axis=0)

    start = np.random.default_rng(1).uniform(-1.0, 1.0, (3, nodes))
    assert np.asarray(final_order(start)) == pytest.approx(np.sqrt(1.0 - 2.0 * gamma / coupling), abs=0.015)


def test_phases_stay_within_a_turn_in_a_long_run_of_single_precision():
    network = Network(
        mass=neural_mass("kuramoto")(), weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), velocity=1.0
    )
    run = simulate([network], [0], duration=12.8, monitors=(TemporalAverage(0.64),), dt=0.5)
    theta = run.final_state[0, 0, 0]
    assert 0.0 <= theta <= 2.0 * np.pi
    # 768 whole turns: what is left is rounding, 25,600 steps of half a unit in the last place of 2π at most.
    assert min(theta, 2.0 * np.pi - theta) < 25600 * 2.4e-7


# Wilson-Cowan, generic oscillator, Larter-Breakspear, Zerlaut, KIonEx


def test_wilson_cowan_begins_to_oscillate_at_43_hertz():
    state, eigenvalues = _rest(neural_mass("wilson-cowan")(P=1.90925), (0.25, 0.2))
    assert state == pytest.approx((0.2518, 0.2034), abs=5e-5)
    assert eigenvalues.real == pytest.approx([0.0, 0.0], abs=1e-5)
    assert 1000.0 * abs(eigenvalues[0].imag) / (2.0 * np.pi) == pytest.approx(42.9, abs=0.05)
    E = _course(neural_mass("wilson-cowan")(P=np.array([0.5, 1.25, 2.5])), 600.0, 0.1, 10)[-300:, 0]
    assert (np.ptp(E, axis=0) > 0.1).tolist() == [False, True, False]


def test_generic_oscillator_rests_at_minus_two_and_cycles_at_plus_two():
    V = _course(neural_mass("generic-2d-oscillator")(a=np.array([-2.0, 2.0])), 4000.0, 0.1, 10)[-2000:, 0]
    rest = max(root.real for root in np.roots([-1.0, 3.0, -10.0, -2.0]) if abs(root.imag) < 1e-9)
    assert V[:, 0] == pytest.approx(rest)
    assert np.ptp(V[:, 1]) > 1.0


def test_larter_breakspear_rests_below_0_55_with_the_papers_parameters_but_not_with_tvbs():
    Mass = neural_mass("larter-breakspear")
    published = _course(Mass(C=0.0, dV=np.array([0.54, 0.60, 0.65])), 3000.0, 0.1, 10)[-1000:, 0]
    assert (np.ptp(published, axis=0) > 0.05).tolist() == [False, True, True]
    mixed = _course(Mass(C=0.0, dV=0.54, gCa=1.1, aee=0.4, dZ=0.7), 3000.0, 0.1, 10)[-1000:, 0]
    assert np.ptp(mixed) > 0.5


def test_larter_breakspear_loses_rest_where_its_documentation_says():
    def growth(dV: float) -> float:
        return float(_rest(neural_mass("larter-breakspear")(C=0.0, dV=dV), (-0.17, 0.24, 0.09))[1].real.max())

    assert scipy.optimize.brentq(growth, 0.54, 0.60, xtol=1e-4) == pytest.approx(0.564, abs=1e-3)


def test_adaptation_turns_wakefulness_into_up_and_down_states():
    network = Network(
        mass=neural_mass("zerlaut")(b=np.array([0.0, 5.0, 60.0, 60.0])),
        weights=np.zeros((4, 4)),
        tract_lengths=np.zeros((4, 4)),
        velocity=1.0,
        sigma=(0.0, 0.0, 0.0, 2.0**0.5),
    )
    run = simulate([network], [0], duration=12.8, transient=1.28, monitors=(TemporalAverage(0.064),), dt=0.5)
    hertz = 1000.0 * run.observations[0].values[0]
    assert hertz[:, :2].min() > 2.0
    asleep = hertz[:, 2:]
    assert (asleep < 0.5).mean() == pytest.approx(0.5, abs=0.25)
    assert (asleep.max(axis=0) > 3.0).all()


def test_awake_zerlaut_node_rests_at_a_few_hertz():
    mass = neural_mass("zerlaut")()
    state, eigenvalues = _rest(mass, mass.initial_state())
    assert 1000.0 * state[:2] == pytest.approx((3.72, 9.28), abs=0.01)
    assert eigenvalues.real.max() < 0.0


def test_bath_potassium_decides_between_rest_discharges_and_block():
    bath = np.array([3.5, 5.5, 10.0, 15.5, 20.0, 40.0])
    V = _course(neural_mass("kionex")(K_bath=bath), 6000.0, 0.01, 20)[-10000:, 1]
    assert (np.ptp(V, axis=0) > 50.0).tolist() == [False, False, True, True, False, False]
    assert V[-1, [0, 1, 4, 5]] == pytest.approx([-76.1, -74.1, -20.3, -18.7], abs=0.3)
