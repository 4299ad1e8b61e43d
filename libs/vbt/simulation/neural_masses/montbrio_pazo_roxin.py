"""Montbrió-Pazó-Roxin: the exact mean field of quadratic integrate-and-fire neurons."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_MONTBRIO = "Montbrió et al. (2015), Phys. Rev. X 5, 021028"
_VIRTUAL_AGEING_BRAIN = "Lavanga et al. (2023), NeuroImage 283, 120403"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class MontbrioPazoRoxin:
    """Firing rate r and mean membrane potential V of a population.

    τ r' = Δ/(πτ) + 2 V r
    τ V' = V² − π² τ² r² + η + J τ r + I + c + stimulus

    with c = Σ_j W_ij r_j(t − τ_ij). One unit of time is ``milliseconds_per_unit`` ms (10 ms, as in the Virtual Ageing
    Brain), and τ = 1 makes it the membrane time constant. The observable is r. A fluctuating common input current
    enters V, so V is where noise belongs; noise on r is allowed because published twins use it, and r is held at r ≥ 0.

    Deviations: The Virtual Brain's defaults are Δ = 1, J = 15, η = −5 and a ms as the unit of time, its second coupling
    (on V, weight 0) is left out.

    References
    ----------
    Montbrió, Pazó & Roxin (2015), Phys. Rev. X 5, 021028, eq. 12. Defaults: Lavanga et al. (2023).
    """

    tau: Value = parameter(1.0, symbol="τ", meaning="membrane time constant", source=_MONTBRIO, domain="(0, inf)")
    Delta: Value = parameter(
        0.7, symbol="Δ", meaning="half-width of η", source=_VIRTUAL_AGEING_BRAIN, domain="[0, inf)"
    )
    J: Value = parameter(14.5, symbol="J", meaning="recurrent synaptic weight", source=_VIRTUAL_AGEING_BRAIN)
    eta: Value = parameter(-4.6, symbol="η", meaning="mean excitability", source=_VIRTUAL_AGEING_BRAIN)
    I: Value = parameter(0.0, symbol="I", meaning="constant input current", source=_MONTBRIO)  # noqa: E741
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
        tau, spikes = self.tau, self.tau * r
        rate = self.Delta / (np.pi * tau) + 2.0 * V * r
        own = V * V - (np.pi * spikes) * (np.pi * spikes) + self.eta + self.J * spikes + self.I
        return rate / tau, (own + afferents[0] + stimulus) / tau

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
        """dr/dI of the steady state, positive on the stable branches: −1/(τd), d = J − 2π²τr − 2V²/(τr)."""
        tau = float(mass.tau)
        spikes = tau * self.r
        return -1.0 / (float(mass.J) - 2.0 * np.pi**2 * spikes - 2.0 * self.V**2 / spikes) / tau


def fixed_points(mass: MontbrioPazoRoxin) -> tuple[FixedPoint, ...]:
    """All steady states of one uncoupled population, lowest rate first.

    With s = τr and V = −Δ/(2πs) the second equation times s² is the quartic −π²s⁴ + J s³ + (η+I) s² + Δ²/4π² = 0.
    """
    Delta, J, drive = float(mass.Delta), float(mass.J), float(mass.eta) + float(mass.I)
    roots = np.roots([-(np.pi**2), J, drive, 0.0, Delta**2 / (4.0 * np.pi**2)])
    spikes = sorted(float(root.real) for root in roots if abs(root.imag) < 1e-9 * max(1.0, abs(root)) and root.real > 0)
    return tuple(_fixed_point(s, -Delta / (2.0 * np.pi * s), J, float(mass.tau)) for s in spikes)


def _fixed_point(spikes: float, V: float, J: float, tau: float) -> FixedPoint:
    jacobian = np.array([[2.0 * V, 2.0 * spikes], [J - 2.0 * np.pi**2 * spikes, 2.0 * V]]) / tau
    first, second = (complex(value) for value in np.linalg.eigvals(jacobian))
    return FixedPoint(r=spikes / tau, V=V, eigenvalues=(first, second))
