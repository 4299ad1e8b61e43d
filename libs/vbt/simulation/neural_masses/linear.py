"""The linear node: the oracle every integrator and every delay is checked against."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Linear:
    """x' = −x·decay + I + c, one unit of time being one millisecond unless said otherwise."""

    decay: Value = parameter(1.0, symbol="γ", meaning="decay rate", source="definition")
    I: Value = parameter(0.0, symbol="I", meaning="constant input", source="definition")  # noqa: E741
    milliseconds_per_unit: float = fixed(1.0)

    variables: ClassVar[tuple[str, ...]] = ("x",)
    channels: ClassVar[tuple[str, ...]] = ("x",)
    noise_variables: ClassVar[tuple[int, ...]] = (0,)
    lower: ClassVar[tuple[float, ...]] = (-np.inf,)
    upper: ClassVar[tuple[float, ...]] = (np.inf,)
    largest_dt: ClassVar[float] = 1.0

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
        return (-self.decay * state[0] + self.I + afferents[0] + stimulus,)

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return (0.0,)
