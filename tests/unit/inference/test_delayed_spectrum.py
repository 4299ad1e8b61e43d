"""The spectrum against other closed forms, Lyapunov's equation and the simulator; the likelihood's gradient."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.signal

from vbt.inference import delayed_spectrum, strength_scaled
from vbt.inference._delayed_spectrum import DelayedNetwork
from vbt.inference._delayed_spectrum_bands import narrow_bands
from vbt.inference._delayed_spectrum_likelihood import SpectralLikelihood
from vbt.inference._delayed_spectrum_sbc import small_connectome
from vbt.simulation import Network, Trajectory, simulate
from vbt.simulation.neural_masses.stuart_landau import StuartLandau

PAIR = np.array([[0.0, 1.0], [1.0, 0.0]])
FREQUENCIES = np.linspace(1.0, 60.0, 237)


def lorentzian(frequencies, frequency, decay):
    """Re z of one damped oscillator, two-sided per Hz, unit noise on both parts."""
    return sum(0.5 / (decay**2 + (2 * np.pi * (frequencies - s * frequency)) ** 2) for s in (-1, 1))


def mode_response(omega, sign, *, coupling, delay, frequency, decay):
    """Of the sum (+1) or the difference (−1) of two equal oscillators."""
    back = 1.0 - sign * np.exp(-1j * omega * delay)
    return 1.0 / (1j * omega + decay - 2j * np.pi * frequency + coupling * back)


def test_two_oscillators_have_the_spectrum_of_their_sum_and_difference():
    settings = {"coupling": 300.0, "frequency": 40.0, "decay": 5.0}
    lengths = 80.0 * PAIR
    found = delayed_spectrum(PAIR, lengths, velocity=8.0, frequencies=FREQUENCIES, **settings)
    omega = 2 * np.pi * FREQUENCIES
    power = {
        sign: 0.5 * sum(np.abs(mode_response(s * omega, sign, delay=0.01, **settings)) ** 2 for s in (-1, 1))
        for sign in (-1, 1)
    }
    np.testing.assert_allclose(found[:, 0, 0], 0.5 * (power[1] + power[-1]), rtol=1e-10)
    np.testing.assert_allclose(found[:, 0, 1], 0.5 * (power[1] - power[-1]), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(("delay_ms", "hertz"), [(5.0, 16.432), (10.0, 10.570), (20.0, 6.248)])
def test_at_the_synchronised_frequency_only_damping_opposes_the_noise(delay_ms, hertz):
    """Ω = ω₀ − G w sin Ωτ, lowest root of the specification's table: the response there is 1/(a + Gw (1 − cos Ωτ))."""
    settings = {"coupling": 300.0, "frequency": 40.0, "decay": 5.0}
    found = delayed_spectrum(PAIR, delay_ms * PAIR, velocity=1.0, frequencies=np.array([hertz]), **settings)[0]
    omega, delay = 2 * np.pi * hertz, 1e-3 * delay_ms
    mirrored = np.abs(mode_response(-omega, 1, delay=delay, **settings)) ** 2
    expected = 0.5 * ((5.0 + 300.0 * (1.0 - np.cos(omega * delay))) ** -2 + mirrored)
    assert (found[0, 0] + found[0, 1]).real == pytest.approx(expected, rel=1e-4)


def test_uncoupled_regions_are_lorentzians_of_half_width_decay_over_two_pi():
    frequencies = np.arange(30.0, 50.0, 0.001)
    found = delayed_spectrum(
        PAIR, 50.0 * PAIR, velocity=5.0, coupling=0.0, frequency=40.0, decay=5.0, frequencies=frequencies
    )
    power = found[:, 0, 0].real
    np.testing.assert_allclose(power, lorentzian(frequencies, 40.0, 5.0), rtol=1e-12)
    above = frequencies[power > power.max() / 2]
    assert 0.5 * (above[-1] - above[0]) == pytest.approx(5.0 / (2 * np.pi), abs=0.005)
    np.testing.assert_allclose(found[:, 0, 1], 0.0, atol=1e-18)


def test_without_delays_the_spectrum_integrates_to_the_lyapunov_covariance():
    weights = np.array([[0.0, 0.5, 0.1], [0.2, 0.0, 0.3], [0.6, 0.0, 0.0]])
    coupling, frequency, decay = 30.0, 10.0, 6.0
    grid = np.linspace(0.0, 4000.0, 80001)
    found = delayed_spectrum(
        weights, np.zeros((3, 3)), velocity=1.0, coupling=coupling, frequency=frequency, decay=decay, frequencies=grid
    )
    integral = 2 * scipy.integrate.simpson(found.real, x=grid, axis=0) + np.eye(3) * 2 / (4 * np.pi**2 * 4000.0)
    matrix = coupling * weights - np.diag(decay - 2j * np.pi * frequency + coupling * weights.sum(axis=1))
    covariance = scipy.linalg.solve_continuous_lyapunov(matrix, -2.0 * np.eye(3, dtype=complex))
    np.testing.assert_allclose(integral, 0.5 * covariance.real, rtol=1e-5, atol=1e-8)


def test_weights_go_from_column_to_row_and_arrive_late():
    """Only region 1 hears region 0, 10 ms later."""
    weights = np.array([[0.0, 0.0], [1.0, 0.0]])
    frequencies = np.linspace(5.0, 45.0, 41)
    settings = {"coupling": 2.0, "frequency": 40.0, "decay": 5.0}
    slow, fast = (
        delayed_spectrum(weights, 80.0 * PAIR, velocity=v, frequencies=frequencies, **settings) for v in (8.0, 1e9)
    )
    np.testing.assert_allclose(slow[:, 0, 0], lorentzian(frequencies, 40.0, 5.0), rtol=1e-12)
    lag = np.exp(-2j * np.pi * frequencies * 0.01)
    np.testing.assert_allclose(slow[:, 1, 0], fast[:, 1, 0] * lag, rtol=1e-6)


def test_lesions_lengthen_delays_as_slower_conduction_does():
    weights, lengths, _ = small_connectome(6, 0)
    settings = {"coupling": 500.0, "frequency": 40.0, "decay": 5.0, "frequencies": FREQUENCIES}
    everywhere = np.ones_like(weights)
    lesioned = delayed_spectrum(weights, lengths, velocity=8.0, gamma=0.6, lesion_fraction=everywhere, **settings)
    slower = delayed_spectrum(weights, lengths, velocity=8.0 / 1.6, **settings)
    np.testing.assert_allclose(lesioned, slower, rtol=1e-9)


def test_the_spectrum_is_that_of_the_simulated_network():
    """Stuart-Landau masses with delays, stepped by the simulator: the alpha peak within .5 Hz, power within chance."""
    weights, lengths, _ = small_connectome(4, 1)
    weights = strength_scaled(weights)
    velocity, coupling, frequency, decay, sigma = 6.0, 1000.0, 40.0, 5.0, 1e-4
    network = Network(
        mass=StuartLandau(a=-decay, omega=2 * np.pi * frequency),
        weights=weights,
        tract_lengths=lengths,
        velocity=velocity,
        coupling=coupling,
        sigma=(sigma, sigma),
    )
    run = simulate([network], [1], duration=400.0, transient=2.0, monitors=[Trajectory(0.001)], dt=0.2)
    # White noise drives power at every frequency; as in an amplifier, what lies above 125 Hz must not fold back.
    x = scipy.signal.decimate(run.observations[0].values[0][:, :4].astype(float), 4, ftype="fir", axis=0)
    bands = narrow_bands(x, 250.0)
    settings = {"velocity": velocity, "coupling": coupling, "frequency": frequency, "decay": decay}
    expected = sigma**2 * delayed_spectrum(weights, lengths, frequencies=bands.frequencies, **settings)
    ratio = np.diagonal(bands.spectra / expected, axis1=1, axis2=2).real
    # 200 bins per band: 7 % standard deviation each; bands are independent.
    assert ratio.mean(axis=0) == pytest.approx(np.ones(4), abs=4 * 200**-0.5 / np.sqrt(40))
    assert np.abs(ratio - 1).max() < 5 * 200**-0.5
    fine = np.arange(4.0, 20.0, 0.05)
    median = np.median(
        np.diagonal(delayed_spectrum(weights, lengths, frequencies=fine, **settings), axis1=1, axis2=2).real, axis=1
    )
    # Fourier bins of .0025 Hz, averaged over 1 Hz: fine enough to place the peak, smooth enough to see it.
    grid = np.fft.rfftfreq(len(x), 0.004)
    power = np.median(np.abs(np.fft.rfft(x, axis=0)) ** 2, axis=1)
    smooth = np.convolve(power, np.hanning(801) / np.hanning(801).sum(), mode="same")
    inside = (grid >= 4.0) & (grid < 20.0)
    assert grid[inside][smooth[inside].argmax()] == pytest.approx(fine[median.argmax()], abs=0.5)


def _likelihood(*, cross, gain, seed=0):
    weights, lengths, lesions = small_connectome(6, 0)
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=(5, 6)) if gain else None
    network = DelayedNetwork.of(strength_scaled(weights), lengths, lesions, gain)
    channels, frequencies, counts = (6 if gain is None else 5), np.arange(4.0, 40.0, 3.0), 20.0
    x = np.array([np.log(8.0), np.log(900.0), 40.0, np.log(5.0), np.log(0.05), 1.0])
    shape = (len(frequencies), channels, channels)
    empty = SpectralLikelihood(network, frequencies, np.full(len(frequencies), counts), np.zeros(shape, complex))
    factor = np.linalg.cholesky(empty.modelled(x))
    white = rng.normal(size=(2, *shape[:2], 20)) / np.sqrt(2)
    bins = factor @ (white[0] + 1j * white[1])
    spectra = bins @ bins.conj().swapaxes(1, 2) / 20
    return SpectralLikelihood(network, frequencies, empty.counts, spectra, cross=cross), x


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("gain", [True, False])
def test_the_gradient_is_that_of_finite_differences(cross, gain):
    likelihood, x = _likelihood(cross=cross, gain=gain)
    x = x + 0.05
    value, gradient = likelihood.value_and_gradient(x)
    assert value == likelihood.value(x)
    numeric = [(likelihood.value(x + e) - likelihood.value(x - e)) / 2e-5 for e in 1e-5 * np.eye(6)]
    np.testing.assert_allclose(gradient, numeric, rtol=2e-6, atol=1e-5)


def test_the_value_is_the_complex_gaussian_density_with_its_amplitude_integrated_out():
    likelihood, x = _likelihood(cross=True, gain=False)
    values = []
    for at in (x, x + 0.1):
        expected = likelihood.modelled(at)
        determinant = 20 * np.log(np.linalg.det(expected).real).sum()
        trace = 20 * np.trace(np.linalg.solve(expected, likelihood.spectra), axis1=1, axis2=2).real.sum()
        degrees = 20 * 6 * len(expected)

        def negative(s, determinant=determinant, trace=trace, degrees=degrees):
            return determinant + degrees * s + trace * np.exp(-s)  # s the logarithm of the amplitude

        least = scipy.optimize.minimize_scalar(negative, bracket=(-1.0, 1.0)).fun
        integral = scipy.integrate.quad(lambda s, f=negative, m=least: np.exp(m - f(s)), -1.0, 1.0, points=[0.0])[0]
        values.append((least - np.log(integral), likelihood.value(at)))
    assert values[1][0] - values[0][0] == pytest.approx(values[1][1] - values[0][1], abs=1e-4)


def test_any_number_of_workers_gives_the_same_bits():
    likelihood, x = _likelihood(cross=True, gain=True)
    object.__setattr__(likelihood, "workers", 3)
    other, _ = _likelihood(cross=True, gain=True)
    assert likelihood.value_and_gradient(x)[0] == other.value_and_gradient(x)[0]


def test_arguments_that_make_no_network_are_named():
    weights, lengths, _ = small_connectome(4, 0)
    settings = {"coupling": 1.0, "frequency": 40.0, "frequencies": FREQUENCIES}
    with pytest.raises(ValueError, match="tract_lengths must have shape"):
        delayed_spectrum(weights, lengths[:3], velocity=1.0, decay=5.0, **settings)
    with pytest.raises(ValueError, match="must be positive"):
        delayed_spectrum(weights, lengths, velocity=1.0, decay=-5.0, **settings)
