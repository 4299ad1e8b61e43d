"""KIonEx: a population whose potassium, inside and outside, decides between rest, seizure and depolarisation block."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_BANDYOPADHYAY = "Bandyopadhyay, Rabuffo et al. (2023), bioRxiv, as coded in The Virtual Brain 2.10"
_POSITIVE = "(0, inf)"
# Conductances mS/cm², pump µA/cm², volumes µm³, concentrations mmol/L, Nernst factor RT/F mV.
_G_CL, _G_NA, _G_K, _G_NA_LEAK, _G_K_LEAK, _PUMP = 7.5, 40.0, 22.0, 0.02, 0.12, 250.0
_INSIDE, _OUTSIDE = 2160.0, 720.0
_NA_IN, _NA_OUT, _K_IN, _K_OUT, _CL_IN, _CL_OUT = 16.0, 138.0, 130.0, 4.8, 5.0, 112.0
_NERNST = 26.64


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class KIonEx:
    """Activity x, potential V (mV), open potassium channels n, potassium ΔK inside and Kg outside (mmol/L); time in ms.

    x'  = Δ + 2 R (V − c) x − J r x
    V'  = −(I_Cl + I_Na + I_K + I_pump)/C − R x² + η + (J r + c)(E − V) + stimulus
    n'  = (n∞(V) − n)/τ_n
    ΔK' = −(γ/ω_i)(I_K − 2 I_pump)
    Kg' = ε (K_bath − K_o)

    with R, c = R₋, c₋ for V ≤ V* and R₊, c₊ above; r = R₋ x/π the firing rate, which regions send, and in V' the
    coupling c = Σ_j W_ij r_j(t − τ_ij) as a conductance; K_i = 130 + ΔK, Na_i = 16 − ΔK, K_o = 4.8 − 3 ΔK + Kg,
    Na_o = 138 + 3 ΔK;

    I_K = (0.12 + 22 n)(V − 26.64 ln K_o/K_i),  I_Na = (0.02 + 40 m∞ h)(V − 26.64 ln Na_o/Na_i)
    I_Cl = 7.5 (V + 26.64 ln 112/5),  I_pump = 250 / [(1 + e^{(21 − Na_i)/2})(1 + e^{5.5 − K_o})]
    m∞ = 1/(1 + e^{(−24 − V)/12}),  n∞ = 1/(1 + e^{(−19 − V)/18}),  h = 1.1 − 1/(1 + e^{−8 (n − 0.4)})

    The observable is V. Bath potassium of 3.5 to 5.5 rests near −77 mV, 10 to 15.5 gives seizure-like discharges, 20
    and more depolarisation block.

    Deviations: The Virtual Brain takes J r x out of x' but leaves J r (E − V) out of V', against its own documentation;
    ``local_conductance`` = False does as it does. The rate uses R₋ on both branches, there and here: R₊ is negative.

    References
    ----------
    Bandyopadhyay, Rabuffo et al. (2023); Depannemaecker et al. (2022), J. Neurophysiol. 128, 1.
    """

    K_bath: Value = parameter(
        5.5, symbol="K_bath", meaning="potassium of the bath", unit="mmol/L", source=_BANDYOPADHYAY, domain=_POSITIVE
    )
    E: Value = parameter(0.0, symbol="E", meaning="synaptic reversal", unit="mV", source=_BANDYOPADHYAY)
    J: Value = parameter(0.1, symbol="J", meaning="recurrent synaptic weight", source=_BANDYOPADHYAY, domain="[0, inf)")
    eta: Value = parameter(0.0, symbol="η", meaning="mean excitability", unit="mV/ms", source=_BANDYOPADHYAY)
    Delta: Value = parameter(
        1.0, symbol="Δ", meaning="half-width of η", unit="mV/ms", source=_BANDYOPADHYAY, domain="[0, inf)"
    )
    R_minus: Value = parameter(0.5, symbol="R₋", meaning="curvature below V*", source=_BANDYOPADHYAY, domain=_POSITIVE)
    c_minus: Value = parameter(-40.0, symbol="c₋", meaning="vertex below V*", unit="mV", source=_BANDYOPADHYAY)
    R_plus: Value = parameter(
        -0.5, symbol="R₊", meaning="curvature above V*", source=_BANDYOPADHYAY, domain="(-inf, 0)"
    )
    c_plus: Value = parameter(-20.0, symbol="c₊", meaning="vertex above V*", unit="mV", source=_BANDYOPADHYAY)
    V_star: Value = parameter(-31.0, symbol="V*", meaning="where the branches meet", unit="mV", source=_BANDYOPADHYAY)
    C: Value = parameter(1.0, symbol="C", meaning="capacitance", unit="µF/cm²", source=_BANDYOPADHYAY, domain=_POSITIVE)
    tau_n: Value = parameter(
        4.0,
        symbol="τ_n",
        meaning="time constant of potassium channels",
        unit="ms",
        source=_BANDYOPADHYAY,
        domain=_POSITIVE,
    )
    gamma: Value = parameter(
        0.04, symbol="γ", meaning="current to concentration", source=_BANDYOPADHYAY, domain=_POSITIVE
    )
    epsilon: Value = parameter(
        0.001, symbol="ε", meaning="diffusion from the bath", unit="1/ms", source=_BANDYOPADHYAY, domain="[0, inf)"
    )
    local_conductance: bool = fixed(True)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("x", "V", "n", "DK", "Kg")
    channels: ClassVar[tuple[str, ...]] = ("rate",)
    noise_variables: ClassVar[tuple[int, ...]] = (1,)
    lower: ClassVar[tuple[float, ...]] = (0.0, -500.0, 0.0, -100.0, -100.0)
    upper: ClassVar[tuple[float, ...]] = (np.inf,) * 5
    largest_dt: ClassVar[float] = 0.02
    activity_unit: ClassVar[str] = "mV"

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return (self.R_minus * state[0] / np.pi,)

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        del in_strengths
        x, V, n, DK, Kg = state
        below = self.V_star >= V
        R = jnp.where(below, self.R_minus, self.R_plus)
        vertex = jnp.where(below, self.c_minus, self.c_plus)
        recurrent = self.J * self.sent(state)[0]
        conductance = recurrent + afferents[0] if self.local_conductance else afferents[0]
        K_out = _K_OUT - _INSIDE / _OUTSIDE * DK + Kg
        potassium, pump, rest = _currents(V, n, DK, K_out)
        return (
            self.Delta + 2.0 * R * (V - vertex) * x - recurrent * x,
            -(rest + potassium + pump) / self.C - R * x * x + self.eta + conductance * (self.E - V) + stimulus,
            (jax.nn.sigmoid((V + 19.0) / 18.0) - n) / self.tau_n,
            -self.gamma / _INSIDE * (potassium - 2.0 * pump),
            self.epsilon * (self.K_bath - K_out),
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[1]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.01, -75.0, 0.04, -0.6, -0.8


def _currents(V: Variable, n: Variable, DK: Variable, K_out: Variable) -> tuple[Variable, Variable, Variable]:
    """Currents of potassium, of the pump, and of sodium and chloride together (µA/cm²)."""
    sodium_inside = _NA_IN - DK
    sodium_outside = _NA_OUT + _INSIDE / _OUTSIDE * DK
    potassium = (_G_K_LEAK + _G_K * n) * (V - _NERNST * jnp.log(K_out / (_K_IN + DK)))
    inactivation = 1.1 - jax.nn.sigmoid(8.0 * (n - 0.4))
    open_sodium = _G_NA_LEAK + _G_NA * jax.nn.sigmoid((V + 24.0) / 12.0) * inactivation
    sodium = open_sodium * (V - _NERNST * jnp.log(sodium_outside / sodium_inside))
    chloride = _G_CL * (V + _NERNST * math.log(_CL_OUT / _CL_IN))
    pump = _PUMP * jax.nn.sigmoid((sodium_inside - 21.0) / 2.0) * jax.nn.sigmoid(K_out - 5.5)
    return potassium, pump, sodium + chloride
