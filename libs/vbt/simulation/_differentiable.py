"""A simulation as a pure function of parameters, weights, noise and initial state, to be differentiated.

Time is cut into segments of about the square root of their number. Only the moments between segments are kept for the
backward pass, which runs each segment once more: memory grows with the square root of simulated time. The derivative
by the weights of long tracts is taken once per segment, over all of its steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vbt.simulation._kernel import (
    Channels,
    Edges,
    Integrator,
    Moment,
    Problem,
    Schedule,
    State,
    begin,
    chunk,
    gathered,
    slices,
)
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


class _Moving(NamedTuple):
    """All that a segment depends on continuously, but the weights of its long edges."""

    mass: NeuralMass
    short_weights: Channels
    instant_weights: Channels
    in_strengths: Channels
    sigma: Array
    histories: Channels
    state: State


def _checkpointed(problem: Problem, schedule: Schedule, moment: Moment, chunks: int) -> tuple[Any, Any]:
    """Mean activity of every chunk and the state at its end, by segments that are computed again when needed."""

    def advance(now: Moment, length: int) -> tuple[Moment, Any]:
        moving = _Moving(
            problem.mass,
            problem.short_edges.weights,
            problem.instant_edges.weights,
            problem.in_strengths,
            problem.sigma,
            now.histories,
            now.state,
        )
        fixed = problem.long_edges, problem.short_edges, problem.instant_edges, problem.currents, problem.keys
        segment = _segment(schedule, length, *fixed)
        histories, state, seen = segment(problem.long_edges.weights, moving, now.step)
        return Moment(histories, state, now.step + length * schedule.chunk_steps), seen

    length = max(1, math.isqrt(chunks))
    again = jax.checkpoint(lambda now, _: advance(now, length))
    moment, seen = jax.lax.scan(again, moment, None, length=chunks // length)
    seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    if chunks % length:
        _, rest = advance(moment, chunks % length)
        seen = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seen, rest)
    means, ends = seen
    return means, ends


def _segment(
    schedule: Schedule, length: int, long_edges: Edges, short: Edges, instant: Edges, currents: Any, keys: Any
) -> Callable[..., Any]:
    """Some chunks as a function of what moves: histories and state at the end; means and states of the chunks.

    Its derivative by the weights of the long edges is one correlation of every edge over the whole segment.
    """

    def run(weights: Channels, moving: _Moving, step: Array, more: Channels | None) -> Any:
        problem = Problem(
            moving.mass,
            long_edges._replace(weights=weights),
            short._replace(weights=moving.short_weights),
            instant._replace(weights=moving.instant_weights),
            moving.in_strengths,
            moving.sigma,
            currents,
            keys,
        )

        def one(now: Moment, more: Channels | None) -> tuple[Moment, Any]:
            now, mean, sent = chunk(problem, schedule, now, more)
            return now, ((mean, jnp.stack(now.state)), sent)

        start = Moment(moving.histories, moving.state, step)
        end, (seen, sent) = jax.lax.scan(one, start, more, length=length)
        return (end.histories, end.state, seen), sent

    @jax.custom_jvp
    def segment(weights: Channels, moving: _Moving, step: Array) -> Any:
        return run(weights, moving, step, None)[0]

    @functools.partial(segment.defjvp, symbolic_zeros=True)
    def derivative(primals: Any, tangents: Any) -> Any:
        weights, moving, step = primals
        turned, moved, _ = tangents
        blocks, block = schedule.blocks, schedule.block
        like = moving.state[0]
        none = tuple(jnp.zeros((length, blocks, block + 1, *like.shape), like.dtype) for _ in weights)
        out, push, sent = jax.linearize(lambda m, more: run(weights, m, step, more), moving, none, has_aux=True)
        more = []
        for turn, history, signal, nothing in zip(turned, moving.histories, sent, none, strict=True):
            if _is_zero(turn):
                more.append(nothing)
                continue
            brought = _brought(_in_order(history, signal, step, block), long_edges, turn, history.shape[1] - block)
            where = block * jnp.arange(length * blocks)[:, None] + jnp.arange(block + 1)
            more.append(jnp.moveaxis(brought, 1, 0)[where].reshape(length, blocks, block + 1, *like.shape))
        return out, push(jax.tree.map(_filled, moved, is_leaf=_is_zero), tuple(more))

    return segment


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _filled(tangent: Any) -> Any:
    return jnp.zeros(tangent.shape, tangent.dtype) if _is_zero(tangent) else tangent


def _in_order(history: Array, sent: Array, step: Array, block: int) -> Float[Array, "region time lane"]:
    """What the ring holds from the oldest on, then what the segment sent."""
    ring = history.shape[1] - block
    past = jnp.roll(history[:, :ring], -jnp.mod(step, ring), axis=1)
    return jnp.concatenate([past, jnp.moveaxis(sent.reshape(-1, *sent.shape[3:]), 0, 1)], axis=1)


def _brought(
    signals: Float[Array, "region time lane"], edges: Edges, weights: Float[Array, "edge region lane"], ring: int
) -> Float[Array, "region step lane"]:
    """The input along the long edges at all moments of a segment, linear in the weights."""
    moments = signals.shape[1] - ring + 1
    starts = ring - 1 - edges.delay

    def transposed(fixed: tuple[Array, Array, Array], arrived: Array) -> Array:
        signals, sources, starts = fixed
        return jax.vmap(_correlated, in_axes=(2, None, None, 2), out_axes=2)(signals, sources, starts, arrived)

    def forward(fixed: tuple[Array, Array, Array], weights: Array) -> Array:
        signals, sources, starts = fixed
        return gathered(signals, weights, sources, starts, moments)

    brought: Array = jax.custom_derivatives.linear_call(forward, transposed, (signals, edges.source, starts), weights)
    return brought


def _correlated(
    signals: Float[Array, "region time"],
    sources: Int[Array, "edge region"],
    starts: Int[Array, "edge region"],
    arrived: Float[Array, "region step"],
) -> Float[Array, "edge region"]:
    """Σ over the steps of what arrived times an edge's slice.

    For one lane, so that XLA sees a dot product: its sum over the steps of all lanes takes twenty times as long.
    """

    def one(_: None, edge: tuple[Array, Array]) -> tuple[None, Array]:
        return None, jnp.einsum("it,it->i", slices(signals, *edge, arrived.shape[1]), arrived)

    return jax.lax.scan(one, None, (sources, starts))[1]


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
