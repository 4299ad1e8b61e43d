"""Currents from outside, each step's mean taken from the waveform's integral, so that short pulses keep their charge.

Time is kept as a phase in integers: 64 bits per step are multiplied out exactly, so hours into a single-precision run
a pulse still begins where it should, and what one step ends with the next begins with: charge is neither lost nor
counted twice, whatever the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from vbt.simulation._waveforms import Waveform

_NEVER = int(np.iinfo(np.int32).max)
_CYCLE = 1 << 32  # one period as a phase


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """Currents into regions: any number of waveforms at once, each with its size in every region.

    Parameters
    ----------
    amplitude : one row per waveform, in the units of the neural mass's input current; a single row may be 1-D
    waveforms : their time courses
    """

    amplitude: Float[np.ndarray, "waveform region"]
    waveforms: tuple[Waveform, ...]

    def __post_init__(self) -> None:
        amplitude = np.atleast_2d(np.asarray(self.amplitude, dtype=float))
        if amplitude.ndim != 2 or len(amplitude) != len(self.waveforms) or not self.waveforms:
            raise ValueError(f"one row of amplitudes per waveform, got {len(amplitude)} and {len(self.waveforms)}")
        if not np.isfinite(amplitude).all():
            raise ValueError("stimulus amplitudes must be finite")
        object.__setattr__(self, "amplitude", amplitude)

    def __add__(self, other: Stimulus) -> Stimulus:
        """Both currents at once."""
        return Stimulus(
            amplitude=np.concatenate([self.amplitude, other.amplitude]), waveforms=self.waveforms + other.waveforms
        )

    def numbers(self) -> Float[np.ndarray, " number"]:
        """Everything that the stimulus is, in one row, for the record of a run."""
        return np.concatenate([self.amplitude.ravel(), *(np.array(astuple(wave), float) for wave in self.waveforms)])


class Currents(NamedTuple):
    """The stimuli of a batch for one time step, lanes last; phases are integers of which 2³² make a cycle."""

    amplitude: Float[Array, "waveform region lane"]
    onset: Int[Array, "waveform lane"]  # the step in which it falls, and where within that step
    onset_within: Float[Array, "waveform lane"]
    offset: Int[Array, "waveform lane"]
    offset_within: Float[Array, "waveform lane"]
    advance: UInt32[Array, "waveform lane"]  # phase per step: whole units, and 2⁻³² of a unit
    advance_rest: UInt32[Array, "waveform lane"]
    lead: UInt32[Array, "waveform lane"]  # phase from the start of the onset's step to the onset
    last: UInt32[Array, "waveform lane"]  # phase at the offset
    cycles: Float[Array, "waveform lane"]  # per step
    slots: UInt32[Array, "waveform lane"]
    pulses: UInt32[Array, "waveform lane"]
    width: UInt32[Array, "waveform lane"]  # phases within a slot
    second: UInt32[Array, "waveform lane"]
    second_width: UInt32[Array, "waveform lane"]
    height: Float[Array, "waveform lane"]  # per unit of phase within a slot, in time steps
    second_height: Float[Array, "waveform lane"]
    charge: Float[Array, "waveform lane"]  # of one pulse, in time steps
    level: Float[Array, "waveform lane"]
    oscillation: Float[Array, "waveform lane"]

    def applied(self, course: Float[Array, "waveform lane"]) -> Float[Array, "region lane"]:
        """The mean currents of every region over the time step that a `course` is of."""
        return jnp.sum(self.amplitude * course[:, None, :], axis=0)

    def course(self, step: Int[Array, "..."]) -> Float[Array, "... waveform lane"]:
        """The waveforms' means over the time steps that begin at ``step``, amplitudes left out.

        Many steps at once: step by step this would cost more than the rest of the simulation.
        """
        step = jnp.asarray(step)[..., None, None]
        dtype = self.level.dtype
        since, left = step - self.onset, self.offset - step
        begin = jnp.clip(self.onset_within - since.astype(dtype), 0.0, 1.0)
        end = jnp.clip(left.astype(dtype) + self.offset_within, 0.0, 1.0)
        length = jnp.maximum(end - begin, 0.0)
        first = jnp.where(begin > 0.0, jnp.uint32(0), self._phase(since))
        final = jnp.where(end < 1.0, self.last, self._phase(since + 1))
        part = (final - first).astype(dtype) / float(_CYCLE)
        whole = jnp.round(length * self.cycles - part)
        pulses = self._pulses(first, final, whole + (final < first))
        middle = (first + (final - first) // 2).astype(dtype) / float(_CYCLE)
        wave = jnp.cos(2.0 * jnp.pi * middle) * jnp.sin(jnp.pi * part) / (jnp.pi * self.cycles)
        return jnp.where(length > 0.0, self.level * length + self.oscillation * wave + pulses, 0.0)

    def _phase(self, since: Int[Array, "..."]) -> UInt32[Array, "..."]:
        """Phase at the start of a step counted from the one in which the onset falls."""
        count = since.astype(jnp.uint32)
        return count * self.advance + _upper(count, self.advance_rest) - self.lead

    def _pulses(self, first: Array, final: Array, crossed: Array) -> Array:
        """Charge of the pulses between two phases with ``crossed`` ends of cycles between them, in time steps."""
        before, after = (jnp.minimum(_upper(phase, self.slots), self.pulses) for phase in (first, final))
        complete = after.astype(jnp.int32) - before.astype(jnp.int32)
        pulses = complete.astype(crossed.dtype) + crossed * self.pulses.astype(crossed.dtype)
        # Whole pulses first, in integers: the difference of two long sums would lose a short pulse.
        sooner, later = self._started(first), self._started(final)
        partial = [_difference(b, a, crossed.dtype) for a, b in zip(sooner, later, strict=True)]
        return self.charge * pulses + self.height * partial[0] + self.second_height * partial[1]

    def _started(self, phase: Array) -> tuple[Array, Array]:
        """How much of a pulse's two rectangles lies behind, phases within a slot; none where no pulse is on."""
        on = _upper(phase, self.slots) < self.pulses
        within = phase * self.slots
        past = jnp.where(within > self.second, within - self.second, jnp.uint32(0))
        zero = jnp.uint32(0)
        return (
            jnp.where(on, jnp.minimum(within, self.width), zero),
            jnp.where(on, jnp.minimum(past, self.second_width), zero),
        )


def in_lanes(stimuli: Sequence[Stimulus | None], regions: int, dt: float) -> Currents:
    """The stimuli of a batch, one lane each, for a time step of ``dt`` ms; None is no current.

    The number of waveforms is part of the compiled shape, so it is rounded up to a power of two; with no stimulus in
    the whole batch it is 1 as well, and that one is silent.
    """
    most = max((len(stimulus.waveforms) for stimulus in stimuli if stimulus is not None), default=1)
    rows = 1 << (most - 1).bit_length()
    lanes = [_lane(stimulus, rows, regions, dt) for stimulus in stimuli]
    stacked = {name: np.stack([lane[name] for lane in lanes], axis=-1) for name in Currents._fields}
    # float: single or double, as the caller has switched JAX
    return Currents(**{k: jnp.asarray(v, dtype=float if v.dtype.kind == "f" else None) for k, v in stacked.items()})


def _lane(stimulus: Stimulus | None, rows: int, regions: int, dt: float) -> dict[str, np.ndarray]:
    waveforms = () if stimulus is None else stimulus.waveforms
    amplitude = np.zeros((rows, regions))
    if stimulus is not None:
        if stimulus.amplitude.shape[1] != regions:
            raise ValueError(f"stimulus must have one amplitude per region, got {stimulus.amplitude.shape[1]}")
        amplitude[: len(waveforms)] = stimulus.amplitude
    columns = [_numbers(waveform, dt) for waveform in (*waveforms, *[Waveform()] * (rows - len(waveforms)))]
    return {"amplitude": amplitude, **{name: np.array([column[name] for column in columns]) for name in columns[0]}}


def _numbers(wave: Waveform, dt: float) -> dict[str, Any]:
    """A waveform in time steps and phases."""
    onset, onset_within = _steps(1000.0 * wave.onset, dt)
    offset, offset_within = _steps(1000.0 * wave.offset, dt)
    per_step = Fraction(dt) / Fraction(wave.period)
    advance = round(per_step * _CYCLE * _CYCLE) % (_CYCLE * _CYCLE)
    slot_steps = wave.period / wave.slots / dt
    width, second, second_width = (
        min(round(part * wave.slots / wave.period * _CYCLE), _CYCLE - 1)
        for part in (wave.width, wave.width + wave.gap, wave.second_width)
    )
    second_width = min(second_width, _CYCLE - 1 - second)
    height, second_height = wave.height * slot_steps / _CYCLE, wave.second_height * slot_steps / _CYCLE
    if wave.is_balanced and second_width:
        second_height = -height * width / second_width
        charge = 0.0
    else:
        charge = height * width + second_height * second_width
    last = 0.0 if wave.offset == math.inf else (1000.0 * (wave.offset - wave.onset) / wave.period) % 1.0
    numbers = {
        "onset": np.int32(onset),
        "onset_within": onset_within,
        "offset": np.int32(offset),
        "offset_within": offset_within,
        "advance": np.uint32(advance // _CYCLE),
        "advance_rest": np.uint32(advance % _CYCLE),
        "lead": np.uint32(round(onset_within * float(per_step) * _CYCLE) % _CYCLE),
        "last": np.uint32(round(last * _CYCLE) % _CYCLE),
        "cycles": float(per_step),
        "slots": np.uint32(wave.slots),
        "pulses": np.uint32(wave.pulses),
        "width": np.uint32(width),
        "second": np.uint32(second),
        "second_width": np.uint32(second_width),
    }
    heights = {"height": height, "second_height": second_height, "charge": charge}
    return numbers | heights | {"level": wave.level, "oscillation": wave.oscillation}


def _steps(milliseconds: float, dt: float) -> tuple[int, float]:
    """The step in which a moment falls, and where within that step."""
    steps = milliseconds / dt
    if steps >= _NEVER:
        return _NEVER, 0.0
    steps = round(steps, 6)  # a moment meant to be on a step is not to fall just before it
    return math.floor(steps), steps - math.floor(steps)


def _difference(later: Array, sooner: Array, dtype: Any) -> Array:
    """The signed difference of two phases."""
    return jnp.asarray(jnp.where(later >= sooner, (later - sooner).astype(dtype), -(sooner - later).astype(dtype)))


def _upper(a: Array, b: Array) -> Array:
    """The upper 32 bits of the 64-bit product of two unsigned integers of 32 bits."""
    half, mask = jnp.uint32(16), jnp.uint32(0xFFFF)
    a_high, a_low, b_high, b_low = a >> half, a & mask, b >> half, b & mask
    crossed, other = a_high * b_low, a_low * b_high
    carry = ((a_low * b_low) >> half) + (crossed & mask) + (other & mask)
    return jnp.asarray(a_high * b_high + (crossed >> half) + (other >> half) + (carry >> half))
