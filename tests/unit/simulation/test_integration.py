"""Steps, delays and noise against closed forms and an independent loop."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.special

from vbt.errors import Unsound
from vbt.simulation import (
    Bold,
    Diverged,
    Linear,
    SimulationCancelled,
    TemporalAverage,
    Trajectory,
    delay_steps,
    noise_amplitude,
    simulate,
)
from vbt.simulation.neural_masses.stuart_landau import StuartLandau


def both(period: float) -> list:
    """Activity, then BOLD."""
    return [TemporalAverage(period), Bold(period)]


def _final(network, duration_ms: float, dt: float) -> np.ndarray:
    run = simulate(
        [network],
        [0],
        duration=duration_ms / 1000,
        monitors=both(duration_ms / 1000),
        dt=dt,
        precision="double",
    )
    return run.final_state[0]


def test_heun_is_second_order(pair):
    network = pair(initial=np.ones((1, 2)))
    steps = np.array([0.125, 0.0625, 0.03125])
    errors = [abs(_final(network, 4.0, dt)[0, 0] - np.exp(-4.0)) for dt in steps]
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(2.0, abs=0.1)


def test_heun_stays_second_order_along_delays(pair):
    # x0 drives x1 one unit late: x1(t) = (t − 1) e^{−(t − 1)} for t > 1, plus the constant past of x0 before that.
    network = pair(weights=((0, 0), (1, 0)), delays=((0, 0), (1.0, 0)), initial=np.array([[1.0, 0.0]]))
    exact = (1 - np.exp(-1.0)) * np.exp(-3.0) + 3.0 * np.exp(-3.0)
    steps = np.array([0.125, 0.0625])
    errors = [abs(_final(network, 4.0, dt)[0, 1] - exact) for dt in steps]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("delay", "growth"), [(1.5, 0.0196), (1.6, 4.37)])
def test_delayed_feedback_turns_unstable_at_half_pi(pair, delay, growth):
    """x'(t) = −x(t − τ) has the leading root W(−τ)/τ, W Lambert's function: stable below π/2, unstable above."""
    root = scipy.special.lambertw(-delay) / delay
    assert np.exp(180.0 * root.real) == pytest.approx(growth, rel=2e-3)
    network = pair(
        mass=Linear(decay=0.0),
        weights=((1, 0), (0, 1)),
        coupling=-1.0,
        delays=((delay, 0), (0, delay)),
        initial=np.ones((1, 2)),
    )
    run = simulate([network], [0], duration=0.3, monitors=[Trajectory(0.0005)], dt=0.025, precision="double")
    time, course = 1000.0 * run.observations[0].time, run.observations[0].values[0, :, 0]

    def amplitude(start: float) -> float:
        # Of the leading mode alone, by least squares over fifty units of time.
        chosen = (time >= start) & (time < start + 50.0)
        phase = time[chosen] * root.imag
        basis = np.exp((time[chosen] - start) * root.real)[:, None] * np.stack([np.cos(phase), np.sin(phase)], axis=-1)
        return float(np.linalg.norm(np.linalg.lstsq(basis, course[chosen])[0]))

    assert amplitude(230.0) / amplitude(50.0) == pytest.approx(growth, rel=0.02)


@pytest.mark.parametrize(("delay_ms", "frequency"), [(5.0, 16.432), (10.0, 10.570), (20.0, 6.248)])
def test_delayed_oscillators_synchronise_at_the_predicted_frequency(pair, delay_ms, frequency):
    """Ω = ω₀ − K sin Ωτ for two Stuart-Landau oscillators with diffusive coupling K = 300/s, ω₀ = 2π 40/s."""
    network = pair(
        mass=StuartLandau(a=600.0),
        weights=((0, 1), (1, 0)),
        coupling=300.0,
        delays=((0, delay_ms), (delay_ms, 0)),
        initial=np.array([[10.0, 10.0], [0.0, 0.0]]),
    )
    run = simulate(
        [network], [0], duration=1.0, transient=1.0, monitors=[Trajectory(0.001)], dt=0.1, precision="double"
    )
    phase = np.unwrap(np.angle(run.observations[0].values[0, :, 0] + 1j * run.observations[0].values[0, :, 2]))
    measured = np.polyfit(run.observations[0].time, phase, 1)[0] / (2 * np.pi)
    assert measured == pytest.approx(frequency, abs=2e-3)


def test_a_noise_driven_focus_has_the_published_variance(pair):
    """σ²/2|a| per component, over 640 s."""
    network = pair(mass=StuartLandau(a=-5.0), sigma=(1e-2, 1e-2))
    run = simulate([network] * 16, range(16), duration=40.0, transient=1.0, monitors=[Trajectory(0.01)], dt=0.1)
    assert run.observations[0].values.var() == pytest.approx(1e-4 / 10.0, rel=0.05)


def test_runge_kutta_is_fourth_order(pair):
    """On the limit cycle of a Stuart-Landau oscillator, coupled without delay; r' = (a − r²) r, closed form."""
    a, omega, r0 = 4.0, 30.0, 0.5
    network = pair(
        mass=StuartLandau(a=a, omega=omega), weights=((0, 1), (1, 0)), initial=np.array([[r0, r0], [0.0, 0.0]])
    )
    # Equal oscillators do not feel their diffusive coupling.
    radius = np.sqrt(a / (1.0 + (a / r0**2 - 1.0) * np.exp(-2.0 * a * 0.4)))
    exact = radius * np.array([np.cos(omega * 0.4), np.sin(omega * 0.4)])
    orders = {}
    for integrator in ("heun", "rk4"):
        errors = []
        steps = (0.5, 0.25, 0.125)
        for dt in steps:
            run = simulate(
                [network], [0], duration=0.4, monitors=both(0.1), dt=dt, precision="double", integrator=integrator
            )
            errors.append(np.abs(run.final_state[0, :, 0] - exact).max())
        orders[integrator] = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert orders["heun"] == pytest.approx(2.0, abs=0.1)
    assert orders["rk4"] == pytest.approx(4.0, abs=0.2)


def test_noise_has_the_covariance_of_the_lyapunov_equation(pair):
    network = pair(weights=((0, 0.4), (0.4, 0)), sigma=(1.0,))
    run = simulate([network] * 8, range(8), duration=1.6, transient=0.016, monitors=both(0.0016), dt=0.1)
    # Averages over 1.6 units of the process: integrate its autocovariance, C expm(J lag), mode by mode.
    rates, variances = np.array([0.6, 1.4]), np.array([1 / 1.2, 1 / 2.8])
    window = 1.6
    averaged = variances * 2 / (rates * window) ** 2 * (rates * window - 1 + np.exp(-rates * window))
    expected = [0.5 * averaged.sum(), 0.5 * (averaged[0] - averaged[1])]
    samples = run.observations[0].values.reshape(-1, 2)
    measured = np.cov(samples.T)
    assert measured[0, 0] == pytest.approx(expected[0], rel=0.06)
    assert measured[0, 1] == pytest.approx(expected[1], rel=0.1)


def test_weights_point_from_source_to_target(pair):
    network = pair(weights=((0, 0), (1, 0)), initial=np.array([[1.0, 0.0]]))
    driver, driven = _final(network, 4.0, 0.125)[0]
    assert driver == pytest.approx(np.exp(-4.0), rel=0.05)
    assert driven > 0.05


@pytest.mark.parametrize("delay", [0.5, 4.0])
def test_a_pulse_arrives_exactly_one_delay_later(pair, delay):
    """Shorter than a block and longer: both paths of the kernel."""
    base = pair(weights=((0, 0), (1, 0)), delays=((0, 0), (delay, 0)))
    mass = Linear(decay=0.0, I=np.array([1.0, 0.0]))
    driven = _final(dataclasses.replace(base, mass=mass), 8.0, 0.125)[0, 1]
    assert driven == pytest.approx(0.5 * (8.0 - delay) ** 2, rel=1e-9)


@pytest.mark.parametrize("engine", ["native", "xla"])
def test_kernel_equals_a_plain_loop_while_the_network_oscillates(oscillating, by_plain_loop, engine):
    expected = by_plain_loop(oscillating, 1200, 0.05)
    middle = by_plain_loop(oscillating, 1000, 0.05)
    assert np.abs(expected - middle).max() > 0.01  # still oscillating, so phase errors would show
    run = simulate([oscillating], [0], duration=0.06, monitors=both(0.02), dt=0.05, precision="double", engine=engine)
    np.testing.assert_allclose(run.final_state[0], expected, atol=1e-10)


def test_single_precision_stays_near_double(oscillating):
    """Over 1200 oscillating steps with noise, which is the same in both."""
    noisy = dataclasses.replace(oscillating, sigma=(0.0, 0.1))
    single, double = (
        simulate([noisy], [3], duration=0.06, monitors=both(0.0005), dt=0.05, precision=precision)
        for precision in ("single", "double")
    )
    difference = single.observations[0].values - double.observations[0].values
    assert np.ptp(double.observations[0].values[0, 60:, 0]) > 0.1
    assert np.abs(difference).max() < 2e-5


def test_a_run_has_the_same_bits_alone_and_in_company(pair):
    networks = [pair(weights=((0, w), (w, 0)), sigma=(0.3,)) for w in np.linspace(0, 0.5, 11)]
    kwargs = {"duration": 0.016, "monitors": both(0.0016), "dt": 0.1}
    together = simulate(networks, range(11), **kwargs)
    alone = simulate([networks[9]], [9], **kwargs)
    assert np.array_equal(together.observations[0].values[9], alone.observations[0].values[0])
    assert np.array_equal(together.observations[1].values[9], alone.observations[1].values[0])
    again = simulate(networks, range(11), **kwargs)
    assert again.manifest == together.manifest


def test_divergence_names_region_and_time(pair):
    network = pair(mass=Linear(decay=np.array([1.0, -20.0])), initial=np.ones((1, 2)))
    with pytest.raises(Unsound, match=r"index 1\)") as caught:
        simulate([network], [0], duration=0.08, monitors=both(0.0016), dt=0.1)
    diverged = caught.value
    assert isinstance(diverged, Diverged)
    assert (diverged.run, diverged.region) == (0, "1")
    # Each step multiplies x by 5 on the way of slopes 20 x and 60 x, whose sum is the first number too large.
    last_good_step = math.ceil(math.log(np.finfo(np.float32).max / 80.0) / math.log(5.0))
    assert diverged.time == pytest.approx(1e-4 * (last_good_step + 1))
    assert np.isfinite(diverged.last_good).all()
    assert diverged.last_good[0, 1] > 1e35


def test_a_cancelled_simulation_stops(pair):
    asked = []
    with pytest.raises(SimulationCancelled):
        simulate(
            [pair()], [0], duration=3600.0, monitors=both(1.0), dt=0.1,
            cancelled=lambda: asked.append(None) or len(asked) > 2,
        )  # fmt: skip
    assert len(asked) == 3


def test_progress_ends_at_one(pair):
    told = []
    simulate([pair()] * 3, range(3), duration=3.0, transient=1.0, monitors=both(1.0), dt=0.1, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_tract_faster_than_a_step_is_refused_unless_accepted(pair):
    fast = pair(weights=((0, 1), (0, 0)), delays=((0, 0.05), (0, 0)))
    with pytest.raises(ValueError, match="smaller step"):
        delay_steps(fast, 0.1)
    accepted = dataclasses.replace(fast, instantaneous_below_step=True)
    assert delay_steps(accepted, 0.1)[0, 1] == 1  # half a step rounds up


def test_delays_halve_when_velocity_doubles(pair):
    slow = pair(weights=((0, 1), (1, 0)), delays=((0, 8.0), (4.0, 0)))
    fast = dataclasses.replace(slow, velocity=2.0)
    assert np.array_equal(delay_steps(slow, 0.1), 2 * delay_steps(fast, 0.1))


def test_noise_amplitude_is_root_of_twice_the_diffusion():
    assert noise_amplitude(1e-3) == pytest.approx(0.0447214, rel=1e-5)


def test_noise_on_a_variable_that_cannot_bear_it_is_refused(pair):
    from vbt.simulation import Epileptor

    with pytest.raises(ValueError, match="noise belongs on"):
        pair(mass=Epileptor(), sigma=(0.1, 0, 0, 0, 0, 0))
