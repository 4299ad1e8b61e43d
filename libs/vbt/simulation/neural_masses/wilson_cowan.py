"""Wilson-Cowan: the active shares of an excitatory and an inhibitory population."""
# ruff: noqa: RUF009  (`parameter` is dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, parameter

_WILSON_COWAN = "Wilson & Cowan (1972), Biophys. J. 12, 1, fig. 11"
_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WilsonCowan:
    """The shares E and I of cells that fire in a moment; time in ms.

    τ_e E' = −E + (k_e − r_e E) S_e(c_ee E − c_ei I + P + c + stimulus)
    τ_i I' = −I + (k_i − r_i I) S_i(c_ie E − c_ii I + Q)
    S(x) = 1/(1 + exp(−a (x − θ))) − 1/(1 + exp(a θ))

    with c = Σ_j W_ij E_j(t − τ_ij). The observable is E. The defaults are the paper's limit cycle (k = r = 1), which
    lives for P between about 1.08 and 1.91; τ is its 10 ms.

    Deviations: The Virtual Brain's defaults are others (c = 12, 4, 13, 11; a = 1.2, 1; θ = 2.8, 4, named b there),
    and its parameters c_e, α and θ (a second threshold) repeat what c, a and θ say, so they are left out.

    References
    ----------
    Wilson & Cowan (1972), 10.1016/S0006-3495(72)86068-5.
    """

    c_ee: Value = parameter(
        16.0, symbol="c_ee", meaning="excitation of excitation", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    c_ei: Value = parameter(
        12.0, symbol="c_ei", meaning="inhibition of excitation", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    c_ie: Value = parameter(
        15.0, symbol="c_ie", meaning="excitation of inhibition", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    c_ii: Value = parameter(
        3.0, symbol="c_ii", meaning="inhibition of inhibition", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    tau_e: Value = parameter(
        10.0, symbol="τ_e", meaning="excitatory time constant", unit="ms", source=_WILSON_COWAN, domain=_POSITIVE
    )
    tau_i: Value = parameter(
        10.0, symbol="τ_i", meaning="inhibitory time constant", unit="ms", source=_WILSON_COWAN, domain=_POSITIVE
    )
    a_e: Value = parameter(1.3, symbol="a_e", meaning="excitatory slope", source=_WILSON_COWAN, domain=_POSITIVE)
    theta_e: Value = parameter(4.0, symbol="θ_e", meaning="excitatory threshold", source=_WILSON_COWAN)
    a_i: Value = parameter(2.0, symbol="a_i", meaning="inhibitory slope", source=_WILSON_COWAN, domain=_POSITIVE)
    theta_i: Value = parameter(3.7, symbol="θ_i", meaning="inhibitory threshold", source=_WILSON_COWAN)
    k_e: Value = parameter(
        1.0, symbol="k_e", meaning="largest excitatory share", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    k_i: Value = parameter(
        1.0, symbol="k_i", meaning="largest inhibitory share", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    r_e: Value = parameter(
        1.0, symbol="r_e", meaning="excitatory refractoriness", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    r_i: Value = parameter(
        1.0, symbol="r_i", meaning="inhibitory refractoriness", source=_WILSON_COWAN, domain=_NOT_NEGATIVE
    )
    P: Value = parameter(1.25, symbol="P", meaning="input to excitation", source=_WILSON_COWAN)
    Q: Value = parameter(0.0, symbol="Q", meaning="input to inhibition", source=_WILSON_COWAN)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("E", "I")
    channels: ClassVar[tuple[str, ...]] = ("E",)
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1)
    lower: ClassVar[tuple[float, ...]] = (-np.inf, -np.inf)
    upper: ClassVar[tuple[float, ...]] = (np.inf, np.inf)
    largest_dt: ClassVar[float] = 0.5

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
        excitatory, inhibitory = state
        drive_e = _sigmoid(
            self.c_ee * excitatory - self.c_ei * inhibitory + self.P + afferents[0] + stimulus, self.a_e, self.theta_e
        )
        drive_i = _sigmoid(self.c_ie * excitatory - self.c_ii * inhibitory + self.Q, self.a_i, self.theta_i)
        return (
            (-excitatory + (self.k_e - self.r_e * excitatory) * drive_e) / self.tau_e,
            (-inhibitory + (self.k_i - self.r_i * inhibitory) * drive_i) / self.tau_i,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.1, 0.05


def _sigmoid(x: Variable, a: Value, theta: Value) -> Variable:
    return jax.nn.sigmoid(a * (x - theta)) - jax.nn.sigmoid(-a * theta)
