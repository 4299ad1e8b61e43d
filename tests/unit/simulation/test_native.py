"""Machine code made of the masses' equations computes what the equations say."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import vbt.simulation.neural_masses as folder
from vbt.simulation import Network, Stimulus, TemporalAverage, pulse_train, simulate, stimulate
from vbt.simulation._elementary import BY_PRIMITIVE
from vbt.simulation._forward import Forward


def _masses() -> list[type]:
    modules = [importlib.import_module(f"{folder.__name__}.{m.name}") for m in pkgutil.iter_modules(folder.__path__)]
    found = {
        cls.__name__: cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls) and hasattr(cls, "derivative") and cls.__module__ == module.__name__
    }
    return [found[name] for name in sorted(found)]


def _network(mass_class: type, **rest) -> Network:
    """Four regions that differ, a tract of every kind: long, shorter than a block, without delay; no symmetry."""
    mass = mass_class()
    dt_ms = 0.5 * mass.largest_dt * mass.milliseconds_per_unit
    steps = np.array([[0, 19, 3, 0], [30, 0, 0, 8], [0, 11, 0, 1], [25, 7, 40, 0]], dtype=float)
    weights = np.array([[0, 0.3, 0.1, 0.2], [0.4, 0, 0, 0.1], [0, 0.2, 0, 0.3], [0.1, 0.2, 0.3, 0]])
    channels = len(mass.channels)
    spread = 1.0 + 0.02 * np.arange(4)
    return Network(
        mass=mass,
        weights=weights if channels == 1 else np.stack([weights * (1 + 0.1 * c) for c in range(channels)]),
        tract_lengths=steps * dt_ms,
        velocity=1.0,
        coupling=0.05,
        initial=np.stack([np.broadcast_to(np.asarray(x, float), 4) * spread + 1e-3 for x in mass.initial_state()]),
        **rest,
    )


@pytest.mark.parametrize("mass_class", _masses(), ids=lambda cls: cls.__name__)
def test_every_mass_runs_natively_as_in_a_plain_loop(by_plain_loop, mass_class):
    network = _network(mass_class)
    dt_ms = 0.5 * mass_class.largest_dt * network.mass.milliseconds_per_unit
    with jax.enable_x64(True):
        runs = Forward([network], [0], dt_ms, 60, np.float64)
        runs.advance(1, 1)
    expected = by_plain_loop(network, 60, dt_ms)
    scale = np.abs(expected).max(axis=1, keepdims=True) + np.abs(expected - network.initial).max(axis=1, keepdims=True)
    found = np.stack(runs.state)[..., 0]
    assert np.isfinite(expected).all()
    assert (np.abs(found - expected) / (scale + 1e-9)).max() < 1e-10


@pytest.mark.parametrize("precision", ["single", "double"])
def test_both_kernels_see_the_same_noise_and_stimulus(oscillating, precision):
    noisy = dataclasses.replace(oscillating, sigma=(0.02, 0.1))
    noisy = stimulate(noisy, (1, 3), 0.7, pulse_train(frequency=770.0, width=0.4, onset=0.002))
    assert isinstance(noisy.stimulus, Stimulus)
    native, xla = (
        simulate([noisy], [9], duration=0.03, monitors=[TemporalAverage(0.001)], dt=0.05, precision=precision, engine=e)
        .observations[0]
        .values
        for e in ("native", "xla")
    )
    np.testing.assert_allclose(native, xla, atol=2e-5 if precision == "single" else 1e-11)


# function, where, units in the last place: against SciPy and NumPy in double precision
RANGES = {
    "exp": (np.exp, -80, 80, 1),
    "expm1": (np.expm1, -3, 3, 2),
    "log": (np.log, 1e-6, 1e4, 1),
    "log1p": (np.log1p, -0.9, 5, 3),
    "tanh": (np.tanh, -6, 6, 3),
    "logistic": (scipy.special.expit, -30, 30, 2),
    "sin": (np.sin, -1000, 1000, 2),
    "cos": (np.cos, -1000, 1000, 2),
    "erf": (scipy.special.erf, -4, 4, 5),
    "erfc": (scipy.special.erfc, -5, 9, 80),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RANGES)
def test_elementary_functions_are_right_to_their_last_digits(name, dtype):
    reference, low, high, units = RANGES[name]
    x = np.random.default_rng(0).uniform(low, high, 20_000).astype(dtype)
    with jax.enable_x64(True):
        # Not compiled: XLA would simplify away the sums that round.
        found = np.asarray(BY_PRIMITIVE[name](jnp.asarray(x)))
    exact = reference(x.astype(np.float64))
    assert found.dtype == np.dtype(dtype)
    smallest = 1e-3 if name in ("sin", "cos") else 1e-30  # next to a zero the argument's own rounding is all
    assert (np.abs(found - exact) / np.maximum(np.abs(exact), smallest)).max() < (units + 0.5) * np.finfo(dtype).eps
