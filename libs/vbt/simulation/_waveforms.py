"""The time course of a stimulus: one family of closed-form waveforms that holds every kind of stimulation."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """A current of unit size against time, as numbers only, so that one compiled kernel runs every kind.

    Between ``onset`` and ``offset`` it is ``level`` + ``oscillation``·cos(2πt/period) + pulses, with t counted from the
    onset. A cycle of ``period`` is cut into ``slots`` equal slots; each of its first ``pulses`` slots begins with a
    rectangle of ``height`` lasting ``width``, and after ``gap`` one of ``second_height`` lasting ``second_width``.

    The constructors `constant`, `pulse_train`, `biphasic_train`, `sonication` and `beat` fill it in.

    Parameters
    ----------
    onset, offset : s since the simulation began, its transient included; without an offset it never ends
    period, width, gap, second_width : ms
    """

    onset: float = 0.0
    offset: float = math.inf
    level: float = 0.0
    oscillation: float = 0.0
    period: float = 1000.0
    slots: int = 1
    pulses: int = 1
    width: float = 0.0
    height: float = 0.0
    gap: float = 0.0
    second_width: float = 0.0
    second_height: float = 0.0

    def __post_init__(self) -> None:
        numbers = [getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "offset"]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("every number of a waveform but its offset must be finite")
        if not 0.0 <= self.onset < self.offset:
            raise ValueError(f"stimulus must end after it begins, got {self.onset} to {self.offset} s")
        if not self.period > 0.0:
            raise ValueError(f"period must be positive, got {self.period} ms")
        if not 1 <= self.pulses <= self.slots:
            raise ValueError(f"pulses must be within 1 and the {self.slots} slots of a cycle, got {self.pulses}")
        if min(self.width, self.gap, self.second_width) < 0.0:
            raise ValueError("widths and gap must not be negative")
        used, slot = self.width + self.gap + self.second_width, self.period / self.slots
        if used > slot * (1.0 + 1e-9):
            raise ValueError(f"pulse must fit into its {slot:g} ms, got {used:g} ms")

    @property
    def is_balanced(self) -> bool:
        """Whether the two phases of a pulse carry the same charge with opposite signs."""
        first, second = self.width * self.height, self.second_width * self.second_height
        return abs(first + second) <= 1e-9 * max(abs(first), abs(second))


def constant(*, onset: float = 0.0, offset: float = math.inf) -> Waveform:
    """A direct current of 1 between ``onset`` and ``offset`` (s)."""
    return Waveform(onset=onset, offset=offset, level=1.0)


def pulse_train(*, frequency: float, width: float, onset: float = 0.0, offset: float = math.inf) -> Waveform:
    """Rectangular pulses of height 1, the first at the onset.

    SEEG stimulation is 1 Hz or 50 Hz with pulses of 1 ms (Wang et al. 2025, Nat. Comput. Sci.).

    Parameters
    ----------
    frequency : Hz
    width : ms
    """
    period = _period(frequency)
    if not 0.0 < width <= period:
        raise ValueError(f"pulse width must be in (0, period], got {width} of {period:g} ms")
    if width == period:
        return constant(onset=onset, offset=offset)
    return Waveform(onset=onset, offset=offset, period=period, width=width, height=1.0)


def biphasic_train(
    *,
    frequency: float = 130.0,
    width: float = 0.06,
    gap: float = 0.0,
    recovery: Literal["active", "passive"] = "active",
    cathodic_first: bool = True,
    onset: float = 0.0,
    offset: float = math.inf,
) -> Waveform:
    """Charge-balanced pulses of height ∓1: what the first phase injects, the second takes back.

    Active recovery mirrors the first phase. Passive recovery spreads the return over the rest of the cycle, low and
    flat: a discharging electrode's exponential is replaced by its mean, which carries the same charge.

    Parameters
    ----------
    frequency : Hz; 130 Hz and 60 µs are common clinical settings of deep brain stimulation
    width, gap : ms, of the first phase and between the phases
    cathodic_first : the first phase is negative
    """
    period = _period(frequency)
    second = width if recovery == "active" else period - width - gap
    if not (width > 0.0 and gap >= 0.0 and second > 0.0 and width + gap + second <= period * (1.0 + 1e-9)):
        raise ValueError(f"both phases must fit into a period of {period:g} ms, got {width} + {gap} + {second:g} ms")
    first = -1.0 if cathodic_first else 1.0
    return Waveform(
        onset=onset,
        offset=offset,
        period=period,
        width=width,
        height=first,
        gap=gap,
        second_width=second,
        second_height=-first * width / second,
    )


def sonication(
    *,
    pulse_repetition_frequency: float,
    duty_cycle: float,
    duration: float,
    interval: float | None = None,
    onset: float = 0.0,
    offset: float = math.inf,
) -> Waveform:
    """Bursts of ultrasound pulses, as the envelope of the pressure's intensity: 1 while sound is on.

    The ultrasound itself (hundreds of kHz) is not resolved. That a neural population receives a current in proportion
    to this envelope is a hypothesis, not an established mechanism.

    Parameters
    ----------
    pulse_repetition_frequency : Hz
    duty_cycle : fraction of a pulse's period that sounds, in (0, 1]
    duration : s of one sonication, a whole number of pulses
    interval : s from one sonication's begin to the next's, a whole number of pulses; None for a single sonication
    """
    pulse = _period(pulse_repetition_frequency)
    if not 0.0 < duty_cycle <= 1.0:
        raise ValueError(f"duty cycle must be in (0, 1], got {duty_cycle}")
    pulses = _whole("duration", 1000.0 * duration / pulse)
    if interval is None:
        offset = min(offset, onset + duration)
    slots = pulses if interval is None else _whole("interval", 1000.0 * interval / pulse)
    if slots < pulses:
        raise ValueError(f"sonications of {duration} s must not overlap at intervals of {interval} s")
    return Waveform(
        onset=onset,
        offset=offset,
        period=pulse * slots,
        slots=slots,
        pulses=pulses,
        width=min(duty_cycle * pulse, pulse * slots / slots),
        height=1.0,
    )


def beat(*, frequency: float, onset: float = 0.0, offset: float = math.inf) -> Waveform:
    """The envelope of two interfering carriers, between 0 and 1: (1 − cos 2πΔf t)/2 with Δf the beat frequency (Hz).

    The envelope of two fields E₁, E₂ along a direction runs between ||E₁|−|E₂|| and |E₁|+|E₂|, so it varies by
    2·min(|E₁|, |E₂|), which is what the amplitude of this waveform is to be. Its harmonics are left out, and so are its
    constant part and the carriers: that neurons do not follow a carrier above 1 kHz is the technique's premise.
    """
    return Waveform(onset=onset, offset=offset, level=0.5, oscillation=-0.5, period=_period(frequency))


def _period(frequency: float) -> float:
    if not (math.isfinite(frequency) and frequency > 0.0):
        raise ValueError(f"frequency must be positive, got {frequency} Hz")
    return 1000.0 / frequency


def _whole(name: str, pulses: float) -> int:
    whole = round(pulses)
    if whole < 1 or abs(pulses - whole) > 1e-6 * whole:
        raise ValueError(f"{name} must be a whole number of pulses, got {pulses:g}")
    return whole
