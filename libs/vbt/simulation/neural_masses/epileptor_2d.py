"""The two-dimensional Epileptor: the form that is inverted."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_PROIX = "Proix et al. (2014), J. Neurosci. 34, 15009"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Epileptor2D:
    """The Epileptor with its fast variables averaged out, the form that is inverted.

    x' = 1 − x³ − 2 x² − z + I1 + stimulus
    z' = [4 (x − x0) − z − K c] / τ0

    with c = Σ_j W_ij (x_j(t − τ_ij) − x_i): a positive K lets a seizing neighbour lower z, which recruits. The
    observable is x. Rest is lost at x0 = −2.0369 for τ0 = 10, the value fitted to recordings, and at −2.0620 for the
    physiological τ0 = 2857.

    Deviations: the plain cubic for all x, so that the gradient is smooth; The Virtual Brain's is the piecewise one of
    the six variables ([slope + 0.6 (z − 4)² − 5 x] x for x > 0, −0.1 z⁷ for z < 0), with −Ks for K and r for 1/τ0.

    References
    ----------
    Proix et al. (2014), J. Neurosci. 34, 15009.
    """

    x0: Value = parameter(-2.5, symbol="x₀", meaning="excitability; seizes above −2.037 for τ₀ = 10", source=_PROIX)
    I1: Value = parameter(3.1, symbol="I₁", meaning="input", source=_PROIX)
    K: Value = parameter(0.0, symbol="K", meaning="permittivity coupling", source=_PROIX)
    tau0: Value = parameter(
        10.0,
        symbol="τ₀",
        meaning="time scale of the permittivity",
        source="Hashemi et al. (2020), NeuroImage 217, 116839 (BVEP)",
        domain="(0, inf)",
    )
    milliseconds_per_unit: float = fixed(1.0)

    variables: ClassVar[tuple[str, ...]] = ("x", "z")
    channels: ClassVar[tuple[str, ...]] = ("x",)
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1)
    lower: ClassVar[tuple[float, ...]] = (-np.inf, -np.inf)
    upper: ClassVar[tuple[float, ...]] = (np.inf, np.inf)
    largest_dt: ClassVar[float] = 0.1

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return (state[0],)

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        x, z = state
        difference = afferents[0] - in_strengths[0] * x
        return (
            1.0 - x * x * x - 2.0 * x * x - z + self.I1 + stimulus,
            (4.0 * (x - self.x0) - z - self.K * difference) / self.tau0,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return -2.0, 5.0
