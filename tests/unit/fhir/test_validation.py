"""One defect at a time: each is caught, under its own name, and the good Bundle gives no alarm."""

import copy

import pytest

from vbt.fhir import validate


def resource(bundle, kind, index=0):
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind][index]


def entry(bundle, kind):
    return next(e for e in bundle["entry"] if e["resource"]["resourceType"] == kind)


def put(kind, **changes):
    return lambda bundle: resource(bundle, kind).update(changes)


def drop(kind, name):
    return lambda bundle: resource(bundle, kind).pop(name)


def quantity(**changes):
    return lambda bundle: resource(bundle, "Observation")["valueQuantity"].update(changes)


def attachment(**changes):
    return lambda bundle: resource(bundle, "DiagnosticReport")["presentedForm"][0].update(changes)


def request(kind, **changes):
    return lambda bundle: entry(bundle, kind)["request"].update(changes)


def narrative(inner):
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'
    return lambda bundle: resource(bundle, "DiagnosticReport")["text"].update(div=div)


def code(**changes):
    return lambda bundle: resource(bundle, "DiagnosticReport")["code"]["coding"][0].update(changes)


def component(**changes):
    return lambda bundle: resource(bundle, "Observation")["component"][0].update(changes)


def same_code_in_component(bundle):
    found = resource(bundle, "Observation")
    found["component"][0]["code"] = copy.deepcopy(found["code"])


def value_outside_interval(bundle):
    resource(bundle, "Observation")["valueQuantity"]["value"] = 7


def interval_of_withheld_value(bundle):
    found = resource(bundle, "Observation")
    del found["valueQuantity"]
    found["dataAbsentReason"] = {"text": "withheld"}


def repeat_first_entry(bundle):
    bundle["entry"].append(copy.deepcopy(bundle["entry"][0]))


def create_patient(bundle):
    made = copy.deepcopy(entry(bundle, "Device"))
    made["fullUrl"] = "urn:uuid:00000000-0000-4000-8000-000000000000"
    made["resource"] = {
        "resourceType": "Patient",
        "meta": made["resource"]["meta"],
        "identifier": [{"system": "urn:oid:1.2", "value": "7"}],
    }
    made["request"] = {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn%3Aoid%3A1.2%7C7"}
    bundle["entry"].append(made)


def untag(bundle):
    del resource(bundle, "Observation")["meta"]["tag"]


BROKEN = {
    "unknown element": ("unknown-element", put("Observation", colour="red")),
    "R5 element": ("unknown-element", put("DiagnosticReport", supportingInfo=[{"reference": {"display": "x"}}])),
    "missing required element": ("cardinality", drop("Observation", "code")),
    "missing required primitive": ("cardinality", drop("Task", "intent")),
    "missing required choice": (
        "cardinality",
        lambda b: resource(b, "Task")["output"][0].pop("valueReference"),
    ),
    "two values": ("choice", put("Observation", valueString="x")),
    "not an array": ("type", put("Observation", category={"text": "x"})),
    "an array": ("type", put("Observation", status=["preliminary"])),
    "empty array": ("empty-array", put("Observation", category=[])),
    "empty object": ("ele-1", put("Observation", method={})),
    "unknown resource type": ("resource-type", put("Device", resourceType="Gadget")),
    "R5 resource type": ("resource-type", put("Device", resourceType="ImagingSelection")),
    "status outside binding": ("binding", put("Observation", status="done")),
    "task status outside binding": ("binding", put("Task", status="finished")),
    "bundle type outside binding": ("binding", lambda b: b.update(type="post")),
    "comparator outside binding": ("binding", quantity(comparator="~")),
    "MIME type": ("binding", attachment(contentType="pdf")),
    "language": ("binding", attachment(language="e")),
    "number as string": ("primitive", quantity(value="0.8")),
    "number not finite": ("primitive", quantity(value=float("inf"))),
    "number too precise": ("primitive", quantity(value=10**19)),
    "boolean as number": ("primitive", quantity(value=True)),
    "size as string": ("primitive", attachment(size="16")),
    "negative size": ("primitive", attachment(size=-1)),
    "bad base64": ("primitive", attachment(data="not base64!")),
    "base64 of wrong length": ("primitive", attachment(data="JVBERi0xLj=")),
    "instant without zone": ("primitive", put("Observation", issued="2026-11-22T14:00:00")),
    "date that is none": ("primitive", put("Observation", effectiveDateTime="2026-02-30")),
    "blank string": ("primitive", put("DiagnosticReport", conclusion="  ")),
    "control character": ("primitive", put("DiagnosticReport", conclusion="research use only\x00")),
    "id with underscore": ("primitive", put("Device", id="a_b")),
    "code with double space": ("primitive", put("Observation", status="a  b")),
    "obs-6": ("obs-6", put("Observation", dataAbsentReason={"text": "x"})),
    "obs-6 in component": ("obs-6", component(dataAbsentReason={"text": "x"})),
    "obs-7": ("obs-7", same_code_in_component),
    "obs-3": ("obs-3", put("Observation", referenceRange=[{"appliesTo": [{"text": "x"}]}])),
    "no value and no reason": (
        "no-value",
        lambda b: [resource(b, "Observation").pop(n) for n in ("valueQuantity", "component")],
    ),
    "qty-3": ("qty-3", lambda b: resource(b, "Observation")["valueQuantity"].pop("system")),
    "unit not UCUM": ("ucum", quantity(code="sec")),
    "unit code missing": ("ucum", lambda b: resource(b, "Observation")["valueQuantity"].pop("code")),
    "LOINC check digit": ("loinc", code(code="18748-5")),
    "LOINC format": ("loinc", code(code="diagnostic")),
    "LOINC unknown": ("unknown-code", code(code="8867-4")),
    "display of another code": ("display", code(display="Heart rate")),
    "code without system": ("coding-system", lambda b: code()(b) or code_without_system(b)),
    "relative system": ("coding-system", code(system="loinc")),
    "identifier without value": (
        "identifier-value",
        lambda b: resource(b, "Task")["identifier"].append({"use": "old"}),
    ),
    "relative identifier system": (
        "identifier-system",
        lambda b: resource(b, "Task")["identifier"].append({"system": "mrn", "value": "7"}),
    ),
    "att-1": ("att-1", lambda b: resource(b, "DiagnosticReport")["presentedForm"][0].pop("contentType")),
    "size of other data": ("attachment-size", attachment(size=3)),
    "per-1": ("per-1", put("Task", executionPeriod={"start": "2026-11-22", "end": "2026-11-21"})),
    "inv-1": ("inv-1", put("Task", lastModified="2026-11-22T14:00:00Z")),
    "ext-1": ("ext-1", put("Device", extension=[{"url": "https://vbt.example/x"}])),
    "dom-2": (
        "dom-2",
        put(
            "DiagnosticReport",
            contained=[{"resourceType": "Device", "id": "a", "contained": [{"resourceType": "Device", "id": "b"}]}],
        ),
    ),
    "failed task without reason": ("task-reason", put("Task", status="failed")),
    "script": ("txt-1", narrative("<script>alert(1)</script>")),
    "event handler": ("txt-1", narrative('<p onclick="x()">a</p>')),
    "javascript link": ("narrative", narrative('<a href="javascript:x()">a</a>')),
    "external image": ("narrative", narrative('<img src="https://tracker.example/1.png"/>')),
    "style with url": ("narrative", narrative('<p style="background:url(//x)">a</p>')),
    "entity declaration": (
        "narrative",
        lambda b: resource(b, "DiagnosticReport")["text"].update(div='<!DOCTYPE div [<!ENTITY a "b">]><div>&a;</div>'),
    ),
    "markup not well formed": ("narrative", narrative("<p>a")),
    "no namespace": ("narrative", lambda b: resource(b, "DiagnosticReport")["text"].update(div="<div>a</div>")),
    "txt-2": ("txt-2", narrative("<p> </p>")),
    "unresolved urn:uuid": (
        "reference",
        lambda b: resource(b, "DiagnosticReport")["result"][0].update(
            reference="urn:uuid:00000000-0000-4000-8000-000000000009"
        ),
    ),
    "malformed reference": (
        "reference",
        lambda b: resource(b, "DiagnosticReport")["subject"].update(reference="patient 7"),
    ),
    "unresolved fragment": (
        "reference",
        lambda b: resource(b, "DiagnosticReport")["subject"].update(reference="#nobody"),
    ),
    "reference type differs": (
        "reference-type",
        lambda b: resource(b, "DiagnosticReport")["result"][0].update(type="Device"),
    ),
    "reference target": (
        "reference-target",
        lambda b: resource(b, "DiagnosticReport")["result"].append(resource(b, "Observation")["device"]),
    ),
    "reference target by relative URL": (
        "reference-target",
        put("Observation", subject={"reference": "Medication/7"}),
    ),
    "reference to nothing": ("ref-2", put("Observation", encounter={"type": "Encounter"})),
    "bdl-1": ("bdl-1", lambda b: b.update(total=7)),
    "bdl-2": ("bdl-2", lambda b: b["entry"][0].update(search={"mode": "match"})),
    "bdl-3": ("bdl-3", lambda b: b["entry"][0].pop("request")),
    "bdl-4": ("bdl-4", lambda b: b["entry"][0].update(response={"status": "201"})),
    "bdl-5": ("bdl-5", lambda b: b["entry"][6].pop("resource")),
    "bdl-7": ("bdl-7", repeat_first_entry),
    "bdl-8": ("bdl-8", lambda b: b["entry"][0].update(fullUrl="https://ehr.example/Device/1/_history/2")),
    "upper-case UUID": ("full-url", lambda b: b["entry"][0].update(fullUrl="urn:uuid:ABC")),
    "no fullUrl": ("full-url", lambda b: b["entry"][-1].pop("fullUrl")),
    "search set": ("bundle-type", lambda b: b.update(type="searchset")),
    "unconditional create": ("if-none-exist", lambda b: entry(b, "Task")["request"].pop("ifNoneExist")),
    "condition on another case": ("if-none-exist", request("Task", ifNoneExist="identifier=a%7Cb")),
    "request to another type": ("request", request("Task", url="Device")),
    "delete": ("request", request("Task", method="DELETE")),
    "patient created": ("never-created", create_patient),
    "report final": ("not-signed", put("DiagnosticReport", status="final")),
    "observation final": ("not-signed", put("Observation", status="final")),
    "document final": ("not-signed", put("DocumentReference", docStatus="final")),
    "document without status": ("not-signed", drop("DocumentReference", "docStatus")),
    "intended use untagged": ("intended-use", untag),
    "disclaimer gone": ("intended-use", put("DiagnosticReport", conclusion="All well.")),
    "value outside interval": ("interval", value_outside_interval),
    "interval in another unit": (
        "interval",
        lambda b: resource(b, "Observation")["component"][0]["valueQuantity"].update(code="s"),
    ),
    "interval of withheld value": ("interval", interval_of_withheld_value),
    "business key twice": (
        "business-key",
        lambda b: resource(b, "Observation", 1).update(identifier=resource(b, "Observation")["identifier"]),
    ),
}


def code_without_system(bundle):
    del resource(bundle, "DiagnosticReport")["code"]["coding"][0]["system"]


@pytest.mark.parametrize("defect", BROKEN)
def test_defect_is_caught_under_its_own_rule(bundle, defect):
    rule, break_it = BROKEN[defect]
    break_it(bundle)
    assert rule in {issue.rule for issue in validate(bundle)}


def test_no_issue_repeats_a_value_of_the_bundle(bundle):
    secret = "Zaphod-Beeblebrox"
    for _, break_it in BROKEN.values():
        broken = copy.deepcopy(bundle)
        resource(broken, "Device")["id"] = secret + "_"
        resource(broken, "DiagnosticReport")["status"] = secret
        break_it(broken)
        assert secret not in str(validate(broken))


@pytest.mark.parametrize("text", [None, [], "x", 7, {}, {"resourceType": "Patient"}])
def test_anything_else_is_not_a_bundle(text):
    assert validate(text)


def test_primitive_extensions_and_conditional_references_are_allowed(bundle):
    found = resource(bundle, "Observation")
    found["_issued"] = {"extension": [{"url": "https://vbt.example/precision", "valueCode": "s"}]}
    found["subject"] = {"reference": "Patient?identifier=urn:oid:1.2|7"}
    found["performer"] = [{"reference": "https://ehr.example/fhir/Organization/7"}, {"display": "VBT"}]
    assert validate(bundle) == []
