"""Spectra while the simulation runs: Welch's average and a spectrogram, in memory that does not grow with time.

A signal is averaged over each sampling interval and nothing else is done against aliasing: what lies above half the
sampling rate is weakened by the average, not removed. Frequencies are in Hz, densities in the signal's unit² per Hz,
one-sided, so that their integral is the variance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vbt.simulation._lead_field import LeadField
from vbt.simulation._network import Network
from vbt.simulation._neural_mass import Variable, activity_unit, fixed

_Spectral = TypeVar("_Spectral", bound="_Segments")


class _Recent(NamedTuple):
    """The samples of the last segment, in a ring, and the one in the making."""

    ring: Float[Array, "sample channel lane"]
    taken: Int[Array, ""]
    total: Float[Array, "region lane"]
    chunks: Int[Array, ""]


class _Averaged(NamedTuple):
    recent: _Recent
    power: Float[Array, "frequency channel lane"]
    segments: Int[Array, ""]


@dataclass(frozen=True, kw_only=True)
class _Segments:
    """How a signal is cut up and transformed.

    Parameters
    ----------
    period : s between spectra
    sampling_interval : s between the samples that are transformed
    segment : s, so that frequencies are 1/segment apart; a Hann window goes over it and its mean is taken off
    highest : Hz; frequencies above are not kept; None to keep all
    signal_unit : of the sensors' signal; that of regions is their mass's
    lead_field : to have spectra of sensors instead of regions; its gain and sensors are all that is used
    """

    period: float = fixed(dataclasses.MISSING)
    sampling_interval: float = fixed(0.004)
    segment: float = fixed(2.0)
    highest: float | None = fixed(None)
    signal_unit: str = fixed("1")
    sensors: tuple[str, ...] | None = fixed(None)
    gain: Any = None
    present: Any = None

    def __post_init__(self) -> None:
        if not (self.sampling_interval > 0.0 and self.period > 0.0):
            raise ValueError("period and sampling interval must be positive")
        samples = self.segment / self.sampling_interval
        if round(samples) < 2 or not math.isclose(samples, round(samples), rel_tol=1e-9):
            raise ValueError(f"segment must be two or more whole sampling intervals, got {samples:g}")
        intervals = self.period / self.sampling_interval
        if not math.isclose(intervals, round(intervals), rel_tol=1e-9):
            raise ValueError(f"period must be whole sampling intervals, got {intervals:g}")
        if self.highest is not None and not self.highest > 0.0:
            raise ValueError(f"highest frequency must be positive, got {self.highest} Hz")

    @classmethod
    def of(cls: type[_Spectral], lead_field: LeadField, **settings: Any) -> _Spectral:
        """Spectra of what sensors see; the settings are those of the class."""
        return cls(gain=lead_field.gain, sensors=lead_field.sensors, signal_unit=lead_field.unit, **settings)

    @property
    def resolution(self) -> float:
        """s; chunks of the simulation have to divide it."""
        return self.sampling_interval

    @property
    def unit(self) -> str:
        return "Hz-1" if self.signal_unit == "1" else f"({self.signal_unit})2/Hz"

    @property
    def frequencies(self) -> Float[np.ndarray, " frequency"]:
        """Hz; with the channels (frequency outermost) they make the labels."""
        every = np.fft.rfftfreq(self._samples, self.sampling_interval)
        return every if self.highest is None else np.asarray(every[every <= self.highest * (1.0 + 1e-9)])

    @property
    def _samples(self) -> int:
        return round(self.segment / self.sampling_interval)

    def labels(self, region_labels: tuple[str, ...]) -> tuple[str, ...]:
        channels = region_labels if self.sensors is None else self.sensors
        return tuple(f"{channel} {frequency:g} Hz" for frequency in self.frequencies for channel in channels)

    def spectra(self, values: Float[np.ndarray, "run time channel"]) -> Float[np.ndarray, "run time frequency signal"]:
        """An observation's values with frequencies and regions (or sensors) apart."""
        return values.reshape(*values.shape[:2], len(self.frequencies), -1)

    def bound(self: _Spectral, networks: Sequence[Network]) -> _Spectral:
        """The monitor with the regions that each run still has.

        Raises
        ------
        ValueError
            where the gain's columns are not the networks' regions.
        """
        regions = networks[0].regions
        if self.gain is not None and np.shape(self.gain)[1] != regions:
            raise ValueError(f"gain must have {regions} regions, got {np.shape(self.gain)[1]}")
        present = np.stack([np.ones(regions) if n.active is None else n.active for n in networks], axis=-1)
        gain = None if self.gain is None else jnp.asarray(self.gain, dtype=float)
        unit = activity_unit(networks[0].mass) if self.gain is None else self.signal_unit
        return dataclasses.replace(self, gain=gain, present=jnp.asarray(present, dtype=float), signal_unit=unit)

    def _begin(self, like: Variable) -> _Recent:
        seen = self._seen(like)
        return _Recent(
            ring=jnp.zeros((self._samples, *seen.shape), like.dtype),
            taken=jnp.zeros((), jnp.int32),
            total=jnp.zeros_like(like),
            chunks=jnp.zeros((), jnp.int32),
        )

    def _seen(self, activity: Variable) -> Float[Array, "channel lane"]:
        here = jnp.where(self.present > 0.0, activity, 0.0)
        if self.gain is None:
            return here
        return jnp.tensordot(self.gain, here, axes=1, precision=jax.lax.Precision.HIGHEST)

    def _pushed(self, recent: _Recent, activity: Variable, seconds: float) -> tuple[_Recent, Bool[Array, ""]]:
        """One chunk later, and whether a sample was completed by it."""
        chunks = round(self.sampling_interval / seconds)
        if not math.isclose(chunks * seconds, self.sampling_interval, rel_tol=1e-6):
            raise ValueError(
                f"sampling interval must be whole chunks of {seconds:g} s, got {self.sampling_interval:g} s"
            )
        total, count = recent.total + activity, recent.chunks + 1
        complete = count == chunks
        # Written whether complete or not, and over until it is: a condition here would copy the ring every time.
        place = jnp.mod(recent.taken, self._samples)
        ring = jax.lax.dynamic_update_index_in_dim(recent.ring, self._seen(total / chunks), place, axis=0)
        after = _Recent(
            ring=ring,
            taken=recent.taken + complete,
            total=jnp.where(complete, 0.0, total),
            chunks=jnp.where(complete, 0, count),
        )
        return after, complete

    def _periodogram(self, recent: _Recent) -> Float[Array, "frequency channel lane"]:
        """Of the last segment, oldest sample first, as `scipy.signal.welch` has it."""
        samples, dtype = self._samples, recent.ring.dtype
        window = np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(samples) / samples))
        ordered = jnp.roll(recent.ring, -jnp.mod(recent.taken, samples), axis=0)
        centred = ordered - ordered.mean(axis=0)
        transformed = jnp.fft.rfft(centred * jnp.asarray(window, dtype)[:, None, None], axis=0)
        kept = transformed[: len(self.frequencies)]
        sides = np.full(len(self.frequencies), 2.0)
        sides[0] = 1.0
        if samples % 2 == 0 and len(sides) == samples // 2 + 1:
            sides[-1] = 1.0
        scale = sides * self.sampling_interval / (window**2).sum()
        power = kept.real**2 + kept.imag**2
        return jnp.asarray(power * jnp.asarray(scale, dtype)[:, None, None])

    def _masked(self, density: Float[Array, "frequency channel lane"]) -> Float[Array, "channel lane"]:
        """Frequencies outermost in one axis; NaN for regions that were removed."""
        if self.gain is None:
            density = jnp.where(self.present > 0.0, density, jnp.nan)
        return density.reshape(-1, density.shape[-1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PowerSpectrum(_Segments):
    """Power spectral density by Welch's method, averaged over the segments within each period.

    Periods are independent: each begins with a fresh segment. NaN where not one segment fitted. The parameters are
    those of `_Segments`, and

    Parameters
    ----------
    overlap : fraction of a segment that the next one shares
    """

    overlap: float = fixed(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"overlap must be in [0, 1), got {self.overlap}")
        if self.period < self.segment * (1.0 - 1e-9):
            raise ValueError(f"period must hold a segment of {self.segment:g} s, got {self.period:g} s")

    def begin(self, like: Variable) -> _Averaged:
        recent = self._begin(like)
        shape = (len(self.frequencies), *recent.ring.shape[1:])
        return _Averaged(recent, jnp.zeros(shape, like.dtype), jnp.zeros((), jnp.int32))

    def step(self, carry: _Averaged, activity: Variable, seconds: float) -> _Averaged:
        recent, complete = self._pushed(carry.recent, activity, seconds)
        samples = self._samples
        hop = samples - math.floor(self.overlap * samples + 1e-9)
        full = complete & (recent.taken >= samples) & (jnp.mod(recent.taken - samples, hop) == 0)
        power = jax.lax.cond(
            full, lambda power, recent: power + self._periodogram(recent), lambda power, _: power, carry.power, recent
        )
        return _Averaged(recent, power, carry.segments + full)

    def sample(self, carry: _Averaged, state: tuple[Variable, ...]) -> tuple[_Averaged, Float[Array, "channel lane"]]:
        del state
        mean = jnp.where(carry.segments > 0, carry.power / carry.segments, jnp.nan)
        # The ring need not be emptied: nothing reads a sample that was not taken since.
        none = jnp.zeros_like(carry.recent.taken)
        fresh = carry.recent._replace(taken=none, total=jnp.zeros_like(carry.recent.total), chunks=none)
        return _Averaged(fresh, jnp.zeros_like(carry.power), jnp.zeros_like(carry.segments)), self._masked(mean)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Spectrogram(_Segments):
    """The power spectral density of the segment that ends at each sample; NaN until a first segment is full.

    A segment may reach back into the transient. The parameters are those of `_Segments`.
    """

    def begin(self, like: Variable) -> _Recent:
        return self._begin(like)

    def step(self, carry: _Recent, activity: Variable, seconds: float) -> _Recent:
        return self._pushed(carry, activity, seconds)[0]

    def sample(self, carry: _Recent, state: tuple[Variable, ...]) -> tuple[_Recent, Float[Array, "channel lane"]]:
        del state
        density = jnp.where(carry.taken >= self._samples, self._periodogram(carry), jnp.nan)
        return carry, self._masked(density)
