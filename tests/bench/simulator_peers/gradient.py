"""Ours: what a reverse-mode gradient costs in time, over a forward run, and how its memory grows with the steps."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import problem, report

from vbt.simulation import MontbrioPazoRoxin, Network, TemporalAverage, differentiable

asked = problem()
sigma = (2 * asked.nsig) ** 0.5
network = Network(
    mass=MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-5.0, milliseconds_per_unit=1.0),
    weights=asked.weights,
    tract_lengths=asked.lengths,
    velocity=asked.velocity,
    coupling=asked.couplings[0],
    sigma=(sigma, sigma),
)


def compiled(seconds: float) -> tuple[Any, Any, Any, Any, int]:
    """Forward run, gradient by mass, noise and initial state, the same and by weights; inputs; bytes of arrays."""
    tracemalloc.start()
    run, inputs = differentiable([network], [0], duration=seconds, monitors=[TemporalAverage(0.1)], dt=asked.dt)
    arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    tracemalloc.stop()

    def loss(inputs: Any) -> jax.Array:
        return jnp.mean(run(inputs)[0] ** 2)

    def loss_without_weights(inputs: Any) -> jax.Array:
        return loss(inputs._replace(weights=jax.lax.stop_gradient(inputs.weights)))

    functions = loss, jax.grad(loss_without_weights), jax.grad(loss)
    return (*(jax.jit(function).lower(inputs).compile() for function in functions), inputs, _bytes(arrays))


def _bytes(arrays: tracemalloc.Snapshot) -> int:
    return sum(statistic.size for statistic in arrays.statistics("lineno"))


def bytes_of(function: Any, inputs: Any, kept: int) -> int:
    """XLA's memory of a function, and NumPy's: what is kept for it, and what a call takes."""
    jax.block_until_ready(function(inputs))
    tracemalloc.start()
    jax.block_until_ready(function(inputs))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return int(function.memory_analysis().temp_size_in_bytes) + kept + peak


def seconds_of(functions: tuple[Any, ...], inputs: Any) -> list[float]:
    """The least of many for each, in turns: what disturbs one disturbs all."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(15):
        for times, function in zip(taken, functions, strict=True):
            started = time.process_time()
            jax.block_until_ready(function(inputs))
            times.append(time.process_time() - started)
    return [min(times) for times in taken]


started = time.process_time()
forward, backward, by_weights, inputs, kept = compiled(asked.seconds)
compiling = time.process_time() - started
_, four_times, _, same, kept_for_four = compiled(4 * asked.seconds)
once, without, everything = seconds_of((forward, backward, by_weights), inputs)
memory = bytes_of(backward, inputs, kept)
report(
    rate=asked.seconds / once,
    compile_seconds=compiling,
    mean=float(forward(inputs)) ** 0.5,
    gradient_over_forward=round(without / once, 2),
    with_weights=round(everything / once, 2),
    gradient_memory_mib=round(memory / 2**20, 2),
    memory_of_four_times_the_steps=round(bytes_of(four_times, same, kept_for_four) / memory, 2),
)
