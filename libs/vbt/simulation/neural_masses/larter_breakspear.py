"""Larter-Breakspear: voltage-gated channels of a population, from rest through rhythm to chaos."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_BREAKSPEAR = "Alstott et al. (2009), PLoS Comput. Biol. 5, e1000408, after Breakspear et al. (2003), Network 14, 703"
_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LarterBreakspear:
    """The potential V of pyramidal cells, their open potassium channels W and the potential Z of inhibitory cells.

    V' = −(gCa + r aee q) mCa (V − VCa) − gK W (V − VK) − gL (V − VL) − (gNa mNa + aee q) (V − VNa)
         − aie Z QZ + ane I + stimulus
    W' = φ (mK − W)/τK
    Z' = b (ani I + aei V QV)
    q = (1 − C) QV + C c,  m = [1 + tanh((V − T)/δ)]/2,  QV = Qmax [1 + tanh((V − VT)/δV)]/2,  QZ likewise of Z

    with c = Σ_j W_ij QV_j(t − τ_ij): regions send their rate, and in-strengths of 1 make c the mean rate of the
    neighbours, which the balance C presumes. The observable is V. Without coupling (C = 0) the node rests below
    δV = 0.564 and oscillates above (published: chaotic above 0.59). Beside that rest there is another way out: with V
    very low nothing opens and Z grows for ever, which at δV < 0.53 is where ordinary initial states end.

    Deviations: The Virtual Brain's defaults mix two papers (gCa = 1.1, aee = 0.4, δZ = 0.7), with which rest is lost at
    δV = 0.511 and not, as its documentation says, at 0.55. That documentation also leaves out the 1/2 of m and Q that
    the code has. The rate of the neighbours comes from a ``HyperbolicTangent`` coupling there whose parameters must be
    kept equal to the node's by hand.

    References
    ----------
    Larter et al. (1999), Chaos 9, 795; Breakspear et al. (2003); Alstott et al. (2009).
    """

    gCa: Value = parameter(1.0, symbol="g_Ca", meaning="calcium conductance", source=_BREAKSPEAR, domain=_NOT_NEGATIVE)
    gK: Value = parameter(2.0, symbol="g_K", meaning="potassium conductance", source=_BREAKSPEAR, domain=_NOT_NEGATIVE)
    gL: Value = parameter(0.5, symbol="g_L", meaning="leak conductance", source=_BREAKSPEAR, domain=_NOT_NEGATIVE)
    gNa: Value = parameter(6.7, symbol="g_Na", meaning="sodium conductance", source=_BREAKSPEAR, domain=_NOT_NEGATIVE)
    VCa: Value = parameter(1.0, symbol="V_Ca", meaning="calcium reversal", source=_BREAKSPEAR)
    VK: Value = parameter(-0.7, symbol="V_K", meaning="potassium reversal", source=_BREAKSPEAR)
    VL: Value = parameter(-0.5, symbol="V_L", meaning="leak reversal", source=_BREAKSPEAR)
    VNa: Value = parameter(0.53, symbol="V_Na", meaning="sodium reversal", source=_BREAKSPEAR)
    TCa: Value = parameter(-0.01, symbol="T_Ca", meaning="calcium threshold", source=_BREAKSPEAR)
    TK: Value = parameter(0.0, symbol="T_K", meaning="potassium threshold", source=_BREAKSPEAR)
    TNa: Value = parameter(0.3, symbol="T_Na", meaning="sodium threshold", source=_BREAKSPEAR)
    dCa: Value = parameter(
        0.15, symbol="δ_Ca", meaning="width of the calcium threshold", source=_BREAKSPEAR, domain=_POSITIVE
    )
    dK: Value = parameter(
        0.3, symbol="δ_K", meaning="width of the potassium threshold", source=_BREAKSPEAR, domain=_POSITIVE
    )
    dNa: Value = parameter(
        0.15, symbol="δ_Na", meaning="width of the sodium threshold", source=_BREAKSPEAR, domain=_POSITIVE
    )
    VT: Value = parameter(0.0, symbol="V_T", meaning="firing threshold of pyramidal cells", source=_BREAKSPEAR)
    dV: Value = parameter(0.65, symbol="δ_V", meaning="width of V_T", source=_BREAKSPEAR, domain=_POSITIVE)
    ZT: Value = parameter(0.0, symbol="Z_T", meaning="firing threshold of inhibitory cells", source=_BREAKSPEAR)
    dZ: Value = parameter(0.65, symbol="δ_Z", meaning="width of Z_T", source=_BREAKSPEAR, domain=_POSITIVE)
    QV_max: Value = parameter(
        1.0, symbol="Q_V,max", meaning="largest pyramidal rate", source=_BREAKSPEAR, domain=_NOT_NEGATIVE
    )
    QZ_max: Value = parameter(
        1.0, symbol="Q_Z,max", meaning="largest inhibitory rate", source=_BREAKSPEAR, domain=_NOT_NEGATIVE
    )
    aee: Value = parameter(
        0.36, symbol="a_ee", meaning="excitation of excitation", source=_BREAKSPEAR, domain=_NOT_NEGATIVE
    )
    aei: Value = parameter(
        2.0, symbol="a_ei", meaning="excitation of inhibition", source=_BREAKSPEAR, domain=_NOT_NEGATIVE
    )
    aie: Value = parameter(
        2.0, symbol="a_ie", meaning="inhibition of excitation", source=_BREAKSPEAR, domain=_NOT_NEGATIVE
    )
    ane: Value = parameter(1.0, symbol="a_ne", meaning="input to excitation", source=_BREAKSPEAR, domain=_NOT_NEGATIVE)
    ani: Value = parameter(0.4, symbol="a_ni", meaning="input to inhibition", source=_BREAKSPEAR, domain=_NOT_NEGATIVE)
    rNMDA: Value = parameter(
        0.25, symbol="r_NMDA", meaning="NMDA to AMPA receptors", source=_BREAKSPEAR, domain=_NOT_NEGATIVE
    )
    C: Value = parameter(
        0.1, symbol="C", meaning="share of excitation from other regions", source=_BREAKSPEAR, domain="[0, 1]"
    )
    I: Value = parameter(0.3, symbol="I", meaning="input from below the cortex", source=_BREAKSPEAR)  # noqa: E741
    b: Value = parameter(0.1, symbol="b", meaning="rate of inhibition", source=_BREAKSPEAR, domain=_POSITIVE)
    phi: Value = parameter(0.7, symbol="φ", meaning="temperature factor", source=_BREAKSPEAR, domain=_POSITIVE)
    tau_K: Value = parameter(
        1.0, symbol="τ_K", meaning="time constant of potassium", source=_BREAKSPEAR, domain=_POSITIVE
    )
    milliseconds_per_unit: float = fixed(1.0)

    variables: ClassVar[tuple[str, ...]] = ("V", "W", "Z")
    channels: ClassVar[tuple[str, ...]] = ("rate",)
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1, 2)
    lower: ClassVar[tuple[float, ...]] = (-np.inf,) * 3
    upper: ClassVar[tuple[float, ...]] = (np.inf,) * 3
    largest_dt: ClassVar[float] = 0.1

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return (self.QV_max * _open(state[0], self.VT, self.dV),)

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        del in_strengths
        V, W, Z = state
        QV, QZ = self.sent(state)[0], self.QZ_max * _open(Z, self.ZT, self.dZ)
        excitation = self.aee * ((1.0 - self.C) * QV + self.C * afferents[0])
        calcium = (self.gCa + self.rNMDA * excitation) * _open(V, self.TCa, self.dCa) * (V - self.VCa)
        sodium = (self.gNa * _open(V, self.TNa, self.dNa) + excitation) * (V - self.VNa)
        potassium = self.gK * W * (V - self.VK)
        leak = self.gL * (V - self.VL)
        return (
            -calcium - potassium - leak - sodium - self.aie * Z * QZ + self.ane * self.I + stimulus,
            self.phi * (_open(V, self.TK, self.dK) - W) / self.tau_K,
            self.b * (self.ani * self.I + self.aei * V * QV),
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.1, 0.1, 0.1


def _open(V: Variable, threshold: Value, width: Value) -> Variable:
    """The share of open channels, or of firing cells, at a potential."""
    return 0.5 * (1.0 + jnp.tanh((V - threshold) / width))
