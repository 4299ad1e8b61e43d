"""Runs side by side through the JAX kernel: their arrays, padded so that like problems share compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vbt.simulation._kernel import Edges, Moment, Problem, Schedule, begin, stretch
from vbt.simulation._monitors import lanes_last
from vbt.simulation._network import Network, delay_steps
from vbt.simulation._noise import noise_keys
from vbt.simulation._stimulus import in_lanes


class Stepped:
    """Some runs with the same delays, one in each lane.

    Parameters
    ----------
    networks, seeds : one per lane at most; lanes left over repeat the last
    lanes : of the compiled code
    dt_ms : time step
    device : that runs it; the default device where none is given
    """

    def __init__(
        self,
        networks: Sequence[Network],
        seeds: Sequence[int],
        lanes: int,
        dt_ms: float,
        schedule: Schedule,
        device: Any = None,
    ) -> None:
        self.networks = [*networks, *[networks[-1]] * (lanes - len(networks))]
        padded_seeds = [*seeds, *[seeds[-1]] * (lanes - len(seeds))]
        self._schedule = schedule
        with jax.default_device(device):
            self._problem, self._moment = assemble(self.networks, padded_seeds, dt_ms, schedule)
        self._device = device
        self._platform = jax.default_backend() if device is None else device.platform

    def advance(self, chunks: int, capacity: int) -> tuple[Any, Any]:
        """The next ``chunks`` chunks, in arrays of ``capacity``: mean activity of each and the state at its end."""
        with jax.default_device(self._device):
            count = jnp.asarray(chunks, jnp.int32)
            run = stretch(self._platform)
            self._moment, means, ends = run(
                self._problem, self._moment, count, capacity=capacity, schedule=self._schedule
            )
        return means, ends

    @property
    def state(self) -> tuple[Any, ...]:
        return self._moment.state


def assemble(
    networks: Sequence[Network], seeds: Sequence[int], dt_ms: float, schedule: Schedule
) -> tuple[Problem, Moment]:
    """The problem and the first moment of runs with the same delays."""
    regions = networks[0].regions
    weights = np.stack([network.channel_weights for network in networks], axis=-1)
    delays = delay_steps(networks[0], dt_ms)
    present = np.any([network.is_tract for network in networks], axis=0)
    is_long = delays >= schedule.block
    sigma = np.zeros((len(schedule.noisy), regions, len(networks)))
    for lane, network in enumerate(networks):
        for position, variable in enumerate(schedule.noisy):
            sigma[position, :, lane] = network.sigma[variable] if network.sigma else 0.0
    state = lanes_last([network.start for network in networks], networks)
    problem = Problem(
        mass=lanes_last([network.mass for network in networks], networks),
        long_edges=_padded(weights, delays, present & is_long, 8),
        short_edges=_padded(weights, delays, present & ~is_long & (delays > 0), 1),
        instant_edges=_padded(weights, delays, present & (delays == 0), 1),
        in_strengths=tuple(jnp.asarray(w.sum(axis=1), dtype=float) for w in weights),
        sigma=jnp.asarray(sigma, dtype=float),
        currents=in_lanes([network.stimulus for network in networks], regions, dt_ms),
        keys=noise_keys(seeds, schedule.noisy, regions),
    )
    # One more than the longest delay must be remembered. A power of two of whole blocks keeps writes aligned, and other
    # velocities within the same compiled code.
    blocks = -(-(int(delays[present].max(initial=0)) + 1) // schedule.block)
    return problem, begin(problem, state, schedule.block * (1 << (blocks - 1).bit_length()), schedule)


def _padded(weights: np.ndarray, delays: np.ndarray, chosen: np.ndarray, least: int) -> Edges:
    """In-edges of every region in the order of their sources, as many as the largest in-degree rounded up."""
    regions, lanes = chosen.shape[0], weights.shape[-1]
    largest = int(chosen.sum(axis=1).max(initial=0))
    degree = 0 if not largest else max(least, 1 << (largest - 1).bit_length())
    if largest > 32:
        degree = -(-largest // 16) * 16
    source = np.zeros((degree, regions), np.int32)
    # Padding reads something that is there.
    delay = np.full((degree, regions), delays[chosen].min() if degree else 0, np.int32)
    weight = np.zeros((len(weights), degree, regions, lanes))
    for target in range(regions):
        sources = np.flatnonzero(chosen[target])
        source[: sources.size, target] = sources
        delay[: sources.size, target] = delays[target, sources]
        weight[:, : sources.size, target] = weights[:, target, sources]
    return Edges(jnp.asarray(source), jnp.asarray(delay), tuple(jnp.asarray(w, dtype=float) for w in weight))
