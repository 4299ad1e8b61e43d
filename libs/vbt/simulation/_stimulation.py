"""Electrical and ultrasonic stimulation: electrodes, settings and a declared sensitivity become a current per region.

How much a neural mass's input current is moved by a volt per metre is not known from first principles. Every condition
here takes that sensitivity as a number of its own, and what it is worth is a hypothesis that goes into the record.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from vbt.simulation._conditions import Condition, recorded, region_indices
from vbt.simulation._electric_field import GREY_MATTER, PointSource, electric_field, normal_field, potential
from vbt.simulation._network import Network
from vbt.simulation._stimulus import Stimulus
from vbt.simulation._waveforms import Waveform, beat, biphasic_train, pulse_train, sonication

CHARGE_DENSITY_LIMIT = 30.0  # µC/cm² per phase; the customary flag of deep brain stimulation
MECHANICAL_INDEX_LIMIT = 1.9  # of diagnostic ultrasound

recorded(Waveform)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class Current(Condition):
    """A current straight into regions, in the units of the neural mass's input.

    Parameters
    ----------
    regions : indices, or labels where the network has them
    amplitude : one for all of them, or one each
    """

    regions: tuple[int | str, ...]
    amplitude: float | Float[np.ndarray, " chosen"]
    waveform: Waveform

    def __call__(self, network: Network) -> Network:
        amplitudes = np.zeros(network.regions)
        amplitudes[region_indices(network, self.regions)] = self.amplitude
        return with_current(network, amplitudes, self.waveform)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class ElectrodeStimulation(Condition):
    """Current from electrode contacts, felt through the field along the cortical normal, or through the potential.

    Parameters
    ----------
    sources : contacts with their currents at the waveform's height of 1; a bipolar pair has opposite currents
    centres : mm, of the network's regions
    orientations : outward cortical normals; None to let regions feel the potential instead
    sensitivity : input current of the neural mass per V/m (per V of potential)
    conductivity : S/m
    contact_radius : mm
    """

    sources: tuple[PointSource, ...]
    waveform: Waveform
    centres: Float[np.ndarray, "region 3"]
    orientations: Float[np.ndarray, "region 3"] | None
    sensitivity: float
    conductivity: float = GREY_MATTER
    contact_radius: float = 0.5

    def amplitudes(self) -> Float[np.ndarray, " region"]:
        """Input current per region while the waveform is 1."""
        where = {"conductivity": self.conductivity, "contact_radius": self.contact_radius}
        if self.orientations is None:
            return self.sensitivity * potential(self.sources, self.centres, **where)
        return self.sensitivity * normal_field(electric_field(self.sources, self.centres, **where), self.orientations)

    def __call__(self, network: Network) -> Network:
        return with_current(network, self.amplitudes(), self.waveform)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class DeepBrainStimulation(Condition):
    """Charge-balanced pulses from the contacts of a lead, with the figures a neurologist checks them by.

    A balanced pulse is over within a time step: its mean is zero and a neural mass that receives the current itself
    feels next to nothing. ``response="activation"`` therefore lets each pulse act by its first phase alone, as an axon
    that fires once per pulse does; that, and its size, are hypotheses.

    Parameters
    ----------
    sources : contacts with the current of the first phase; the case of the stimulator is far away and left out
    frequency : Hz
    pulse_width, gap : µs, of the first phase and between the phases
    contact_area : cm² of one contact; 0.06 is a cylinder 1.5 mm long and 1.27 mm wide
    impedance : Ω
    centres, orientations, sensitivity, conductivity, contact_radius : see `ElectrodeStimulation`
    """

    sources: tuple[PointSource, ...]
    centres: Float[np.ndarray, "region 3"]
    orientations: Float[np.ndarray, "region 3"] | None
    sensitivity: float
    frequency: float = 130.0
    pulse_width: float = 60.0
    gap: float = 0.0
    recovery: Literal["active", "passive"] = "active"
    response: Literal["current", "activation"] = "activation"
    contact_area: float = 0.06
    impedance: float = 1000.0
    conductivity: float = GREY_MATTER
    contact_radius: float = 0.635
    onset: float = 0.0
    offset: float = math.inf

    def __post_init__(self) -> None:
        if not (self.contact_area > 0.0 and self.impedance > 0.0 and self.sources):
            raise ValueError("stimulation needs a contact, a positive contact area and a positive impedance")
        if self.response not in ("current", "activation"):
            raise ValueError(f"response must be current or activation, got {self.response!r}")

    @property
    def delivered(self) -> float:
        """mA through the tissue in the first phase."""
        out = sum(max(source.current, 0.0) for source in self.sources)
        back = sum(max(-source.current, 0.0) for source in self.sources)
        return max(out, back)

    @property
    def charge_per_phase(self) -> float:
        """µC through the contact that carries most."""
        return max(abs(source.current) for source in self.sources) * self.pulse_width / 1000.0

    @property
    def charge_density(self) -> float:
        """µC/cm² per phase on the contact that carries most."""
        return self.charge_per_phase / self.contact_area

    @property
    def exceeds_charge_limit(self) -> bool:
        """Whether the charge density is above 30 µC/cm²."""
        return self.charge_density > CHARGE_DENSITY_LIMIT

    @property
    def power(self) -> float:
        """µW into the tissue by the first phases, I² R · width · frequency; active recovery takes as much again.

        References
        ----------
        Koss et al. (2005), Mov. Disord. 20, 1651: total electrical energy delivered in one second.
        """
        return self.delivered**2 * self.impedance * self.pulse_width * self.frequency / 1e6

    @property
    def waveform(self) -> Waveform:
        width, gap = self.pulse_width / 1000.0, self.gap / 1000.0
        if self.response == "activation":
            return pulse_train(frequency=self.frequency, width=width, onset=self.onset, offset=self.offset)
        return biphasic_train(
            frequency=self.frequency,
            width=width,
            gap=gap,
            recovery=self.recovery,
            cathodic_first=False,  # the sign is the sources'
            onset=self.onset,
            offset=self.offset,
        )

    def __call__(self, network: Network) -> Network:
        felt = ElectrodeStimulation(
            sources=self.sources,
            waveform=self.waveform,
            centres=self.centres,
            orientations=self.orientations,
            sensitivity=self.sensitivity,
            conductivity=self.conductivity,
            contact_radius=self.contact_radius,
        )
        return felt(network)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class TemporalInterference(Condition):
    """Two carriers above 1 kHz whose envelope beats: 2 · min(|E₁·n|, |E₂·n|) along the cortical normal n.

    Parameters
    ----------
    first, second : the contacts of the two channels with their peak currents
    carrier : Hz, of the first channel; the second runs at ``carrier + beat``
    sensitivity : input current of the neural mass per V/m of envelope, peak to trough; a hypothesis
    centres, orientations, conductivity, contact_radius : see `ElectrodeStimulation`

    References
    ----------
    Grossman et al. (2017), Cell 169, 1029.
    """

    first: tuple[PointSource, ...]
    second: tuple[PointSource, ...]
    carrier: float
    beat: float
    centres: Float[np.ndarray, "region 3"]
    orientations: Float[np.ndarray, "region 3"]
    sensitivity: float
    conductivity: float = GREY_MATTER
    contact_radius: float = 0.5
    onset: float = 0.0
    offset: float = math.inf

    def __post_init__(self) -> None:
        if not self.carrier > 1000.0:
            raise ValueError(f"carrier must be above 1000 Hz, or neurons follow it, got {self.carrier} Hz")
        if not 0.0 < self.beat < self.carrier:
            raise ValueError(f"beat must be positive and below the carrier, got {self.beat} Hz")

    def envelope(self) -> Float[np.ndarray, " region"]:
        """V/m from the envelope's trough to its peak, per region."""
        where = {"conductivity": self.conductivity, "contact_radius": self.contact_radius}
        along = [
            np.abs(normal_field(electric_field(sources, self.centres, **where), self.orientations))
            for sources in (self.first, self.second)
        ]
        return np.asarray(2.0 * np.minimum(*along))

    def __call__(self, network: Network) -> Network:
        course = beat(frequency=self.beat, onset=self.onset, offset=self.offset)
        return with_current(network, self.sensitivity * self.envelope(), course)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class FocusedUltrasound(Condition):
    """Transcranial focused ultrasound: a Gaussian focus of pressure, its intensity, and a hypothetical current.

    p = T p₀ exp(−d⊥²/2σ⊥² − d∥²/2σ∥²),  I = p²/2ρc,  u = sign · Emax Iʰ/(I50ʰ + Iʰ)

    That intensity drives or silences a population in this way is a hypothesis; the record says so by its field.

    Parameters
    ----------
    focus, axis : mm, and the direction of the beam
    pressure : p₀ in MPa, peak, free field; ``transmission`` T through the skull
    frequency : MHz, of the ultrasound
    width, depth : σ⊥ and σ∥, mm
    pulse_repetition_frequency, duty_cycle, duration, interval : see `sonication`
    largest, half_intensity, steepness : Emax in the mass's input current, I50 in W/cm², h
    sign : +1 excites, −1 inhibits
    """

    focus: tuple[float, float, float]
    axis: tuple[float, float, float]
    pressure: float
    frequency: float
    width: float
    depth: float
    pulse_repetition_frequency: float
    duty_cycle: float
    duration: float
    centres: Float[np.ndarray, "region 3"]
    largest: float
    half_intensity: float
    steepness: float = 1.0
    sign: Literal[-1, 1] = 1
    transmission: float = 1.0
    interval: float | None = None
    density: float = 1000.0
    sound_speed: float = 1500.0
    onset: float = 0.0
    offset: float = math.inf
    mapping: str = "hypothesis: intensity to membrane current"

    def __post_init__(self) -> None:
        positive = (self.frequency, self.width, self.depth, self.half_intensity, self.density, self.sound_speed)
        if not all(math.isfinite(x) and x > 0.0 for x in positive):
            raise ValueError("frequency, focus widths, I50, density and speed of sound must be positive")
        if not (self.pressure >= 0.0 and 0.0 < self.transmission <= 1.0):
            raise ValueError("pressure must not be negative and transmission must be in (0, 1]")
        if not np.linalg.norm(self.axis) > 0.0:
            raise ValueError("the beam needs a direction")

    def pressures(self) -> Float[np.ndarray, " region"]:
        """Peak pressure in every region, MPa."""
        axis = np.array(self.axis) / np.linalg.norm(self.axis)
        offsets = np.asarray(self.centres, dtype=float) - np.array(self.focus)
        along = offsets @ axis
        across = (offsets**2).sum(axis=-1) - along**2
        decay = np.exp(-across / (2.0 * self.width**2) - along**2 / (2.0 * self.depth**2))
        return np.asarray(self.transmission * self.pressure * decay)

    def intensities(self) -> Float[np.ndarray, " region"]:
        """Spatial-peak-style pulse-average intensity of a sine of that pressure in every region, W/cm²."""
        return (1e6 * self.pressures()) ** 2 / (2.0 * self.density * self.sound_speed) / 1e4

    @property
    def mechanical_index(self) -> float:
        """Peak pressure behind the skull in MPa over the root of the frequency in MHz."""
        return self.transmission * self.pressure / math.sqrt(self.frequency)

    @property
    def exceeds_mechanical_limit(self) -> bool:
        """Whether the mechanical index is above 1.9."""
        return self.mechanical_index > MECHANICAL_INDEX_LIMIT

    def amplitudes(self) -> Float[np.ndarray, " region"]:
        """Input current per region while sound is on."""
        powered = self.intensities() ** self.steepness
        return np.asarray(self.sign * self.largest * powered / (self.half_intensity**self.steepness + powered))

    def __call__(self, network: Network) -> Network:
        course = sonication(
            pulse_repetition_frequency=self.pulse_repetition_frequency,
            duty_cycle=self.duty_cycle,
            duration=self.duration,
            interval=self.interval,
            onset=self.onset,
            offset=self.offset,
        )
        return with_current(network, self.amplitudes(), course)


def stimulate(network: Network, regions: tuple[int | str, ...], amplitude: float, waveform: Waveform) -> Network:
    """The network with one more current into some regions, in the units of the neural mass's input."""
    return Current(regions=regions, amplitude=amplitude, waveform=waveform)(network)


def with_current(network: Network, amplitudes: Float[np.ndarray, " region"], waveform: Waveform) -> Network:
    """The network with one more current into it; the same network where no region feels it.

    Raises
    ------
    ValueError
        where there is not one amplitude per region.
    """
    if amplitudes.shape != (network.regions,):
        raise ValueError(f"stimulation must reach {network.regions} regions, got {amplitudes.shape[0]}")
    if not amplitudes.any():
        return network
    added = Stimulus(amplitude=amplitudes, waveforms=(waveform,))
    return dataclasses.replace(network, stimulus=added if network.stimulus is None else network.stimulus + added)
