"""New lesions, repair and axonal loss over years, the same chance events with and without a therapy.

Every tract is a healthy share, a demyelinated share m and a lost share a of its axons. A new lesion demyelinates part
of what is healthy; between lesions dm/dt = −(ρ + μ) m and da/dt = μ m, solved exactly. Lesions come as a Poisson
process of rate λ. A therapy of relative risk RR ≤ 1 keeps each of the same lesions where its mark, drawn once from
(0, 1), is below RR: the lesions kept are a Poisson process of rate λ·RR, and those a stronger therapy lets through are
among those of a weaker one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

SPREAD_MM = 10.0  # width of a lesion's reach around the straight lines on which tracts are thought to run
BURDEN = 0.002  # of all axons, what one lesion demyelinates where the patient has none to learn from


@dataclass(frozen=True, kw_only=True)
class Therapy:
    """What a therapy is supposed to do, editable.

    Parameters
    ----------
    relative_risk : of new lesions, 0 to 1; 1 without effect
    repair : factor on the rate of remyelination, at least 0
    source : where the number is from, or that it is an assumption
    """

    code: str
    label: str
    relative_risk: float
    repair: float = 1.0
    source: str

    def __post_init__(self) -> None:
        if not (0.0 <= self.relative_risk <= 1.0 and self.repair >= 0.0):
            raise ValueError("relative risk must be from 0 to 1, and the factor on repair not negative")


NO_THERAPY = Therapy(code="no-therapy", label="No therapy", relative_risk=1.0, source="reference")
# Relapse rates stand for lesion rates; recalled from the trials' publications, not read again for this purpose.
THERAPIES = (
    NO_THERAPY,
    Therapy(
        code="interferon-beta",
        label="Interferon beta-1a",
        relative_risk=0.70,
        source="relapse rate against placebo, PRISMS (1998), Lancet 352, 1498",
    ),
    Therapy(
        code="fingolimod",
        label="Fingolimod",
        relative_risk=0.46,
        source="relapse rate against placebo, FREEDOMS (2010), N Engl J Med 362, 387",
    ),
    Therapy(
        code="ocrelizumab",
        label="Ocrelizumab",
        relative_risk=0.38,
        source="relapse rate against interferon beta-1a, OPERA (2017), N Engl J Med 376, 221, times that of the latter",
    ),
    Therapy(
        code="natalizumab",
        label="Natalizumab",
        relative_risk=0.32,
        source="relapse rate against placebo, AFFIRM (2006), N Engl J Med 354, 899",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Per year: new lesions, remyelination of a demyelinated axon, loss of a demyelinated axon."""

    lesions: float
    repair: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class RatePriors:
    """What the rates are thought to be: log-normal, median and standard deviation of the logarithm. Assumptions.

    Lesions: a few new T2 lesions a year in untreated relapsing disease. Repair and loss: slow, over decades.
    """

    lesions: tuple[float, float] = (3.0, 0.5)
    repair: tuple[float, float] = (0.05, 0.5)
    loss: tuple[float, float] = (0.03, 0.5)

    def drawn(self, rng: np.random.Generator) -> Rates:
        lesions, repair, loss = (
            float(median * np.exp(deviation * rng.standard_normal()))
            for median, deviation in (self.lesions, self.repair, self.loss)
        )
        return Rates(lesions=lesions, repair=repair, loss=loss)


@dataclass(frozen=True, kw_only=True)
class Events:
    """New lesions of one possible future, in order of time.

    Parameters
    ----------
    times : years
    marks : in (0, 1); a therapy keeps those below its relative risk
    tracts : index of the tract in which each lies
    along : where on it, 0 to 1
    """

    times: Float[np.ndarray, " event"]
    marks: Float[np.ndarray, " event"]
    tracts: Int[np.ndarray, " event"]
    along: Float[np.ndarray, " event"]


@dataclass(frozen=True)
class Damage:
    """Shares of every tract's axons that are demyelinated and lost, symmetric."""

    demyelinated: Float[np.ndarray, "region region"]
    lost: Float[np.ndarray, "region region"]

    def after(self, years: float, rates: Rates, therapy: Therapy) -> Damage:
        """Repair and loss without a new lesion."""
        repair = rates.repair * therapy.repair
        both = repair + rates.loss
        left = np.exp(-both * years)
        gone = rates.loss / both * (1.0 - left) if both > 0 else 0.0
        return Damage(self.demyelinated * left, self.lost + self.demyelinated * gone)

    def with_lesion(self, reach: Float[np.ndarray, "region region"]) -> Damage:
        """A new lesion takes its share of the axons that are healthy."""
        healthy = 1.0 - self.demyelinated - self.lost
        return Damage(self.demyelinated + reach * healthy, self.lost)

    @property
    def of_survivors(self) -> Float[np.ndarray, "region region"]:
        """Demyelinated share of the axons that are left."""
        left = 1.0 - self.lost
        return np.asarray(np.divide(self.demyelinated, left, out=np.zeros_like(left), where=left > 0))


class WhiteMatter:
    """Where a new lesion falls and what it reaches, from a connectome alone.

    A lesion falls anywhere in the white matter with equal chance: on a tract by its volume (weight times length, the
    weights being cross-sections), anywhere along it. It reaches other tracts by a Gaussian of their distance, tracts
    taken as straight lines between their regions' centres. Its size is the patient's own mean: what the mask's lesions
    demyelinate of all axons, divided by their number.
    """

    def __init__(
        self,
        weights: Float[np.ndarray, "region region"],
        tract_lengths: Float[np.ndarray, "region region"],
        centres: Float[np.ndarray, "region 3"],
        *,
        lesioned: Float[np.ndarray, "region region"] | None,
        lesions: int,
    ) -> None:
        self._shape = weights.shape
        both = 0.5 * (weights + weights.T)
        self._one, self._two = np.nonzero(np.triu(both, 1))
        self._volumes = (both * tract_lengths)[self._one, self._two]
        self._starts, self._ends = centres[self._one], centres[self._two]
        known = lesions > 0 and lesioned is not None
        self.burden = self.share(lesioned) / lesions if known and lesioned is not None else BURDEN

    def share(self, values: Float[np.ndarray, "region region"]) -> float:
        """Mean over all axons."""
        return float((values[self._one, self._two] * self._volumes).sum() / self._volumes.sum())

    def events(self, years: float, rates: Rates, rng: np.random.Generator) -> Events:
        """The new lesions of one future without a therapy."""
        count = int(rng.poisson(rates.lesions * years))
        return Events(
            times=np.sort(rng.uniform(0.0, years, count)),
            marks=rng.random(count),
            tracts=rng.choice(len(self._volumes), count, p=self._volumes / self._volumes.sum()),
            along=rng.random(count),
        )

    def reach(self, events: Events, index: int) -> Float[np.ndarray, "region region"]:
        """The share of every tract's axons that one of the lesions demyelinates where all are healthy."""
        tract, along = int(events.tracts[index]), events.along[index]
        centre = (1 - along) * self._starts[tract] + along * self._ends[tract]
        line = self._ends - self._starts
        nearest = np.clip(
            ((centre - self._starts) * line).sum(axis=1) / np.maximum((line**2).sum(axis=1), 1e-9), 0.0, 1.0
        )
        distance = np.linalg.norm(self._starts + nearest[:, None] * line - centre, axis=1)
        shape = np.exp(-0.5 * (distance / SPREAD_MM) ** 2)
        wanted = self.burden * self._volumes.sum()
        share = np.minimum(shape * wanted / (shape * self._volumes).sum(), 1.0)
        reach = np.zeros(self._shape)
        reach[self._one, self._two] = reach[self._two, self._one] = share
        return reach

    def course(
        self, start: Damage, events: Events, rates: Rates, therapy: Therapy, years: Float[np.ndarray, " year"]
    ) -> list[Damage]:
        """Damage at each of the ascending years."""
        kept = np.flatnonzero(events.marks < therapy.relative_risk)
        now, state, pending, found = 0.0, start, list(kept), []
        for year in years:
            while pending and events.times[pending[0]] <= year:
                index = pending.pop(0)
                state = state.after(float(events.times[index]) - now, rates, therapy)
                state = state.with_lesion(self.reach(events, int(index)))
                now = float(events.times[index])
            state, now = state.after(float(year) - now, rates, therapy), float(year)
            found.append(state)
        return found
