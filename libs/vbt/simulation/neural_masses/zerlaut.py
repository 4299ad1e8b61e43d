"""Zerlaut: the mean field of adaptive exponential neurons, asynchronous when awake and slow-waving when asleep."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vbt.simulation._neural_mass import Value, Variable, fixed, parameter

_ZERLAUT = "Zerlaut et al. (2018), J. Comput. Neurosci. 44, 45"
_DI_VOLO = "di Volo et al. (2019), Neural Comput. 31, 653"
_GOLDMAN = "Goldman et al. (2023), Front. Comput. Neurosci. 16, 1058957, reference configuration"
_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"
_EXCITATORY = (
    -0.04983106,
    0.005063550882777035,
    -0.023470121807314552,
    0.0022951513725067503,
    -0.0004105302652029825,
    0.010547051343547399,
    -0.03659252821136933,
    0.007437487505797858,
    0.001265064721846073,
    -0.04072161294490446,
)
_INHIBITORY = (
    -0.05149122024209484,
    0.004003689190271077,
    -0.008352013668528155,
    0.0002414237992765705,
    -0.0005070645080016026,
    0.0014345394104282397,
    -0.014686689498949967,
    0.004502706285435741,
    0.0028472190352532454,
    -0.015357804594594548,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Zerlaut:
    """Rates E and I (kHz) of excitatory and inhibitory neurons, adaptation W (pA), a drift o of the input; time in ms.

    T E' = F_e(E, I, W) − E
    T I' = F_i(E, I) − I
    W' = −W/τ_w + b E + a (μ_V(E, I, W) − E_L,e)/τ_w
    o' = −o/τ_o

    F = erfc((V_th − μ_V)/(√2 σ_V)) / (2 T_V), from the mean, the standard deviation and the autocorrelation time of the
    membrane potential under the conductances

    f_e = (E + 10⁻⁶)(1 − g) p N + K ν,  f_i = (I + 10⁻⁶) g p N
    μ_G = g_L + Q_e τ_e f_e + Q_i τ_i f_i,  T_m = C_m/μ_G,  U_s = Q_s (E_s − μ_V)/μ_G
    μ_V = (Q_e τ_e f_e E_e + Q_i τ_i f_i E_i + g_L E_L − W)/μ_G
    σ_V² = Σ_s f_s (U_s τ_s)² / (2 (τ_s + T_m)),  T_V = Σ_s f_s (U_s τ_s)² / Σ_s [f_s (U_s τ_s)²/(τ_s + T_m)]

    and V_th (V) a quadratic in V = (μ_V + 60)/10, S = (σ_V − 4)/6, T = T_V g_L/C_m − 0.5 whose ten coefficients were
    fitted to single cells. The external rate is ν = max(c + w_o o, 0) + ν_ext, with c = Σ_j W_ij E_j(t − τ_ij), into
    both populations; the stimulus (kHz) adds to the excitatory population's. The observable is E.
    The defaults rest awake, at 3.7 Hz and 9.3 Hz; with b = 60 pA and noise on the drift o, where noise belongs,
    activity comes and goes as the UP and DOWN states of sleep.

    Deviations: E_L,e, a, b and ν_ext are those of the published whole-brain configuration. With The Virtual Brain's
    (−65 mV, 4 nS, 60 pA, 0) the node is silent; its documentation has yet others (E_L,e −60 mV, Q_e 1 nS). Its
    inhibitory adaptation (a_i = b_i = 0) and inhibitory input from outside (K_i = 0) are left out.

    References
    ----------
    Zerlaut et al. (2018), 10.1007/s10827-017-0668-2; adaptation: di Volo et al. (2019), 10.1162/neco_a_01173.
    """

    g_L: Value = parameter(10.0, symbol="g_L", meaning="leak", unit="nS", source=_DI_VOLO, domain=_POSITIVE)
    C_m: Value = parameter(200.0, symbol="C_m", meaning="capacitance", unit="pF", source=_DI_VOLO, domain=_POSITIVE)
    E_L_e: Value = parameter(
        -63.0, symbol="E_L,e", meaning="leak reversal, excitatory cells", unit="mV", source=_GOLDMAN
    )
    E_L_i: Value = parameter(
        -65.0, symbol="E_L,i", meaning="leak reversal, inhibitory cells", unit="mV", source=_DI_VOLO
    )
    E_e: Value = parameter(0.0, symbol="E_e", meaning="excitatory reversal", unit="mV", source=_ZERLAUT)
    E_i: Value = parameter(-80.0, symbol="E_i", meaning="inhibitory reversal", unit="mV", source=_ZERLAUT)
    Q_e: Value = parameter(
        1.5, symbol="Q_e", meaning="excitatory quantal conductance", unit="nS", source=_DI_VOLO, domain=_POSITIVE
    )
    Q_i: Value = parameter(
        5.0, symbol="Q_i", meaning="inhibitory quantal conductance", unit="nS", source=_DI_VOLO, domain=_POSITIVE
    )
    tau_e: Value = parameter(
        5.0, symbol="τ_e", meaning="decay of excitation", unit="ms", source=_DI_VOLO, domain=_POSITIVE
    )
    tau_i: Value = parameter(
        5.0, symbol="τ_i", meaning="decay of inhibition", unit="ms", source=_DI_VOLO, domain=_POSITIVE
    )
    N: Value = parameter(1e4, symbol="N", meaning="number of neurons", source=_DI_VOLO, domain=_POSITIVE)
    p: Value = parameter(0.05, symbol="p", meaning="probability of connection", source=_DI_VOLO, domain="(0, 1]")
    g: Value = parameter(0.2, symbol="g", meaning="share of inhibitory neurons", source=_DI_VOLO, domain="(0, 1)")
    K: Value = parameter(
        400.0, symbol="K", meaning="synapses from outside on a neuron", source=_DI_VOLO, domain=_NOT_NEGATIVE
    )
    nu_ext: Value = parameter(
        0.315e-3, symbol="ν_ext", meaning="rate from outside", unit="kHz", source=_GOLDMAN, domain=_NOT_NEGATIVE
    )
    T: Value = parameter(
        20.0, symbol="T", meaning="time over which the mean field holds", unit="ms", source=_DI_VOLO, domain=_POSITIVE
    )
    tau_w: Value = parameter(
        500.0, symbol="τ_w", meaning="time constant of adaptation", unit="ms", source=_DI_VOLO, domain=_POSITIVE
    )
    a: Value = parameter(0.0, symbol="a", meaning="subthreshold adaptation", unit="nS", source=_GOLDMAN)
    b: Value = parameter(
        5.0, symbol="b", meaning="adaptation per spike: 0 to 5 awake, 60 asleep", unit="pA", source=_GOLDMAN
    )
    tau_o: Value = parameter(
        5.0, symbol="τ_o", meaning="correlation time of the input's drift", unit="ms", source=_GOLDMAN, domain=_POSITIVE
    )
    w_o: Value = parameter(1e-4, symbol="w_o", meaning="weight of the input's drift", unit="kHz", source=_GOLDMAN)
    threshold_e: tuple[float, ...] = fixed(_EXCITATORY)
    threshold_i: tuple[float, ...] = fixed(_INHIBITORY)

    milliseconds_per_unit: ClassVar[float] = 1.0
    variables: ClassVar[tuple[str, ...]] = ("E", "I", "W", "o")
    channels: ClassVar[tuple[str, ...]] = ("E",)
    noise_variables: ClassVar[tuple[int, ...]] = (3,)
    lower: ClassVar[tuple[float, ...]] = (0.0, 0.0, -np.inf, -np.inf)
    upper: ClassVar[tuple[float, ...]] = (np.inf,) * 4
    largest_dt: ClassVar[float] = 1.0
    activity_unit: ClassVar[str] = "kHz"

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
        excitatory, inhibitory, W, o = state
        outside = jnp.maximum(afferents[0] + self.w_o * o, 0.0) + self.nu_ext
        membrane_e = self._membrane(excitatory, inhibitory, outside + stimulus, self.E_L_e, W)
        membrane_i = self._membrane(excitatory, inhibitory, outside, self.E_L_i, 0.0)
        return (
            (self._rate(membrane_e, self.threshold_e) - excitatory) / self.T,
            (self._rate(membrane_i, self.threshold_i) - inhibitory) / self.T,
            -W / self.tau_w + self.b * excitatory + self.a * (membrane_e[0] - self.E_L_e) / self.tau_w,
            -o / self.tau_o,
        )

    def _membrane(
        self, excitatory: Variable, inhibitory: Variable, outside: Variable, E_L: Value, W: Value
    ) -> tuple[Variable, Variable, Variable]:
        """Mean (mV), standard deviation (mV) and autocorrelation time (ms) of the membrane potential."""
        neurons = self.p * self.N
        f_e = (excitatory + 1e-6) * (1.0 - self.g) * neurons + self.K * outside
        f_i = (inhibitory + 1e-6) * self.g * neurons
        G_e, G_i = self.Q_e * self.tau_e * f_e, self.Q_i * self.tau_i * f_i
        G = self.g_L + G_e + G_i
        T_m = self.C_m / G
        mean = (G_e * self.E_e + G_i * self.E_i + self.g_L * E_L - W) / G
        power_e = f_e * (self.Q_e / G * (self.E_e - mean) * self.tau_e) ** 2
        power_i = f_i * (self.Q_i / G * (self.E_i - mean) * self.tau_i) ** 2
        filtered = power_e / (self.tau_e + T_m) + power_i / (self.tau_i + T_m)
        return mean, jnp.sqrt(0.5 * filtered), (power_e + power_i) / filtered

    def _rate(self, membrane: tuple[Variable, Variable, Variable], P: tuple[float, ...]) -> Variable:
        """The transfer function F, kHz."""
        mean, deviation, correlation = membrane
        V, S, T = (mean + 60.0) / 10.0, (deviation - 4.0) / 6.0, correlation * self.g_L / self.C_m - 0.5
        linear = P[0] + P[1] * V + P[2] * S + P[3] * T
        quadratic = P[4] * V * V + P[5] * S * S + P[6] * T * T + P[7] * V * S + P[8] * V * T + P[9] * S * T
        threshold = 1000.0 * (linear + quadratic)
        return jax.scipy.special.erfc((threshold - mean) / (2.0**0.5 * deviation)) / (2.0 * correlation)

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        return state[0]

    def initial_state(self) -> tuple[Value, ...]:
        return 0.004, 0.009, 9.0, 0.0
