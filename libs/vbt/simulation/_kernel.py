"""One compiled stretch of simulation: time in blocks, lanes last, delays by contiguous slices of a ring.

A lane is one run. Tracts at least one block long are gathered for a whole block at once; shorter ones, zero included,
step by step from a small window. Noise is drawn a chunk at a time outside the block loop, from each lane's own key, so
a lane's numbers depend on its seed and not on its neighbours. The inner loops stay rolled: unrolling is slower here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vbt.simulation._monitors import Monitor
from vbt.simulation._neural_mass import NeuralMass, Variable, within_bounds
from vbt.simulation._stimulus import Currents

Channels = tuple[Variable, ...]


class Edges(NamedTuple):
    """In-edges padded to the same number per region; padding has weight zero."""

    source: Int[Array, "edge region"]
    delay: Int[Array, "edge region"]
    weights: tuple[Float[Array, "edge region lane"], ...]  # one per channel


class Problem(NamedTuple):
    """Everything that does not change while a batch runs."""

    mass: NeuralMass
    long_edges: Edges
    short_edges: Edges
    in_strengths: Channels
    sigma: Float[Array, "noisy region lane"]
    pulses: Currents
    keys: Array
    monitors: tuple[Monitor, ...]


class Moment(NamedTuple):
    """The state that one stretch hands to the next."""

    histories: tuple[Float[Array, "region ring lane"], ...]  # one per channel
    state: tuple[Variable, ...]
    carries: tuple[Any, ...]  # one per monitor
    step: Int[Array, ""]
    spans: Int[Array, ""]  # since the samples' clock was set
    broken_at: Int[Array, "region lane"]  # first step after which a state was not finite; −1 while sound
    last_good: tuple[Variable, ...]  # the state of each lane when last found finite


@dataclass(frozen=True)
class Schedule:
    """The compiled-in times.

    ``dt`` is in model units, ``step_ms`` the same in ms. ``block`` steps make a block, ``blocks`` blocks a chunk of
    noise, ``chunks`` chunks a span, and monitor m samples after every ``every[m]`` spans, ``slots[m]`` times a stretch
    at most.
    """

    dt: float
    step_ms: float
    block: int
    blocks: int
    chunks: int
    noisy: tuple[int, ...]
    every: tuple[int, ...]
    slots: tuple[int, ...]

    @property
    def chunk_steps(self) -> int:
        return self.block * self.blocks

    @property
    def chunk_seconds(self) -> float:
        return self.chunk_steps * self.step_ms / 1000.0


def begin(problem: Problem, state: tuple[Variable, ...], ring: int, schedule: Schedule) -> Moment:
    """The first moment: the past is the initial state held constant."""
    like = jnp.zeros_like(state[0])
    sent = problem.mass.sent(state)
    return Moment(
        histories=tuple(jnp.repeat(signal[:, None, :], ring + schedule.block, axis=1) for signal in sent),
        state=state,
        carries=tuple(monitor.begin(like) for monitor in problem.monitors),
        step=jnp.zeros((), jnp.int32),
        spans=jnp.zeros((), jnp.int32),
        broken_at=jnp.full(like.shape, -1, jnp.int32),
        last_good=state,
    )


@jax.jit
def restart_monitors(problem: Problem, moment: Moment) -> Moment:
    """Ends every monitor's period unseen and sets the samples' clock to zero."""
    carries = [m.sample(c, moment.state)[0] for m, c in zip(problem.monitors, moment.carries, strict=True)]
    return moment._replace(carries=tuple(carries), spans=jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames="schedule")
def advance(
    problem: Problem, moment: Moment, spans: Int[Array, ""], schedule: Schedule
) -> tuple[Moment, tuple[Float[Array, "slot channel lane"], ...]]:
    """Some spans of simulation: the moment at their end and every monitor's samples, those not taken left at zero."""
    first_slots = [moment.spans // every for every in schedule.every]
    buffers = []
    for monitor, carry, slots in zip(problem.monitors, moment.carries, schedule.slots, strict=True):
        shape = jax.eval_shape(monitor.sample, carry, moment.state)[1]
        buffers.append(jnp.zeros((slots, *shape.shape), shape.dtype))

    def span(_: Array, carried: tuple[Moment, tuple[Array, ...]]) -> tuple[Moment, tuple[Array, ...]]:
        now, kept = carried
        now = jax.lax.fori_loop(0, schedule.chunks, lambda _, at: _chunk(problem, schedule, at), now)
        now = now._replace(spans=now.spans + 1)
        carries, written = [], []
        for m, monitor in enumerate(problem.monitors):
            due = now.spans % schedule.every[m] == 0
            slot = now.spans // schedule.every[m] - 1 - first_slots[m]
            carry, buffer = jax.lax.cond(due, _take, _pass, monitor, now.carries[m], now.state, kept[m], slot)
            carries.append(carry)
            written.append(buffer)
        return now._replace(carries=tuple(carries)), tuple(written)

    moment, samples = jax.lax.fori_loop(0, spans, span, (moment, tuple(buffers)))
    return moment, samples


def _take(monitor: Monitor, carry: Any, state: tuple[Variable, ...], buffer: Array, slot: Array) -> tuple[Any, Array]:
    carry, values = monitor.sample(carry, state)
    return carry, jax.lax.dynamic_update_index_in_dim(buffer, values, slot, axis=0)


def _pass(monitor: Monitor, carry: Any, state: tuple[Variable, ...], buffer: Array, slot: Array) -> tuple[Any, Array]:
    del monitor, state, slot
    return carry, buffer


def _chunk(problem: Problem, schedule: Schedule, now: Moment) -> Moment:
    noise = _noise(problem, now.step // schedule.chunk_steps, schedule, now.state[0].dtype)
    now, averages = jax.lax.scan(functools.partial(_block, problem, schedule), now, noise, length=schedule.blocks)
    average = averages.mean(axis=0)
    carries = tuple(
        monitor.step(carry, average, schedule.chunk_seconds)
        for monitor, carry in zip(problem.monitors, now.carries, strict=True)
    )
    finite = functools.reduce(jnp.logical_and, [jnp.isfinite(x) for x in now.state])
    good = finite.all(axis=0)
    return now._replace(
        carries=carries,
        broken_at=jnp.where((now.broken_at < 0) & ~finite, now.step, now.broken_at),
        last_good=tuple(jnp.where(good, new, old) for new, old in zip(now.state, now.last_good, strict=True)),
    )


def _noise(problem: Problem, chunk: Array, schedule: Schedule, dtype: Any) -> Any:
    """σ dW of one chunk, ``(block, step, noisy variable, region, lane)``; None where nothing is noisy."""
    if not schedule.noisy:
        return None
    shape = (schedule.blocks, schedule.block, len(schedule.noisy), problem.sigma.shape[1])

    def draw(key: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, chunk), shape, dtype)

    drawn = jax.vmap(draw, out_axes=-1)(problem.keys) * (problem.sigma * schedule.dt**0.5)
    # Without the barrier XLA recomputes the draw inside the step loop.
    return jax.lax.optimization_barrier(drawn)  # type: ignore[no-untyped-call]


def _block(problem: Problem, schedule: Schedule, now: Moment, noise: Any) -> tuple[Moment, Variable]:
    block = schedule.block
    ring = now.histories[0].shape[1] - block
    delayed = _delayed_afferents(problem.long_edges, now, block)
    # Time t lies in column (t − 1) mod ring, so a block fills aligned columns and none of its slices wraps.
    windows = []
    for history in now.histories:
        past = jax.lax.dynamic_slice_in_dim(history, jnp.mod(now.step - block, ring), block, axis=1)
        windows.append(jnp.concatenate([past, past], axis=1))
    step = functools.partial(_step, problem, schedule)
    earlier, later = (tuple(d[cut] for d in delayed) for cut in (slice(None, -1), slice(1, None)))
    # Drawn for the block at once: step by step the waveforms would cost a fifth of the whole simulation.
    courses = problem.pulses.course(now.step + jnp.arange(block))
    inputs = (jnp.arange(block), earlier, later, noise, courses)
    (state, filled, _), activities = jax.lax.scan(step, (now.state, tuple(windows), now.step), inputs)
    column = jnp.mod(now.step, ring)
    mirror = jnp.where(column == 0, ring, column)
    histories = []
    for history, window in zip(now.histories, filled, strict=True):
        fresh = jax.lax.dynamic_slice_in_dim(window, block, block, axis=1)
        written = jax.lax.dynamic_update_slice_in_dim(history, fresh, column, axis=1)
        histories.append(jax.lax.dynamic_update_slice_in_dim(written, fresh, mirror, axis=1))
    return now._replace(histories=tuple(histories), state=state, step=now.step + block), activities.mean(axis=0)


def _delayed_afferents(edges: Edges, now: Moment, block: int) -> tuple[Float[Array, "step region lane"], ...]:
    """Per channel the input along the long edges at the block's ``block + 1`` moments."""
    regions, width, lanes = now.histories[0].shape
    ring = width - block
    totals = tuple(jnp.zeros((regions, block + 1, lanes), history.dtype) for history in now.histories)
    if edges.source.shape[0]:
        starts = jnp.mod(now.step - edges.delay - 1, ring)
        dimensions = jax.lax.GatherDimensionNumbers(
            offset_dims=(1, 2), collapsed_slice_dims=(0,), start_index_map=(0, 1)
        )

        def add(k: Array, totals: tuple[Array, ...]) -> tuple[Array, ...]:
            where = jnp.stack([edges.source[k], starts[k]], axis=-1)
            sums = []
            for history, weight, total in zip(now.histories, edges.weights, totals, strict=True):
                arriving = jax.lax.gather(
                    history,
                    where,
                    dimensions,
                    slice_sizes=(1, block + 1, lanes),
                    mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
                )
                sums.append(total + weight[k][:, None, :] * arriving)
            return tuple(sums)

        totals = jax.lax.fori_loop(0, edges.source.shape[0], add, totals)
    return tuple(jnp.moveaxis(total, 1, 0) for total in totals)


def _step(
    problem: Problem, schedule: Schedule, carry: tuple[tuple[Variable, ...], tuple[Array, ...], Array], inputs: Any
) -> tuple[tuple[tuple[Variable, ...], tuple[Array, ...], Array], Variable]:
    """One stochastic Heun step; both stages see the afferents of their own moment."""
    state, windows, step = carry
    index, delayed_now, delayed_next, noise, course = inputs
    mass, block, edges = problem.mass, schedule.block, problem.short_edges
    current = problem.pulses.applied(course)
    kicks: list[Any] = [0.0] * len(state)
    for position, variable in enumerate(schedule.noisy):
        kicks[variable] = noise[position]

    def slope(at: tuple[Variable, ...], delayed: Channels, column: Array) -> tuple[Variable, ...]:
        afferents = tuple(d + s for d, s in zip(delayed, _short_afferents(edges, windows, column), strict=True))
        return mass.derivative(at, afferents, problem.in_strengths, current)

    def write(at: tuple[Variable, ...]) -> tuple[Array, ...]:
        return tuple(
            jax.lax.dynamic_update_slice_in_dim(window, signal[:, None, :], block + index, axis=1)
            for window, signal in zip(windows, mass.sent(at), strict=True)
        )

    first = slope(state, delayed_now, block - 1 + index)
    predicted = within_bounds(mass, tuple(x + schedule.dt * d + k for x, d, k in zip(state, first, kicks, strict=True)))
    if edges.source.shape[0]:
        windows = write(predicted)
    second = slope(predicted, delayed_next, block + index)
    state = within_bounds(
        mass,
        tuple(x + 0.5 * schedule.dt * (a + b) + k for x, a, b, k in zip(state, first, second, kicks, strict=True)),
    )
    return (state, write(state), step + 1), mass.activity(state)


def _short_afferents(
    edges: Edges, windows: tuple[Float[Array, "region step lane"], ...], column: Array
) -> tuple[Any, ...]:
    """Per channel the input along edges shorter than a block at the moment that lies in ``column`` of the window."""
    if not edges.source.shape[0]:
        return (0.0,) * len(windows)
    return tuple(
        (weight * window.at[edges.source, column - edges.delay].get(mode="promise_in_bounds")).sum(axis=0)
        for window, weight in zip(windows, edges.weights, strict=True)
    )
