"""tvboptim: native Heun on a sparse or dense delay graph with the named history buffer, `vmap` over sets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from measure import by_repeating, problem
from tvboptim.experimental.network_dynamics import Network, prepare
from tvboptim.experimental.network_dynamics.coupling import DelayedLinearCoupling, DelayedSigmoidalJansenRit
from tvboptim.experimental.network_dynamics.dynamics.tvb import JansenRit, MontbrioPazoRoxin
from tvboptim.experimental.network_dynamics.graph import DenseDelayGraph, SparseDelayGraph
from tvboptim.experimental.network_dynamics.noise import AdditiveNoise
from tvboptim.experimental.network_dynamics.solvers import BoundedSolver, Heun

asked = problem()
kind, strategy = asked.configuration.split()
graph = {"sparse": SparseDelayGraph, "dense": DenseDelayGraph}[kind](
    jnp.asarray(asked.weights, jnp.float32), jnp.asarray(asked.delays * asked.dt * (asked.weights != 0), jnp.float32)
)
sigma = (2 * asked.nsig) ** 0.5
if asked.model == "MPR":
    dynamics, observed = MontbrioPazoRoxin(INITIAL_STATE=(0.05, -2.0)), ("r",)
    coupling = DelayedLinearCoupling(incoming_states="r", G=asked.couplings[0], buffer_strategy=strategy)
    noise = AdditiveNoise(sigma=sigma, key=jax.random.key(0))
    solver = BoundedSolver(Heun(), low=jnp.array([[0.0], [-jnp.inf]]), high=jnp.inf)
else:
    dynamics, observed = JansenRit(v0=6.0, INITIAL_STATE=(0.1, 20.0, 15.0, 0.0, 0.0, 0.0)), ("y1", "y2")
    coupling = DelayedSigmoidalJansenRit(
        incoming_states=("y1", "y2"), G=asked.couplings[0], midpoint=6.0, buffer_strategy=strategy
    )
    noise = AdditiveNoise(sigma=sigma, apply_to="y4", key=jax.random.key(0))
    solver = Heun()
network = Network(dynamics, {"delayed": coupling}, graph, noise=noise)
solve, config = prepare(network, solver, t0=0.0, t1=1000.0 * asked.seconds, dt=asked.dt)


def mean(config: object) -> jax.Array:
    states = solve(config).ys  # (time, state, region)
    half = states[states.shape[0] // 2 :]
    return half[:, 0].mean() if observed == ("r",) else (half[:, 1] - half[:, 2]).mean()


if len(asked.couplings) == 1:
    single = jax.jit(mean)
    by_repeating(lambda: float(single(config)), asked)
else:

    def one(coupling: jax.Array, seed: jax.Array) -> jax.Array:
        mine = config.copy()
        mine.coupling = config.coupling.copy()
        mine.coupling.delayed = config.coupling.delayed.copy()
        mine.coupling.delayed.G = coupling
        mine.noise = config.noise.copy()
        mine.noise.key = jax.random.key(seed)
        return mean(mine)

    batch = jax.jit(jax.vmap(one))
    couplings, seeds = jnp.asarray(asked.couplings, jnp.float32), jnp.arange(len(asked.couplings))
    by_repeating(lambda: float(batch(couplings, seeds).mean()), asked)
