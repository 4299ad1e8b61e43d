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

from vbt.simulation._bold import BalloonWindkessel, Haemodynamics
from vbt.simulation._neural_mass import NeuralMass, Variable, within_bounds

BLOCK = 8


class Edges(NamedTuple):
    """In-edges padded to the same number per region; padding has weight zero."""

    source: Int[Array, "edge region"]
    delay: Int[Array, "edge region"]
    weight: Float[Array, "edge region lane"]


class Pulses(NamedTuple):
    """Currents as a gate in time steps times an amplitude per region."""

    amplitude: Float[Array, "region lane"]
    onset: Int[Array, " lane"]
    offset: Int[Array, " lane"]
    period: Int[Array, " lane"]
    width: Int[Array, " lane"]

    def current(self, step: Int[Array, ""]) -> Float[Array, "region lane"]:
        since = step - self.onset
        on = (since >= 0) & (step < self.offset) & (jnp.mod(since, self.period) < self.width)
        return jnp.where(on, self.amplitude, 0.0)


class Problem(NamedTuple):
    """Everything that does not change while a batch runs."""

    mass: NeuralMass
    balloon: BalloonWindkessel
    long_edges: Edges
    short_edges: Edges
    in_strength: Float[Array, "region lane"]
    sigma: Float[Array, "noisy region lane"]
    pulses: Pulses
    keys: Array


class Moment(NamedTuple):
    """The state that one stretch hands to the next."""

    history: Float[Array, "region ring lane"]
    state: tuple[Variable, ...]
    haemodynamics: Haemodynamics
    step: Int[Array, ""]
    broken_at: Int[Array, "region lane"]  # first step after which activity or blood flow was not finite; −1 while sound


@dataclass(frozen=True)
class Schedule:
    """The compiled-in times: ``dt`` in model units, ``chunk_seconds`` per haemodynamic step, counts of each loop."""

    dt: float
    chunk_seconds: float
    blocks: int
    chunks: int
    noisy: tuple[int, ...]


def begin(mass: NeuralMass, balloon: BalloonWindkessel, state: tuple[Variable, ...], ring: int) -> Moment:
    """The first moment: the past is the initial state held constant."""
    coupled = state[mass.coupling_variable]
    return Moment(
        history=jnp.repeat(coupled[:, None, :], ring + BLOCK, axis=1),
        state=state,
        haemodynamics=balloon.rest(coupled),
        step=jnp.zeros((), jnp.int32),
        broken_at=jnp.full(coupled.shape, -1, jnp.int32),
    )


@functools.partial(jax.jit, static_argnames="schedule")
def advance(problem: Problem, moment: Moment, schedule: Schedule) -> tuple[Moment, tuple[Variable, Variable]]:
    """One sampling period: the moment at its end, the activity averaged over it and the BOLD signal at its end."""
    first_chunk = moment.step // (schedule.blocks * BLOCK)

    def chunk(carry: tuple[Moment, Variable], index: Array) -> tuple[tuple[Moment, Variable], None]:
        now, total = carry
        noise = _noise(problem, first_chunk + index, schedule, total.dtype)
        now, averages = jax.lax.scan(functools.partial(_block, problem, schedule), now, noise, length=schedule.blocks)
        average = averages.mean(axis=0)
        haemodynamics = problem.balloon.step(now.haemodynamics, average, schedule.chunk_seconds)
        broken = (now.broken_at < 0) & ~(jnp.isfinite(average) & jnp.isfinite(haemodynamics[3]))
        now = now._replace(
            haemodynamics=haemodynamics,
            broken_at=jnp.where(broken, now.step, now.broken_at),
        )
        return (now, total + average), None

    (moment, total), _ = jax.lax.scan(chunk, (moment, jnp.zeros_like(moment.state[0])), jnp.arange(schedule.chunks))
    return moment, (total / schedule.chunks, problem.balloon.signal(moment.haemodynamics))


def _noise(problem: Problem, chunk: Array, schedule: Schedule, dtype: Any) -> Any:
    """σ dW of one chunk, ``(block, step, noisy variable, region, lane)``; None where nothing is noisy."""
    if not schedule.noisy:
        return None
    shape = (schedule.blocks, BLOCK, len(schedule.noisy), problem.sigma.shape[1])

    def draw(key: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, chunk), shape, dtype)

    drawn = jax.vmap(draw, out_axes=-1)(problem.keys) * (problem.sigma * schedule.dt**0.5)
    # Without the barrier XLA recomputes the draw inside the step loop.
    return jax.lax.optimization_barrier(drawn)  # type: ignore[no-untyped-call]


def _block(problem: Problem, schedule: Schedule, now: Moment, noise: Any) -> tuple[Moment, Variable]:
    ring = now.history.shape[1] - BLOCK
    delayed = _delayed_afferents(problem.long_edges, now)
    # Time t lies in column (t − 1) mod ring, so a block fills aligned columns and none of its slices wraps.
    past = jax.lax.dynamic_slice_in_dim(now.history, jnp.mod(now.step - BLOCK, ring), BLOCK, axis=1)
    window = jnp.concatenate([past, past], axis=1)
    step = functools.partial(_step, problem, schedule)
    inputs = (jnp.arange(BLOCK), delayed[:-1], delayed[1:], noise)
    (state, window, _), activities = jax.lax.scan(step, (now.state, window, now.step), inputs)
    fresh = jax.lax.dynamic_slice_in_dim(window, BLOCK, BLOCK, axis=1)
    column = jnp.mod(now.step, ring)
    history = jax.lax.dynamic_update_slice_in_dim(now.history, fresh, column, axis=1)
    mirror = jnp.where(column == 0, ring, column)
    history = jax.lax.dynamic_update_slice_in_dim(history, fresh, mirror, axis=1)
    return now._replace(history=history, state=state, step=now.step + BLOCK), activities.mean(axis=0)


def _delayed_afferents(edges: Edges, now: Moment) -> Float[Array, "step region lane"]:
    """Input along the long edges at the block's ``BLOCK + 1`` moments."""
    regions, ring, lanes = now.history.shape[0], now.history.shape[1] - BLOCK, now.history.shape[2]
    total = jnp.zeros((regions, BLOCK + 1, lanes), now.history.dtype)
    if not edges.source.shape[0]:
        return jnp.moveaxis(total, 1, 0)
    starts = jnp.mod(now.step - edges.delay - 1, ring)
    dimensions = jax.lax.GatherDimensionNumbers(offset_dims=(1, 2), collapsed_slice_dims=(0,), start_index_map=(0, 1))

    def add(k: Array, total: Array) -> Array:
        where = jnp.stack([edges.source[k], starts[k]], axis=-1)
        arriving = jax.lax.gather(
            now.history,
            where,
            dimensions,
            slice_sizes=(1, BLOCK + 1, lanes),
            mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )
        return total + edges.weight[k][:, None, :] * arriving

    total = jax.lax.fori_loop(0, edges.source.shape[0], add, total)
    return jnp.moveaxis(total, 1, 0)


def _step(
    problem: Problem, schedule: Schedule, carry: tuple[tuple[Variable, ...], Array, Array], inputs: Any
) -> tuple[tuple[tuple[Variable, ...], Array, Array], Variable]:
    """One stochastic Heun step; both stages see the afferents of their own moment."""
    state, window, step = carry
    index, delayed_now, delayed_next, noise = inputs
    mass, coupled = problem.mass, problem.mass.coupling_variable
    current = problem.pulses.current(step)
    kicks: list[Any] = [0.0] * len(state)
    for position, variable in enumerate(schedule.noisy):
        kicks[variable] = noise[position]

    def slope(at: tuple[Variable, ...], afferent: Variable) -> tuple[Variable, ...]:
        return mass.derivative(at, afferent, problem.in_strength, current)

    def write(value: Variable) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(window, value[:, None, :], BLOCK + index, axis=1)

    first = slope(state, delayed_now + _short_afferents(problem.short_edges, window, BLOCK - 1 + index))
    predicted = within_bounds(mass, tuple(x + schedule.dt * d + k for x, d, k in zip(state, first, kicks, strict=True)))
    if problem.short_edges.source.shape[0]:
        window = write(predicted[coupled])
    second = slope(predicted, delayed_next + _short_afferents(problem.short_edges, window, BLOCK + index))
    state = within_bounds(
        mass,
        tuple(x + 0.5 * schedule.dt * (a + b) + k for x, a, b, k in zip(state, first, second, kicks, strict=True)),
    )
    return (state, write(state[coupled]), step + 1), mass.activity(state)


def _short_afferents(edges: Edges, window: Float[Array, "region step lane"], column: Array) -> Any:
    """Input along edges shorter than a block at the moment that lies in ``column`` of the window."""
    if not edges.source.shape[0]:
        return 0.0
    arriving = window.at[edges.source, column - edges.delay].get(mode="promise_in_bounds")
    return (edges.weight * arriving).sum(axis=0)
