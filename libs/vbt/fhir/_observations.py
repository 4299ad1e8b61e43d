"""Each number becomes an Observation with its uncertainty beside it, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from vbt.clinical.digits import printed, rounded, significant
from vbt.clinical.findings import Check, Quantity, Row, Scenario, Table, TwinFindings
from vbt.fhir._case import CaseContext, instant
from vbt.fhir._encoding import Json
from vbt.fhir._narrative import narrative
from vbt.fhir._terminology import (
    DATA_ABSENT_REASON,
    INTERPRETATION,
    OBSERVATION_CATEGORY,
    SNOMED,
    UCUM,
    concept,
)

UNSOUND = "The model fit did not pass its own checks; no number is reported."
QUALITY = "quality"
ROWS = 15
"""Rows of a ranked table that become Observations; a chart is no place for the others, the attached CSV is."""


def observations(findings: TwinFindings, case: CaseContext, references: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    """All Observations of a report as (key, resource): parameters, rows of tables, scenario endpoints, then quality.

    `references` holds the references to the ``device`` and the ``study`` entries of the same Bundle.
    """
    sound = findings.verdict == "sound"
    for parameter in findings.parameters:
        yield parameter.code, _quantity(parameter, case, references, sound=sound)
    for table in findings.tables if sound else ():
        for rank, row in enumerate(table.rows[:ROWS], start=1):
            yield f"{table.code}.{rank}", _row(table, rank, row, case, references)
    for scenario in findings.scenarios:
        for endpoint in scenario.endpoints:
            key = f"{scenario.code}.{endpoint.code}"
            yield key, _quantity(endpoint, case, references, sound=sound, scenario=scenario)
    if findings.quality:
        yield QUALITY, _quality(findings.quality, case, references)


def _base(key: str, label: str, case: CaseContext) -> Json:
    resource: Json = {
        "resourceType": "Observation",
        "meta": case.meta(),
        "text": narrative(label),
        "identifier": [case.identifier("observation", f"{case.key}.{key}")],
        "status": "preliminary",
        "category": [concept(OBSERVATION_CATEGORY, "imaging")],
        "code": case.own_concept("twin-finding", key, label),
        "subject": case.patient(),
    }
    if case.studied_at is not None:
        resource["effectiveDateTime"] = instant(case.studied_at)
    resource["issued"] = instant(case.issued)
    return resource


def _origin(references: dict[str, Json]) -> Json:
    return {
        "bodySite": concept(SNOMED, "12738006"),
        "device": references["device"],
        "derivedFrom": [references["study"]],
    }


def _quantity(
    quantity: Quantity, case: CaseContext, references: dict[str, Json], *, sound: bool, scenario: Scenario | None = None
) -> Json:
    key = f"{scenario.code}.{quantity.code}" if scenario else quantity.code
    label = f"{scenario.label}: {quantity.label}" if scenario else quantity.label
    numbers = printed(quantity)
    resource = _base(key, label, case)
    components: list[Json] = []
    if numbers.value is not None and sound:
        resource["valueQuantity"] = _value(numbers.value, quantity.unit)
        components += _interval(numbers.low, numbers.high, quantity, case)
    else:
        resource["dataAbsentReason"] = concept(DATA_ABSENT_REASON, "unknown", quantity.withheld or UNSOUND)
    components += _diagnostics(numbers.r_hat, numbers.ess, case)
    if scenario:
        resource["method"] = {"text": f"Simulated on the twin over posterior draws. {scenario.description}"}
    resource |= _origin(references)
    if components:
        resource["component"] = components
    return resource


def _row(table: Table, rank: int, row: Row, case: CaseContext, references: dict[str, Json]) -> Json:
    """One line of a ranked table, a component per number; those of one number share the beginning of their codes."""
    key = f"{table.code}.{rank}"
    resource = _base(key, f"{table.label}, {rank} of {len(table.rows)}: {row.label}", case)
    # Which row it is stands in the value: the code is the same for every patient.
    resource["code"] = case.own_concept("twin-finding", table.code, table.label)
    resource["valueString"] = f"{row.label} ({row.flag})" if row.flag else row.label
    components = [{"code": case.own_concept("ranking", "rank", f"Rank in: {table.label}"), "valueInteger": rank}]
    for quantity in row.quantities:
        components += _numbers(quantity, case)
    return resource | _origin(references) | {"component": components}


def _numbers(quantity: Quantity, case: CaseContext) -> Iterator[Json]:
    numbers, code = printed(quantity), case.own_concept("twin-finding", quantity.code, quantity.label)
    if numbers.value is None:
        reason = concept(DATA_ABSENT_REASON, "unknown", quantity.withheld)
        yield {"code": code, "dataAbsentReason": reason}
        return
    yield {"code": code, "valueQuantity": _value(numbers.value, quantity.unit)}
    percent = rounded(100 * quantity.level, 0)
    for bound, name, number in (("low", "lower bound", numbers.low), ("high", "upper bound", numbers.high)):
        if number is not None:
            label = f"{quantity.label}: {percent} % credible interval, {name}"
            yield {
                "code": case.own_concept("twin-finding", f"{quantity.code}.interval-{bound}", label),
                "valueQuantity": _value(number, quantity.unit),
            }


def _interval(low: Decimal | None, high: Decimal | None, quantity: Quantity, case: CaseContext) -> Iterator[Json]:
    if low is None or high is None:
        return
    percent = rounded(100 * quantity.level, 0)
    bounds = (("interval-low", "lower bound", low), ("interval-high", "upper bound", high))
    for code, name, bound in bounds:
        yield {
            "code": case.own_concept("uncertainty", code, f"{percent} % credible interval, {name}"),
            "valueQuantity": _value(bound, quantity.unit),
        }
    yield {
        "code": case.own_concept("uncertainty", "interval-mass", "Probability mass of the credible interval"),
        "valueQuantity": _value(percent, "%"),
    }


def _diagnostics(r_hat: Decimal | None, ess: Decimal | None, case: CaseContext) -> Iterator[Json]:
    named = (
        ("r-hat", "Rank-normalised split R-hat", r_hat, "1"),
        ("effective-sample-size", "Bulk effective sample size", ess, "1"),
    )
    for code, label, value, unit in named:
        if value is not None:
            yield {"code": case.own_concept("uncertainty", code, label), "valueQuantity": _value(value, unit)}


def _quality(checks: tuple[Check, ...], case: CaseContext, references: dict[str, Json]) -> Json:
    label = "Quality checks of the input, the connectome and the inference"
    components = [
        {
            "code": case.own_concept("quality-check", check.code, check.label),
            "valueQuantity": {"value": significant(check.value)},
            "interpretation": [
                concept(INTERPRETATION, "N" if check.passed else "A", "passed" if check.passed else "failed")
            ],
            "referenceRange": [{"text": check.limit}],
        }
        for check in checks
    ]
    return _base(QUALITY, label, case) | _origin(references) | {"component": components}


def _value(value: Decimal, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}
