"""A simulation as a pure function of parameters, weights, noise and initial state, to be differentiated.

On a CPU the function is machine code, and so is its gradient, which is why it costs three forward runs and not the five
that XLA takes. Either way memory grows with the square root of simulated time.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._kernel import Edges, Integrator, Problem, begin
from vbt.simulation._lowering import CannotLower
from vbt.simulation._machine_derivative import Inputs as Inputs
from vbt.simulation._machine_derivative import in_machine_code
from vbt.simulation._monitors import Monitor
from vbt.simulation._network import Network
from vbt.simulation._segments import Activity, checkpointed, segment_lengths
from vbt.simulation._simulate import alike, checked_timing, engine_of, schedule_of
from vbt.simulation._stepped import assemble


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

    The function gives every monitor's samples, as `simulate` does, for any inputs of the same shape, under `jax.grad`,
    `jax.jvp`, `jax.vmap` and `jax.jit`. The noise is part of the function: the same for all inputs. On a CPU runs and
    gradients are machine code (`_reverse`); forward mode and everything elsewhere is the JAX kernel (`_segments`).

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

    total = timing.dropped + timing.kept
    # Nobody looks at the state more often.
    common = math.gcd(timing.dropped, total, *timing.every)

    def traced(inputs: Inputs) -> Activity:
        posed = _posed(problem, inputs)
        means, ends = checkpointed(
            posed, schedule, begin(posed, inputs.initial, ring, schedule), segment_lengths(total)
        )
        return means, ends[common - 1 :: common]

    integrate: Callable[[Inputs], Activity] = traced
    if engine_of(networks, timing, integrator, precision) == "native":
        with contextlib.suppress(CannotLower):  # a derivative may need more operations than the mass
            integrate = in_machine_code(networks, seeds, timing, common, inputs, traced)

    def run(inputs: Inputs) -> tuple[Float[Array, "time channel lane"], ...]:
        means, ends = integrate(inputs)
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


def _sampled(
    monitor: Monitor, means: Array, ends: Array, dropped: int, every: int, seconds: float
) -> Float[Array, "time channel lane"]:
    """One monitor's samples of the chunks after the dropped ones; the states are those after every some chunks."""
    stride = len(means) // len(ends)

    def look(carry: Any, mean: Array) -> tuple[Any, None]:
        return monitor.step(carry, mean, seconds), None

    @jax.checkpoint
    def period(carry: Any, seen: tuple[Array, Array]) -> tuple[Any, Array]:
        carry, _ = jax.lax.scan(look, carry, seen[0])
        return monitor.sample(carry, tuple(seen[1]))

    carry = monitor.begin(jnp.zeros_like(means[0]))
    if dropped:
        carry, _ = jax.lax.scan(look, carry, means[:dropped])
        carry, _ = monitor.sample(carry, tuple(ends[dropped // stride - 1]))
    samples = (len(means) - dropped) // every
    kept = means[dropped : dropped + samples * every]
    last = ends[dropped // stride :][every // stride - 1 :: every // stride][:samples]
    values: Array
    _, values = jax.lax.scan(period, carry, (kept.reshape(samples, every, *kept.shape[1:]), last))
    return values
