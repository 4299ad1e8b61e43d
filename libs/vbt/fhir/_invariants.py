"""The R4 invariants and the terminology rules of the types a report uses, one small function for each type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime

from vbt.fhir._encoding import Json
from vbt.fhir._issue import Issue
from vbt.fhir._narrative import narrative_faults
from vbt.fhir._structure import Node
from vbt.fhir._terminology import DISPLAYS, LOINC, UCUM
from vbt.fhir._ucum import is_ucum

_LOINC = re.compile(r"(\d{1,7})-(\d)")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_MIME = re.compile(r"[a-z]+/[A-Za-z0-9.+-]+(\s*;.*)?")
_ABSOLUTE = re.compile(r"(https?://|urn:)\S+")


def invariant_issues(node: Node) -> Iterator[Issue]:
    """Faults of one element against the invariants of its type."""
    check = _CHECKS.get(node.type)
    if check is not None:
        for rule, message in check(node.content):
            yield Issue(node.path, rule, message)


Faults = Iterator[tuple[str, str]]


def _observation(content: Json) -> Faults:
    has_value = any(name.startswith("value") for name in content)
    if "dataAbsentReason" in content and has_value:
        yield "obs-6", "dataAbsentReason is only for an Observation without value"
    if not (has_value or {"dataAbsentReason", "component", "hasMember"} & content.keys()):
        yield "no-value", "an Observation without value must say why"
    code = _codes(content.get("code", {}))
    if has_value and any(code & _codes(component["code"]) for component in content.get("component", [])):
        yield "obs-7", "the code of the Observation is also the code of a component"


def _component(content: Json) -> Faults:
    if "dataAbsentReason" in content and any(name.startswith("value") for name in content):
        yield "obs-6", "dataAbsentReason is only for a component without value"


def _reference_range(content: Json) -> Faults:
    if not {"low", "high", "text"} & content.keys():
        yield "obs-3", "a reference range needs low, high or text"


def _quantity(content: Json) -> Faults:
    if "code" in content and "system" not in content:
        yield "qty-3", "a unit code needs its system"
    if content.get("system") == UCUM and not is_ucum(content.get("code", "")):
        yield "ucum", "the unit is not UCUM"


def _coding(content: Json) -> Faults:
    system, code = content.get("system"), content.get("code", "")
    if system is None:
        yield "coding-system", "a code needs its system"
        return
    if not _ABSOLUTE.fullmatch(system):
        yield "coding-system", "the system must be an absolute URI"
    if system == LOINC and not _is_loinc(code):
        yield "loinc", "the LOINC code is malformed or its check digit is wrong"
    elif system in DISPLAYS and code not in DISPLAYS[system]:
        yield "unknown-code", "the code is not one of those a report uses from this system"
    elif system in DISPLAYS and content.get("display", DISPLAYS[system][code]) != DISPLAYS[system][code]:
        yield "display", "the display does not belong to the code"


def _is_loinc(code: str) -> bool:
    if code.startswith("LP"):
        return _LOINC.fullmatch(code[2:]) is not None
    match = _LOINC.fullmatch(code)
    if not match:
        return False
    # LOINC Users' Guide, appendix C: Luhn over the digits, doubling from the right.
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(match[1]))]
    total = sum(digit // 10 + digit % 10 for digit in doubled)
    return (10 - total % 10) % 10 == int(match[2])


def _identifier(content: Json) -> Faults:
    if "value" not in content:
        yield "identifier-value", "an identifier needs a value"
    if "system" in content and not _ABSOLUTE.fullmatch(content["system"]):
        yield "identifier-system", "the system must be an absolute URI"


def _attachment(content: Json) -> Faults:
    if "data" in content and "contentType" not in content:
        yield "att-1", "an attachment with data needs a contentType"
    if not _MIME.fullmatch(content.get("contentType", "a/b")):
        yield "binding", "contentType is not a MIME type"
    if not _LANGUAGE.fullmatch(content.get("language", "en")):
        yield "binding", "language is not a BCP-47 tag"
    if "data" in content and "size" in content:
        stripped = re.sub(r"\s", "", content["data"])
        if content["size"] != len(stripped) // 4 * 3 - stripped.count("=", -2):
            yield "attachment-size", "size is not the number of bytes in data"


def _period(content: Json) -> Faults:
    if "start" in content and "end" in content and _day(content["start"]) > _day(content["end"]):
        yield "per-1", "the period ends before it starts"


def _narrative(content: Json) -> Faults:
    for fault in narrative_faults(content["div"]):
        yield ("txt-1" if fault.startswith("txt-1") else "txt-2" if fault.startswith("txt-2") else "narrative"), fault


def _extension(content: Json) -> Faults:
    has_value = any(name.startswith("value") for name in content)
    if ("extension" in content) == has_value:
        yield "ext-1", "an extension has either a value or extensions"


def _task(content: Json) -> Faults:
    modified, authored = content.get("lastModified", ""), content.get("authoredOn", "")
    if "T" in modified and "T" in authored and datetime.fromisoformat(modified) < datetime.fromisoformat(authored):
        yield "inv-1", "the task was modified before it was written"
    if content.get("status") == "failed" and "statusReason" not in content:
        yield "task-reason", "a failed task must say why"


def _contained(content: Json) -> Faults:
    if any("contained" in inner for inner in content.get("contained", [])):
        yield "dom-2", "a contained resource must not contain resources"


def _device(content: Json) -> Faults:
    if len(content.get("udiCarrier", [])) > 1 and not all("deviceIdentifier" in udi for udi in content["udiCarrier"]):
        yield "dev-1", "only one UDI carrier is allowed per Device"


def _codes(concept: Json) -> set[tuple[str | None, str | None]]:
    return {(coding.get("system"), coding.get("code")) for coding in concept.get("coding", [])}


def _day(moment: str) -> date:
    text = moment.partition("T")[0]
    return date.fromisoformat(text + "0000-01-01"[len(text) :])


_CHECKS: dict[str, Callable[[Json], Faults]] = {
    "Observation": _observation,
    "ObservationComponent": _component,
    "ObservationReferenceRange": _reference_range,
    "Quantity": _quantity,
    "Coding": _coding,
    "Identifier": _identifier,
    "Attachment": _attachment,
    "Period": _period,
    "Narrative": _narrative,
    "Extension": _extension,
    "Task": _task,
    "Device": _device,
    "DiagnosticReport": _contained,
    "DocumentReference": _contained,
}
