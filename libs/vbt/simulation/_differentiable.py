"""A simulation as a pure function of parameters, weights, noise and initial state, to be differentiated.

Time is cut into segments of about the square root of their number. Only the moments between segments are kept for the
backward pass, which runs each segment once more: memory grows with the square root of simulated time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._kernel import Edges, Integrator, Moment, Problem, Schedule, begin, chunk
from vbt.simulation._monitors import Monitor
from vbt.simulation._network import Network
from vbt.simulation._neural_mass import NeuralMass, Variable
from vbt.simulation._simulate import alike, checked_timing, schedule_of
from vbt.simulation._stepped import assemble


class Inputs(NamedTuple):
    """What a simulation is differentiated by, lanes last.

    Parameters
    ----------
    mass : the neural mass, each parameter ``(region, lane)``
    weights : coupling included, ``[channel, target, source]``; only tracts that the networks have act
    sigma : noise amplitude of the noisy variables, in their order
    initial : the state to start from, one entry per variable
    """

    mass: NeuralMass
    weights: Float[Array, "channel region region lane"]
    sigma: Float[Array, "noisy region lane"]
    initial: tuple[Variable, ...]


def differentiable(
    networks: Sequence[Network],
    seeds: Sequence[int],
    *,
    duration: float,
    monitors: Sequence[Monitor],
    dt: float,
    transient: float = 0.0,
    integrator: Integrator = "heun",
    precision: Literal["single", "double"] = "single",
) -> tuple[Callable[[Inputs], tuple[Float[Array, "time channel lane"], ...]], Inputs]:
    """The simulation as a pure function, and the inputs that these networks stand for.

    The function gives every monitor's samples, as `simulate` does with ``engine="xla"``, for any inputs of the same
    shape, under `jax.grad`, `jax.jvp` and `jax.jit`. The noise is part of the function: the same for all inputs.

    Parameters
    ----------
    networks, seeds : one run per lane; the networks share their delays
    precision : ``"double"`` needs JAX's 64-bit numbers switched on by the caller, here and where the function is used

    Raises
    ------
    ValueError
        as `simulate`, and where networks differ in their delays.
    """
    if precision == "double" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError("precision 'double' needs jax_enable_x64")
    timing = checked_timing(networks, seeds, monitors, duration, transient, dt, integrator)
    if len(alike(networks, dt)) != 1:
        raise ValueError("the networks of a differentiable simulation share their delays")
    schedule = schedule_of(networks, timing, integrator)
    problem, first = assemble(networks, seeds, dt, schedule)
    ring = first.histories[0].shape[1] - schedule.block
    weights = np.stack([network.channel_weights for network in networks], axis=-1)
    dtype = first.state[0].dtype
    inputs = Inputs(
        mass=problem.mass, weights=jnp.asarray(weights, dtype), sigma=problem.sigma, initial=tuple(first.state)
    )
    bound = tuple(monitor.bound(networks) for monitor in monitors)

    def run(inputs: Inputs) -> tuple[Float[Array, "time channel lane"], ...]:
        posed = _posed(problem, inputs)
        moment = begin(posed, inputs.initial, ring, schedule)
        total = timing.dropped + timing.kept
        means, ends = _checkpointed(posed, schedule, moment, total)
        return tuple(
            _sampled(monitor, means, ends, timing.dropped, every, timing.chunk_seconds)
            for monitor, every in zip(bound, timing.every, strict=True)
        )

    return run, inputs


def _posed(problem: Problem, inputs: Inputs) -> Problem:
    """The problem with these inputs in it; padded edges stay zero."""
    target = jnp.arange(inputs.weights.shape[1])

    def weighted(edges: Edges) -> Edges:
        if not edges.source.shape[0]:
            return edges
        real = functools.reduce(np.logical_or, [(np.asarray(w) != 0).any(axis=-1) for w in edges.weights])
        weights = [jnp.where(real[..., None], w[target, edges.source], 0.0) for w in inputs.weights]
        return edges._replace(weights=tuple(weights))

    return problem._replace(
        mass=inputs.mass,
        long_edges=weighted(problem.long_edges),
        short_edges=weighted(problem.short_edges),
        instant_edges=weighted(problem.instant_edges),
        in_strengths=tuple(w.sum(axis=1) for w in inputs.weights),
        sigma=inputs.sigma,
    )


def _checkpointed(problem: Problem, schedule: Schedule, moment: Moment, chunks: int) -> tuple[Any, Any]:
    """Mean activity of every chunk and the state at its end, by segments that are computed again when needed."""

    def one(now: Moment, _: None) -> tuple[Moment, Any]:
        now, mean = chunk(problem, schedule, now)
        return now, (mean, jnp.stack(now.state))

    length = max(1, math.isqrt(chunks))

    @jax.checkpoint
    def segment(now: Moment, _: None) -> tuple[Moment, Any]:
        return jax.lax.scan(one, now, None, length=length)

    moment, seen = jax.lax.scan(segment, moment, None, length=chunks // length)
    seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    if chunks % length:
        _, rest = jax.lax.scan(one, moment, None, length=chunks % length)
        seen = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seen, rest)
    means, ends = seen
    return means, ends


def _sampled(
    monitor: Monitor, means: Array, ends: Array, dropped: int, every: int, seconds: float
) -> Float[Array, "time channel lane"]:
    """One monitor's samples of the chunks after the dropped ones."""

    def look(carry: Any, mean: Array) -> tuple[Any, None]:
        return monitor.step(carry, mean, seconds), None

    @jax.checkpoint
    def period(carry: Any, seen: tuple[Array, Array]) -> tuple[Any, Array]:
        carry, _ = jax.lax.scan(look, carry, seen[0])
        return monitor.sample(carry, tuple(seen[1]))

    carry = monitor.begin(jnp.zeros_like(means[0]))
    if dropped:
        carry, _ = jax.lax.scan(look, carry, means[:dropped])
        carry, _ = monitor.sample(carry, tuple(ends[dropped - 1]))
    samples = (len(means) - dropped) // every
    kept = means[dropped : dropped + samples * every]
    last = ends[dropped:][every - 1 :: every][:samples]
    values: Array
    _, values = jax.lax.scan(period, carry, (kept.reshape(samples, every, *kept.shape[1:]), last))
    return values
