"""Montbrió-Pazó-Roxin: the exact mean field of quadratic integrate-and-fire neurons."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_VIRTUAL_AGEING_BRAIN = "Lavanga et al. (2023), NeuroImage 283, 120403"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class MontbrioPazoRoxin:
    """Firing rate r and mean membrane potential V of a population, in units of the membrane time constant.

    r' = Δ/π + 2 V r
    V' = V² − π² r² + η + J r + I + c

    with c the coupling on r. One unit of time is ``milliseconds_per_unit`` ms (10 ms, as in the Virtual Ageing Brain).
    A fluctuating common input current enters V, so V is where noise belongs; noise on r is allowed because published
    twins use it, and r is held at r ≥ 0.

    References
    ----------
    Montbrió, Pazó & Roxin (2015), Phys. Rev. X 5, 021028, eq. 12. Defaults: Lavanga et al. (2023).
    """

    Delta: Value = parameter(0.7, symbol="Δ", meaning="half-width of the excitabilities", source=_VIRTUAL_AGEING_BRAIN)
    J: Value = parameter(14.5, symbol="J", meaning="recurrent synaptic weight", source=_VIRTUAL_AGEING_BRAIN)
    eta: Value = parameter(-4.6, symbol="η", meaning="mean excitability", source=_VIRTUAL_AGEING_BRAIN)
    I: Value = parameter(0.0, symbol="I", meaning="constant input current", source="Montbrió et al. (2015)")  # noqa: E741
    milliseconds_per_unit: float = fixed(10.0)

    variables: ClassVar[tuple[str, ...]] = ("r", "V")
    channels: ClassVar[tuple[str, ...]] = ("r",)
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1)
    lower: ClassVar[tuple[float, ...]] = (0.0, -np.inf)
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
        del in_strengths
        r, V = state
        rate = self.Delta / np.pi + 2.0 * V * r
        potential = V * V - (np.pi * r) * (np.pi * r) + self.eta + self.J * r + self.I + afferents[0] + stimulus
        return rate, potential

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.05, -2.0


@dataclass(frozen=True)
class FixedPoint:
    """A steady state of one uncoupled population with its linearisation's eigenvalues (per unit of model time)."""

    r: float
    V: float
    eigenvalues: tuple[complex, complex]

    @property
    def is_stable(self) -> bool:
        return max(value.real for value in self.eigenvalues) < 0.0

    def static_gain(self, mass: MontbrioPazoRoxin) -> float:
        """dr/dI of the steady state, positive on the stable branches: −1/d, d = J − 2π²r − 2V²/r."""
        return -1.0 / (float(mass.J) - 2.0 * np.pi**2 * self.r - 2.0 * self.V**2 / self.r)


def fixed_points(mass: MontbrioPazoRoxin) -> tuple[FixedPoint, ...]:
    """All steady states of one uncoupled population, lowest rate first.

    With V = −Δ/(2πr) the second equation times r² is the quartic −π²r⁴ + J r³ + (η+I) r² + Δ²/4π² = 0.
    """
    Delta, J, drive = float(mass.Delta), float(mass.J), float(mass.eta) + float(mass.I)
    roots = np.roots([-(np.pi**2), J, drive, 0.0, Delta**2 / (4.0 * np.pi**2)])
    rates = sorted(float(root.real) for root in roots if abs(root.imag) < 1e-9 * max(1.0, abs(root)) and root.real > 0)
    return tuple(_fixed_point(r, -Delta / (2.0 * np.pi * r), J) for r in rates)


def _fixed_point(r: float, V: float, J: float) -> FixedPoint:
    jacobian = np.array([[2.0 * V, 2.0 * r], [J - 2.0 * np.pi**2 * r, 2.0 * V]])
    first, second = (complex(value) for value in np.linalg.eigvals(jacobian))
    return FixedPoint(r=r, V=V, eigenvalues=(first, second))
