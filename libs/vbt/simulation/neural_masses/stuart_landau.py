"""Stuart-Landau: a node near a Hopf bifurcation, coupled by differences that arrive late."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_DECO = "Deco et al. (2017), Sci. Rep. 7, 3095"
_SORRENTINO = "Sorrentino et al. (2024), iScience 27, 110101"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StuartLandau:
    """The normal form of the Hopf bifurcation, z = x + iy, one unit of time being one second.

    z' = (a + iω − |z|²) z + Σ_j W_ij (z_j(t − τ_ij) − z_i) + stimulus

    For a < 0 noise drives a damped rhythm, for a > 0 there is a limit cycle of amplitude √a. The stimulus enters x.
    The observable is x. Noise may go on x and y; one σ for both is noise on z.

    Deviations: The Virtual Brain's ``SupHopf`` has no diffusive term of its own, so the same network needs its
    ``Difference`` coupling there, and its time is in ms.

    References
    ----------
    Deco et al. (2017), 10.1038/s41598-017-03073-5; delays and defaults: Sorrentino et al. (2024).
    """

    a: Value = parameter(-5.0, symbol="a", meaning="distance to the bifurcation", unit="1/s", source=_SORRENTINO)
    omega: Value = parameter(
        2.0 * np.pi * 40.0, symbol="ω", meaning="angular frequency", unit="rad/s", source=_SORRENTINO
    )
    milliseconds_per_unit: float = fixed(1000.0)

    variables: ClassVar[tuple[str, ...]] = ("x", "y")
    channels: ClassVar[tuple[str, ...]] = ("x", "y")
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1)
    lower: ClassVar[tuple[float, ...]] = (-np.inf, -np.inf)
    upper: ClassVar[tuple[float, ...]] = (np.inf, np.inf)
    largest_dt: ClassVar[float] = 5e-4

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return state[0], state[1]

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        x, y = state
        growth = self.a - x * x - y * y
        return (
            growth * x - self.omega * y + afferents[0] - in_strengths[0] * x + stimulus,
            growth * y + self.omega * x + afferents[1] - in_strengths[1] * y,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.01, 0.0
