"""The likelihood of a whole seizure and its gradient in machine code.

XLA spends most of a gradient on recording what each of a thousand small steps computed. The adjoint of Heun's steps
needs x at both stages of every step and nothing else: a fifth of the time for ten regions, half for 84.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numba
import numpy as np
from jaxtyping import Array, Float

from vbt.inference._seizure_model import I1, REST, TAU0, ObservedSeizure
from vbt.simulation import from_host

_NETWORK = ("K", "amplitude", "level", "noise", "baseline")
_PER_REGION = ("eta", "x", "z")


def log_likelihood_of(observed: ObservedSeizure, site: dict[str, Array]) -> Array:
    """`log_likelihood` of what the network shows from its initial state on, by parameters."""
    per_region = jnp.stack([site[name] for name in _PER_REGION])
    return _likelihood(observed, per_region, jnp.stack([site[name] for name in _NETWORK]))


@jax.custom_vjp
def _likelihood(observed: ObservedSeizure, per_region: Array, network: Array) -> Array:
    return _with_gradient(observed, per_region, network)[0]


def _with_gradient(observed: ObservedSeizure, per_region: Array, network: Array) -> tuple[Array, tuple[Array, Array]]:
    steps = jnp.zeros((1, observed.substeps))  # a size, which a callback is told by a shape
    given = (observed.weights, observed.gain, observed.values, observed.dt.reshape(1), steps)
    data = tuple(x.astype(per_region.dtype) for x in given)
    like = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (data[3], per_region, network))  # type: ignore[no-untyped-call]
    value, of_region, of_network = from_host(value_and_gradient, like, *data, per_region, network)
    return value[0], (of_region, of_network)


def _pull(kept: tuple[Array, Array], cotangent: Array) -> tuple[None, Array, Array]:
    return None, cotangent * kept[0], cotangent * kept[1]


_likelihood.defvjp(_with_gradient, _pull)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is a divergence to the sampler
def value_and_gradient(
    weights: Float[np.ndarray, "region region"],
    gain: Float[np.ndarray, "sensor region"],
    values: Float[np.ndarray, "time sensor"],
    dt: Float[np.ndarray, "1"],
    steps: Float[np.ndarray, "1 substep"],
    per_region: Float[np.ndarray, "3 region"],
    network: Float[np.ndarray, "5"],
) -> tuple[Float[np.ndarray, "1"], Float[np.ndarray, "3 region"], Float[np.ndarray, "5"]]:
    """The log likelihood, and its derivatives by η, x and z of every region and by the network's numbers.

    Not finite where the trajectory left the numbers.
    """
    coupling, amplitude, level, noise, baseline = network  # NumPy's numbers overflow to infinity, Python's raise
    samples, sensors = values.shape
    eta, x, z = per_region
    stages = np.empty((samples * steps.size, 2, len(eta)))
    shown = forward(weights, float(dt[0]), coupling, eta, x, z, steps.size, stages)
    seen = shown @ gain.T - REST
    residual = values - amplitude * seen - level
    sums = residual.sum(axis=0)
    total = noise**2 + samples * baseline**2
    squares, of_sums = (residual**2).sum(), (sums**2).sum()
    misfit = squares - baseline**2 / total * of_sums
    log_determinant = sensors * ((samples - 1) * 2.0 * np.log(noise) + np.log(total))
    value = -0.5 * (misfit / noise**2 + log_determinant + samples * sensors * np.log(2.0 * np.pi))
    # Of what is expected; then of the variances.
    pull = (residual - baseline**2 / total * sums) / noise**2
    by_noise = misfit / noise**4 - (baseline / total / noise) ** 2 * of_sums
    by_noise -= sensors * ((samples - 1) / noise**2 + 1.0 / total)
    by_baseline = of_sums / total**2 - sensors * samples / total
    of_region, of_coupling = backward(weights, float(dt[0]), coupling, stages, amplitude * (pull @ gain), steps.size)
    of_network = [of_coupling, (pull * seen).sum(), pull.sum(), noise * by_noise, baseline * by_baseline]
    return np.array([value]), of_region, np.array(of_network)


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _slope(weights: Any, strengths: Any, coupling: float, eta: Any, x: Any, z: Any, dx: Any, dz: Any) -> None:
    for i in range(len(x)):
        arrived = 0.0
        for j in range(len(x)):
            arrived += weights[i, j] * x[j]
        dx[i] = 1.0 - x[i] * x[i] * x[i] - 2.0 * x[i] * x[i] - z[i] + I1
        dz[i] = (4.0 * (x[i] - eta[i]) - z[i] - coupling * (arrived - strengths[i] * x[i])) / TAU0


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def forward(weights: Any, dt: float, coupling: float, eta: Any, x: Any, z: Any, substeps: int, stages: Any) -> Any:
    """x at every sample; fills ``stages`` (step, 2, region) with x at both stages of every step."""
    regions, steps = len(x), len(stages)
    strengths = weights.sum(axis=1)
    shown = np.empty((steps // substeps, regions))
    dx, dz, dx2, dz2 = np.empty(regions), np.empty(regions), np.empty(regions), np.empty(regions)
    later = np.empty(regions)
    x, z = x.copy(), z.copy()
    for step in range(steps):
        _slope(weights, strengths, coupling, eta, x, z, dx, dz)
        for i in range(regions):
            stages[step, 0, i] = x[i]
            stages[step, 1, i] = x[i] + dt * dx[i]
            later[i] = z[i] + dt * dz[i]
        _slope(weights, strengths, coupling, eta, stages[step, 1], later, dx2, dz2)
        for i in range(regions):
            x[i] += 0.5 * dt * (dx[i] + dx2[i])
            z[i] += 0.5 * dt * (dz[i] + dz2[i])
        if step % substeps == substeps - 1:
            shown[step // substeps] = x
    return shown


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _turned(
    transposed: Any, strengths: Any, coupling: float, x: Any, of_dx: Any, of_dz: Any, arrived: Any, of_x: Any
) -> float:
    """Cotangent of x from those of a slope, into ``of_x``; returns K's."""
    of_coupling = 0.0
    for i in range(len(x)):
        total = 0.0
        for j in range(len(x)):
            total += transposed[i, j] * of_dz[j]
        arrived[i] = (total - strengths[i] * of_dz[i]) / TAU0
    for i in range(len(x)):
        of_x[i] = -(3.0 * x[i] + 4.0) * x[i] * of_dx[i] + 4.0 * of_dz[i] / TAU0 - coupling * arrived[i]
        of_coupling -= x[i] * arrived[i]
    return of_coupling


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def backward(weights: Any, dt: float, coupling: float, stages: Any, of_shown: Any, substeps: int) -> Any:
    """Cotangents of η, x and z at the beginning (3, region), and of K, from those of x at every sample."""
    steps, _, regions = stages.shape
    strengths, transposed = weights.sum(axis=1), weights.T.copy()
    of_eta, of_x, of_z = np.zeros(regions), np.zeros(regions), np.zeros(regions)
    half_x, half_z, arrived = np.empty(regions), np.empty(regions), np.empty(regions)
    second, first = np.empty(regions), np.empty(regions)
    of_coupling = 0.0
    for step in range(steps - 1, -1, -1):
        if step % substeps == substeps - 1:
            for i in range(regions):
                of_x[i] += of_shown[step // substeps, i]
        for i in range(regions):
            half_x[i], half_z[i] = 0.5 * dt * of_x[i], 0.5 * dt * of_z[i]
        of_coupling += _turned(transposed, strengths, coupling, stages[step, 1], half_x, half_z, arrived, second)
        for i in range(regions):
            by_z = -half_x[i] - half_z[i] / TAU0
            of_x[i] += second[i]
            of_z[i] += by_z
            of_eta[i] -= 4.0 * half_z[i] / TAU0
            half_x[i] += dt * second[i]
            half_z[i] += dt * by_z
        of_coupling += _turned(transposed, strengths, coupling, stages[step, 0], half_x, half_z, arrived, first)
        for i in range(regions):
            of_x[i] += first[i]
            of_z[i] -= half_x[i] + half_z[i] / TAU0
            of_eta[i] -= 4.0 * half_z[i] / TAU0
    result = np.empty((3, regions))
    result[0], result[1], result[2] = of_eta, of_x, of_z
    return result, of_coupling
