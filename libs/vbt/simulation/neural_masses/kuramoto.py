"""Kuramoto: phases that pull on each other."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Kuramoto:
    """A phase θ (rad), one unit of time being one second.

    θ' = ω + Σ_j W_ij sin(θ_j(t − τ_ij) − θ_i) + stimulus

    Regions send sin θ and cos θ, from which the sum over sines of differences follows exactly. θ is held in [0, 2π), so
    that a long run in single precision does not lose the phase in its size. The observable is sin θ.

    Deviations: The Virtual Brain divides the coupling by the number of regions, which here is the network's to say, and
    reports θ.

    References
    ----------
    Kuramoto (1984), Chemical Oscillations, Waves, and Turbulence; delays and 60 Hz: Cabral et al. (2011), NeuroImage
    57, 130.
    """

    omega: Value = parameter(
        2.0 * np.pi * 60.0,
        symbol="ω",
        meaning="natural angular frequency",
        unit="rad/s",
        source="Cabral et al. (2011), NeuroImage 57, 130",
    )
    milliseconds_per_unit: float = fixed(1000.0)

    variables: ClassVar[tuple[str, ...]] = ("theta",)
    channels: ClassVar[tuple[str, ...]] = ("sin", "cos")
    noise_variables: ClassVar[tuple[int, ...]] = (0,)
    lower: ClassVar[tuple[float, ...]] = (-np.inf,)
    upper: ClassVar[tuple[float, ...]] = (np.inf,)
    periods: ClassVar[tuple[float, ...]] = (2.0 * np.pi,)
    largest_dt: ClassVar[float] = 5e-4

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return jnp.sin(state[0]), jnp.cos(state[0])

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        del in_strengths
        (theta,) = state
        pull = jnp.cos(theta) * afferents[0] - jnp.sin(theta) * afferents[1]
        return (self.omega + pull + stimulus,)

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return jnp.sin(state[0])

    def initial_state(self) -> tuple[Value, ...]:
        return (0.0,)
