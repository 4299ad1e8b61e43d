"""The JAX kernel over all of time, for the way back in segments: memory grows with the square root of simulated time.

Only the moments between segments are kept for the backward pass, which runs each segment once more. The derivative by
the weights of long tracts is taken once per segment, over all of its steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vbt.simulation._kernel import Channels, Edges, Moment, Problem, Schedule, State, chunk, gathered, slices
from vbt.simulation._neural_mass import NeuralMass

Activity = tuple[Float[Array, "chunk region lane"], Float[Array, "chunk variable region lane"]]


class _Moving(NamedTuple):
    """All that a segment depends on continuously, but the weights of its long edges."""

    mass: NeuralMass
    short_weights: Channels
    instant_weights: Channels
    in_strengths: Channels
    sigma: Array
    histories: Channels
    state: State


def segment_lengths(chunks: int) -> list[int]:
    """Segments of about the square root of their number, in chunks; the last one may be shorter."""
    length = math.isqrt(chunks)
    return [length] * (chunks // length) + [chunks % length] * (chunks % length > 0)


def checkpointed(problem: Problem, schedule: Schedule, moment: Moment, lengths: Sequence[int]) -> Activity:
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

    equal = lengths.count(lengths[0])
    again = jax.checkpoint(lambda now, _: advance(now, lengths[0]))
    moment, seen = jax.lax.scan(again, moment, None, length=equal)
    seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    for length in lengths[equal:]:
        _, rest = advance(moment, length)
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
            if is_zero(turn):
                more.append(nothing)
                continue
            brought = _brought(_in_order(history, signal, step, block), long_edges, turn, history.shape[1] - block)
            where = block * jnp.arange(length * blocks)[:, None] + jnp.arange(block + 1)
            more.append(jnp.moveaxis(brought, 1, 0)[where].reshape(length, blocks, block + 1, *like.shape))
        return out, push(jax.tree.map(filled, moved, is_leaf=is_zero), tuple(more))

    return segment


def is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def filled(tangent: Any) -> Any:
    return jnp.zeros(tangent.shape, tangent.dtype) if is_zero(tangent) else tangent


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
