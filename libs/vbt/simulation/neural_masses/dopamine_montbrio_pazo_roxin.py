"""Dopamine Montbrió-Pazó-Roxin: adaptive quadratic neurons whose excitation dopamine scales."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_DEPANNEMAECKER = "Depannemaecker et al., aQIF with dopamine (preprint), as coded in vbjax 0.0.19"
_IZHIKEVICH = "Izhikevich (2003), IEEE Trans. Neural Netw. 14, 1569"
_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class DopamineMontbrioPazoRoxin:
    """Rate r (1/ms), potential V (mV), adaptation u, open excitatory and inhibitory channels Sa, Sg, dopamine Dp.

    r'  = 2 a r V + b r − D ga Sa r − gg Sg r + a Δ/π
    V'  = a V² + b V + c + η − π² r²/a + (Ad Dp + Bd) ga Sa (Ea − V) + gg Sg (Eg − V) + I + stimulus − u
    u'  = α (β V − u) + ud r
    Sa' = −Sa/τa + ja we c_exc
    Sg' = −Sg/τg + jg wi c_inh
    Dp' = (k wd c_dop − Vmax Dp/(Km + Dp)) / τ_Dp

    in ms, with c = Σ_j W_ij r_j(t − τ_ij) over three connectomes: excitatory, inhibitory, dopaminergic (give the
    network weights of shape (3, region, region) in that order). The observable is r. Dopamine rests at
    Dp* = Km k c/(Vmax − k c) with c = wd c_dop, as long as k c < Vmax: above, removal saturates and Dp grows for ever.

    Concern: D = 1 in the published code, while averaging the quadratic neurons exactly (Ott and Antonsen's ansatz)
    puts into r' every conductance of V', so D = Ad Dp + Bd. ``dopamine_in_rate`` = True takes the exact reduction;
    the default is the published one until its authors say. They differ as soon as Sa > 0 and Ad Dp + Bd ≠ 1.

    With strong self-excitation and little dopamine the rate explodes (r > 100 per ms), which `simulate` reports as
    divergence instead of clipping it.

    References
    ----------
    Depannemaecker et al. (preprint, not yet resolved to a DOI); vbjax ``dopa_dfun``.
    """

    a: Value = parameter(
        0.04, symbol="a", meaning="curvature of the potential", unit="1/(ms mV)", source=_IZHIKEVICH, domain=_POSITIVE
    )
    b: Value = parameter(5.0, symbol="b", meaning="slope of the potential", unit="1/ms", source=_IZHIKEVICH)
    c: Value = parameter(140.0, symbol="c", meaning="offset of the potential", unit="mV/ms", source=_IZHIKEVICH)
    ga: Value = parameter(
        12.0, symbol="g_a", meaning="excitatory conductance", unit="1/ms", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    gg: Value = parameter(
        12.0, symbol="g_g", meaning="inhibitory conductance", unit="1/ms", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    Delta: Value = parameter(
        1.0, symbol="Δ", meaning="half-width of η", unit="mV/ms", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    eta: Value = parameter(18.0, symbol="η", meaning="mean excitability", unit="mV/ms", source=_DEPANNEMAECKER)
    I: Value = parameter(  # noqa: E741
        0.0, symbol="I", meaning="constant input current", unit="mV/ms", source=_DEPANNEMAECKER
    )
    Ea: Value = parameter(0.0, symbol="E_a", meaning="excitatory reversal", unit="mV", source=_DEPANNEMAECKER)
    Eg: Value = parameter(-80.0, symbol="E_g", meaning="inhibitory reversal", unit="mV", source=_DEPANNEMAECKER)
    tau_a: Value = parameter(
        5.0, symbol="τ_a", meaning="decay of excitation", unit="ms", source=_DEPANNEMAECKER, domain=_POSITIVE
    )
    tau_g: Value = parameter(
        5.0, symbol="τ_g", meaning="decay of inhibition", unit="ms", source=_DEPANNEMAECKER, domain=_POSITIVE
    )
    ja: Value = parameter(
        0.8, symbol="j_a", meaning="channels opened by excitation", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    jg: Value = parameter(
        1.2, symbol="j_g", meaning="channels opened by inhibition", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    alpha: Value = parameter(
        0.013, symbol="α", meaning="rate of adaptation", unit="1/ms", source=_DEPANNEMAECKER, domain=_POSITIVE
    )
    beta: Value = parameter(0.4, symbol="β", meaning="subthreshold adaptation", unit="1/ms", source=_DEPANNEMAECKER)
    ud: Value = parameter(12.0, symbol="u_d", meaning="adaptation per spike", unit="mV/ms", source=_DEPANNEMAECKER)
    k: Value = parameter(
        1e5, symbol="k", meaning="dopamine released by a spike", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    Vmax: Value = parameter(
        1300.0, symbol="V_max", meaning="largest removal of dopamine", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    Km: Value = parameter(
        150.0, symbol="K_m", meaning="dopamine of half the largest removal", source=_DEPANNEMAECKER, domain=_POSITIVE
    )
    Ad: Value = parameter(1.0, symbol="A_d", meaning="excitation per dopamine", source=_DEPANNEMAECKER)
    Bd: Value = parameter(
        0.2, symbol="B_d", meaning="excitation without dopamine", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    tau_Dp: Value = parameter(
        500.0, symbol="τ_Dp", meaning="time scale of dopamine", unit="ms", source=_DEPANNEMAECKER, domain=_POSITIVE
    )
    we: Value = parameter(
        1e-4, symbol="w_e", meaning="scale of the excitatory tracts", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    wi: Value = parameter(
        1e-4, symbol="w_i", meaning="scale of the inhibitory tracts", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    wd: Value = parameter(
        1e-4, symbol="w_d", meaning="scale of the dopaminergic tracts", source=_DEPANNEMAECKER, domain=_NOT_NEGATIVE
    )
    dopamine_in_rate: bool = fixed(False)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("r", "V", "u", "Sa", "Sg", "Dp")
    channels: ClassVar[tuple[str, ...]] = ("excitatory", "inhibitory", "dopaminergic")
    noise_variables: ClassVar[tuple[int, ...]] = (1,)
    lower: ClassVar[tuple[float, ...]] = (0.0, -np.inf, -np.inf, 0.0, 0.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (np.inf,) * 6
    largest_dt: ClassVar[float] = 0.1
    activity_unit: ClassVar[str] = "1/ms"

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return state[0], state[0], state[0]

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        del in_strengths
        r, V, u, Sa, Sg, Dp = state
        excitation, inhibition = self.ga * Sa, self.gg * Sg
        modulated = (self.Ad * Dp + self.Bd) * excitation
        shunt = (modulated if self.dopamine_in_rate else excitation) + inhibition
        quadratic = self.a * V * V + self.b * V + self.c + self.eta - np.pi**2 * r * r / self.a
        synaptic = modulated * (self.Ea - V) + inhibition * (self.Eg - V)
        return (
            (2.0 * self.a * V + self.b - shunt) * r + self.a * self.Delta / np.pi,
            quadratic + synaptic + self.I + stimulus - u,
            self.alpha * (self.beta * V - u) + self.ud * r,
            -Sa / self.tau_a + self.ja * self.we * afferents[0],
            -Sg / self.tau_g + self.jg * self.wi * afferents[1],
            (self.k * self.wd * afferents[2] - self.Vmax * Dp / (self.Km + Dp)) / self.tau_Dp,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.03, -67.0, 0.0, 0.0, 0.0, 0.5
