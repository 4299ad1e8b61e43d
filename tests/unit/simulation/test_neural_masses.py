"""Neural masses against their published fixed points and thresholds, BOLD against its impulse response."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from vbt.simulation import (
    BalloonWindkessel,
    Bold,
    Epileptor,
    Epileptor2D,
    Linear,
    MontbrioPazoRoxin,
    TemporalAverage,
    fixed_points,
    parameter_table,
    pulse_train,
    simulate,
    stimulate,
)


def both(period: float) -> list:
    """Activity, then BOLD."""
    return [TemporalAverage(period), Bold(period)]


def test_montbrio_fixed_points_are_the_published_ones():
    low, saddle, focus = fixed_points(MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-5.0))
    assert (low.r, low.V) == pytest.approx((0.081134, -1.96162), rel=1e-5)
    assert (saddle.r, saddle.V) == pytest.approx((0.472980, -0.336494), rel=1e-5)
    assert (focus.r, focus.V) == pytest.approx((1.030597, -0.154430), rel=1e-5)
    assert low.is_stable
    assert not saddle.is_stable
    assert focus.eigenvalues[0] == pytest.approx(-0.30886 + 3.31863j, rel=1e-4)
    assert fixed_points(MontbrioPazoRoxin())[-1].r == pytest.approx(1.00801, rel=1e-5)  # of the Virtual Ageing Brain


@pytest.mark.parametrize(("eta", "count"), [(-5.7436, 1), (-5.7435, 3), (-3.1362, 3), (-3.1361, 1)])
def test_montbrio_is_bistable_between_its_folds(eta, count):
    assert len(fixed_points(MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=eta))) == count


def test_simulated_population_settles_on_its_fixed_point(pair):
    mass = MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-5.0)
    run = simulate([pair(mass=mass)], [0], duration=0.4, monitors=both(0.4), dt=0.5, precision="double")
    assert run.final_state[0, :, 0] == pytest.approx((0.081134, -1.96162), rel=1e-4)


def test_epileptor_seizes_above_its_threshold_only(pair):
    """Published: at x0 = −2.1 never, well above −2.06 again and again."""
    quiet, seizing = (pair(mass=Epileptor(x0=x0)) for x0 in (-2.1, -1.6))
    run = simulate(
        [quiet, seizing],
        [0, 0],
        duration=3.2,
        monitors=both(0.0064),
        dt=0.05,
        precision="double",
    )
    onset = run.observations[0].values[:, 50:, 0].max(axis=1) - np.median(run.observations[0].values[:, 50:, 0], axis=1)
    assert onset[0] < 0.3
    assert np.ptp(run.observations[0].values[1, :, 0]) > 1.5


def test_a_seizing_neighbour_lowers_permittivity(pair):
    mass = Epileptor(x0=np.array([-1.6, -2.2]), K=1.0)
    coupled = pair(mass=mass, weights=((0, 0), (1, 0)))
    alone = dataclasses.replace(coupled, weights=np.zeros((2, 2)))
    run = simulate([coupled, alone], [0, 0], duration=1.6, monitors=both(1.6), dt=0.05, precision="double")
    assert run.final_state[0, 2, 1] < run.final_state[1, 2, 1] - 0.02


@pytest.mark.parametrize(("x0", "oscillates"), [(-2.05, False), (-2.02, True)])
def test_two_dimensional_epileptor_loses_rest_at_its_own_threshold(pair, x0, oscillates):
    """Hopf at −2.036870 for τ0 = 10, from the Jacobian's trace."""
    rest = max(root.real for root in np.roots([1.0, 2.0, 4.0, -4.1 - 4.0 * x0]) if abs(root.imag) < 1e-9)
    start = np.array([[rest + 1e-3] * 2, [4.0 * (rest - x0)] * 2])
    run = simulate(
        [pair(mass=Epileptor2D(x0=x0), initial=start, balloon=BalloonWindkessel(efficacy=0.0))],
        [0],
        duration=2.0,
        monitors=both(0.0032),
        dt=0.02,
    )
    assert (np.ptp(run.observations[0].values[0, -300:, 0]) > 0.1) == oscillates


def test_bold_answers_a_one_second_pulse_as_published():
    """Friston 2003: peak 3.38 s, undershoot 9.58 s, their ratio −0.223."""
    balloon, dt = BalloonWindkessel(), 0.01
    state = balloon.rest(np.zeros((1, 1)))
    signal = []
    with jax.enable_x64(True):
        step = jax.jit(lambda s, x: balloon.step(s, x, dt))
        for k in range(2000):
            state = step(state, np.full((1, 1), 1.0 if k < 100 else 0.0))
            signal.append(float(balloon.signal(state)[0, 0]))
    course = np.array(signal)
    assert (course.argmax() + 1) * dt == pytest.approx(3.38, abs=0.015)
    assert (course.argmin() + 1) * dt == pytest.approx(9.58, abs=0.03)
    assert course.min() / course.max() == pytest.approx(-0.223, abs=0.001)


def test_strongly_held_activity_brings_the_blood_to_its_steady_state():
    """f = 1 + x/γ, v = f^α, q = v [1 − (1 − E₀)^{1/f}]/E₀: no linear answer any more."""
    balloon, drive = BalloonWindkessel(), 0.6
    with jax.enable_x64(True):
        step = jax.jit(lambda state: balloon.step(state, np.full((1, 1), drive), 0.02))
        state = balloon.rest(np.zeros((1, 1)))
        for _ in range(3000):
            state = step(state)
        s, f, v, q = (float(x[0, 0]) for x in state)
        signal = float(balloon.signal(state)[0, 0])
    flow = 1.0 + drive / 0.41
    volume = flow**0.32
    content = volume * (1.0 - 0.66 ** (1.0 / flow)) / 0.34
    assert (s, f, v, q) == pytest.approx((0.0, flow, volume, content), abs=1e-6)
    exact = 0.02 * (7 * 0.34 * (1 - content) + 2 * (1 - content / volume) + (2 * 0.34 - 0.2) * (1 - volume))
    assert signal == pytest.approx(exact, rel=1e-6)


def test_held_activity_brings_bold_to_its_steady_slope(pair):
    balloon = BalloonWindkessel()
    network = pair(mass=Linear(I=1e-3, milliseconds_per_unit=1.0), balloon=balloon, initial=np.full((1, 2), 1e-3))
    run = simulate([network], [0], duration=60.0, monitors=both(6.0), dt=0.75, precision="double")
    assert run.observations[1].values[0, -1, 0] == pytest.approx(100 * balloon.steady_slope() * 1e-3, rel=2e-3)


def test_zero_amplitude_is_no_stimulation_to_the_last_bit(pair):
    network = pair(weights=((0, 0.4), (0.4, 0)), sigma=(0.3,))
    silent = stimulate(network, (0,), 0.0, pulse_train(frequency=1250.0, width=0.2))
    run = simulate([network, silent], [4, 4], duration=0.016, monitors=both(0.0016), dt=0.1)
    assert np.array_equal(run.observations[0].values[0], run.observations[0].values[1])


def test_a_pulse_train_delivers_its_duty_cycle(pair):
    network = pair(mass=Linear(decay=0.0))
    train = stimulate(network, (1,), 2.0, pulse_train(frequency=1250.0, width=0.2, onset=0.0016, offset=0.0096))
    run = simulate([train], [0], duration=0.016, monitors=both(0.0016), dt=0.1, precision="double")
    assert run.final_state[0, 0, 1] == pytest.approx(2.0 * 8.0 * 0.25)
    assert run.final_state[0, 0, 0] == 0.0


def test_every_parameter_has_symbol_meaning_unit_and_source():
    for mass in (MontbrioPazoRoxin, Epileptor, Epileptor2D, Linear, BalloonWindkessel):
        rows = parameter_table(mass)
        assert rows
        assert all(row.symbol and row.meaning and row.unit and row.source for row in rows)
