"""The way back in machine code gives the derivatives that differences of the way forward say."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import jax
import numpy as np
import pytest

import vbt.simulation.neural_masses as folder
from vbt.simulation import MontbrioPazoRoxin, Network, pulse_train, stimulate
from vbt.simulation._reverse import Numbers, Reversible

CHUNK, SEGMENTS = 7, (3, 3, 1)  # steps: no whole number of blocks, an odd number, and segments of different lengths


def _masses() -> list[type]:
    modules = [importlib.import_module(f"{folder.__name__}.{m.name}") for m in pkgutil.iter_modules(folder.__path__)]
    found = {
        cls.__name__: cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls) and hasattr(cls, "derivative") and cls.__module__ == module.__name__
    }
    return [found[name] for name in sorted(found)]


def _network(mass_class: type, coupling: float = 0.05) -> Network:
    """Four regions that differ, a tract of every kind, noise and a stimulus."""
    mass = mass_class()
    dt_ms = 0.5 * mass.largest_dt * mass.milliseconds_per_unit
    steps = np.array([[0, 19, 3, 0], [30, 0, 0, 8], [0, 11, 0, 1], [25, 7, 40, 0]], dtype=float)
    weights = np.array([[0, 0.3, 0.1, 0.2], [0.4, 0, 0, 0.1], [0, 0.2, 0, 0.3], [0.1, 0.2, 0.3, 0]])
    channels = len(mass.channels)
    spread = 1.0 + 0.02 * np.arange(4)
    start = np.stack([np.broadcast_to(np.asarray(x, float), 4) * spread + 1e-3 for x in mass.initial_state()])
    sigma = tuple(1e-3 * (v in mass.noise_variables) for v in range(len(mass.variables)))
    network = Network(
        mass=mass,
        weights=weights if channels == 1 else np.stack([weights * (1 + 0.1 * c) for c in range(channels)]),
        tract_lengths=steps * dt_ms,
        velocity=1.0,
        coupling=coupling,
        initial=start,
        sigma=sigma,
    )
    rhythm = pulse_train(frequency=1000.0 / (12 * dt_ms), width=4 * dt_ms, onset=3e-3 * dt_ms)
    return stimulate(network, (1, 3), 0.1, rhythm)


def _slopes(networks: list[Network]) -> tuple[np.ndarray, np.ndarray]:
    """By parameters, weights, noise and state: what the way back says of a random direction, and differences."""
    mass = networks[0].mass
    dt_ms = 0.5 * mass.largest_dt * mass.milliseconds_per_unit
    with jax.enable_x64(True):
        runs = Reversible(
            networks, list(range(len(networks))), dt_ms, CHUNK, np.float64, among=networks, segments=SEGMENTS
        )
    rng = np.random.default_rng(1)
    noisy = [v for v, sigma in enumerate(networks[0].sigma) if sigma]

    def lanes(values: list[list[object]]) -> np.ndarray:
        wide = [[np.broadcast_to(np.asarray(x, float), 4) for x in row] for row in values]
        return np.moveaxis(np.array(wide), 0, -1)

    here = Numbers(
        lanes([jax.tree.leaves(n.mass) for n in networks]),
        np.stack([n.channel_weights for n in networks], axis=-1),
        lanes([[n.sigma[v] for v in noisy] for n in networks]),
        lanes([list(n.initial) for n in networks]),
    )
    means, ends = runs.run(here)
    size = np.abs(ends).mean(axis=(0, 2), keepdims=True)
    by_means, by_ends = rng.normal(size=means.shape), rng.normal(size=ends.shape) / size
    _, _, marks = runs.run_with_marks(here)
    found, sent = runs.pull(here, marks, by_means, by_ends, by_weights=True)

    def loss(at: Numbers) -> float:
        means, ends = runs.run(at)
        return float((by_means * means).sum() + (by_ends * ends).sum())

    with jax.enable_x64(True):
        _, pull = jax.vjp(
            lambda leaves, state: jax.tree.unflatten(jax.tree.structure(mass), list(leaves)).sent(tuple(state)),
            here.parameters,
            here.initial,
        )
        by_parameters, by_state = pull(tuple(jax.numpy.asarray(s) for s in sent))
    whole = found._replace(
        parameters=found.parameters + np.asarray(by_parameters), initial=found.initial + np.asarray(by_state)
    )
    said, seen = [], []
    for name, values in here._asdict().items():
        direction = rng.normal(size=values.shape) * (np.abs(values) + 1e-4 * (name == "initial"))
        step = 1e-6
        ahead, behind = (here._replace(**{name: values + by * direction}) for by in (step, -step))
        said.append((getattr(whole, name) * direction).sum())
        seen.append((loss(ahead) - loss(behind)) / (2 * step))
    return np.array(said), np.array(seen)


@pytest.mark.parametrize("mass_class", _masses(), ids=lambda cls: cls.__name__)
def test_every_mass_has_the_derivatives_of_its_differences(mass_class):
    said, seen = _slopes([_network(mass_class)])
    assert (np.abs(seen) > 0).sum() >= 3  # by default an epileptor hears nothing
    np.testing.assert_allclose(said, seen, rtol=2e-5, atol=2e-7 * np.abs(seen).max())


def test_a_full_vector_of_runs_has_the_derivatives_of_its_differences():
    """Eight lanes of double precision, the last ones empty."""
    said, seen = _slopes([_network(MontbrioPazoRoxin, coupling=0.1 * k) for k in range(1, 8)])
    np.testing.assert_allclose(said, seen, rtol=1e-5)
