"""What an EHR finds in the Bundle of a report."""

import base64
import dataclasses
import hashlib
from datetime import datetime
from decimal import Decimal

import fhirkit
import pytest
from fhir.resources.R4B import get_fhir_model_class

from vbt.clinical.findings import Quantity, Row, Table
from vbt.errors import NotYet, Rejected, Unsound
from vbt.fhir import ImagingSeries, Site, Source, from_json, report_bundle, stopped_bundle, to_json, validate

STOP = {"rule": "diffusion needs 6 directions", "got": "5 directions", "action": "send more directions"}


def resources(bundle, kind):
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def one(bundle, kind):
    (found,) = resources(bundle, kind)
    return found


def observation(bundle, key):
    (found,) = [o for o in resources(bundle, "Observation") if o["code"]["coding"][0]["code"] == key]
    return found


def ranked():
    """Twenty candidates <of a search>, the later ones without a volume."""

    def row(number):
        free = Quantity(code=f"free-{number}", label="No seizure", unit="1", value=0.9, low=0.8, high=0.95)
        volume = Quantity(code=f"volume-{number}", label="Volume", unit="cm3", withheld="no grey matter there")
        flag = "clinician's set" if number == 1 else ""
        return Row(label=f"set {number} & more", quantities=(free, volume), flag=flag)

    return Table(code="resections", label="Virtual resections", heading="Set", rows=tuple(row(n) for n in range(20)))


@pytest.fixture(params=["sound", "unsound", "stopped", "sparse", "nobody", "ranked"])
def emitted(request, findings, case, pdf):
    if request.param == "stopped":
        return stopped_bundle(Rejected("too-few-directions", **STOP), pdf, case)
    if request.param == "ranked":
        return report_bundle(dataclasses.replace(findings, tables=(ranked(),)), pdf, case)
    if request.param == "nobody":
        nobody = dataclasses.replace(
            case.identity, patient_id="", issuer="", accession_number="", study_instance_uid=""
        )
        return report_bundle(findings, pdf, dataclasses.replace(case, identity=nobody))
    if request.param == "sparse":
        nothing = dataclasses.replace(case.identity, issuer="HOSP", accession_number="")
        bare = dataclasses.replace(
            case, identity=nothing, revision=1, sources=(), receipts=(), series=(), studied_at=None, site=Site()
        )
        return report_bundle(dataclasses.replace(findings, parameters=(), quality=()), pdf, bare)
    return report_bundle(dataclasses.replace(findings, verdict=request.param), pdf, case)


def test_every_emitted_bundle_is_valid_for_three_judges(emitted):
    assert validate(emitted) == []
    assert [str(issue) for issue in fhirkit.validate(to_json(emitted).decode())] == []
    get_fhir_model_class("Bundle").model_validate_json(to_json(emitted))


def test_json_keeps_every_decimal_digit_and_is_the_same_bytes(findings, case, pdf):
    text = to_json(report_bundle(findings, pdf, case))
    assert text == to_json(report_bundle(findings, pdf, case))
    assert to_json(from_json(text)) == text
    assert b'"value":0.800,' in text


def test_number_carries_unit_interval_and_diagnostics(bundle):
    found = observation(bundle, "coupling")
    assert found["valueQuantity"] == {
        "value": Decimal("0.800"),
        "unit": "1",
        "system": "http://unitsofmeasure.org",
        "code": "1",
    }
    components = {c["code"]["coding"][0]["code"]: str(c["valueQuantity"]["value"]) for c in found["component"]}
    assert components == {
        "interval-low": "0.750",
        "interval-high": "0.900",
        "interval-mass": "90",
        "r-hat": "1.002",
        "effective-sample-size": "873",
    }


def test_withheld_number_has_a_reason_and_neither_value_nor_interval(bundle):
    found = observation(bundle, "velocity")
    assert found["dataAbsentReason"]["text"] == "not identifiable"
    assert not any(name.startswith("value") for name in found)
    assert {c["code"]["coding"][0]["code"] for c in found["component"]} == {"r-hat", "effective-sample-size"}


def test_a_ranked_table_is_an_observation_for_each_of_its_first_rows(findings, case, pdf):
    bundle = report_bundle(dataclasses.replace(findings, tables=(ranked(),)), pdf, case)
    rows = [o for o in resources(bundle, "Observation") if o["code"]["coding"][0]["code"] == "resections"]
    assert [row["valueString"] for row in rows[:2]] == ["set 0 & more", "set 1 & more (clinician's set)"]
    assert len(rows) == 15
    rank, free, low, high, volume = rows[1]["component"]
    assert rank["valueInteger"] == 2
    assert [part["valueQuantity"]["value"] for part in (free, low, high)] == [
        Decimal("0.900"),
        Decimal("0.800"),
        Decimal("0.950"),
    ]
    assert volume["dataAbsentReason"]["text"] == "no grey matter there"
    assert len({row["identifier"][0]["value"] for row in rows}) == 15
    listed = {reference["reference"] for reference in one(bundle, "DiagnosticReport")["result"]}
    assert len(listed) == len(resources(bundle, "Observation"))


def test_an_unsound_twin_has_no_ranked_row(findings, case, pdf):
    failed = dataclasses.replace(findings, tables=(ranked(),), verdict="unsound")
    codes = [o["code"]["coding"][0]["code"] for o in resources(report_bundle(failed, pdf, case), "Observation")]
    assert "resections" not in codes


def test_unsound_twin_withholds_every_number_and_fails_the_task(findings, case, pdf):
    unsound = report_bundle(dataclasses.replace(findings, verdict="unsound"), pdf, case)
    numbers = [o for o in resources(unsound, "Observation") if o["code"]["coding"][0]["code"] != "quality"]
    assert len(numbers) == 3
    assert all("dataAbsentReason" in o and "valueQuantity" not in o for o in numbers)
    assert one(unsound, "Task")["status"] == "failed"


@pytest.mark.parametrize("kind", [Rejected, NotYet, Unsound])
def test_stopped_case_fails_the_task_and_cancels_the_report_with_the_reason(kind, case, pdf):
    stopped = stopped_bundle(kind("too-few-directions", **STOP), pdf, case)
    task, report = one(stopped, "Task"), one(stopped, "DiagnosticReport")
    assert (task["status"], report["status"]) == ("failed", "cancelled")
    assert task["statusReason"]["coding"][0]["code"] == "too-few-directions"
    assert "5 directions" in task["statusReason"]["text"]
    assert "5 directions" in report["conclusion"]
    assert resources(stopped, "Observation") == []


def test_report_stays_preliminary_and_says_research_use_only(bundle):
    report, document = one(bundle, "DiagnosticReport"), one(bundle, "DocumentReference")
    assert (report["status"], document["docStatus"]) == ("preliminary", "preliminary")
    assert report["conclusion"].startswith("For research use only.")
    for entry in bundle["entry"]:
        meta = entry["resource"]["meta"]
        assert meta["security"][0]["code"] == "HRESCH"
        assert meta["tag"][0]["code"] == "research-use-only"


def test_both_forms_hold_the_same_pdf(bundle, pdf):
    for attachment in (
        one(bundle, "DiagnosticReport")["presentedForm"][0],
        one(bundle, "DocumentReference")["content"][0]["attachment"],
    ):
        assert base64.b64decode(attachment["data"]) == pdf
        assert attachment["size"] == len(pdf)
        assert base64.b64decode(attachment["hash"]) == hashlib.sha1(pdf).digest()


def test_patient_and_order_are_referenced_by_identifier_and_never_created(bundle, case):
    assert resources(bundle, "Patient") == resources(bundle, "ServiceRequest") == []
    report = one(bundle, "DiagnosticReport")
    assert report["subject"]["identifier"]["system"] == f"urn:oid:{case.identity.issuer}"
    assert report["subject"]["identifier"]["value"] == case.identity.patient_id
    assert report["basedOn"][0]["identifier"]["value"] == case.identity.accession_number


def test_unknown_issuer_gives_no_made_up_system(findings, case, pdf):
    identity = dataclasses.replace(case.identity, issuer="Ward 7", accession_number="")
    bundle = report_bundle(findings, pdf, dataclasses.replace(case, identity=identity))
    report = one(bundle, "DiagnosticReport")
    assert "system" not in report["subject"]["identifier"]
    assert "basedOn" not in report


def test_every_entry_is_a_conditional_create_on_its_business_key(bundle):
    searches = [entry["request"]["ifNoneExist"] for entry in bundle["entry"]]
    assert len(set(searches)) == len(searches)
    assert all("9c1f47d2-7a53-4a0e-8d0e-5f6a1b2c3d4e.2" in s for s in searches[2:])


def test_next_revision_replaces_the_document_and_shares_no_business_key(findings, case, pdf):
    first = report_bundle(findings, pdf, dataclasses.replace(case, revision=1))
    second = report_bundle(findings, pdf, case)
    replaced = one(second, "DocumentReference")["relatesTo"][0]["target"]["identifier"]
    assert replaced == one(first, "DocumentReference")["masterIdentifier"]
    searches = [{e["request"]["ifNoneExist"] for e in b["entry"]} for b in (first, second)]
    shared = searches[0] & searches[1]
    # Only the software and the study are the same thing in both.
    assert len(shared) == 2


def test_provenance_names_inputs_by_digest_and_ledger_entries(bundle, case):
    provenance = one(bundle, "Provenance")
    values = [entity["what"]["identifier"]["value"] for entity in provenance["entity"]]
    assert values == ["8e" * 32, "0f" * 32, "event-1", "a1" * 32, "event-2"]
    assert provenance["agent"][0]["who"]["identifier"]["value"] == case.software.digest
    targets = {target["type"] for target in provenance["target"]}
    assert targets == {"DiagnosticReport", "DocumentReference", "Task", "Observation"}


def test_narrative_escapes_what_it_shows(bundle):
    assert "&lt;better&gt;" in one(bundle, "DiagnosticReport")["text"]["div"]


@pytest.mark.parametrize(
    "change",
    [{"issued": datetime(2026, 1, 1)}, {"revision": 0}],
)
def test_case_without_time_zone_or_revision_is_refused(case, change):
    with pytest.raises(ValueError):
        dataclasses.replace(case, **change)


def test_digest_and_modality_are_checked(findings, case, pdf):
    with pytest.raises(ValueError, match="64"):
        Source("a", "xyz")
    odd = [ImagingSeries(series_instance_uid="1.2", modality="XX", instances=1)]
    with pytest.raises(ValueError, match="XX"):
        report_bundle(findings, pdf, dataclasses.replace(case, series=odd))
