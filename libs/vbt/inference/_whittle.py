"""The Whittle likelihood of cross-spectra that share their eigenvectors, with an exact gradient of its own.

Band b has S_b = D (c_b M + n I) D with a gain per region in D, so one eigendecomposition of M serves every band, and
−log L = Σ_b K_b [log det S_b + tr(S_b⁻¹ P_b)]. The gradient is written out: differentiating through an
eigendecomposition divides by differences of eigenvalues, which the likelihood itself never does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def whittle(
    covariance: Float[Array, "region region"],
    band_power: Float[Array, " band"],
    noise: Float[Array, ""],
    log_gain: Float[Array, " region"],
    spectra: Float[Array, "band region region"],
    counts: Float[Array, " band"],
) -> Float[Array, ""]:
    """Negative log-likelihood of band-averaged cross-spectra, constants dropped.

    Parameters
    ----------
    covariance : M, symmetric positive definite
    band_power : c_b
    noise : n
    log_gain : logarithm of the diagonal of D
    spectra : P_b, real part; with M real its imaginary part drops out of the trace
    counts : K_b, number of Fourier bins averaged in each band

    References
    ----------
    Whittle (1953), Ark. Mat. 2, 423. The complex Gaussian's density has K, not K/2, in the exponent.
    """
    value: Array = _forward(covariance, band_power, noise, log_gain, spectra, counts)[0]
    return value


def _forward(covariance: Any, band_power: Any, noise: Any, log_gain: Any, spectra: Any, counts: Any) -> tuple[Any, Any]:
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    scaled = jnp.exp(-log_gain)[:, None] * vectors
    rotated = scaled.T @ (spectra @ scaled)
    power = band_power[:, None] * eigenvalues[None, :] + noise
    diagonal = jnp.diagonal(rotated, axis1=1, axis2=2)
    value = (counts[:, None] * (jnp.log(power) + diagonal / power)).sum() + 2.0 * counts.sum() * log_gain.sum()
    return value, (eigenvalues, vectors, rotated, diagonal, power, band_power, spectra, counts)


def _backward(kept: Any, cotangent: Any) -> tuple[Any, ...]:
    eigenvalues, vectors, rotated, diagonal, power, band_power, spectra, counts = kept
    slope = counts[:, None] * (1.0 / power - diagonal / power**2)
    weight = (counts * band_power)[:, None, None] / (power[:, :, None] * power[:, None, :])
    inner = jnp.diag(((counts * band_power)[:, None] / power).sum(axis=0)) - (weight * rotated).sum(axis=0)
    whitened = (counts[:, None, None] * rotated / power[:, :, None]).sum(axis=0)
    return (
        cotangent * (vectors @ inner @ vectors.T),
        cotangent * (slope * eigenvalues).sum(axis=1),
        cotangent * slope.sum(),
        cotangent * 2.0 * (counts.sum() - ((vectors @ whitened) * vectors).sum(axis=1)),
        jnp.zeros_like(spectra),
        jnp.zeros_like(counts),
    )


whittle.defvjp(_forward, _backward)


@jax.custom_vjp
def largest_eigenvalue(matrix: Float[Array, "region region"]) -> Float[Array, ""]:
    """The largest eigenvalue of a symmetric matrix; simple, so its gradient is v vᵀ."""
    return _eigen_forward(matrix)[0]


def _eigen_forward(matrix: Any) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values[-1], vectors[:, -1]


def _eigen_backward(vector: Any, cotangent: Any) -> tuple[Any]:
    return (cotangent * jnp.outer(vector, vector),)


largest_eigenvalue.defvjp(_eigen_forward, _eigen_backward)
