"""Characteristic roots of linear equations with delays, by Chebyshev collocation and then to full accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

_LARGEST = 2500  # rows of the collocation matrix: above, its eigenvalues take minutes


@dataclass(frozen=True, kw_only=True)
class DelayedLinear:
    """x'(t) = present x(t) + Σ_e block_e x(t − τ_e), each block between some entries of x.

    Parameters
    ----------
    present : without delay
    delays : in units of time, positive
    rows, columns : which entries of x' each block gives and which entries of x it takes
    blocks : the coefficients
    """

    present: Float[np.ndarray, "state state"]
    delays: Float[np.ndarray, " edge"]
    rows: Int[np.ndarray, "edge variable"]
    columns: Int[np.ndarray, "edge variable"]
    blocks: Float[np.ndarray, "edge variable variable"]

    @property
    def size(self) -> int:
        return len(self.present)

    def delayed(self, factors: np.ndarray) -> np.ndarray:
        """Σ_e factor_e block_e as a matrix."""
        total = np.zeros((self.size, self.size), dtype=factors.dtype)
        np.add.at(total, (self.rows[:, :, None], self.columns[:, None, :]), factors[:, None, None] * self.blocks)
        return total

    def characteristic(self, root: complex) -> Complex[np.ndarray, "state state"]:
        """Δ(λ) = λ − present − Σ_e block_e e^{−λ τ_e}, singular at a characteristic root."""
        delayed = self.delayed(np.exp(-root * self.delays.astype(complex)))
        return np.asarray(root * np.eye(self.size) - self.present - delayed)

    def characteristic_slope(self, root: complex) -> Complex[np.ndarray, "state state"]:
        """dΔ/dλ."""
        return np.asarray(np.eye(self.size) + self.delayed(self.delays * np.exp(-root * self.delays.astype(complex))))

    def generator(self, nodes: int) -> Float[np.ndarray, "row row"]:
        """The delay equation as an ordinary one: the state now and at Chebyshev nodes back to the longest delay."""
        derivative, position = _chebyshev(nodes)
        longest = float(self.delays.max())
        at = _lagrange(position, 1.0 - 2.0 * self.delays / longest)  # (edge, node)
        rows = [self.delayed(at[:, node]) for node in range(nodes + 1)]
        rows[0] = rows[0] + self.present
        rest = np.kron(derivative[1:] * 2.0 / longest, np.eye(self.size))
        return np.vstack([np.concatenate(rows, axis=1), rest])


def characteristic_roots(
    system: DelayedLinear, count: int = 12, nodes: int | None = None
) -> Complex[np.ndarray, " root"]:
    """The rightmost characteristic roots, largest real part first, each to rounding error.

    The collocation matrix has as many nodes as every root in the right half plane needs (|λ| ≤ ‖present‖ + Σ ‖block‖),
    its eigenvalues are then refined by Newton's iteration on det Δ.

    Raises
    ------
    ValueError
        where the collocation matrix would have more than 2,500 rows.
    """
    if len(system.delays) == 0:
        roots = np.linalg.eigvals(system.present).astype(complex)
        return roots[np.argsort(-roots.real)][:count]
    nodes = collocation_nodes(system) if nodes is None else nodes
    if system.size * (nodes + 1) > _LARGEST:
        raise ValueError(
            f"characteristic roots of {system.size} states need {nodes + 1} nodes of delay, a matrix of "
            f"{system.size * (nodes + 1)} rows; at most {_LARGEST}: use fewer regions, or judge without delays"
        )
    approximate = np.linalg.eigvals(system.generator(nodes))
    approximate = approximate[approximate.imag >= 0.0]
    approximate = approximate[np.argsort(-approximate.real)][: count + 4]
    kept: list[complex] = []
    for guess in approximate:
        root = _refined(system, complex(guess))
        if root is not None and not any(abs(root - other) < 1e-8 * (1.0 + abs(root)) for other in kept):
            kept.append(root)
        elif root is not None and np.abs(approximate - guess).min(initial=np.inf, where=approximate != guess) < 1e-6:
            kept.append(root)  # a root of multiplicity two, as alike regions have
    pairs = [z for root in kept for z in ((root, root.conjugate()) if abs(root.imag) > 1e-12 else (root.real + 0j,))]
    roots = np.array(pairs)
    return roots[np.lexsort((-roots.imag, -np.round(roots.real, 12)))][:count]


def collocation_nodes(system: DelayedLinear) -> int:
    """Nodes of delay that resolve every root that could lie in the right half plane."""
    total = np.zeros((system.size, system.size))
    np.add.at(total, (system.rows[:, :, None], system.columns[:, None, :]), np.abs(system.blocks))
    radius = float(np.linalg.norm(np.abs(system.present) + total, 2))
    # A Chebyshev polynomial resolves e^{λθ} once its degree exceeds |λ| τ / 2, and then exponentially fast.
    return int(np.clip(np.ceil(0.6 * radius * float(system.delays.max())) + 10, 10, 120))


def _refined(system: DelayedLinear, root: complex) -> complex | None:
    """Newton's iteration on det Δ(λ): its logarithmic derivative is tr(Δ⁻¹ Δ')."""
    guess = root
    for _ in range(12):
        try:
            slope = np.trace(np.linalg.solve(system.characteristic(root), system.characteristic_slope(root)))
        except np.linalg.LinAlgError:
            return root
        step = 1.0 / slope
        if not np.isfinite(step):
            return root
        root -= complex(step)
        if abs(root - guess) > 0.1 * (1.0 + abs(guess)):
            return None  # it was no approximation of a root
        if abs(step) < 1e-14 * (1.0 + abs(root)):
            return root
    return root if abs(step) < 1e-8 * (1.0 + abs(root)) else None


def _chebyshev(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Differentiation matrix and nodes on [−1, 1], from 1 down (Trefethen, Spectral Methods in MATLAB, ch. 6)."""
    k = np.arange(nodes + 1)
    x = np.cos(np.pi * k / nodes)
    c = np.where((k == 0) | (k == nodes), 2.0, 1.0) * (-1.0) ** k
    difference = x[:, None] - x[None, :] + np.eye(nodes + 1)
    matrix = np.outer(c, 1.0 / c) / difference
    return matrix - np.diag(matrix.sum(axis=1)), x


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> Float[np.ndarray, "point node"]:
    """Value of each Lagrange polynomial of the Chebyshev nodes at each point, by the barycentric formula."""
    k = np.arange(len(nodes))
    weights = (-1.0) ** k * np.where((k == 0) | (k == len(nodes) - 1), 0.5, 1.0)
    gap = at[:, None] - nodes[None, :]
    exact = np.abs(gap) < 1e-14
    terms = weights / np.where(exact, 1.0, gap)
    terms = np.where(exact.any(axis=1, keepdims=True), exact.astype(float), terms)
    return np.asarray(terms / terms.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class NetworkSpectrum:
    """The characteristic roots of a network of neural masses, as a function of state and parameter."""

    field: Any
    constants: Any
    delays: Float[np.ndarray, "region region"]
    count: int
    velocity: float | None
    offset: bool

    def __call__(self, state: np.ndarray, parameter: float) -> np.ndarray:
        return characteristic_roots(self.linearised(state, parameter), self.count)

    def linearised(self, state: np.ndarray, parameter: float) -> DelayedLinear:
        with jax.enable_x64(True):
            parts = _parts(self.field, np.asarray(state, float), float(parameter), self.constants)
            own, gain, slope, weights = (np.asarray(part) for part in parts)
        regions, variables = self.delays.shape[0], own.shape[0]
        # A weight that is zero carries nothing, whatever its delay.
        targets, sources = np.nonzero((weights != 0).any(axis=0))
        through = weights[:, targets, sources]  # (channel, edge)
        blocks = np.einsum("vce,ce,cue->evu", gain[:, :, targets], through, slope[:, :, sources])
        order = np.arange(variables) * regions
        rows, columns = targets[:, None] + order, sources[:, None] + order
        present = np.zeros((variables * regions,) * 2)
        here = np.arange(regions)[:, None] + order
        np.add.at(present, (here[:, :, None], here[:, None, :]), np.moveaxis(own, 2, 0))
        delays = self.delays[targets, sources] * self._slower(parameter)
        at_once = delays == 0.0
        np.add.at(present, (rows[at_once][:, :, None], columns[at_once][:, None, :]), blocks[at_once])
        late = ~at_once
        return DelayedLinear(
            present=present, delays=delays[late], rows=rows[late], columns=columns[late], blocks=blocks[late]
        )

    def _slower(self, parameter: float) -> float:
        """How much longer delays are where the free parameter is the velocity."""
        if self.velocity is None:
            return 1.0
        return self.velocity / (self.velocity + parameter if self.offset else parameter)


@partial(jax.jit, static_argnums=0)
def _parts(field: Any, state: Array, parameter: Array, constants: Any) -> tuple[Array, Array, Array, Array]:
    """Derivatives of each rate by the own state and by the afferents, of what is sent, and the weights in force.

    Masses are elementwise over regions, so one tangent of ones gives the derivative of every region at once.
    """
    mass, weights, coupling, stimulus = field.at(parameter, constants)
    regions = field.regions
    variables = tuple(state.reshape(-1, regions))
    sent = mass.sent(variables)
    afferents = tuple(coupling * w @ s for w, s in zip(weights, sent, strict=True))
    in_strengths = tuple(coupling * w.sum(axis=1) for w in weights)
    ones, zeros = jnp.ones(regions), jnp.zeros(regions)

    def by(function: Any, at: tuple[Array, ...]) -> Array:
        columns = []
        for index in range(len(at)):
            tangent = tuple(ones if index == other else zeros for other in range(len(at)))
            _, out = jax.jvp(lambda *args: tuple(jnp.broadcast_to(o, (regions,)) for o in function(args)), at, tangent)
            columns.append(jnp.stack(out))
        return jnp.stack(columns, axis=1)  # (output, input, region)

    own = by(lambda x: mass.derivative(x, afferents, in_strengths, stimulus), variables)
    gain = by(lambda a: mass.derivative(variables, a, in_strengths, stimulus), afferents)
    slope = by(mass.sent, variables)
    return own, gain, slope, coupling * weights
