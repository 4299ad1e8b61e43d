"""Small networks that share their shapes, so that few kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from vbt.simulation import Linear, MontbrioPazoRoxin, Network, delay_steps
from vbt.simulation._neural_mass import within_bounds

_NONE = ((0, 0), (0, 0))


@pytest.fixture
def pair() -> Callable[..., Network]:
    """Two nodes; weights [target, source] and delays in ms, none by default."""

    def build(
        mass: Any = None, weights: Any = ((0, 0), (0, 0)), delays: Any = ((0, 0), (0, 0)), **rest: Any
    ) -> Network:
        return Network(
            mass=Linear() if mass is None else mass,
            weights=np.array(weights, dtype=float),
            tract_lengths=np.array(delays, dtype=float),
            velocity=1.0,
            **rest,
        )

    return build


@pytest.fixture
def oscillating() -> Network:
    """Five populations that oscillate, tracts of all lengths, also none, and no symmetry."""
    rng = np.random.default_rng(2)
    weights = rng.random((5, 5)) * (rng.random((5, 5)) < 0.7)
    lengths = rng.uniform(0.0, 40.0, (5, 5)) * (rng.random((5, 5)) < 0.7)
    lengths[0, 1], weights[0, 1] = 0.0, 0.5
    return Network(
        mass=MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-3.5),
        weights=weights,
        tract_lengths=lengths,
        velocity=4.0,
        coupling=0.5,
        initial=np.array([[1.5, 0.8, 1.0, 1.2, 0.6], [0.5, -0.5, 0.3, -0.2, 0.1]]),
        instantaneous_below_step=True,
    )


@pytest.fixture
def by_plain_loop() -> Callable[..., np.ndarray]:
    """The network equation as an ordinary loop in double precision: what every kernel must agree with."""
    return _plain_loop


def _plain_loop(network: Network, steps: int, dt_ms: float) -> np.ndarray:
    """State after some steps of Heun's method without noise, (variable, region)."""
    mass, dt = network.mass, dt_ms / network.mass.milliseconds_per_unit
    delays, weights = delay_steps(network, dt_ms), network.channel_weights
    regions, variables = network.regions, len(mass.variables)
    with jax.enable_x64(True):
        derivative, sent = jax.jit(mass.derivative), jax.jit(mass.sent)

        def signals(at: np.ndarray) -> np.ndarray:
            return np.stack([np.broadcast_to(np.asarray(s), regions) for s in sent(tuple(at))])

        def held(at: np.ndarray) -> np.ndarray:
            return np.stack([np.asarray(x) for x in within_bounds(mass, tuple(at))])

        def inputs(past: list[np.ndarray]) -> np.ndarray:
            total = np.zeros((len(mass.channels), regions))
            for c in range(len(mass.channels)):
                for i in range(regions):
                    for j in range(regions):
                        total[c, i] += weights[c, i, j] * past[-1 - delays[i, j]][c, j]
            return total

        def slope(at: np.ndarray, arriving: np.ndarray) -> np.ndarray:
            slopes = derivative(tuple(at), tuple(arriving), tuple(weights.sum(axis=2)), np.zeros(regions))
            return np.stack([np.broadcast_to(np.asarray(d), regions) for d in slopes])

        state = np.stack([np.broadcast_to(np.asarray(x, float), regions) for x in network.start])
        assert state.shape == (variables, regions)
        past = [signals(state)] * (int(delays.max()) + 2)
        for _ in range(steps):
            arriving = inputs(past)
            first = slope(state, arriving)
            predicted = held(state + dt * first)
            second = slope(predicted, inputs([*past, signals(predicted)]))
            state = held(state + 0.5 * dt * (first + second))
            past.append(signals(state))
    return state
