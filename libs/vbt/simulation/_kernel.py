"""One compiled stretch of simulation in JAX: time in blocks, lanes last, delays by contiguous slices of a ring.

A lane is one run. Tracts at least one block long are gathered for a whole block at once, shorter ones step by step from
a small window, instant ones from the state itself. Noise is drawn a chunk at a time outside the block loop and depends
on nothing but a lane's seed and the step (`_noise`). The inner loops stay rolled: unrolling is slower here.

This form runs on any device and has derivatives of both modes; on a CPU `_native` and `_adjoint` run the same scheme
faster.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vbt.simulation._neural_mass import NeuralMass, Variable, within_bounds
from vbt.simulation._noise import complex_normals
from vbt.simulation._stimulus import Currents

Integrator = Literal["heun", "rk4"]
State = tuple[Variable, ...]
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
    instant_edges: Edges
    in_strengths: Channels
    sigma: Float[Array, "noisy region lane"]
    currents: Currents
    keys: Array


class Moment(NamedTuple):
    """The state that one stretch hands to the next."""

    histories: tuple[Float[Array, "region ring lane"], ...]  # one per channel
    state: State
    step: Int[Array, ""]


@dataclass(frozen=True)
class Schedule:
    """What is compiled in: ``dt`` in model units, ``block`` steps a block, ``blocks`` blocks a chunk."""

    dt: float
    block: int
    blocks: int
    noisy: tuple[int, ...]
    integrator: Integrator = "heun"

    @property
    def chunk_steps(self) -> int:
        return self.block * self.blocks


def begin(problem: Problem, state: State, ring: int, schedule: Schedule) -> Moment:
    """The first moment: the past is the initial state held constant."""
    sent = problem.mass.sent(state)
    return Moment(
        histories=tuple(jnp.repeat(signal[:, None, :], ring + schedule.block, axis=1) for signal in sent),
        state=state,
        step=jnp.zeros((), jnp.int32),
    )


@functools.cache
def stretch(platform: str) -> Callable[..., Any]:
    """`_stretch` compiled for a platform."""
    # Noise is half of the work and twice as fast in full vectors.
    options = {"xla_cpu_prefer_vector_width": "512"} if platform == "cpu" else None
    return jax.jit(_stretch, static_argnames=("capacity", "schedule"), compiler_options=options)


def _stretch(
    problem: Problem, moment: Moment, chunks: Int[Array, ""], capacity: int, schedule: Schedule
) -> tuple[Moment, Float[Array, "chunk region lane"], Float[Array, "chunk variable region lane"]]:
    """Some chunks: the moment at their end, the mean activity of each and the state at the end of each."""
    like = moment.state[0]
    means = jnp.zeros((capacity, *like.shape), like.dtype)
    ends = jnp.zeros((capacity, len(moment.state), *like.shape), like.dtype)

    def one(index: Array, carried: tuple[Moment, Array, Array]) -> tuple[Moment, Array, Array]:
        now, means, ends = carried
        now, mean, _ = chunk(problem, schedule, now)
        means = jax.lax.dynamic_update_index_in_dim(means, mean, index, axis=0)
        return now, means, jax.lax.dynamic_update_index_in_dim(ends, jnp.stack(now.state), index, axis=0)

    moment, means, ends = jax.lax.fori_loop(0, chunks, one, (moment, means, ends))
    return moment, means, ends


def chunk(
    problem: Problem, schedule: Schedule, now: Moment, more: Channels | None = None
) -> tuple[Moment, Variable, Channels]:
    """One chunk: the moment at its end, the mean activity, and per channel what every step of every block sent.

    ``more`` is added to the input along long edges, per channel ``(block, step, region, lane)`` of one step more than
    a block has.
    """
    noise = _noise(problem, now.step, schedule, now.state[0].dtype)
    block = functools.partial(_block, problem, schedule)
    now, (averages, sent) = jax.lax.scan(block, now, (noise, more), length=schedule.blocks)
    return now, averages.mean(axis=0), sent


def _noise(problem: Problem, first: Array, schedule: Schedule, dtype: Any) -> Any:
    """Normal numbers of one chunk, ``(block, step, noisy variable, region, lane)``; None where nothing is noisy."""
    if not schedule.noisy:
        return None
    steps = schedule.chunk_steps
    aligned = steps % 2 == 0  # then every chunk begins with an even step
    pairs = steps // 2 if aligned else steps // 2 + 1
    drawn = complex_normals(problem.keys, first // 2, pairs, dtype)
    normal = jnp.stack([drawn.real, drawn.imag], axis=1).reshape(2 * pairs, *drawn.shape[1:])
    if not aligned:
        normal = jax.lax.dynamic_slice_in_dim(normal, first % 2, steps, axis=0)
    return normal.reshape(schedule.blocks, schedule.block, *normal.shape[1:])


def _block(
    problem: Problem, schedule: Schedule, now: Moment, inputs: tuple[Any, Channels | None]
) -> tuple[Moment, tuple[Variable, Channels]]:
    """One block: the moment at its end; its mean activity and what it sent."""
    block = schedule.block
    noise, more = inputs
    ring = now.histories[0].shape[1] - block
    past_signals, delayed = _delayed_afferents(problem.long_edges, now.histories, now.step, block)
    now = now._replace(histories=past_signals)
    if more is not None:
        delayed = tuple(a + b for a, b in zip(delayed, more, strict=True))
    # Time t lies in column (t − 1) mod ring, so a block fills aligned columns and none of its slices wraps.
    windows = []
    for history in now.histories if problem.short_edges.source.shape[0] else ():
        past = jax.lax.dynamic_slice_in_dim(history, jnp.mod(now.step - block, ring), block, axis=1)
        windows.append(jnp.concatenate([past, past], axis=1))
    earlier, later = (tuple(d[cut] for d in delayed) for cut in (slice(None, -1), slice(1, None)))
    # Drawn for the block at once: step by step the waveforms would cost a fifth of the whole simulation.
    courses = problem.currents.course(now.step + jnp.arange(block))
    seen = (jnp.arange(block), earlier, later, noise, courses)
    # On the way back a step is computed again from its state: cheaper than keeping every number of it.
    step = jax.checkpoint(functools.partial(_step, problem, schedule), prevent_cse=False)
    (state, _), (activities, sent) = jax.lax.scan(step, (now.state, tuple(windows)), seen)
    column = jnp.mod(now.step, ring)
    mirror = jnp.where(column == 0, ring, column)
    histories = []
    for history, signal in zip(now.histories, sent, strict=True):
        fresh = jnp.moveaxis(signal, 0, 1)
        written = jax.lax.dynamic_update_slice_in_dim(history, fresh, column, axis=1)
        histories.append(jax.lax.dynamic_update_slice_in_dim(written, fresh, mirror, axis=1))
    moment = Moment(histories=tuple(histories), state=state, step=now.step + block)
    return moment, (activities.mean(axis=0), sent)


def _delayed_afferents(
    edges: Edges, histories: Channels, step: Array, block: int
) -> tuple[Channels, tuple[Float[Array, "step region lane"], ...]]:
    """The histories as they are, and per channel the input along the long edges at the block's ``block + 1`` moments.

    It is linear in the histories, and on the way back adds to their cotangent in place: JAX's own derivative would fill
    a whole history with zeros for every edge. By the weights the derivative is `differentiable`'s, for many blocks.
    """
    if not edges.source.shape[0]:
        regions, _, lanes = histories[0].shape
        return histories, tuple(jnp.zeros((block + 1, regions, lanes), history.dtype) for history in histories)
    starts = jnp.mod(step - edges.delay - 1, histories[0].shape[1] - block)

    def forward(fixed: tuple[Array, Array, Array], history: Array) -> tuple[Array, Array]:
        weights, sources, starts = fixed
        return history, gathered(history, weights, sources, starts, block + 1)

    passed, delayed = [], []
    for history, weights in zip(histories, edges.weights, strict=True):
        same, arriving = jax.custom_derivatives.linear_call(
            forward, _returned, (weights, edges.source, starts), history
        )
        passed.append(same)
        delayed.append(jnp.moveaxis(arriving, 1, 0))
    return tuple(passed), tuple(delayed)


def gathered(
    history: Float[Array, "region time lane"],
    weights: Float[Array, "edge region lane"],
    sources: Int[Array, "edge region"],
    starts: Int[Array, "edge region"],
    length: int,
) -> Float[Array, "region step lane"]:
    """Σ over a region's edges of weight times a slice of its source's history."""
    regions, _, lanes = history.shape
    rows = history.reshape(regions, -1)

    def add(total: Array, edge: tuple[Array, Array, Array]) -> tuple[Array, None]:
        source, start, weight = edge
        arriving = slices(rows, source, lanes * start, lanes * length).reshape(total.shape)
        return total + weight[:, None, :] * arriving, None

    total: Array
    total, _ = jax.lax.scan(add, jnp.zeros((regions, length, lanes), history.dtype), (sources, starts, weights))
    return total


def slices(
    rows: Float[Array, "row number"], chosen: Int[Array, " edge"], starts: Int[Array, " edge"], length: int
) -> Float[Array, "edge length"]:
    """Per edge a slice of a row. Of rows and not of larger slices: XLA's gathers and scatters are faster so."""
    return jax.lax.gather(
        rows,
        jnp.stack([chosen, starts], axis=-1),
        jax.lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0, 1)),
        slice_sizes=(1, length),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def _returned(
    fixed: tuple[Float[Array, "edge region lane"], Int[Array, "edge region"], Int[Array, "edge region"]],
    cotangents: tuple[Float[Array, "region ring lane"], Float[Array, "region step lane"]],
) -> Float[Array, "region ring lane"]:
    """The transpose of `gathered`: what arrived goes back to where it came from, in place."""
    weights, sources, starts = fixed
    history, arrived = cotangents
    regions, _, lanes = history.shape
    dimensions = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0, 1)
    )

    def add(rows: Array, edge: tuple[Array, Array, Array]) -> tuple[Array, None]:
        source, start, weight = edge
        where = jnp.stack([source, lanes * start], axis=-1)
        update = (weight[:, None, :] * arrived).reshape(regions, -1)
        mode = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
        return jax.lax.scatter_add(rows, where, update, dimensions, mode=mode), None

    rows: Array
    rows, _ = jax.lax.scan(add, history.reshape(regions, -1), (sources, starts, weights))
    return rows.reshape(history.shape)


def _step(
    problem: Problem, schedule: Schedule, carry: tuple[State, tuple[Array, ...]], inputs: Any
) -> tuple[tuple[State, tuple[Array, ...]], tuple[Variable, Channels]]:
    """One step. Every stage sees the input of its own moment: instant tracts carry the stage's own state."""
    state, windows = carry
    index, delayed_now, delayed_next, noise, course = inputs
    mass, block = problem.mass, schedule.block
    current = problem.currents.applied(course)
    kicks: list[Any] = [0.0] * len(state)
    for position, variable in enumerate(schedule.noisy):
        kicks[variable] = noise[position] * (problem.sigma[position] * schedule.dt**0.5)
    now, later = (
        _with_short(delayed, problem.short_edges, windows, column)
        for delayed, column in ((delayed_now, block - 1 + index), (delayed_next, block + index))
    )

    def slope(at: State, arriving: Channels) -> State:
        instant = _instant_afferents(problem.instant_edges, mass.sent(at))
        afferents = tuple(a + b for a, b in zip(arriving, instant, strict=True))
        return mass.derivative(at, afferents, problem.in_strengths, current)

    advance = _heun if schedule.integrator == "heun" else _runge_kutta
    state = advance(slope, state, now, later, schedule.dt, kicks, functools.partial(within_bounds, mass))
    sent = mass.sent(state)
    windows = tuple(
        jax.lax.dynamic_update_slice_in_dim(window, signal[:, None, :], block + index, axis=1)
        for window, signal in zip(windows, sent, strict=False)  # no windows where nothing looks back within a block
    )
    return (state, windows), (mass.activity(state), sent)


def _heun(slope: Any, state: State, now: Channels, later: Channels, dt: float, kicks: Any, hold: Any) -> State:
    """Stochastic Heun with additive noise; without noise, the trapezoidal predictor-corrector of second order."""
    first = slope(state, now)
    predicted = hold(tuple(x + dt * d + k for x, d, k in zip(state, first, kicks, strict=True)))
    second = slope(predicted, later)
    held: State = hold(
        tuple(x + 0.5 * dt * (a + b) + k for x, a, b, k in zip(state, first, second, kicks, strict=True))
    )
    return held


def _runge_kutta(slope: Any, state: State, now: Channels, later: Channels, dt: float, kicks: Any, hold: Any) -> State:
    """The classical method of fourth order; what delayed tracts bring at half a step is the mean of its ends."""
    del kicks
    half = tuple(0.5 * (a + b) for a, b in zip(now, later, strict=True))

    def moved(slopes: State, by: float) -> State:
        held: State = hold(tuple(x + by * d for x, d in zip(state, slopes, strict=True)))
        return held

    first = slope(state, now)
    second = slope(moved(first, 0.5 * dt), half)
    third = slope(moved(second, 0.5 * dt), half)
    fourth = slope(moved(third, dt), later)
    weighted = tuple((a + 2.0 * (b + c) + d) / 6.0 for a, b, c, d in zip(first, second, third, fourth, strict=True))
    return moved(weighted, dt)


def _with_short(
    delayed: Channels, edges: Edges, windows: tuple[Float[Array, "region step lane"], ...], column: Array
) -> Channels:
    """Per channel also the input along edges shorter than a block, at the moment in ``column`` of the window."""
    if not windows:
        return delayed
    return tuple(
        total + (weight * window.at[edges.source, column - edges.delay].get(mode="promise_in_bounds")).sum(axis=0)
        for total, window, weight in zip(delayed, windows, edges.weights, strict=True)
    )


def _instant_afferents(edges: Edges, sent: Channels) -> tuple[Any, ...]:
    """Per channel the input along edges without delay."""
    if not edges.source.shape[0]:
        return (0.0,) * len(sent)
    return tuple(
        (weight * signal.at[edges.source].get(mode="promise_in_bounds")).sum(axis=0)
        for signal, weight in zip(sent, edges.weights, strict=True)
    )
