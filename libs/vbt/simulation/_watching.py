"""Monitors look at a stretch of simulation chunk by chunk."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vbt.simulation._monitors import Monitor
from vbt.simulation._neural_mass import Variable


class Watch(NamedTuple):
    """What the monitors carry, and how many chunks they have seen since the samples' clock was set."""

    carries: tuple[Any, ...]
    chunks: Int[Array, ""]


def begin_watch(monitors: tuple[Monitor, ...], like: Variable) -> Watch:
    return Watch(tuple(monitor.begin(like) for monitor in monitors), jnp.zeros((), jnp.int32))


@jax.jit
def restart(monitors: tuple[Monitor, ...], watch: Watch, state: tuple[Variable, ...]) -> Watch:
    """Ends every monitor's period unseen and sets the samples' clock to zero."""
    carries = [m.sample(c, state)[0] for m, c in zip(monitors, watch.carries, strict=True)]
    return Watch(tuple(carries), jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames=("every", "seconds"))
def observe(
    monitors: tuple[Monitor, ...],
    watch: Watch,
    means: Float[Array, "chunk region lane"],
    ends: Float[Array, "chunk variable region lane"],
    chunks: Int[Array, ""],
    every: tuple[int, ...],
    seconds: float,
) -> tuple[Watch, tuple[Float[Array, "slot channel lane"], ...]]:
    """The first ``chunks`` chunks seen: what the monitors carry then, and the samples they took, the rest zero.

    Parameters
    ----------
    means, ends : mean activity of each chunk, and the state at its end
    every : chunks between the samples of each monitor
    seconds : length of a chunk
    """
    first = [watch.chunks // n for n in every]
    buffers = []
    for monitor, carry, n in zip(monitors, watch.carries, every, strict=True):
        shape = jax.eval_shape(monitor.sample, carry, tuple(ends[0]))[1]
        buffers.append(jnp.zeros((-(-means.shape[0] // n), *shape.shape), shape.dtype))

    def look(index: Array, carried: tuple[Watch, tuple[Array, ...]]) -> tuple[Watch, tuple[Array, ...]]:
        seen, kept = carried
        mean = jax.lax.dynamic_index_in_dim(means, index, keepdims=False)
        state = tuple(jax.lax.dynamic_index_in_dim(ends, index, keepdims=False))
        count = seen.chunks + 1
        carries, written = [], []
        for m, monitor in enumerate(monitors):
            carry = monitor.step(seen.carries[m], mean, seconds)
            slot = count // every[m] - 1 - first[m]
            carry, buffer = jax.lax.cond(count % every[m] == 0, _take, _pass, monitor, carry, state, kept[m], slot)
            carries.append(carry)
            written.append(buffer)
        return Watch(tuple(carries), count), tuple(written)

    watch, samples = jax.lax.fori_loop(0, chunks, look, (watch, tuple(buffers)))
    return watch, samples


def _take(monitor: Monitor, carry: Any, state: tuple[Variable, ...], buffer: Array, slot: Array) -> tuple[Any, Array]:
    carry, values = monitor.sample(carry, state)
    return carry, jax.lax.dynamic_update_index_in_dim(buffer, values, slot, axis=0)


def _pass(monitor: Monitor, carry: Any, state: tuple[Variable, ...], buffer: Array, slot: Array) -> tuple[Any, Array]:
    del monitor, state, slot
    return carry, buffer
