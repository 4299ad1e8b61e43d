"""The posterior of a seizure as a NumPyro model, compiled once for recordings of one shape."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array

from vbt.inference._nuts import Posterior
from vbt.inference._seizure_gradient import log_likelihood_of
from vbt.inference._seizure_model import PER_REGION, SITES, ObservedSeizure, parameters


def seizure(observed: ObservedSeizure) -> None:
    """NumPyro model: priors, the network's deterministic activity, and the likelihood of the log power."""
    regions = observed.weights.shape[0]
    standard: dict[str, Array] = {}
    for name in SITES:
        shape = (regions,) if name in PER_REGION else ()
        standard[name] = numpyro.sample(name, dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
    site, correction = parameters(observed, standard)
    for name, value in site.items():
        numpyro.deterministic(f"{name}_value", value)
    numpyro.factor("log_power", log_likelihood_of(observed, site) + correction)


def posterior_of(observed: ObservedSeizure) -> Posterior:
    """The model compiled for data of this shape, once."""
    samples, sensors = observed.values.shape
    return _posterior(observed.weights.shape[0], sensors, samples, observed.substeps)


@functools.lru_cache(maxsize=4)
def _posterior(regions: int, sensors: int, samples: int, substeps: int) -> Posterior:
    example = ObservedSeizure(
        weights=jnp.ones((regions, regions)),
        gain=jnp.ones((sensors, regions)),
        values=jnp.ones((samples, sensors)),
        prior_mean=jnp.ones(regions),
        side=jnp.zeros(regions),
        dt=jnp.asarray(0.1),
        substeps=substeps,
    )
    return Posterior(seizure, example)
