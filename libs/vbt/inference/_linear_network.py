"""The generative model of resting BOLD: slow fluctuations of a stable linear network on the structural connectome."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from vbt.inference._whittle import largest_eigenvalue, whittle


class Prior(NamedTuple):
    """A parameter as a monotone function of a standard normal variable, so that sampling starts from one scale."""

    family: str
    arguments: tuple[float, float]

    def of_normal(self, z: Any) -> Any:
        """The parameter at the standard normal variable z."""
        location, scale = self.arguments
        if self.family == "logit-normal":
            return jax.nn.sigmoid(location + scale * z)
        if self.family == "log-normal":
            return jnp.exp(location + scale * z)
        return scale * jax.scipy.special.ndtri(0.5 * (1.0 + jax.scipy.special.ndtr(z)))  # half-normal


PRIORS = {
    "g": Prior("logit-normal", (1.2, 1.0)),
    "p": Prior("log-normal", (-0.36, 0.5)),
    "h": Prior("half-normal", (0.0, 0.7)),
    "u": Prior("half-normal", (0.0, 20.0)),
    "n": Prior("half-normal", (0.0, 0.05)),
    "c": Prior("log-normal", (0.0, 1.0)),
    "d": Prior("log-normal", (0.0, 0.5)),
}


class Observed(NamedTuple):
    """What the model is conditioned on; passed as an argument, so that a new patient compiles nothing."""

    log_weights: Float[Array, "region region"]  # of the symmetrised connectome, 0 where there is no connection
    connected: Float[Array, "region region"]
    homotopic: Float[Array, "region region"]
    spectra: Float[Array, "band region region"]
    counts: Float[Array, " band"]


def coupling(observed: Observed, p: Array, h: Array) -> Float[Array, "region region"]:
    """W of `vbt.simulation.effective_weights`, differentiable in p and h."""
    powered = jnp.exp(p * observed.log_weights) * observed.connected
    weights = powered / powered.sum(axis=1).mean() + h * observed.homotopic
    return weights / largest_eigenvalue(weights)


def signal_correlation(observed: Observed, g: Array, p: Array, h: Array, u: Array) -> Float[Array, "region region"]:
    """Correlation of slow fluctuations, (I − gW)⁻² + (u/N) 1 1ᵀ scaled to unit diagonal."""
    weights = coupling(observed, p, h)
    regions = weights.shape[0]
    factor = jax.scipy.linalg.cho_factor(jnp.eye(regions) - g * weights)
    response = jax.scipy.linalg.cho_solve(factor, jnp.eye(regions))
    covariance = response @ response.T + u / regions
    deviation = jnp.sqrt(jnp.diagonal(covariance))
    return covariance / (deviation[:, None] * deviation[None, :])


def resting_state(observed: Observed) -> None:
    """NumPyro model: priors and the Whittle likelihood of the band-pooled cross-spectra."""
    site = {name: _parameter(name, ()) for name in PRIORS if name not in ("c", "d")}
    band_power = _parameter("c", observed.counts.shape)
    gain = _parameter("d", observed.connected.shape[:1])
    correlation = signal_correlation(observed, site["g"], site["p"], site["h"], site["u"])
    noise = site["n"] * (observed.counts * band_power).sum() / observed.counts.sum()
    numpyro.factor(
        "whittle", -whittle(correlation, band_power, noise, jnp.log(gain), observed.spectra, observed.counts)
    )


def _parameter(name: str, shape: tuple[int, ...]) -> Array:
    standard = numpyro.sample(f"{name}_normal", dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
    value: Array = numpyro.deterministic(name, PRIORS[name].of_normal(standard))
    return value
