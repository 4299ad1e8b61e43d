"""The clock of a simulation: its times counted in chunks, and every time that cannot be counted refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vbt.simulation._monitors import Monitor
from vbt.simulation._network import Network

_CHUNK_STEPS, _CHUNK_MS = 80, 20.0  # monitors look at the mean of a chunk; no chunk is longer
_STRETCH_STEPS = 10_000  # between two looks at progress and cancellation
_STRETCH_NUMBERS = 8_000_000  # of the states of one stretch


@dataclass(frozen=True)
class Timing:
    """Counts of chunks: dropped before observing, kept, at most run at once, and between each monitor's samples."""

    dt: float  # ms
    chunk_steps: int
    dropped: int
    kept: int
    stretch: int
    every: tuple[int, ...]

    @property
    def chunk_seconds(self) -> float:
        return self.chunk_steps * self.dt / 1000.0


def timing_of(
    networks: Sequence[Network], monitors: Sequence[Monitor], duration: float, transient: float, dt: float
) -> Timing:
    """The counts of a simulation.

    Raises
    ------
    ValueError
        naming what is no whole number of time steps, not finite or negative, and its value.
    """
    periods = [_steps(monitor.period, dt, f"{type(monitor).__name__}.period") for monitor in monitors]
    if not periods or min(periods) < 1:
        raise ValueError(f"at least one monitor, each with a period of at least one time step; got {periods} steps")
    if not math.isfinite(duration):
        raise ValueError(f"duration must be finite, got {duration:g} s")
    total = max(period * math.floor(1000.0 * duration / dt / period + 1e-9) for period in periods)
    if total < 1:
        raise ValueError(f"duration must hold at least one sampling period, got {duration:g} s")
    before = _steps(transient, dt, "transient")
    finest = [_steps(monitor.resolution, dt, f"{type(monitor).__name__}.resolution") for monitor in monitors]
    common = math.gcd(*periods, *finest, before)
    most = max(1, min(_CHUNK_STEPS, math.floor(_CHUNK_MS / dt + 1e-9)))
    chunk = max(size for size in range(1, most + 1) if common % size == 0)
    numbers = len(networks[0].mass.variables) * networks[0].regions * 16
    return Timing(
        dt=dt,
        chunk_steps=chunk,
        dropped=before // chunk,
        kept=total // chunk,
        stretch=max(1, min(_STRETCH_STEPS // chunk, _STRETCH_NUMBERS // numbers)),
        every=tuple(period // chunk for period in periods),
    )


def _steps(seconds: float, dt: float, name: str) -> int:
    if not (math.isfinite(seconds) and seconds >= 0.0):
        raise ValueError(f"{name} must be finite and not negative, got {seconds:g} s")
    steps = 1000.0 * seconds / dt
    if not math.isclose(round(steps), steps, rel_tol=1e-9, abs_tol=1e-6):
        raise ValueError(f"{name} must be a whole number of time steps of {dt:g} ms, got {seconds:g} s")
    return round(steps)
