"""Currents from outside: constant, or trains of pulses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """A current into named regions: constant, or a train of rectangular pulses.

    Parameters
    ----------
    amplitude : one per region, in the units of the neural mass's input current
    onset, offset : s, the first moment with and the first without current
    period, width : ms of a pulse train; ``None`` for a constant current
    """

    amplitude: Float[np.ndarray, " region"]
    onset: float = 0.0
    offset: float = np.inf
    period: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if (self.period is None) != (self.width is None):
            raise ValueError("a pulse train needs both period and width")
        if self.period is not None and self.width is not None and not 0.0 < self.width <= self.period:
            raise ValueError(f"pulse width must be in (0, period], got {self.width} of {self.period} ms")
        if not self.onset < self.offset:
            raise ValueError(f"stimulus must end after it begins, got {self.onset} to {self.offset} s")


class Pulses(NamedTuple):
    """Currents as a gate in time steps times an amplitude per region."""

    amplitude: Float[Array, "region lane"]
    onset: Int[Array, " lane"]
    offset: Int[Array, " lane"]
    period: Int[Array, " lane"]
    width: Int[Array, " lane"]

    def current(self, step: Int[Array, ""], dt: float) -> Float[Array, "region lane"]:
        """The current over the time step that begins at ``step``; ``dt`` in ms."""
        del dt  # the gate counts steps already
        since = step - self.onset
        on = (since >= 0) & (step < self.offset) & (jnp.mod(since, self.period) < self.width)
        return jnp.where(on, self.amplitude, 0.0)


def in_lanes(stimuli: Sequence[Stimulus | None], regions: int, dt: float) -> Pulses:
    """The stimuli of a batch, one lane each, for a time step of ``dt`` ms; None is no current."""
    silent = Stimulus(amplitude=np.zeros(regions))
    given = [stimulus or silent for stimulus in stimuli]

    def steps(milliseconds: float) -> int:
        return _NEVER if milliseconds / dt > _NEVER else math.floor(milliseconds / dt + 0.5)

    def row(values: list[int]) -> jax.Array:
        return jnp.asarray(np.array(values, np.int32))

    return Pulses(
        amplitude=jnp.asarray(np.stack([s.amplitude for s in given], axis=-1), dtype=float),
        onset=row([steps(1000.0 * s.onset) for s in given]),
        offset=row([steps(1000.0 * s.offset) for s in given]),
        period=row([_NEVER if s.period is None else max(1, steps(s.period)) for s in given]),
        width=row([_NEVER if s.width is None else max(1, steps(s.width)) for s in given]),
    )
