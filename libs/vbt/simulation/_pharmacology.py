"""A drug: doses become a concentration, the concentration an effect, and the effect declared changes of parameters.

Hypothesis-generating only: nothing here advises a dose. The concentration is held during a simulation, which lasts
seconds to minutes while kinetics last hours.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from jaxtyping import Float

from vbt.simulation._conditions import Condition, recorded
from vbt.simulation._network import Network


@recorded
@dataclass(frozen=True, kw_only=True)
class Dose:
    """One administration.

    Parameters
    ----------
    time : h
    amount : mg
    """

    time: float
    amount: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time) and math.isfinite(self.amount) and self.amount >= 0.0):
            raise ValueError(f"dose must be finite and not negative, got {self.amount} mg at {self.time} h")


@recorded
@dataclass(frozen=True, kw_only=True)
class Pharmacokinetics:
    """One compartment with first-order absorption and elimination, and an effect site that follows the plasma.

    gut' = −ka gut,  C' = ka gut / V − ke C,  Ce' = ke0 (C − Ce)

    Parameters
    ----------
    volume : L, of distribution
    elimination : ke, h⁻¹
    absorption : ka, h⁻¹; None for an intravenous bolus
    bioavailability : F, fraction of an oral dose that reaches the plasma
    equilibration : ke0, h⁻¹; None where the effect site is the plasma
    source : where the numbers come from, or "hypothesis"
    """

    volume: float
    elimination: float
    absorption: float | None = None
    bioavailability: float = 1.0
    equilibration: float | None = None
    source: str

    def __post_init__(self) -> None:
        rates = (self.volume, self.elimination, *(r for r in (self.absorption, self.equilibration) if r is not None))
        if not all(math.isfinite(rate) and rate > 0.0 for rate in rates):
            raise ValueError("volume and rates must be positive and finite")
        if not 0.0 < self.bioavailability <= 1.0:
            raise ValueError(f"bioavailability must be in (0, 1], got {self.bioavailability}")

    def plasma(self, doses: tuple[Dose, ...], times: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """Concentration in plasma, mg/L, at times in h."""
        return self._concentrations(doses, times)[:, 1]

    def effect_site(self, doses: tuple[Dose, ...], times: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """Concentration where the drug acts, mg/L, at times in h."""
        return self._concentrations(doses, times)[:, 1 if self.equilibration is None else 2]

    def _concentrations(self, doses: tuple[Dose, ...], times: np.ndarray) -> np.ndarray:
        # The matrix exponential has no singular case where two rates agree, which the sum of exponentials has.
        ka, ke0 = self.absorption or 0.0, self.equilibration or 0.0
        rates = np.array([[-ka, 0.0, 0.0], [ka, -self.elimination, 0.0], [0.0, ke0, -ke0]])
        total = np.zeros((len(times), 3))
        for dose in doses:
            begin = np.array([dose.amount / self.volume, 0.0, 0.0])
            begin = self.bioavailability * begin if self.absorption else np.roll(begin, 1)
            since = np.asarray(times, dtype=float) - dose.time
            after = since >= 0.0
            if after.any() and dose.amount:
                total[after] += scipy.linalg.expm(rates * since[after, None, None]) @ begin
        return total


@recorded
@dataclass(frozen=True, kw_only=True)
class DoseResponse:
    """The sigmoid Emax model, E = Emax Cʰ / (EC50ʰ + Cʰ).

    Parameters
    ----------
    largest : Emax, as a fraction of the changes declared for the drug
    half_effective : EC50, mg/L
    steepness : h, Hill's coefficient
    source : where the numbers come from, or "hypothesis"
    """

    largest: float = 1.0
    half_effective: float
    steepness: float = 1.0
    source: str

    def __post_init__(self) -> None:
        if not (self.half_effective > 0.0 and self.steepness > 0.0 and math.isfinite(self.largest)):
            raise ValueError("EC50 and steepness must be positive, and the largest effect finite")

    def effect(self, concentration: float | Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """E at concentrations in mg/L; none without the drug."""
        concentration = np.asarray(concentration, dtype=float)
        present = concentration > 0.0
        ratio = self.half_effective / np.where(present, concentration, 1.0)
        return np.where(present, self.largest / (1.0 + ratio**self.steepness), 0.0)


@recorded
@dataclass(frozen=True, kw_only=True)
class ParameterChange:
    """What a full effect (E = 1) does to one parameter; smaller effects do proportionally less.

    Parameters
    ----------
    parameter : name in the neural mass, or ``"coupling"`` or ``"velocity"`` of the network
    operation : ``"scale"`` p (1 + amount E), ``"shift"`` p + amount E
    amount : dimensionless to scale, in the parameter's own unit to shift
    source : citation, or "hypothesis"
    """

    parameter: str
    operation: Literal["scale", "shift"]
    amount: float
    source: str

    def __post_init__(self) -> None:
        if self.operation not in ("scale", "shift"):
            raise ValueError(f"operation must be scale or shift, got {self.operation!r}")
        if not self.source:
            raise ValueError(f"the change of {self.parameter} must name its source, or say that it is a hypothesis")

    def apply(self, value: Any, effect: Any) -> Any:
        """The changed parameter under an effect, a number or one per region or tract."""
        return value * (1.0 + self.amount * effect) if self.operation == "scale" else value + self.amount * effect


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class Drug(Condition):
    """A network some time after doses of a drug. Without a dose it is the same network to the last bit.

    Parameters
    ----------
    name : what the record calls it
    changes : the declared parameter map; `drug_changes` proposes one per class of drug and neural mass
    doses, kinetics, response : how much, where it goes, what it does
    time : h, the moment simulated
    sensitivity : relative effect per region, e.g. receptor density; None for 1 everywhere
    lesions : lesioned fraction per tract, `[target, source]`; a change of velocity acts on tracts in this proportion
    """

    name: str
    changes: tuple[ParameterChange, ...]
    doses: tuple[Dose, ...]
    kinetics: Pharmacokinetics
    response: DoseResponse
    time: float
    sensitivity: Float[np.ndarray, " region"] | None = None
    lesions: Float[np.ndarray, "region region"] | None = None

    @property
    def concentration(self) -> float:
        """At the effect site, mg/L."""
        return float(self.kinetics.effect_site(self.doses, np.array([self.time]))[0])

    @property
    def effect(self) -> float:
        """E at the effect site's concentration."""
        return float(self.response.effect(self.concentration))

    def __call__(self, network: Network) -> Network:
        effect = self.effect
        return network if effect == 0.0 else self.at_effect(network, effect)

    def at_effect(self, network: Network, effect: float) -> Network:
        """The network under a given effect, whatever dose brings it about; for dose-response curves."""
        for change in self.changes:
            network = self._changed(network, change, effect)
        return network

    def _changed(self, network: Network, change: ParameterChange, effect: float) -> Network:
        if change.parameter == "coupling":
            return dataclasses.replace(network, coupling=change.apply(network.coupling, effect))
        if change.parameter == "velocity":
            if self.lesions is None:
                raise ValueError(f"{self.name} changes velocity on lesioned tracts and needs their lesions")
            return dataclasses.replace(network, velocity=change.apply(network.velocity, effect * self.lesions))
        mass: Any = network.mass
        if change.parameter not in {field.name for field in dataclasses.fields(mass)}:
            raise ValueError(f"{self.name} changes {change.parameter}, which {type(mass).__name__} does not have")
        where = effect if self.sensitivity is None else effect * self.sensitivity
        changed = change.apply(getattr(mass, change.parameter), where)
        return dataclasses.replace(network, mass=dataclasses.replace(mass, **{change.parameter: changed}))
