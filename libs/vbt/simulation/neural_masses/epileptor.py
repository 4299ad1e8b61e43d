"""The Epileptor: seizure onset and offset on a slow permittivity variable."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_JIRSA = "Jirsa et al. (2014), Brain 137, 2210"
_PROIX = "Proix et al. (2014), J. Neurosci. 34, 15009"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Epileptor:
    """Six variables: fast discharges (x1, y1), permittivity z, spike-wave events (x2, y2) and a low-pass filter g.

    x1' = y1 − f1(x1, x2, z) − z + I1 + K_vf c
    y1' = 1 − 5 x1² − y1
    z'  = r [4 (x1 − x0) − z − 0.1 z⁷·(z<0) − K c]
    x2' = −y2 + x2 − x2³ + I2 + 2 g − 0.3 (z − 3.5)
    y2' = (−y2 + 6 (x2 + 0.25)·(x2 ≥ −0.25)) / 10
    g'  = −0.01 (g − 0.1 x1)

    with c = Σ_j W_ij (x1_j(t − τ_ij) − x1_i), f1 = x1³ − 3 x1² for x1 < 0 and −(slope − x2 + 0.6 (z − 4)²) x1 above.
    The sign of K follows the Virtual Epileptic Patient: a positive K lets a seizing neighbour lower z, which recruits.
    Noise is allowed on x2 and y2 only: on the others it sends the trajectory to infinity.
    The observable is x2 − x1, the field potential.

    Deviations: The Virtual Brain's ``Ks`` is −K with its ``Difference`` coupling; its documentation prints 0.002 g but
    its code has 2 g, as here. Left out: its second fast coupling (x2, weight 0), its alternative permittivity
    (``modification``), its unused s, and its time scale tt, which here is ``milliseconds_per_unit``, to be chosen so
    that a seizure lasts tens of seconds.

    References
    ----------
    Jirsa et al. (2014), Brain 137, 2210; coupling: Proix et al. (2014).
    """

    x0: Value = parameter(-1.6, symbol="x₀", meaning="excitability; seizes above −2.06", source=_JIRSA)
    I1: Value = parameter(3.1, symbol="I₁", meaning="input to the fast population", source=_JIRSA)
    I2: Value = parameter(0.45, symbol="I₂", meaning="input to the spike-wave population", source=_JIRSA)
    slope: Value = parameter(0.0, symbol="m", meaning="slope of the fast nullcline", source=_JIRSA)
    r: Value = parameter(3.5e-4, symbol="r", meaning="rate of the permittivity", source=_JIRSA, domain="[0, inf)")
    K: Value = parameter(0.0, symbol="K", meaning="permittivity coupling", source=_PROIX)
    K_vf: Value = parameter(0.0, symbol="K_vf", meaning="fast coupling", source=_PROIX)
    milliseconds_per_unit: float = fixed(1.0)

    variables: ClassVar[tuple[str, ...]] = ("x1", "y1", "z", "x2", "y2", "g")
    channels: ClassVar[tuple[str, ...]] = ("x1",)
    noise_variables: ClassVar[tuple[int, ...]] = (3, 4)
    lower: ClassVar[tuple[float, ...]] = (-np.inf,) * 6
    upper: ClassVar[tuple[float, ...]] = (np.inf,) * 6
    largest_dt: ClassVar[float] = 0.05

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return (state[0],)

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        x1, y1, z, x2, y2, g = state
        difference = afferents[0] - in_strengths[0] * x1
        fast = jnp.where(x1 < 0.0, (3.0 - x1) * x1, self.slope - x2 + 0.6 * (z - 4.0) * (z - 4.0)) * x1
        seventh = jnp.minimum(z, 0.0)
        seventh = 0.1 * seventh * (seventh * seventh) ** 3
        recovery = jnp.where(x2 < -0.25, 0.0, 6.0 * (x2 + 0.25))
        return (
            y1 - z + self.I1 + self.K_vf * difference + fast + stimulus,
            1.0 - 5.0 * x1 * x1 - y1,
            self.r * (4.0 * (x1 - self.x0) - z - seventh - self.K * difference),
            -y2 + x2 - x2 * x2 * x2 + self.I2 + 2.0 * g - 0.3 * (z - 3.5),
            0.1 * (recovery - y2),
            -0.01 * (g - 0.1 * x1),
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[3] - state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return -1.98, -18.66, 4.15, -0.88, 0.0, -0.035
