"""A polynomial that stands for an expensive log-likelihood around its mode, so that NUTS costs seconds.

In coordinates whitened by the curvature at the mode a sharp likelihood is nearly a paraboloid; what is left of it is
a smooth small function, fitted by a polynomial of total degree 4 to exact values and gradients at quasi-random nodes.
A node's gradient is worth as many values as there are coordinates, for the price of one. Beyond the nodes' radius the
remainder is held at its value on the sphere, so that the paraboloid rules and no spurious well can open. How far draws
from the surrogate are from draws of the likelihood itself is measured afterwards, by importance weights.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Bool, Float, Int

from vbt.inference._checkpoint import Checkpoint

with warnings.catch_warnings():
    # ArviZ announces its next major version at import; we pin the present one.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

DEGREES = (4, 6, 6)  # of each attempt
RADIUS = 5.0
EFFICIENCY_LIMIT = 0.9
PARETO_K_LIMIT = 0.7
NO_TAIL = 0.1  # nats
_INFLATION = 1.4
_OVERSAMPLING = 3.0
_LEAST_LEFT = 0.25
_NEAREST = 1e-5


class Surrogate(NamedTuple):
    """−log L ≈ least + ½ uᵀ curvature u + Σ_k coefficients_k Π_d He(orders_kd, u_d), y = centre + factor u.

    y is x straightened: x = log θ of what the recording hardly tells from zero becomes log(θ + exp shift), because
    the likelihood is smooth in θ, which goes to 0 where x goes to −∞. A shift of −∞ leaves x as it is. Before that x is
    contracted to pivot + contraction (x − pivot), by which a likelihood is widened.
    """

    pivot: Float[Array, " dimension"]
    contraction: Float[Array, "dimension dimension"]
    centre: Float[Array, " dimension"]
    whitener: Float[Array, "dimension dimension"]
    shift: Float[Array, " dimension"]
    curvature: Float[Array, "dimension dimension"]
    orders: Int[Array, "term dimension"]
    coefficients: Float[Array, " term"]
    least: Float[Array, ""]

    def __call__(self, x: Any, xp: Any = jnp) -> Any:
        """−log L at one point."""
        contracted = self.pivot + self.contraction @ (x - self.pivot)
        u = self.whitener @ (xp.logaddexp(contracted, self.shift) - self.centre)
        radius = xp.sqrt((u * u).sum() + 1e-300)
        inside = u * xp.minimum(1.0, RADIUS / radius)
        table = xp.stack(_hermite(inside))
        terms = table[self.orders, np.arange(self.orders.shape[1])].prod(axis=-1)
        return self.least + 0.5 * u @ self.curvature @ u + terms @ self.coefficients


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Where the likelihood was evaluated exactly."""

    x: Float[np.ndarray, "node dimension"]
    values: Float[np.ndarray, " node"]
    gradients: Float[np.ndarray, "node dimension"]

    def to_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, x=self.x, values=self.values, gradients=self.gradients)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Nodes:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return cls(**{name: archive[name] for name in archive.files})

    @classmethod
    def joined(cls, parts: list[Nodes]) -> Nodes:
        return cls(
            x=np.concatenate([part.x for part in parts]),
            values=np.concatenate([part.values for part in parts]),
            gradients=np.concatenate([part.gradients for part in parts]),
        )


def kept_nodes(checkpoint: Checkpoint | None, name: str, make: Callable[[], Nodes]) -> Nodes:
    """Nodes as they were kept, or made and kept now."""
    content = checkpoint.load(name) if checkpoint is not None else None
    if content is not None:
        return Nodes.from_npz(content)
    nodes = make()
    if checkpoint is not None:
        checkpoint.save(name, nodes.to_npz())
    return nodes


def total_degree(dimension: int, degree: int) -> Int[np.ndarray, "term dimension"]:
    """Orders of every monomial of at most this total degree."""
    every = itertools.product(range(degree + 1), repeat=dimension)
    return np.array([orders for orders in every if sum(orders) <= degree])


def node_count(dimension: int, degree: int) -> int:
    """Nodes at which values and gradients give a few equations per coefficient."""
    return int(np.ceil(_OVERSAMPLING * len(total_degree(dimension, degree)) / (1 + dimension)))


def quasi_random(count: int, dimension: int, rng_seed: int) -> Float[np.ndarray, "node dimension"]:
    """Sobol points as normal deviates, a little wider than the posterior and within the radius."""
    power = int(np.ceil(np.log2(count)))
    uniform = scipy.stats.qmc.Sobol(dimension, rng=np.random.default_rng(rng_seed)).random_base2(power)[:count]
    points = _INFLATION * scipy.stats.norm.ppf(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points * np.minimum(1.0, RADIUS / radius))


class Differentiable(Protocol):
    """Something with an exact value and gradient."""

    def value_and_gradient(
        self, x: Float[np.ndarray, " dimension"]
    ) -> tuple[float, Float[np.ndarray, " dimension"]]: ...


def evaluate(
    function: Differentiable, points: Float[np.ndarray, "node dimension"], heard: Callable[..., None]
) -> tuple[Nodes, Bool[np.ndarray, " node"]]:
    """Values and gradients at points; those where the function is not finite are left out, as the second says."""
    found = []
    for number, point in enumerate(points):
        heard(number / len(points))
        at_all = np.isfinite(point).all()
        found.append(function.value_and_gradient(point) if at_all else (np.inf, np.zeros_like(point)))
    values = np.array([value for value, _ in found])
    kept = np.isfinite(values)
    return Nodes(x=points[kept], values=values[kept], gradients=np.stack([g for _, g in found])[kept]), kept


def straightened(
    x: Float[np.ndarray, "*draws dimension"], shift: Float[np.ndarray, " dimension"]
) -> Float[np.ndarray, "*draws dimension"]:
    """log(exp x + exp shift), the coordinates in which a `Surrogate` is a polynomial."""
    return np.asarray(np.logaddexp(x, shift))


def bent_back(
    y: Float[np.ndarray, "*draws dimension"], shift: Float[np.ndarray, " dimension"]
) -> Float[np.ndarray, "*draws dimension"]:
    """The x that `straightened` takes to y; a y below the shift, which no x reaches, is mirrored first."""
    above = np.maximum(np.abs(y - np.where(np.isfinite(shift), shift, -np.inf)), _NEAREST)
    return np.asarray(np.where(np.isfinite(shift), shift + np.log(np.expm1(np.minimum(above, 50.0))), y))


def fit_surrogate(
    nodes: Nodes,
    centre: Float[np.ndarray, " dimension"],
    factor: Float[np.ndarray, "dimension dimension"],
    shift: Float[np.ndarray, " dimension"],
    curvature: Float[np.ndarray, "dimension dimension"],
    degree: int,
) -> Surrogate:
    """Weighted least squares to values and gradients, nodes weighted down with their distance.

    Parameters
    ----------
    factor : a square root of the covariance, straightened x = centre + factor u
    curvature : of the function in u at the centre
    """
    whitener = np.linalg.inv(factor)
    u = (straightened(nodes.x, shift) - centre) @ whitener.T
    orders = total_degree(u.shape[1], degree)
    least = float(nodes.values.min())
    values = nodes.values - least - 0.5 * np.einsum("nd,de,ne->n", u, curvature, u)
    slopes = (nodes.gradients * (1.0 + np.exp(shift - nodes.x))) @ factor - u @ curvature
    table = np.stack(_hermite(u))  # order, node, dimension
    columns = np.arange(u.shape[1])
    factors = table[orders[:, None, :], np.arange(len(u))[None, :, None], columns]  # term, node, dimension
    design = [factors.prod(axis=-1).T]
    for d in columns:
        lowered = table[np.maximum(orders[:, d] - 1, 0)][:, :, d] * orders[:, d, None]
        others = np.delete(factors, d, axis=-1).prod(axis=-1)
        design.append((lowered * others).T)
    weight = np.exp(-(u**2).sum(axis=1) / 20.0)
    matrix = np.concatenate([part * weight[:, None] for part in design])
    target = np.concatenate([values * weight, *(slopes[:, d] * weight for d in columns)])
    coefficients = np.linalg.lstsq(matrix, target, rcond=1e-12)[0]
    unwidened: tuple[Any, ...] = (centre, np.eye(len(centre)))
    numbers: tuple[Any, ...] = (centre, whitener, shift, curvature, orders, coefficients, np.array(least))
    return Surrogate(*unwidened, *numbers)


def _hermite(u: Any) -> list[Any]:
    """Probabilists' Hermite polynomials of all orders used; He_n' = n He_{n−1}."""
    polynomials = [u * 0.0 + 1.0, u]
    for order in range(1, max(DEGREES)):
        polynomials.append(u * polynomials[-1] - order * polynomials[-2])
    return polynomials


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How well draws from a surrogate stand for draws from the likelihood it replaced.

    Parameters
    ----------
    efficiency : effective fraction of draws left by importance weights to the exact likelihood; 1 is perfect
    pareto_k : shape of those weights' upper tail, reliable below .7 (Vehtari et al. 2024, JMLR 25, 72)
    error : nats; standard deviation over draws of surrogate minus exact log-likelihood
    """

    efficiency: float
    pareto_k: float
    error: float

    @property
    def good(self) -> bool:
        # Where all weights are within a few percent of 1 there is no tail whose shape could matter.
        tail = self.error <= NO_TAIL or self.pareto_k <= PARETO_K_LIMIT
        return self.efficiency >= EFFICIENCY_LIMIT and tail


def fidelity(exact: Float[np.ndarray, " draw"], approximate: Float[np.ndarray, " draw"]) -> Fidelity:
    """From −log L of the same draws, exact and by the surrogate."""
    ratios = approximate - exact
    if not (ratios.size and np.isfinite(ratios).all()):
        return Fidelity(efficiency=0.0, pareto_k=float("inf"), error=float("inf"))
    weights = np.exp(ratios - ratios.max())
    _, pareto_k = arviz.psislw(ratios)  # type: ignore[no-untyped-call]
    return Fidelity(
        efficiency=float(weights.sum() ** 2 / (weights**2).sum() / len(weights)),
        pareto_k=float(pareto_k),
        error=float(ratios.std()),
    )


def tempered(ratios: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
    """Importance weights raised to the largest power, at most 1, that leaves `_LEAST_LEFT` of the draws."""

    def weights(power: float) -> np.ndarray:
        unscaled = np.exp(power * (ratios - ratios.max()))
        return np.asarray(unscaled / unscaled.sum())

    power = 1.0
    while 1.0 / (weights(power) ** 2).sum() < _LEAST_LEFT * len(ratios):
        power *= 0.8
    return weights(power)
