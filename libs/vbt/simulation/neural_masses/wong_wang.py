"""Wong-Wang 2013: one population of NMDA synapses, the reduced model of decision making."""
# ruff: noqa: RUF009  (`parameter` is dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from vbt.simulation._neural_mass import Value, Variable, parameter
from vbt.simulation.neural_masses._abbott_chance import firing_rate

_DECO = "Deco et al. (2013), J. Neurosci. 33, 11239"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WongWang:
    """The fraction S of open NMDA channels; time in ms, currents in nA, rates in Hz.

    S' = −S/τ + (1 − S) γ H(x) / 1000
    x  = w J_N S + I0 + J_N c + stimulus
    H(x) = (a x − b) / (1 − exp(−d (a x − b)))

    with c = Σ_j W_ij S_j(t − τ_ij). The observable is S.

    Deviations: w = 0.9 and I0 = 0.3 nA are the paper's; The Virtual Brain takes 0.6 and 0.33, writes a, b and d per ms
    (0.27, 0.108, 154) and has 0/0 in H at a x = b, where this is 1/d.

    References
    ----------
    Wong & Wang (2006), J. Neurosci. 26, 1314; Deco et al. (2013), 10.1523/JNEUROSCI.1091-13.2013.
    """

    a: Value = parameter(270.0, symbol="a", meaning="slope of the gain", unit="Hz/nA", source=_DECO, domain="(0, inf)")
    b: Value = parameter(108.0, symbol="b", meaning="threshold of the gain", unit="Hz", source=_DECO)
    d: Value = parameter(0.154, symbol="d", meaning="curvature of the gain", unit="s", source=_DECO, domain="(0, inf)")
    gamma: Value = parameter(0.641, symbol="γ", meaning="channels opened by a spike", source=_DECO, domain="[0, inf)")
    tau: Value = parameter(
        100.0, symbol="τ", meaning="time constant of NMDA", unit="ms", source=_DECO, domain="(0, inf)"
    )
    w: Value = parameter(0.9, symbol="w", meaning="recurrent strength", source=_DECO, domain="[0, inf)")
    J_N: Value = parameter(
        0.2609, symbol="J_N", meaning="synaptic coupling", unit="nA", source=_DECO, domain="[0, inf)"
    )
    I0: Value = parameter(0.3, symbol="I₀", meaning="input from outside", unit="nA", source=_DECO)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("S",)
    channels: ClassVar[tuple[str, ...]] = ("S",)
    noise_variables: ClassVar[tuple[int, ...]] = (0,)
    lower: ClassVar[tuple[float, ...]] = (0.0,)
    upper: ClassVar[tuple[float, ...]] = (1.0,)
    largest_dt: ClassVar[float] = 5.0

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
        (S,) = state
        x = self.w * self.J_N * S + self.I0 + self.J_N * afferents[0] + stimulus
        rate = firing_rate(self.a * x - self.b, self.d)
        return (-S / self.tau + (1.0 - S) * self.gamma * rate / 1000.0,)

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return (0.03,)
