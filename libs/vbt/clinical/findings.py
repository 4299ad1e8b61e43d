"""What a twin found, how sure it is, and what it refuses to say: the one form every application reports in.

`vbt.fhir` turns a `TwinFindings` into FHIR resources and the report writer into pages; neither computes a number.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number with its uncertainty, or the reason why there is none.

    Parameters
    ----------
    code : stable kebab-case name, unique within the report
    label : what a clinician reads
    unit : UCUM code; ``"1"`` for dimensionless
    value, low, high : posterior median and equal-tailed interval; all None when withheld
    level : probability mass of the interval
    withheld : why no number is reported (not converged, not identifiable, …); None when a number is reported
    r_hat, ess : rank-normalised split R-hat and bulk effective sample size, where the number comes from a sampler
    """

    code: str
    label: str
    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.90
    withheld: str | None = None
    r_hat: float | None = None
    ess: float | None = None

    def __post_init__(self) -> None:
        reported = self.value is not None
        if reported == (self.withheld is not None):
            raise ValueError(f"{self.code}: give either a value or the reason it is withheld, not both or neither")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One quality check with the value it saw and the limit it was held to."""

    code: str
    label: str
    value: float
    limit: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a `Table`: what it is about, and its quantities in the order of the table's columns."""

    label: str
    quantities: tuple[Quantity, ...]
    flag: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Quantities side by side, the most important row first, e.g. epileptogenicity of regions.

    Parameters
    ----------
    heading : what a row is, e.g. ``"Region"``
    """

    code: str
    label: str
    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One intervention tried on the twin, its endpoints over the posterior draws compared with no intervention."""

    code: str
    label: str
    description: str
    endpoints: tuple[Quantity, ...]


@dataclass(frozen=True, kw_only=True)
class TwinFindings:
    """Everything the report says.

    Parameters
    ----------
    application : module of `vbt.clinical` that made it, e.g. ``"resting_state"``
    context_of_use : the question this result may inform, in one sentence
    verdict : ``"sound"`` or ``"unsound"``
    conclusion : one or two plain sentences for the clinician
    parameters : inferred model parameters
    tables : what has one value per region, tract or candidate, ranked
    scenarios : interventions tried on the twin
    quality : checks of the input, the connectome and the inference
    methods, limits : sentences, one per item, for the methods and limits sections
    evidence : what validation exists for this context of use, including "none"
    """

    application: str
    context_of_use: str
    verdict: str
    conclusion: str
    parameters: tuple[Quantity, ...] = ()
    tables: tuple[Table, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    quality: tuple[Check, ...] = ()
    methods: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    evidence: str = "none"
    level: float = field(default=0.90)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> TwinFindings:
        raw: dict[str, Any] = json.loads(text)
        return cls(
            **{
                **raw,
                "parameters": tuple(Quantity(**q) for q in raw["parameters"]),
                "tables": tuple(_table(t) for t in raw["tables"]),
                "scenarios": tuple(
                    Scenario(**{**s, "endpoints": tuple(Quantity(**q) for q in s["endpoints"])})
                    for s in raw["scenarios"]
                ),
                "quality": tuple(Check(**c) for c in raw["quality"]),
                "methods": tuple(raw["methods"]),
                "limits": tuple(raw["limits"]),
            }
        )


def _table(raw: dict[str, Any]) -> Table:
    rows = tuple(Row(**{**r, "quantities": tuple(Quantity(**q) for q in r["quantities"])}) for r in raw["rows"])
    return Table(**{**raw, "rows": rows})
