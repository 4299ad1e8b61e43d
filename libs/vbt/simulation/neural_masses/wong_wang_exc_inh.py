"""Wong-Wang excitatory-inhibitory: NMDA and GABA populations whose inhibition is tuned so that no node runs away."""
# ruff: noqa: RUF009  (`parameter` is dataclasses.field with the table row in it)

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Float

from vbt.simulation._neural_mass import Value, Variable, parameter
from vbt.simulation.neural_masses._abbott_chance import firing_rate

_DECO = "Deco et al. (2014), J. Neurosci. 34, 7886"
_DECO_2021 = "Deco et al. (2021), Sci. Adv. 7, eabf4752"
_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WongWangExcInh:
    """Open NMDA channels S_E and GABA channels S_I; time in ms, currents in nA, rates in Hz.

    S_E' = −S_E/τ_E + (1 − S_E) γ_E H_E / 1000
    S_I' = −S_I/τ_I + γ_I H_I / 1000
    I_E = W_E I0 + w₊ J_N S_E + J_N c − J_I S_I + I_ext + stimulus
    I_I = W_I I0 + J_N S_E − S_I + λ J_N c
    H(I) = u / (1 − exp(−d u)),  u = M (a I − b)

    with c = Σ_j W_ij S_E,j(t − τ_ij); the global coupling G is the network's. `feedback_inhibition` gives the J_I that
    hold every node at its resting rate whatever it receives. The observable is S_E.

    Deviations: The Virtual Brain carries G as a parameter of the node (default 2); its ``DecoBalancedExcInh`` is this
    node with a gain M other than 1. At u = 0, where the quotient is 0/0, this is 1/d.

    References
    ----------
    Deco et al. (2014), 10.1523/JNEUROSCI.5068-13.2014; gain M: Deco et al. (2021).
    """

    a_E: Value = parameter(
        310.0, symbol="a_E", meaning="slope of the gain", unit="Hz/nA", source=_DECO, domain=_POSITIVE
    )
    b_E: Value = parameter(125.0, symbol="b_E", meaning="threshold of the gain", unit="Hz", source=_DECO)
    d_E: Value = parameter(
        0.16, symbol="d_E", meaning="curvature of the gain", unit="s", source=_DECO, domain=_POSITIVE
    )
    gamma_E: Value = parameter(
        0.641, symbol="γ_E", meaning="NMDA channels opened by a spike", source=_DECO, domain=_NOT_NEGATIVE
    )
    tau_E: Value = parameter(
        100.0, symbol="τ_E", meaning="time constant of NMDA", unit="ms", source=_DECO, domain=_POSITIVE
    )
    w_plus: Value = parameter(1.4, symbol="w₊", meaning="recurrent excitation", source=_DECO, domain=_NOT_NEGATIVE)
    W_E: Value = parameter(1.0, symbol="W_E", meaning="share of I₀", source=_DECO, domain=_NOT_NEGATIVE)
    a_I: Value = parameter(
        615.0, symbol="a_I", meaning="slope of the gain", unit="Hz/nA", source=_DECO, domain=_POSITIVE
    )
    b_I: Value = parameter(177.0, symbol="b_I", meaning="threshold of the gain", unit="Hz", source=_DECO)
    d_I: Value = parameter(
        0.087, symbol="d_I", meaning="curvature of the gain", unit="s", source=_DECO, domain=_POSITIVE
    )
    gamma_I: Value = parameter(
        1.0, symbol="γ_I", meaning="GABA channels opened by a spike", source=_DECO, domain=_NOT_NEGATIVE
    )
    tau_I: Value = parameter(
        10.0, symbol="τ_I", meaning="time constant of GABA", unit="ms", source=_DECO, domain=_POSITIVE
    )
    W_I: Value = parameter(0.7, symbol="W_I", meaning="share of I₀", source=_DECO, domain=_NOT_NEGATIVE)
    J_N: Value = parameter(0.15, symbol="J_N", meaning="NMDA coupling", unit="nA", source=_DECO, domain=_NOT_NEGATIVE)
    J_I: Value = parameter(
        1.0, symbol="J_I", meaning="feedback inhibition", unit="nA", source=_DECO, domain=_NOT_NEGATIVE
    )
    I0: Value = parameter(0.382, symbol="I₀", meaning="input from outside", unit="nA", source=_DECO)
    I_ext: Value = parameter(0.0, symbol="I_ext", meaning="input from a task", unit="nA", source=_DECO)
    feedforward: Value = parameter(
        0.0, symbol="λ", meaning="share of long-range excitation that reaches inhibition", source=_DECO, domain="[0, 1]"
    )
    M: Value = parameter(1.0, symbol="M", meaning="gain of both populations", source=_DECO_2021, domain=_POSITIVE)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("S_E", "S_I")
    channels: ClassVar[tuple[str, ...]] = ("S_E",)
    noise_variables: ClassVar[tuple[int, ...]] = (0, 1)
    lower: ClassVar[tuple[float, ...]] = (0.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (1.0, 1.0)
    largest_dt: ClassVar[float] = 1.0

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return (state[0],)

    def currents(
        self, state: tuple[Variable, ...], afferents: tuple[Variable, ...], stimulus: Variable
    ) -> tuple[Variable, Variable]:
        """The input currents I_E and I_I, nA."""
        S_E, S_I = state
        tracts = self.J_N * afferents[0]
        own = self.J_N * S_E
        return (
            self.W_E * self.I0 + self.w_plus * own + tracts - self.J_I * S_I + self.I_ext + stimulus,
            self.W_I * self.I0 + own - S_I + self.feedforward * tracts,
        )

    def rates(
        self, state: tuple[Variable, ...], afferents: tuple[Variable, ...], stimulus: Variable
    ) -> tuple[Variable, Variable]:
        """The firing rates of both populations, Hz."""
        I_E, I_I = self.currents(state, afferents, stimulus)
        return (
            firing_rate(self.M * (self.a_E * I_E - self.b_E), self.d_E),
            firing_rate(self.M * (self.a_I * I_I - self.b_I), self.d_I),
        )

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        del in_strengths
        S_E, S_I = state
        r_E, r_I = self.rates(state, afferents, stimulus)
        return (
            -S_E / self.tau_E + (1.0 - S_E) * self.gamma_E * r_E / 1000.0,
            -S_I / self.tau_I + self.gamma_I * r_I / 1000.0,
        )

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.164757, 0.039218


def feedback_inhibition(
    mass: WongWangExcInh, weights: Float[np.ndarray, "region region"], below_threshold: float = 0.026
) -> Float[np.ndarray, " region"]:
    """The J_I (nA, one per region) that hold every node ``below_threshold`` (nA) under b_E/a_E, its threshold.

    Deco et al. (2014) search J_I by simulating again and again. Here it is exact: at rest all S_E are known from the
    demanded current, hence all afferents, hence S_I from its own equation (strictly decreasing, so one root), and the
    excitatory current is linear in J_I. A node below its bistability then rests at 3.06 Hz at any coupling.

    Parameters
    ----------
    mass : its own J_I is ignored
    weights : ``weights[target, source]`` with the global coupling in them: ``network.channel_weights[0]``

    Raises
    ------
    ValueError
        naming the first region that would need negative inhibition.
    """
    regions = weights.shape[0]
    p = {f.name: np.broadcast_to(np.asarray(getattr(mass, f.name), float), regions) for f in dataclasses.fields(mass)}
    current = p["b_E"] / p["a_E"] - below_threshold
    opened = p["gamma_E"] * p["tau_E"] * _rate(p["M"] * (p["a_E"] * current - p["b_E"]), p["d_E"]) / 1000.0
    S_E = opened / (1.0 + opened)
    tracts = p["J_N"] * (weights @ S_E)
    excitation = p["W_I"] * p["I0"] + p["J_N"] * S_E + p["feedforward"] * tracts
    S_I = _resting_gaba(excitation, p)
    J_I: np.ndarray = (p["W_E"] * p["I0"] + p["w_plus"] * p["J_N"] * S_E + tracts + p["I_ext"] - current) / S_I
    if (J_I < 0.0).any():
        region = int(np.flatnonzero(J_I < 0.0)[0])
        raise ValueError(f"feedback inhibition must lie in [0, inf), got {J_I[region]:g} in region {region}")
    return J_I


def _rate(u: Float[np.ndarray, "..."], d: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    with jax.enable_x64(True):
        return np.asarray(firing_rate(jax.numpy.asarray(u), jax.numpy.asarray(d)))


def _resting_gaba(excitation: Float[np.ndarray, " region"], p: dict[str, np.ndarray]) -> Float[np.ndarray, " region"]:
    """The S_I at which each inhibitory population rests under an excitatory current (nA), by bisection of [0, 1]."""
    low, high = np.zeros(excitation.shape), np.ones(excitation.shape)
    for _ in range(60):
        middle = 0.5 * (low + high)
        rate = _rate(p["M"] * (p["a_I"] * (excitation - middle) - p["b_I"]), p["d_I"])
        above = p["tau_I"] * p["gamma_I"] * rate / 1000.0 > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return 0.5 * (low + high)
