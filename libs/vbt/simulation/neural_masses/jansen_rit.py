"""Jansen-Rit: pyramidal cells between an excitatory and an inhibitory loop, the classical source of alpha rhythm."""
# ruff: noqa: RUF009  (`parameter` is dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, parameter

_JANSEN_RIT = "Jansen & Rit (1995), Biol. Cybern. 73, 357"
_POSITIVE = "(0, inf)"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class JansenRit:
    """Three postsynaptic potentials (mV) and their slopes; time in ms.

    y0' = y3,  y3' = A a S(y1 − y2) − 2 a y3 − a² y0
    y1' = y4,  y4' = A a [p + c2 C S(c1 C y0) + c + stimulus] − 2 a y4 − a² y1
    y2' = y5,  y5' = B b c4 C S(c3 C y0) − 2 b y5 − b² y2
    S(v) = 2 e0 / (1 + exp(r (v0 − v)))

    Regions send their firing rate S(y1 − y2), so c = Σ_j W_ij S(y1_j − y2_j) is a rate like p. The observable is
    y1 − y2, the potential of the pyramidal cells, of which EEG is made. Noise belongs on the slopes, where inputs are.

    Deviations: v0 is the paper's 6 mV; The Virtual Brain takes 5.52 mV in the node but 6 mV in
    ``SigmoidalJansenRit``, the coupling, and its documentation prints 2 a² y0 where its code has a² y0.

    References
    ----------
    Jansen & Rit (1995), 10.1007/BF00199471.
    """

    A: Value = parameter(
        3.25, symbol="A", meaning="excitatory synaptic gain", unit="mV", source=_JANSEN_RIT, domain="[0, inf)"
    )
    B: Value = parameter(
        22.0, symbol="B", meaning="inhibitory synaptic gain", unit="mV", source=_JANSEN_RIT, domain="[0, inf)"
    )
    a: Value = parameter(
        0.1, symbol="a", meaning="excitatory rate constant", unit="1/ms", source=_JANSEN_RIT, domain=_POSITIVE
    )
    b: Value = parameter(
        0.05, symbol="b", meaning="inhibitory rate constant", unit="1/ms", source=_JANSEN_RIT, domain=_POSITIVE
    )
    e0: Value = parameter(
        0.0025, symbol="e₀", meaning="half the largest firing rate", unit="1/ms", source=_JANSEN_RIT, domain="[0, inf)"
    )
    r: Value = parameter(
        0.56, symbol="r", meaning="steepness of the sigmoid", unit="1/mV", source=_JANSEN_RIT, domain=_POSITIVE
    )
    v0: Value = parameter(6.0, symbol="v₀", meaning="potential of half the largest rate", unit="mV", source=_JANSEN_RIT)
    C: Value = parameter(135.0, symbol="C", meaning="number of synapses", source=_JANSEN_RIT, domain="[0, inf)")
    c1: Value = parameter(
        1.0, symbol="c₁", meaning="pyramidal to excitatory, share of C", source=_JANSEN_RIT, domain="[0, inf)"
    )
    c2: Value = parameter(
        0.8, symbol="c₂", meaning="excitatory to pyramidal, share of C", source=_JANSEN_RIT, domain="[0, inf)"
    )
    c3: Value = parameter(
        0.25, symbol="c₃", meaning="pyramidal to inhibitory, share of C", source=_JANSEN_RIT, domain="[0, inf)"
    )
    c4: Value = parameter(
        0.25, symbol="c₄", meaning="inhibitory to pyramidal, share of C", source=_JANSEN_RIT, domain="[0, inf)"
    )
    p: Value = parameter(0.22, symbol="p", meaning="input from outside, 0.12 to 0.32", unit="1/ms", source=_JANSEN_RIT)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("y0", "y1", "y2", "y3", "y4", "y5")
    channels: ClassVar[tuple[str, ...]] = ("rate",)
    noise_variables: ClassVar[tuple[int, ...]] = (3, 4, 5)
    lower: ClassVar[tuple[float, ...]] = (-np.inf,) * 6
    upper: ClassVar[tuple[float, ...]] = (np.inf,) * 6
    largest_dt: ClassVar[float] = 1.0
    activity_unit: ClassVar[str] = "mV"

    def rate(self, potential: Variable) -> Variable:
        """The sigmoid S: firing rate (1/ms) of a population at a mean potential (mV)."""
        rate: Variable = 2.0 * self.e0 * jax.nn.sigmoid(self.r * (potential - self.v0))
        return rate

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return (self.rate(state[1] - state[2]),)

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        del in_strengths
        y0, y1, y2, y3, y4, y5 = state
        a, b = self.a, self.b
        excitatory = self.p + self.c2 * self.C * self.rate(self.c1 * self.C * y0) + afferents[0] + stimulus
        inhibitory = self.c4 * self.C * self.rate(self.c3 * self.C * y0)
        return (
            y3,
            y4,
            y5,
            self.A * a * self.rate(y1 - y2) - 2.0 * a * y3 - a * a * y0,
            self.A * a * excitatory - 2.0 * a * y4 - a * a * y1,
            self.B * b * inhibitory - 2.0 * b * y5 - b * b * y2,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[1] - state[2]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.1, 20.0, 15.0, 0.0, 0.0, 0.0
