"""Generic two-dimensional oscillator: a cubic and a quadratic nullcline, from excitable to oscillating to bistable."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_SANZ_LEON = "Sanz-Leon et al. (2015), NeuroImage 111, 385"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Generic2dOscillator:
    """A fast variable V and a slow one W.

    V' = d τ (α W − f V³ + e V² + g V + γ (I + c + stimulus))
    W' = (d/τ) (a + b V + c V² − β W)

    with the coupling c = Σ_j W_ij V_j(t − τ_ij) in V' and a parameter c in W'. The observable is V. With a = −2 the
    node is excitable, with a = +2 it is on a limit cycle.

    References
    ----------
    Sanz-Leon et al. (2015), 10.1016/j.neuroimage.2015.01.002; FitzHugh (1961), Nagumo et al. (1962).
    """

    tau: Value = parameter(1.0, symbol="τ", meaning="separation of time scales", source=_SANZ_LEON, domain="(0, inf)")
    I: Value = parameter(0.0, symbol="I", meaning="constant input", source=_SANZ_LEON)  # noqa: E741
    a: Value = parameter(-2.0, symbol="a", meaning="offset of the slow nullcline", source=_SANZ_LEON)
    b: Value = parameter(-10.0, symbol="b", meaning="slope of the slow nullcline", source=_SANZ_LEON)
    c: Value = parameter(0.0, symbol="c", meaning="curvature of the slow nullcline", source=_SANZ_LEON)
    d: Value = parameter(0.02, symbol="d", meaning="time scale", unit="1/ms", source=_SANZ_LEON, domain="(0, inf)")
    e: Value = parameter(3.0, symbol="e", meaning="quadratic term of the fast nullcline", source=_SANZ_LEON)
    f: Value = parameter(1.0, symbol="f", meaning="cubic term of the fast nullcline", source=_SANZ_LEON)
    g: Value = parameter(0.0, symbol="g", meaning="linear term of the fast nullcline", source=_SANZ_LEON)
    alpha: Value = parameter(1.0, symbol="α", meaning="feedback of slow on fast", source=_SANZ_LEON)
    beta: Value = parameter(1.0, symbol="β", meaning="decay of the slow variable", source=_SANZ_LEON)
    gamma: Value = parameter(1.0, symbol="γ", meaning="gain of every input", source=_SANZ_LEON)
    milliseconds_per_unit: float = fixed(1.0)

    variables: ClassVar[tuple[str, ...]] = ("V", "W")
    channels: ClassVar[tuple[str, ...]] = ("V",)
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1)
    lower: ClassVar[tuple[float, ...]] = (-np.inf, -np.inf)
    upper: ClassVar[tuple[float, ...]] = (np.inf, np.inf)
    largest_dt: ClassVar[float] = 2.0

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
        V, W = state
        fast = self.alpha * W + ((self.e - self.f * V) * V + self.g) * V
        slow = self.a + (self.b + self.c * V) * V - self.beta * W
        return (
            self.d * self.tau * (fast + self.gamma * (self.I + afferents[0] + stimulus)),
            self.d / self.tau * slow,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.0, 0.0
