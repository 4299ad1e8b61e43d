"""Ours: what a reverse-mode gradient costs in time, over a forward run, and how its memory grows with the steps."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
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


def compiled(seconds: float) -> tuple[Any, Any, Any, Any]:
    """Forward run, gradient by mass, noise and initial state, the same and by weights, all compiled; and the inputs."""
    run, inputs = differentiable([network], [0], duration=seconds, monitors=[TemporalAverage(0.1)], dt=asked.dt)

    def loss(inputs: Any) -> jax.Array:
        return jnp.mean(run(inputs)[0] ** 2)

    def loss_without_weights(inputs: Any) -> jax.Array:
        return loss(inputs._replace(weights=jax.lax.stop_gradient(inputs.weights)))

    functions = loss, jax.grad(loss_without_weights), jax.grad(loss)
    return (*(jax.jit(function).lower(inputs).compile() for function in functions), inputs)


def seconds_of(function: Any, inputs: Any) -> float:
    taken = []
    for _ in range(3):
        started = time.process_time()
        jax.block_until_ready(function(inputs))
        taken.append(time.process_time() - started)
    return min(taken)


started = time.process_time()
forward, backward, by_weights, inputs = compiled(asked.seconds)
compiling = time.process_time() - started
four_times = compiled(4 * asked.seconds)[1]
once = seconds_of(forward, inputs)
report(
    rate=asked.seconds / once,
    compile_seconds=compiling,
    mean=float(forward(inputs)) ** 0.5,
    gradient_over_forward=round(seconds_of(backward, inputs) / once, 2),
    with_weights=round(seconds_of(by_weights, inputs) / once, 2),
    gradient_memory_mib=round(backward.memory_analysis().temp_size_in_bytes / 2**20, 2),
    memory_of_four_times_the_steps=round(
        four_times.memory_analysis().temp_size_in_bytes / backward.memory_analysis().temp_size_in_bytes, 2
    ),
)
