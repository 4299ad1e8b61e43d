"""A Bundle is checked for what EHRs and fhir.resources let through: R4 rules, and our own rules for a report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from vbt.fhir._case import RESEARCH_USE_ONLY
from vbt.fhir._encoding import Json
from vbt.fhir._invariants import invariant_issues
from vbt.fhir._issue import Issue
from vbt.fhir._references import reference_issues
from vbt.fhir._structure import nodes, shape_issues

_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STATUSES = {
    # Not signed by anybody: never above preliminary. "cancelled" is the report of a case that stopped.
    ("DiagnosticReport", "status"): frozenset({"preliminary", "cancelled"}),
    ("Observation", "status"): frozenset({"preliminary"}),
    ("DocumentReference", "docStatus"): frozenset({"preliminary"}),
}


def validate(bundle: Any) -> list[Issue]:
    """Every fault found in a report Bundle (values as `from_json` gives them); empty when it may be sent.

    A Bundle of the wrong shape (unknown elements, wrong JSON types, missing elements) is not checked further.
    """
    issues = shape_issues(bundle)
    if issues:
        return issues
    return [*_bundle_issues(bundle), *_content_issues(bundle), *_report_issues(bundle)]


def _content_issues(bundle: Json) -> Iterator[Issue]:
    types_by_url = {
        entry["fullUrl"]: entry["resource"]["resourceType"]
        for entry in bundle.get("entry", [])
        if "fullUrl" in entry and "resource" in entry
    }
    contained: dict[str, str] = {}
    for node in nodes("Bundle", "Bundle", bundle):
        if "resourceType" in node.content:
            inner = node.content.get("contained", [])
            contained = {item["id"]: item["resourceType"] for item in inner if "id" in item} or contained
        yield from invariant_issues(node)
        if node.type == "Reference":
            yield from reference_issues(node, types_by_url, contained)


def _bundle_issues(bundle: Json) -> Iterator[Issue]:
    entries = bundle.get("entry", [])
    if bundle["type"] not in ("transaction", "batch"):
        yield Issue("Bundle.type", "bundle-type", "a report is sent as a transaction")
    if "total" in bundle:
        yield Issue("Bundle.total", "bdl-1", "total is only for searches and histories")
    repeated = [url for url, count in Counter(entry.get("fullUrl") for entry in entries).items() if url and count > 1]
    if repeated:
        yield Issue("Bundle.entry", "bdl-7", "fullUrl must be unique in a Bundle")
    for index, entry in enumerate(entries):
        yield from _entry_issues(f"Bundle.entry[{index}]", entry)


def _entry_issues(path: str, entry: Json) -> Iterator[Issue]:
    resource, request = entry.get("resource"), entry.get("request")
    if "search" in entry:
        yield Issue(f"{path}.search", "bdl-2", "search is only for searches")
    if "response" in entry:
        yield Issue(f"{path}.response", "bdl-4", "response is only for responses and histories")
    if request is None:
        yield Issue(path, "bdl-3", "every entry of a transaction needs a request")
        return
    if resource is None:
        yield Issue(path, "bdl-5", "a create needs a resource")
        return
    full_url = entry.get("fullUrl", "")
    if "/_history/" in full_url:
        yield Issue(f"{path}.fullUrl", "bdl-8", "fullUrl must not be version specific")
    elif full_url.startswith("urn:uuid:") and not _UUID.fullmatch(full_url):
        yield Issue(f"{path}.fullUrl", "full-url", "is not a UUID in lower case")
    elif not full_url:
        yield Issue(f"{path}.fullUrl", "full-url", "every created resource needs a fullUrl")
    yield from _request_issues(f"{path}.request", request, resource)


def _request_issues(path: str, request: Json, resource: Json) -> Iterator[Issue]:
    kind = resource["resourceType"]
    if kind in ("Patient", "ServiceRequest"):
        yield Issue(path, "never-created", "patients and orders are referenced, never created")
    if request["method"] != "POST" or request["url"] != kind:
        yield Issue(path, "request", "every entry is a conditional create of its own resource type")
    keys = {f"identifier={item.get('system', '')}|{item['value']}" for item in _identifiers(resource)}
    keys |= {f"_tag={tag.get('system', '')}|{tag.get('code', '')}" for tag in resource.get("meta", {}).get("tag", [])}
    if unquote(request.get("ifNoneExist", "")) not in keys:
        yield Issue(f"{path}.ifNoneExist", "if-none-exist", "must search for a business key of the resource")


def _report_issues(bundle: Json) -> Iterator[Issue]:
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(bundle.get("entry", [])):
        path, resource = f"Bundle.entry[{index}].resource", entry.get("resource")
        if resource is None:
            continue
        tags = {tag.get("code") for tag in resource.get("meta", {}).get("tag", [])}
        if RESEARCH_USE_ONLY not in tags or "security" not in resource["meta"]:
            yield Issue(f"{path}.meta", "intended-use", "every resource is marked for research use only")
        for (kind, name), allowed in _STATUSES.items():
            if resource["resourceType"] == kind and resource.get(name) not in allowed:
                yield Issue(f"{path}.{name}", "not-signed", "an unsigned report is never above preliminary")
        keys = {(resource["resourceType"], str(item)) for item in _identifiers(resource)}
        if keys & seen:
            yield Issue(f"{path}.identifier", "business-key", "two entries have the same identifier")
        seen |= keys
        if resource["resourceType"] == "DiagnosticReport" and "research use only" not in _conclusion(resource):
            yield Issue(f"{path}.conclusion", "intended-use", "the conclusion must say research use only")
        if resource["resourceType"] == "Observation":
            yield from _interval_issues(path, resource)


def _interval_issues(path: str, observation: Json) -> Iterator[Issue]:
    bounds: dict[str, Json] = {
        coding["code"]: component["valueQuantity"]
        for component in observation.get("component", [])
        for coding in component["code"].get("coding", [])
        if coding.get("code") in ("interval-low", "interval-high") and "value" in component.get("valueQuantity", {})
    }
    if not bounds:
        return
    value: Json = observation.get("valueQuantity", {})
    if "value" not in value:
        yield Issue(f"{path}.component", "interval", "a withheld value has no interval")
    elif len({quantity.get("code") for quantity in (value, *bounds.values())}) > 1:
        yield Issue(f"{path}.component", "interval", "value and interval have different units")
    else:
        low, high = (bounds.get(name, value)["value"] for name in ("interval-low", "interval-high"))
        if not low <= value["value"] <= high:
            yield Issue(f"{path}.component", "interval", "the value lies outside its interval")


def _identifiers(resource: Json) -> list[Json]:
    found = resource.get("identifier", [])
    return [item for item in (found if isinstance(found, list) else [found]) if "value" in item]


def _conclusion(report: Json) -> str:
    return str(report.get("conclusion", "")).lower()
