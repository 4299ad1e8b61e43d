"""The generative model of resting BOLD: slow fluctuations of a stable linear network on the structural connectome.

The connectome is a measurement too. Tractography draws connections that are not there, most of them weak, and thins
out thin bundles more than thick ones. So a connection of measured weight w (in units of the median one) is real with
probability 1/(1 + (w/w0)^−k), and its true weight is w^{1/b}. The recording decides on w0 and k, for false connections
carry no activity; on b it says nothing that it does not say on p, so b widens p's interval by what digital patients
show of b. So does a run: what one recording, prepared by one pipeline, says of g differs from the next by r on g's
logit. And regional BOLD is a measurement: voxels and registration mix what neighbours show, region j entering region
i's signal with m·exp(−distance/9 mm).
"""

from __future__ import annotations

from collections.abc import Mapping
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
        if self.family == "normal":
            return location + scale * z
        return scale * jax.scipy.special.ndtri(0.5 * (1.0 + jax.scipy.special.ndtr(z)))  # half-normal


PRIORS = {
    "g": Prior("logit-normal", (1.2, 1.0)),
    "p": Prior("log-normal", (-0.36, 0.5)),
    "h": Prior("half-normal", (0.0, 0.7)),
    "u": Prior("half-normal", (0.0, 20.0)),
    "n": Prior("half-normal", (0.0, 0.05)),
    "c": Prior("log-normal", (0.0, 1.0)),
    "d": Prior("log-normal", (0.0, 0.5)),
    "w0": Prior("log-normal", (0.0, 2.0)),
    "k": Prior("log-normal", (0.7, 0.5)),
    # Digital patients with seeds 0 to 3, the whole way from their diffusion images: 1.23, 1.08, 1.12, 1.16 (log-log
    # slope of measured on true weights). Twice their spread and more, for real brains are harder.
    "b": Prior("log-normal", (0.14, 0.15)),
    "m": Prior("half-normal", (0.0, 0.3)),
    # Between the halves of published recordings logit g differs by .06 more than its interval; regressing tissue and
    # motion signals out of digital patients' runs took up to .14 off it.
    "r": Prior("normal", (0.0, 0.1)),
}


class Observed(NamedTuple):
    """What the model is conditioned on; passed as an argument, so that a new patient compiles nothing."""

    log_weights: Float[Array, "region region"]  # symmetrised, in units of the median; 0 where there is no connection
    connected: Float[Array, "region region"]
    homotopic: Float[Array, "region region"]
    nearness: Float[Array, "region region"]  # exp(−distance/9 mm), 0 on the diagonal
    spectra: Float[Array, "band region region"]
    counts: Float[Array, " band"]


def coupling(observed: Observed, site: Mapping[str, Array]) -> Float[Array, "region region"]:
    """W of `vbt.inference.coupling_at`, differentiable in p, h, w0, k and b."""
    p, h, w0, k, b = (site[name] for name in ("p", "h", "w0", "k", "b"))
    presence = observed.connected * jax.nn.sigmoid(k * (observed.log_weights - jnp.log(w0)))
    powered = jnp.exp(p / b * observed.log_weights) * presence
    weights = powered / powered.sum(axis=1).mean() + h * observed.homotopic
    return weights / largest_eigenvalue(weights)


def signal_correlation(observed: Observed, site: Mapping[str, Array]) -> Float[Array, "region region"]:
    """Correlation of slow fluctuations, (I − gW)⁻² + (u/N) 1 1ᵀ mixed between neighbours, scaled to unit diagonal."""
    weights = coupling(observed, site)
    regions = weights.shape[0]
    g = jax.nn.sigmoid(jax.scipy.special.logit(site["g"]) + site["r"])
    factor = jax.scipy.linalg.cho_factor(jnp.eye(regions) - g * weights)
    response = jax.scipy.linalg.cho_solve(factor, jnp.eye(regions))
    mixing = jnp.eye(regions) + site["m"] * observed.nearness
    covariance = mixing @ (response @ response.T + site["u"] / regions) @ mixing.T
    deviation = jnp.sqrt(jnp.diagonal(covariance))
    return covariance / (deviation[:, None] * deviation[None, :])


def resting_state(observed: Observed) -> None:
    """NumPyro model: priors and the Whittle likelihood of the band-pooled cross-spectra."""
    site = {name: _parameter(name, ()) for name in PRIORS if name not in ("c", "d")}
    band_power = _parameter("c", observed.counts.shape)
    gain = _parameter("d", observed.connected.shape[:1])
    correlation = signal_correlation(observed, site)
    noise = site["n"] * (observed.counts * band_power).sum() / observed.counts.sum()
    numpyro.factor(
        "whittle", -whittle(correlation, band_power, noise, jnp.log(gain), observed.spectra, observed.counts)
    )


def _parameter(name: str, shape: tuple[int, ...]) -> Array:
    standard = numpyro.sample(f"{name}_normal", dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
    value: Array = numpyro.deterministic(name, PRIORS[name].of_normal(standard))
    return value
