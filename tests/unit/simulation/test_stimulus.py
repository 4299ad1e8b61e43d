"""Waveforms against their own definition sampled finely, their charge against arithmetic, hours into a run."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vbt.simulation import (
    Linear,
    Network,
    Stimulus,
    TemporalAverage,
    Waveform,
    beat,
    biphasic_train,
    constant,
    pulse_train,
    simulate,
    sonication,
    stimulate,
)
from vbt.simulation._stimulus import _upper, in_lanes

WAVEFORMS = {
    "direct": constant(onset=0.00233, offset=0.0171),
    "seeg": pulse_train(frequency=50.0, width=1.0, onset=0.0013),
    "dbs": biphasic_train(gap=0.1, onset=0.00041),
    "dbs ended": biphasic_train(recovery="passive", onset=0.001, offset=0.0391),
    "ultrasound": sonication(
        pulse_repetition_frequency=500.0, duty_cycle=0.3, duration=0.01, interval=0.03, onset=0.0021
    ),
    "ultrasound once": sonication(pulse_repetition_frequency=500.0, duty_cycle=0.5, duration=0.01, onset=0.0021),
    "interference": beat(frequency=10.0),
    "many a step": pulse_train(frequency=900.0, width=0.3),
}
LANES = list(WAVEFORMS.values())


def _means(waveforms: list[Waveform], steps: np.ndarray, dt: float, precision: str = "double") -> np.ndarray:
    with jax.enable_x64(precision == "double"):
        currents = in_lanes([Stimulus(amplitude=np.ones((1, 1)), waveforms=(w,)) for w in waveforms], 1, dt)
        return np.asarray(jax.jit(lambda c, k: c.course(k))(currents, jnp.asarray(steps, jnp.int32)))[:, 0, :]


def _value(wave: Waveform, t: np.ndarray) -> np.ndarray:
    """The definition, at moments in ms."""
    since = t - 1000.0 * wave.onset
    slot = wave.period / wave.slots
    phase = np.mod(since, wave.period)
    within = np.mod(phase, slot)
    second = wave.width + wave.gap
    pulses = np.where(within < wave.width, wave.height, 0.0)
    pulses += np.where((within >= second) & (within < second + wave.second_width), wave.second_height, 0.0)
    pulses = np.where(phase < wave.pulses * slot, pulses, 0.0)
    on = (since >= 0.0) & (t < 1000.0 * wave.offset)
    return np.where(on, wave.level + wave.oscillation * np.cos(2.0 * np.pi * since / wave.period) + pulses, 0.0)


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("dt", [0.1, 0.5, 3.0, 25.0])
def test_every_step_carries_the_mean_of_the_waveform_over_it(dt, precision):
    steps, fine = int(100.0 / dt), round(100 * max(dt, 5.0))
    means = _means(LANES, np.arange(steps), dt, precision)
    moments = (np.arange(steps * fine) + 0.5) * dt / fine
    for lane, wave in enumerate(LANES):
        expected = _value(wave, moments).reshape(steps, fine).mean(axis=1)
        # a rectangle's edge falls anywhere within a sample of the reference: two edges and two heights at most
        np.testing.assert_allclose(means[:, lane], expected, atol=2.0 / fine, err_msg=str(wave))


@pytest.mark.parametrize(
    ("name", "charge"),
    [
        ("direct", 14.77),
        ("seeg", 50.0),
        ("dbs ended", 0.0),  # computed below
        ("ultrasound", 0.6 * (5 * 33 + 4)),
        ("ultrasound once", 5.0),
        ("many a step", 270.0),
    ],
)
@pytest.mark.parametrize("dt", [0.1, 0.4, 5.0])
def test_charge_is_kept_whatever_the_step(name, charge, dt):
    if name == "dbs ended":  # after four whole cycles the return of the fifth pulse is cut short
        fifth = 38.1 - 4 * 1000.0 / 130.0
        charge = -0.06 + 0.06 * (fifth - 0.06) / (1000.0 / 130.0 - 0.06)
    delivered = _means([WAVEFORMS[name]], np.arange(round(1000.0 / dt)), dt).sum() * dt
    assert delivered == pytest.approx(charge, abs=1e-6)


@pytest.mark.parametrize("recovery", ["active", "passive"])
def test_a_balanced_train_injects_nothing_in_the_end(recovery):
    wave = biphasic_train(frequency=125.0, width=0.06, gap=0.02, recovery=recovery)  # 80 steps of 0.1 ms a cycle
    means = _means([wave], np.arange(80 * 50), 0.1, "single").astype(float)[:, 0]
    injected = np.abs(_means([pulse_train(frequency=125.0, width=0.06)], np.arange(80 * 50), 0.1)).sum()
    assert abs(means.sum()) < 2e-6 * injected
    # both phases of an active pulse share a step, so that it nearly vanishes within it
    assert (np.abs(means).max() > 0.5) == (recovery == "passive")
    assert wave.is_balanced
    assert not pulse_train(frequency=125.0, width=0.06).is_balanced


def test_the_product_behind_every_phase_is_exact():
    a, b = np.random.default_rng(0).integers(0, 2**32, (2, 1000), dtype=np.uint64)
    product = _upper(jnp.asarray(a.astype(np.uint32)), jnp.asarray(b.astype(np.uint32)))
    assert np.array_equal(np.asarray(product), ((a * b) >> np.uint64(32)).astype(np.uint32))


def test_pulses_still_begin_where_they_should_after_hours_in_single_precision():
    """130 Hz has no whole number of 0.1 ms steps: any rounding of the period would have drifted by pulses."""
    wave, dt = pulse_train(frequency=130.0, width=0.06, onset=0.0123), 0.1
    first = 7 * 36_000_000 + 12_345  # seven hours and a bit
    steps = np.arange(first, first + 5000)
    means = _means([wave], steps, dt, "single")[:, 0]
    # exact: 13 cycles are 1000 steps, so whole seconds may be taken off
    early = _means([wave], steps - 7 * 36_000_000, dt, "double")[:, 0]
    np.testing.assert_allclose(means, early, atol=2e-5)
    assert means.sum() * dt == pytest.approx(65 * 0.06, rel=1e-6)


def test_waveforms_add_up():
    both = Stimulus(amplitude=np.array([[1.0, 0.0]]), waveforms=(LANES[0],)) + Stimulus(
        amplitude=np.array([[0.5, 2.0]]), waveforms=(LANES[1],)
    )
    currents = in_lanes([both, None], 2, 0.1)
    course = _means(LANES[:2], np.array([140]), 0.1, "single")[0]
    got = np.asarray(currents.applied(currents.course(jnp.asarray(140))))
    np.testing.assert_allclose(got[:, 0], [course[0] + 0.5 * course[1], 2.0 * course[1]], rtol=1e-6)
    assert (got[:, 1] == 0.0).all()


def test_one_kernel_serves_every_kind_of_stimulus():
    compiled = jax.jit(lambda currents, step: currents.applied(currents.course(step)))
    for wave in LANES:
        stimulus = Stimulus(amplitude=np.ones((1, 3)), waveforms=(wave,))
        compiled(in_lanes([stimulus, None], 3, 0.1), jnp.asarray(5))
    assert compiled._cache_size() == 1


def test_a_pulse_shorter_than_a_step_keeps_its_charge_in_a_simulation():
    """An integrator that forgets nothing: x at the end is the charge that went in."""
    quiet = Network(mass=Linear(decay=0.0), weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), velocity=1.0)
    train = stimulate(quiet, (1,), 3.0, pulse_train(frequency=130.0, width=0.06, onset=0.0005))
    run = simulate([train], [0], duration=0.2, monitors=[TemporalAverage(0.2)], dt=0.5, precision="double")
    assert run.final_state[0, 0] == pytest.approx([0.0, 26 * 0.06 * 3.0], rel=1e-7)


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (lambda: pulse_train(frequency=0.0, width=1.0), "frequency must be positive"),
        (lambda: pulse_train(frequency=50.0, width=21.0), r"in \(0, period\], got 21.0 of 20 ms"),
        (lambda: biphasic_train(frequency=130.0, width=4.0), "both phases must fit"),
        (lambda: constant(onset=2.0, offset=1.0), "must end after it begins, got 2.0 to 1.0 s"),
        (lambda: sonication(pulse_repetition_frequency=1000.0, duty_cycle=1.2, duration=0.1), "duty cycle"),
        (lambda: sonication(pulse_repetition_frequency=1000.0, duty_cycle=0.5, duration=0.0013), "whole number"),
        (
            lambda: sonication(pulse_repetition_frequency=1000.0, duty_cycle=0.5, duration=0.2, interval=0.1),
            "must not overlap",
        ),
        (lambda: Stimulus(amplitude=np.ones((2, 3)), waveforms=(constant(),)), "one row of amplitudes per waveform"),
    ],
)
def test_an_impossible_waveform_is_refused(build, rule):
    with pytest.raises(ValueError, match=rule):
        build()


def test_two_stimuli_of_different_kinds_both_deliver_their_charge():
    quiet = Network(mass=Linear(decay=0.0), weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), velocity=1.0)
    train = stimulate(quiet, (1,), 3.0, pulse_train(frequency=130.0, width=0.06, onset=0.0005))
    both = stimulate(train, (0, 1), 0.01, constant(onset=0.1))
    run = simulate([both, quiet], [0, 0], duration=0.2, monitors=[TemporalAverage(0.2)], dt=0.5, precision="double")
    assert run.final_state[0, 0] == pytest.approx([1.0, 26 * 0.06 * 3.0 + 1.0], rel=1e-7)
    assert run.final_state[1, 0].tolist() == [0.0, 0.0]
