"""Same seed, same bits: alone, in company, first, last, in another process and on more devices; and compiled once."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from vbt.simulation import (
    BalloonWindkessel,
    Bold,
    Epileptor,
    Linear,
    MontbrioPazoRoxin,
    Network,
    Stimulus,
    TemporalAverage,
    constant,
    simulate,
)
from vbt.simulation import _kernel as kernel
from vbt.simulation import _native as native
from vbt.simulation import _watching as watching

SEVEN = """
import hashlib, sys
import numpy as np
from vbt.simulation import Bold, MontbrioPazoRoxin, Network, TemporalAverage, simulate

def network(coupling):
    rng = np.random.default_rng(5)
    present = rng.random((7, 7)) < 0.6
    return Network(
        mass=MontbrioPazoRoxin(), weights=rng.random((7, 7)) * present,
        tract_lengths=rng.uniform(0, 90, (7, 7)) * present,
        velocity=4.0, coupling=coupling, sigma=(0.05, 0.05), instantaneous_below_step=True)

def digest(run, lane):
    parts = [o.values[lane] for o in run.observations] + [run.final_state[lane]]
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()

def simulated(couplings, seeds, **rest):
    return simulate([network(c) for c in couplings], seeds, duration=0.2, transient=0.05,
        monitors=[TemporalAverage(0.01), Bold(0.05)], dt=0.1, **rest)
"""
exec(SEVEN)  # the same code here and in another process


@pytest.mark.parametrize(("engine", "precision"), [("native", "single"), ("native", "double"), ("xla", "single")])
def test_a_run_has_the_same_bits_wherever_it_stands(engine, precision):
    rest = {"engine": engine, "precision": precision}
    alone = digest(simulated([0.2], [11], **rest), 0)
    first = simulated([0.2, *np.linspace(0, 0.4, 20)], [11, *range(20)], **rest)
    last = simulated([*np.linspace(0, 0.4, 20), 0.2], [*range(20), 11], **rest)
    # Eleven in single precision fill a vector's worth of lanes, two go one by one.
    pair = simulated([0.3, 0.2], [4, 11], **rest)
    assert {digest(first, 0), digest(last, 20), digest(pair, 1)} == {alone}
    assert digest(first, 1) != alone


def test_a_run_has_the_same_bits_in_another_process():
    code = SEVEN + "\nprint(digest(simulated([0.2], [11]), 0))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(simulated([0.2], [11]), 0)


@pytest.mark.parametrize(
    "change",
    [
        {"mass": Linear(milliseconds_per_unit=10.0)},
        {"mass": Linear(decay=0.5)},
        {"weights": np.array([[0.0, 0.5], [1.0, 0.0]])},
        {"tract_lengths": np.full((2, 2), 3.0)},
        {"velocity": 2.0},
        {"sigma": (0.1,)},
        {"initial": np.ones((1, 2))},
        {"active": np.array([True, False])},
        {"stimulus": Stimulus(amplitude=np.ones(2), waveforms=(constant(),))},
        {"balloon": BalloonWindkessel(tau=1.0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_a_run_changes_the_manifests_account_of_what_went_in(change):
    def told(**changes):
        settings = {"mass": Linear(), "weights": np.ones((2, 2)), "tract_lengths": np.full((2, 2), 2.0)}
        network = Network(**({"velocity": 1.0} | settings | changes))
        manifest = simulate([network], [0], duration=0.01, monitors=[TemporalAverage(0.01)], dt=0.1).manifest
        return dataclasses.replace(manifest, outputs={})

    assert told(**change) != told()


def test_more_devices_give_the_same_numbers():
    """JAX's kernel, twenty runs: two devices in another process, one device here."""
    code = SEVEN + (
        "\nimport jax; assert len(jax.devices()) == 2\n"
        "run = simulated(np.linspace(0, 0.4, 20), range(20), engine='xla')\n"
        "print(*[digest(run, lane) for lane in range(20)])"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    here = simulated(np.linspace(0, 0.4, 20), range(20), engine="xla")
    assert other.stdout.split() == [digest(here, lane) for lane in range(20)]


@pytest.mark.parametrize("engine", ["native", "xla"])
def test_new_problems_of_the_same_shape_compile_nothing(engine):
    """Parameters, weights, tracts, delays, velocity, noise, seeds, duration and time step of the native kernel."""

    def run(seed: int, velocity: float) -> None:
        rng = np.random.default_rng(seed)
        present = rng.random((9, 9)) < 0.5
        present[0] = True  # the largest in-degree stays
        present[0, 0], present[2, 1] = False, True
        lengths = rng.uniform(5, 90, (9, 9)) * present
        lengths[2, 1] = 0.0
        network = Network(
            mass=MontbrioPazoRoxin(eta=rng.uniform(-5, -4, 9)),
            weights=rng.random((9, 9)) * present,
            tract_lengths=lengths,
            velocity=velocity,
            coupling=0.1,
            sigma=(0.0, rng.random()),
        )
        simulate(
            [network] * 3, range(seed, seed + 3), duration=0.1, monitors=[TemporalAverage(0.01)], dt=0.1, engine=engine
        )

    run(0, 4.0)
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_args, **_rest: compilations.append(event) if "backend_compile" in event else None
    )
    codes = native.code.cache_info().misses
    kernels = [watching.observe._cache_size(), kernel.stretch("cpu")._cache_size()]
    for seed in range(1, 5):
        run(seed, 3.5 + seed / 4)
    assert native.code.cache_info().misses == codes
    assert [watching.observe._cache_size(), kernel.stretch("cpu")._cache_size()] == kernels
    assert compilations == []
    jax.jit(lambda x: 3.0 * x)(1.0)
    assert compilations  # the listener listens


def test_the_native_kernel_compiles_within_five_seconds(oscillating):
    import time

    network = dataclasses.replace(
        oscillating, mass=Epileptor(), initial=None, sigma=(0, 0, 0, 0.01, 0.01, 0), coupling=0.01
    )
    native.code.cache_clear()
    began = time.process_time()
    simulate([network], [0], duration=0.01, monitors=[TemporalAverage(0.01)], dt=0.05)
    assert time.process_time() - began < 5.0


def test_a_changed_seed_changes_every_sample(oscillating):
    noisy = dataclasses.replace(oscillating, sigma=(0.0, 0.1))
    run = simulate([noisy, noisy], [0, 1], duration=0.01, monitors=[TemporalAverage(0.001)], dt=0.05)
    assert (run.observations[0].values[0] != run.observations[0].values[1]).all()


def test_runs_of_one_call_may_differ_in_their_delays(oscillating):
    slow = dataclasses.replace(oscillating, velocity=2.0)
    together = simulate([oscillating, slow, oscillating], [0, 0, 0], duration=0.02, monitors=[Bold(0.01)], dt=0.05)
    for lane, network in enumerate((oscillating, slow)):
        alone = simulate([network], [0], duration=0.02, monitors=[Bold(0.01)], dt=0.05)
        assert np.array_equal(together.final_state[lane], alone.final_state[0])
    assert np.array_equal(together.final_state[0], together.final_state[2])
    assert not np.array_equal(together.final_state[0], together.final_state[1])
