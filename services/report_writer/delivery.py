"""A report reaches the EHR once: as much of it as the server takes, and never on a guessed patient.

tier           what the server offers            what is written
transaction    transaction, DiagnosticReport     one transaction Bundle
individual     create of DiagnosticReport        one conditional create per resource, in order of reference
document       create of DocumentReference       the PDF with its metadata
found          any of these                      nothing: an earlier attempt had written all of it
not-taken      nothing of that                   nothing; the Bundle stays an artifact
file           no server is configured           nothing; the Bundle stays an artifact

The tier says what happened, not what was planned: a transaction that ends in a conflict goes on as single creates.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from report_writer.fhir_endpoint import (
    Capabilities,
    Conflict,
    EhrNotReady,
    FhirEndpoint,
    backoff_seconds,
    issue_codes,
    objects,
    raise_for_status,
    reference_at,
)
from vbt.errors import Rejected
from vbt.fhir import Json, to_json, validate


class Tier(StrEnum):
    """What became of the report at the EHR."""

    TRANSACTION = "transaction"
    INDIVIDUAL = "individual"
    DOCUMENT = "document"
    FOUND = "found"
    NOT_TAKEN = "not-taken"
    FILE = "file"


@dataclass(frozen=True)
class Delivery:
    """What was delivered.

    Parameters
    ----------
    tier : how
    references : of the resources in the EHR, e.g. ``("DiagnosticReport/55", …)``; empty where it is not there
    found : how many of them were there before
    sent : the Bundle as sent: patient resolved, without the resources the server does not take
    """

    tier: Tier
    references: tuple[str, ...]
    found: int
    sent: bytes


def deliver(
    bundle: Json,
    endpoint: FhirEndpoint | None,
    *,
    patience_seconds: float = 30.0,
    wait: Callable[[float], None] = time.sleep,
) -> Delivery:
    """Write a report Bundle to the EHR, exactly once however often this is called.

    Every attempt first looks for the report by its business key, so an attempt whose answer was lost is found and not
    repeated. The caller sees to it that one report is not delivered by two workers at the same time: conditional
    create alone does not (HAPI #3141).

    Raises
    ------
    EhrNotReady (NotYet) : the server stayed unavailable for `patience_seconds`, or asks to wait longer than that
    Rejected : the Bundle is not valid, the server refuses it, or not exactly one patient matches
    """
    _require_valid(bundle)
    if endpoint is None:
        return Delivery(Tier.FILE, (), 0, to_json(bundle))
    attempt, left = 0, patience_seconds
    while True:
        try:
            return _deliver_once(bundle, endpoint)
        except EhrNotReady as busy:
            # Jitter only above the time the server asked for.
            pause = backoff_seconds(attempt) if busy.retry_after is None else busy.retry_after
            pause *= 1 + 0.05 * random.random()
            if pause > left:
                raise
            wait(pause)
            left -= pause
            attempt += 1


def _deliver_once(bundle: Json, endpoint: FhirEndpoint) -> Delivery:
    offered = endpoint.capabilities()
    tier = _offer(offered)
    if tier is Tier.NOT_TAKEN:
        return Delivery(tier, (), 0, to_json(bundle))
    kinds = frozenset({"DocumentReference"}) if tier is Tier.DOCUMENT else offered.creatable
    outgoing = _only(bundle, kinds)
    _resolve_patient(outgoing, endpoint, offered)
    if tier is Tier.TRANSACTION and not _is_there(outgoing, endpoint, offered):
        references = _transaction(outgoing, endpoint)
        if references is not None:
            return Delivery(tier, tuple(references), 0, to_json(outgoing))
    references, found = _individually(outgoing, endpoint, offered)
    if found == len(references):
        tier = Tier.FOUND
    elif tier is Tier.TRANSACTION:
        tier = Tier.INDIVIDUAL
    return Delivery(tier, tuple(references), found, to_json(outgoing))


def _offer(offered: Capabilities) -> Tier:
    """The most that the server takes."""
    if "DiagnosticReport" in offered.creatable:
        return Tier.TRANSACTION if offered.transaction else Tier.INDIVIDUAL
    return Tier.DOCUMENT if "DocumentReference" in offered.creatable else Tier.NOT_TAKEN


def _is_there(bundle: Json, endpoint: FhirEndpoint, offered: Capabilities) -> bool:
    report = next(entry for entry in bundle["entry"] if entry["resource"]["resourceType"] == "DiagnosticReport")
    return _existing(report, endpoint, offered) is not None


def _transaction(bundle: Json, endpoint: FhirEndpoint) -> list[str] | None:
    """References in order of the entries; None when the outcome has to be found out entry by entry."""
    try:
        response = endpoint.transact(bundle)
    except Conflict:
        return None
    entries = objects(response, "entry")
    if response.get("type") != "transaction-response" or len(entries) != len(bundle["entry"]):
        return None
    references: list[str | None] = []
    for sent, answered in zip(bundle["entry"], entries, strict=True):
        answer = answered.get("response")
        answer = answer if isinstance(answer, dict) else {}
        try:
            raise_for_status(_status(answer), issue_codes(answer.get("outcome")), None)
        except Conflict:
            return None
        references.append(reference_at(str(answer.get("location", "")), sent["resource"]["resourceType"]))
    found = [reference for reference in references if reference is not None]
    return found if len(found) == len(references) else None


def _status(answer: Json) -> int:
    text = str(answer.get("status", ""))[:3]
    return int(text) if text.isdecimal() else 500


def _individually(bundle: Json, endpoint: FhirEndpoint, offered: Capabilities) -> tuple[list[str], int]:
    """Create what is not there yet, entry after entry; later entries refer to what the earlier ones became.

    Returns
    -------
    references, how many of them were there before
    """
    became: dict[str, str] = {}
    found = 0
    for entry in bundle["entry"]:
        reference = _existing(entry, endpoint, offered)
        if reference is None:
            reference = _create(entry, became, endpoint, offered)
        else:
            found += 1
        became[entry["fullUrl"]] = reference
    return list(became.values()), found


def _create(entry: Json, became: dict[str, str], endpoint: FhirEndpoint, offered: Capabilities) -> str:
    resource = copy.deepcopy(entry["resource"])
    for reference in _references(resource):
        if reference.get("reference") in became:
            reference["reference"] = became[reference["reference"]]
    try:
        return endpoint.create(resource, entry["request"]["ifNoneExist"])
    except Conflict:
        found = _existing(entry, endpoint, offered)
        if found is None:
            raise EhrNotReady(got="a conflict about a resource that cannot be found") from None
        return found


def _existing(entry: Json, endpoint: FhirEndpoint, offered: Capabilities) -> str | None:
    """The reference of the resource with the business key of an entry, if the server has exactly one."""
    kind: str = entry["resource"]["resourceType"]
    if kind not in offered.searchable:
        return None
    mine = [
        found
        for found in endpoint.search(kind, entry["request"]["ifNoneExist"])
        if _same_business_key(found, entry["resource"])
    ]
    # A shared resource such as the study may have been filed twice by others; a report of ours may not.
    if len(mine) > 1 and kind not in ("ImagingStudy", "Device"):
        raise Rejected(
            "ehr-holds-duplicates",
            rule="a report is filed once",
            got=f"{len(mine)} resources of type {kind} with the same identifier",
            action="remove the duplicates in the EHR, then replay the dead letter",
        )
    return f"{kind}/{mine[0]['id']}" if mine else None


def _same_business_key(found: Json, sent: Json) -> bool:
    """Some servers ignore a search parameter they do not know and answer with everything."""
    if "identifier" in sent:
        return _key(sent["identifier"][0]) in {_key(item) for item in objects(found, "identifier")}
    tags = {_key(tag, "code") for tag in objects(found.get("meta"), "tag")}
    return {_key(tag, "code") for tag in sent["meta"]["tag"]} <= tags


def _key(token: Json, value: str = "value") -> tuple[str, str]:
    return str(token.get("system", "")), str(token.get(value, ""))


def _resolve_patient(bundle: Json, endpoint: FhirEndpoint, offered: Capabilities) -> None:
    """Put the EHR's own reference beside the record number, if the server can be asked and has exactly one."""
    patients = [
        ref for entry in bundle["entry"] for ref in _references(entry["resource"]) if ref.get("type") == "Patient"
    ]
    if not patients:
        raise _no_patient("a report without a record number")
    identifier = patients[0]["identifier"]
    if "Patient" not in offered.searchable or "system" not in identifier:
        return
    token = f"{quote(identifier['system'], safe='')}%7C{quote(identifier['value'], safe='')}"
    found = [
        patient
        for patient in endpoint.search("Patient", f"identifier={token}")
        if _key(identifier) in {_key(item) for item in objects(patient, "identifier")}
    ]
    if len(found) != 1:
        raise _no_patient(f"{len(found)} patients with this record number")
    merged = any(link.get("type") == "replaced-by" for link in objects(found[0], "link"))
    if merged or found[0].get("active") is False:
        raise _no_patient("a patient record that was merged or is inactive")
    for reference in patients:
        reference["reference"] = f"Patient/{found[0]['id']}"


def _no_patient(got: str) -> Rejected:
    return Rejected(
        "patient-not-matched",
        rule="a report is filed on exactly one active patient",
        got=got,
        action="settle the patient's identity in the EHR, then replay the dead letter",
    )


def _only(bundle: Json, kinds: frozenset[str]) -> Json:
    """The Bundle without the resources the server does not take; references to them keep the identifier."""
    kept = [entry for entry in bundle["entry"] if entry["resource"]["resourceType"] in kinds]
    outgoing = copy.deepcopy({**bundle, "entry": kept})
    dropped = {entry["fullUrl"] for entry in bundle["entry"]} - {entry["fullUrl"] for entry in kept}
    for entry in outgoing["entry"]:
        for reference in _references(entry["resource"]):
            if reference.get("reference") in dropped:
                del reference["reference"]
    return outgoing


def _references(node: Any) -> Iterator[Json]:
    """Every Reference below a node: the only objects in a report with a resource type beside an identifier or URL."""
    if isinstance(node, dict):
        if isinstance(node.get("type"), str) and {"reference", "identifier"} & node.keys():
            yield node
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _require_valid(bundle: Json) -> None:
    issues = validate(bundle)
    if issues:
        raise Rejected(
            "report-not-valid-fhir",
            rule="only valid FHIR R4 leaves the suite",
            got=f"{len(issues)} faults, the first: {issues[0].rule} at {issues[0].path}",
            action="report this as a fault of the suite",
        )
