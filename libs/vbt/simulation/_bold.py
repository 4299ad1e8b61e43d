"""Neural activity becomes blood oxygenation: the Balloon-Windkessel model."""
# ruff: noqa: RUF009  (`parameter` and `fixed` are dataclasses.field with the table row in it)

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._neural_mass import Value, Variable, parameter

_FRISTON = "Friston, Harrison & Penny (2003), NeuroImage 19, 1273"
_POSITIVE = "(0, inf)"

Haemodynamics = tuple[Variable, Variable, Variable, Variable]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class BalloonWindkessel:
    """Flow-inducing signal s, flow f, volume v and deoxyhaemoglobin q, each relative to rest; time in seconds.

    s' = x − κ s − γ (f − 1),  f' = s,  τ v' = f − v^{1/α},  τ q' = f [1 − (1−E₀)^{1/f}]/E₀ − v^{1/α} q/v
    BOLD = V₀ [7 E₀ (1 − q) + 2 (1 − q/v) + (2 E₀ − 0.2) (1 − v)]

    driven by x = efficacy · (activity − baseline). ``neural_baseline`` is the activity at which flow rests at 1.
    ``magnification`` scales the signal alone: with a small efficacy it gives the linearised model at any amplitude.

    References
    ----------
    Friston, Harrison & Penny (2003), NeuroImage 19, 1273.
    """

    kappa: Value = parameter(
        0.65, symbol="κ", meaning="rate of signal decay", unit="s-1", source=_FRISTON, domain=_POSITIVE
    )
    gamma: Value = parameter(
        0.41, symbol="γ", meaning="rate of flow-dependent elimination", unit="s-1", source=_FRISTON, domain=_POSITIVE
    )
    tau: Value = parameter(
        0.98, symbol="τ", meaning="haemodynamic transit time", unit="s", source=_FRISTON, domain=_POSITIVE
    )
    alpha: Value = parameter(0.32, symbol="α", meaning="Grubb's exponent", source=_FRISTON, domain=_POSITIVE)
    E0: Value = parameter(
        0.34, symbol="E₀", meaning="resting oxygen extraction fraction", source=_FRISTON, domain="(0, 1)"
    )
    V0: Value = parameter(0.02, symbol="V₀", meaning="resting blood volume fraction", source=_FRISTON, domain="(0, 1]")
    efficacy: Value = parameter(1.0, symbol="ε", meaning="signal per unit of activity", source="definition")
    magnification: Value = parameter(1.0, symbol="m", meaning="scale of the observed signal", source="definition")
    neural_baseline: Value = parameter(0.0, symbol="x*", meaning="activity at rest", source="definition")

    def rest(self, like: Float[Array, "region lane"]) -> Haemodynamics:
        """No signal, resting flow, volume and deoxyhaemoglobin."""
        return jnp.zeros_like(like), jnp.ones_like(like), jnp.ones_like(like), jnp.ones_like(like)

    def step(self, state: Haemodynamics, activity: Variable, dt: float) -> Haemodynamics:
        """One Heun step of ``dt`` seconds under an activity that is constant over the step."""
        drive = self.efficacy * (activity - self.neural_baseline)
        first = self._derivative(state, drive)
        predicted = tuple(x + dt * d for x, d in zip(state, first, strict=True))
        second = self._derivative(predicted, drive)
        s, f, v, q = (x + 0.5 * dt * (a + b) for x, a, b in zip(state, first, second, strict=True))
        return s, f, v, q

    def _derivative(self, state: tuple[Variable, ...], drive: Variable) -> tuple[Variable, ...]:
        s, f, v, q = state
        outflow = v ** (1.0 / self.alpha)
        extraction = (1.0 - (1.0 - self.E0) ** (1.0 / f)) / self.E0
        return (
            drive - self.kappa * s - self.gamma * (f - 1.0),
            s,
            (f - outflow) / self.tau,
            (f * extraction - outflow * q / v) / self.tau,
        )

    def signal(self, state: Haemodynamics) -> Variable:
        """Fractional BOLD change; times 100 it is percent."""
        _, _, v, q = state
        signal: Variable = (self.magnification * self.V0) * (
            7.0 * self.E0 * (1.0 - q) + 2.0 * (1.0 - q / v) + (2.0 * self.E0 - 0.2) * (1.0 - v)
        )
        return signal

    def steady_slope(self) -> float:
        """d BOLD / d drive at rest, fractional change per unit of drive held constant (scalar parameters)."""
        drive = np.array([0.0, 1e-4])
        flow = 1.0 + drive / float(self.gamma)
        volume = flow ** float(self.alpha)
        E0 = float(self.E0)
        content = volume * (1.0 - (1.0 - E0) ** (1.0 / flow)) / E0
        signal = (
            float(self.magnification)
            * float(self.V0)
            * (7.0 * E0 * (1.0 - content) + 2.0 * (1.0 - content / volume) + (2.0 * E0 - 0.2) * (1.0 - volume))
        )
        return float((signal[1] - signal[0]) / 1e-4)
