"""vbjax: `make_sdde` with `delay_apply`, noise drawn into the buffer as its documentation shows, `vmap` over sets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import vbjax
from measure import by_repeating, problem

asked = problem()
# Half a step off the edge, so that its rounding down gives everybody's delays.
helper = vbjax.make_delay_helper(
    jnp.asarray(asked.weights, jnp.float32), jnp.asarray(asked.delays + 0.5), dt=1.0, v_c=1.0
)
horizon, steps = int(helper.max_lag), round(1000 * asked.seconds / asked.dt)


def slope(past: jax.Array, state: jax.Array, now: int, coupling: jax.Array) -> jax.Array:
    return vbjax.mpr_dfun(state, coupling * vbjax.delay_apply(helper, now, past), vbjax.mpr_default_theta)


sigma = (2 * asked.nsig) ** 0.5
_, loop = vbjax.make_sdde(asked.dt, horizon, slope, sigma, adhoc=vbjax.mpr_r_positive)
initial = jnp.array([0.05, -2.0])[None, :, None] * jnp.ones((horizon + 1, 1, asked.regions))


def mean(coupling: jax.Array, seed: jax.Array) -> jax.Array:
    noise = jax.random.normal(jax.random.PRNGKey(seed), (steps, 2, asked.regions))
    _, states = loop(jnp.concatenate([initial, noise]), coupling)
    return states[steps // 2 :, 0].mean()


couplings, seeds = jnp.asarray(asked.couplings, jnp.float32), jnp.arange(len(asked.couplings))
if len(asked.couplings) == 1:
    single = jax.jit(mean)
    by_repeating(lambda: float(single(couplings[0], seeds[0])), asked)
else:
    batch = jax.jit(jax.vmap(mean))
    by_repeating(lambda: float(batch(couplings, seeds).mean()), asked)
