"""Steps, delays and noise against closed forms and an independent loop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.special

from vbt.errors import Unsound
from vbt.simulation import (
    Bold,
    Linear,
    MontbrioPazoRoxin,
    Network,
    TemporalAverage,
    delay_steps,
    noise_amplitude,
    simulate,
)


def both(period: float) -> list:
    """Activity, then BOLD."""
    return [TemporalAverage(period), Bold(period)]


def _final(network: Network, duration_ms: float, dt: float) -> np.ndarray:
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


@pytest.mark.parametrize("delay", [1.5, 1.6])
def test_delayed_feedback_turns_unstable_at_half_pi(pair, delay):
    """x'(t) = −x(t − τ) has the leading root W(−τ)/τ, W Lambert's function: stable below π/2, unstable above."""
    root = scipy.special.lambertw(-delay) / delay
    assert (root.real < 0) == (delay < np.pi / 2)
    network = pair(
        mass=Linear(decay=0.0),
        weights=((1, 0), (0, 1)),
        coupling=-1.0,
        delays=((delay, 0), (0, delay)),
        initial=np.ones((1, 2)),
    )
    run = simulate([network], [0], duration=0.2, monitors=both(0.0004), dt=0.05, precision="double")
    # Amplitude of the leading mode alone, by least squares over two stretches of 100 units.
    phase = 1000 * run.observations[0].time[:250] * root.imag
    basis = np.exp(1000 * run.observations[0].time[:250] * root.real)[:, None] * np.stack(
        [np.cos(phase), np.sin(phase)], axis=-1
    )
    early, late = (
        np.linalg.norm(np.linalg.lstsq(basis, x)[0]) for x in run.observations[0].values[0, :, 0].reshape(2, 250)[:]
    )
    assert late / early == pytest.approx(np.exp(100 * root.real), rel=0.02)


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


def _loop(network: Network, steps: int, dt_ms: float) -> np.ndarray:
    """The same scheme written as an ordinary loop: Heun, both stages at their own moment."""
    mass, dt = network.mass, dt_ms / network.mass.milliseconds_per_unit
    delays = delay_steps(network, dt_ms)
    state = np.array(network.initial, dtype=float)
    past = [state[0].copy()] * (delays.max() + 2)
    weights = network.coupling * network.weights

    def slope(at, history):
        afferent = np.array(
            [
                sum(weights[i, j] * history[-1 - delays[i, j]][j] for j in range(len(weights)))
                for i in range(len(weights))
            ]
        )
        r, V = at
        return np.array(
            [mass.Delta / np.pi + 2 * V * r, V**2 - np.pi**2 * r**2 + mass.eta + mass.J * r + mass.I + afferent]
        )

    for _ in range(steps):
        first = slope(state, past)
        predicted = state + dt * first
        predicted[0] = np.maximum(predicted[0], 0)
        second = slope(predicted, [*past, predicted[0]])
        state = state + 0.5 * dt * (first + second)
        state[0] = np.maximum(state[0], 0)
        past.append(state[0].copy())
    return state


def test_kernel_equals_a_plain_loop_while_the_network_oscillates():
    rng = np.random.default_rng(2)
    weights = rng.random((5, 5)) * (rng.random((5, 5)) < 0.7)
    lengths = rng.uniform(0.0, 40.0, (5, 5)) * (rng.random((5, 5)) < 0.7)
    lengths[0, 1], weights[0, 1] = 0.0, 0.5
    network = Network(
        mass=MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-3.5),
        weights=weights,
        tract_lengths=lengths,
        velocity=4.0,
        coupling=0.5,
        initial=np.array([[1.5, 0.8, 1.0, 1.2, 0.6], [0.5, -0.5, 0.3, -0.2, 0.1]]),
        instantaneous_below_step=True,
    )
    expected = _loop(network, 1200, 0.05)
    middle = _loop(network, 1000, 0.05)
    assert np.abs(expected - middle).max() > 0.01  # still oscillating, so phase errors would show
    run = simulate([network], [0], duration=0.06, monitors=both(0.02), dt=0.05, precision="double")
    np.testing.assert_allclose(run.final_state[0], expected, atol=1e-10)


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
    with pytest.raises(Unsound, match=r"index 1\) that left it within 0.0054 s"):
        simulate([network], [0], duration=0.08, monitors=both(0.0016), dt=0.1)


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
