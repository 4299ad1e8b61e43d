"""A report reaches the EHR once, whatever the server does in between."""

import base64
import copy
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from report_writer.delivery import Tier, deliver
from report_writer.fhir_endpoint import EhrNotReady, FhirEndpoint
from vbt.clinical.findings import Quantity, TwinFindings
from vbt.errors import Rejected
from vbt.fhir import CaseContext, Software, Source, from_json, report_bundle, validate

PATIENT_SYSTEM = "urn:oid:1.2.276.0.76.3.1.999"
PDF = b"%PDF-1.4 made up"
TRANSACTION = r"^POST $"


def make_bundle(case_id, patient_id="MRN-7"):
    identity = SimpleNamespace(
        patient_id=patient_id,
        issuer="1.2.276.0.76.3.1.999",
        accession_number="ACC-1",
        study_instance_uid="1.2.826.0.1.7",
    )
    case = CaseContext(
        case_id=case_id,
        revision=1,
        identity=identity,
        software=Software(name="vbt", version="0.1.0", digest="5e" * 32),
        issued=datetime(2026, 11, 22, 14, tzinfo=UTC),
        sources=[Source("diffusion.nii.gz", "8e" * 32)],
    )
    numbers = tuple(
        Quantity(code=code, label=code, unit="1", value=0.5, low=0.4, high=0.6) for code in ("coupling", "noise")
    )
    findings = TwinFindings(
        application="resting_state", context_of_use="x", verdict="sound", conclusion="Fits.", parameters=numbers
    )
    return report_bundle(findings, PDF, case)


@pytest.fixture
def bundle():
    return make_bundle("9c1f47d2")


@pytest.fixture
def server(fhir_server_module):
    with fhir_server_module.FhirServer() as running:
        running.add({"resourceType": "Patient", "identifier": [{"system": PATIENT_SYSTEM, "value": "MRN-7"}]})
        yield running


@pytest.fixture
def fault(fhir_server_module):
    return fhir_server_module.Fault


@pytest.fixture
def endpoint(server):
    with FhirEndpoint(server.base_url, timeout_seconds=0.6) as made:
        yield made


class Clock:
    """Waits without waiting."""

    def __init__(self):
        self.waits = []

    def __call__(self, seconds):
        self.waits.append(seconds)


def send(bundle, endpoint, wait=None, patience=30.0):
    return deliver(bundle, endpoint, patience_seconds=patience, wait=wait or Clock())


def filed_once(server, kinds=("DiagnosticReport", "DocumentReference", "Task", "Provenance", "Device", "ImagingStudy")):
    assert {kind: len(server.all(kind)) for kind in kinds} == dict.fromkeys(kinds, 1)
    assert len(server.all("Observation")) == 2


def test_transaction_files_everything_on_the_patient_the_ehr_knows(server, endpoint, bundle):
    delivery = send(bundle, endpoint)
    assert delivery.tier is Tier.TRANSACTION
    filed_once(server)
    assert set(delivery.references) == set(server.resources) - {"Patient/1"}
    (report,) = server.all("DiagnosticReport")
    assert report["subject"]["reference"] == "Patient/1"
    assert {r["reference"].partition("/")[0] for r in report["result"]} == {"Observation"}
    assert validate(from_json(delivery.sent)) == []


def test_input_bundle_is_left_as_it_was(endpoint, bundle):
    before = copy.deepcopy(bundle)
    send(bundle, endpoint)
    assert bundle == before


def test_second_delivery_writes_nothing(server, endpoint, bundle):
    first = send(bundle, endpoint)
    again = send(bundle, endpoint)
    filed_once(server)
    assert again.references == first.references
    assert (first.tier, first.found) == (Tier.TRANSACTION, 0)
    assert (again.tier, again.found) == (Tier.FOUND, len(first.references))
    assert server.count(TRANSACTION) == 1


def test_server_without_transactions_gets_creates_that_refer_to_each_other(server, endpoint, bundle):
    server.transaction = False
    assert send(bundle, endpoint).tier is Tier.INDIVIDUAL
    filed_once(server)
    (report,) = server.all("DiagnosticReport")
    assert all(result["reference"] in server.resources for result in report["result"])
    (provenance,) = server.all("Provenance")
    assert all(target["reference"] in server.resources for target in provenance["target"])


def test_server_that_only_files_documents_gets_the_pdf(server, endpoint, bundle):
    server.transaction, server.creatable = False, {"DocumentReference"}
    delivery = send(bundle, endpoint)
    assert delivery.tier is Tier.DOCUMENT
    (document,) = server.all("DocumentReference")
    assert base64.b64decode(document["content"][0]["attachment"]["data"]) == PDF
    assert document["subject"]["reference"] == "Patient/1"
    # The resources it points at are not there: identifiers remain.
    assert "reference" not in document["author"][0]
    assert document["author"][0]["identifier"]["value"] == "5e" * 32
    assert validate(from_json(delivery.sent)) == []


@pytest.mark.parametrize("transaction", [True, False])
def test_kinds_the_server_does_not_take_are_left_out(server, endpoint, bundle, transaction):
    server.transaction = transaction
    server.creatable -= {"Provenance", "Device", "ImagingStudy", "Task"}
    delivery = send(bundle, endpoint)
    filed_once(server, kinds=("DiagnosticReport", "DocumentReference"))
    (report,) = server.all("DiagnosticReport")
    assert report["imagingStudy"][0]["identifier"]["value"] == "urn:oid:1.2.826.0.1.7"
    assert "reference" not in report["imagingStudy"][0]
    assert validate(from_json(delivery.sent)) == []


def test_without_server_or_without_writes_the_report_stays_a_file(server, endpoint, bundle):
    server.creatable = set()
    for where, tier in ((None, Tier.FILE), (endpoint, Tier.NOT_TAKEN)):
        delivery = send(bundle, where)
        assert (delivery.tier, delivery.references, delivery.found) == (tier, (), 0)
        assert from_json(delivery.sent) == bundle


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("commit", [True, False])
def test_transient_fault_is_survived_and_nothing_is_filed_twice(server, endpoint, bundle, fault, status, commit):
    server.faults.append(fault(TRANSACTION, status=status, times=2 if not commit else 1, commit=commit))
    send(bundle, endpoint)
    filed_once(server)


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("how", [{"drop": True}, {"delay": 0.9}])
def test_lost_answer_is_looked_up_before_sending_again(server, endpoint, bundle, fault, commit, how):
    server.faults.append(fault(TRANSACTION, commit=commit, **how))
    send(bundle, endpoint)
    filed_once(server)
    assert server.count(TRANSACTION) == (1 if commit else 2)


def test_lost_answer_is_survived_even_where_conditional_create_is_ignored(server, endpoint, bundle, fault):
    server.ignores_conditions = True
    server.faults.append(fault(TRANSACTION, commit=True, drop=True))
    send(bundle, endpoint)
    filed_once(server)


@pytest.mark.parametrize("kind", ["Device", "Observation", "DiagnosticReport", "Provenance"])
@pytest.mark.parametrize("commit", [True, False])
def test_individual_creates_resume_where_they_stopped(server, endpoint, bundle, fault, kind, commit):
    server.transaction = False
    server.faults.append(fault(f"^POST {kind}$", commit=commit, drop=True))
    send(bundle, endpoint)
    filed_once(server)


def test_retry_after_is_obeyed_within_ten_percent(server, endpoint, bundle, fault):
    server.faults.append(fault(TRANSACTION, status=429, headers={"Retry-After": "12"}))
    clock = Clock()
    send(bundle, endpoint, wait=clock)
    assert len(clock.waits) == 1
    assert 12 <= clock.waits[0] <= 13.2


def test_retry_after_may_be_a_date(server, bundle, fault):
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
    server.faults.append(fault(TRANSACTION, headers={"Retry-After": "Sun, 22 Nov 2026 12:00:20 GMT"}))
    clock = Clock()
    with FhirEndpoint(server.base_url, clock=lambda: noon) as endpoint:
        send(bundle, endpoint, wait=clock)
    assert 20 <= clock.waits[0] <= 22


def test_longer_wait_than_patience_is_left_to_the_caller(server, endpoint, bundle, fault):
    server.faults.append(fault(TRANSACTION, headers={"Retry-After": "3600"}))
    clock = Clock()
    with pytest.raises(EhrNotReady) as caught:
        send(bundle, endpoint, wait=clock)
    assert caught.value.retry_after == 3600
    assert clock.waits == []


def test_server_that_is_down_is_not_ready_after_backing_off(endpoint, bundle, server):
    server.__exit__()
    clock = Clock()
    with pytest.raises(EhrNotReady):
        send(bundle, endpoint, wait=clock)
    assert clock.waits == sorted(clock.waits)
    assert 10 < sum(clock.waits) <= 30


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 413, 422, 301, 501])
def test_refusal_is_final_and_repeats_no_text_of_the_server(server, endpoint, bundle, fault, status):
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invariant", "diagnostics": "MRN-7 Doe"}, {"code": "MRN-7"}],
    }
    server.faults.append(fault(TRANSACTION, status=status, body=outcome, headers={"Location": "http://evil.example/"}))
    with pytest.raises(Rejected) as caught:
        send(bundle, endpoint)
    assert server.count(TRANSACTION) == 1
    assert "invariant" in str(caught.value)
    assert "MRN" not in str(caught.value)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("status", [409, 412])
def test_conflict_is_settled_by_looking_at_what_is_there(server, endpoint, bundle, fault, status):
    server.faults.append(fault(TRANSACTION, status=status))
    delivery = send(bundle, endpoint)
    filed_once(server)
    assert (delivery.tier, delivery.found) == (Tier.INDIVIDUAL, 0)


def test_conflict_in_a_single_create_takes_what_is_there(server, endpoint, bundle, fault):
    server.transaction = False
    server.faults.append(fault("^POST Task$", status=412, commit=True))
    send(bundle, endpoint)
    filed_once(server)


def test_success_with_failed_entries_is_completed_entry_by_entry(server, endpoint, bundle, fault):
    lying = {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": {"status": "409"}}] * 8}
    server.faults.append(fault(TRANSACTION, status=200, body=lying))
    send(bundle, endpoint)
    filed_once(server)


def test_entry_refused_inside_a_success_is_a_refusal(server, endpoint, bundle, fault):
    lying = {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": {"status": "422"}}] * 8}
    server.faults.append(fault(TRANSACTION, status=200, body=lying))
    with pytest.raises(Rejected, match="422"):
        send(bundle, endpoint)


def test_answer_that_is_no_json_is_an_unknown_outcome(server, endpoint, bundle, fault):
    server.faults.append(fault(TRANSACTION, status=200, body=None, commit=True))
    send(bundle, endpoint)
    filed_once(server)


WEIRD = (None, [], 7, "x", {"a": None}, [None], [{"response": None}], [{"resource": 7}], [{"response": {"status": []}}])


@pytest.mark.parametrize("weird", WEIRD)
@pytest.mark.parametrize("place", [TRANSACTION, "metadata", "DiagnosticReport/_search"])
def test_answer_of_any_shape_ends_in_a_report_or_a_known_error(server, endpoint, bundle, fault, weird, place):
    body = {"resourceType": "Bundle", "type": "transaction-response", "fhirVersion": "4.0.1"}
    body |= dict.fromkeys(("entry", "rest", "issue"), weird)
    server.faults.append(fault(place, status=200, body=body))
    try:
        send(bundle, endpoint)
    except Rejected:
        assert server.all("DiagnosticReport") == []
    assert len(server.all("DiagnosticReport")) <= 1


@pytest.mark.parametrize("place", ["metadata", "Patient/_search", "DiagnosticReport/_search"])
@pytest.mark.parametrize("status", [409, 412])
def test_conflict_while_reading_is_tried_again(server, endpoint, bundle, fault, place, status):
    server.faults.append(fault(place, status=status))
    send(bundle, endpoint)
    filed_once(server)


@pytest.mark.parametrize(
    "patients",
    [
        [],
        [{"identifier": [{"system": PATIENT_SYSTEM, "value": "MRN-7"}]}] * 2,
        [{"identifier": [{"system": PATIENT_SYSTEM, "value": "MRN-7"}], "active": False}],
        [{"identifier": [{"system": PATIENT_SYSTEM, "value": "MRN-7"}], "link": [{"type": "replaced-by"}]}],
        [{"identifier": [{"system": "urn:oid:1.2.3", "value": "MRN-7"}]}],
    ],
    ids=["none", "two", "inactive", "merged", "another issuer"],
)
def test_no_report_is_filed_unless_exactly_one_active_patient_matches(server, endpoint, bundle, patients):
    server.resources.clear()
    for patient in patients:
        server.add({"resourceType": "Patient", **patient})
    with pytest.raises(Rejected) as caught:
        send(bundle, endpoint)
    assert caught.value.code == "patient-not-matched"
    assert server.all("DiagnosticReport") == []


def test_report_for_nobody_is_kept_and_never_filed(server, endpoint):
    nobody = make_bundle("9c1f47d2", patient_id="")
    assert send(nobody, None).tier is Tier.FILE
    with pytest.raises(Rejected) as caught:
        send(nobody, endpoint)
    assert caught.value.code == "patient-not-matched"
    assert server.all("DiagnosticReport") == []


def test_server_that_ignores_search_parameters_gives_no_wrong_patient(server, endpoint, bundle):
    server.add({"resourceType": "Patient", "identifier": [{"system": PATIENT_SYSTEM, "value": "MRN-8"}]})
    server.ignores_search = True
    server.ignores_conditions = True
    send(bundle, endpoint)
    (report,) = server.all("DiagnosticReport")
    assert report["subject"]["reference"] == "Patient/1"


def test_duplicates_in_the_ehr_are_left_to_a_person(server, endpoint, bundle):
    report = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    for _ in range(2):
        server.add({"resourceType": "DiagnosticReport", "identifier": report["identifier"]})
    with pytest.raises(Rejected) as caught:
        send(bundle, endpoint)
    assert caught.value.code == "ehr-holds-duplicates"


def test_expired_token_is_renewed_once(server, bundle):
    server.token = "fresh"
    asked = []

    def authorization(renew):
        asked.append(renew)
        return "Bearer fresh" if any(asked) else "Bearer stale"

    with FhirEndpoint(server.base_url, authorization=authorization) as endpoint:
        send(bundle, endpoint)
    filed_once(server)
    assert asked.count(True) == 1


def test_wrong_credentials_are_refused_and_not_tried_for_ever(server, bundle):
    server.token = "other"
    wrong = FhirEndpoint(server.base_url, authorization=lambda _: "Bearer wrong")
    with wrong as endpoint, pytest.raises(Rejected) as caught:
        send(bundle, endpoint)
    assert caught.value.code == "ehr-access-refused"
    assert server.count("metadata") == 2


def test_record_number_is_in_no_url_and_headers_are_passed_on(server, bundle):
    with FhirEndpoint(server.base_url, headers={"traceparent": "00-1-2-01"}) as endpoint:
        send(bundle, endpoint)
    assert all("MRN-7" not in seen.path for seen in server.seen)
    assert all(seen.headers["traceparent"] == "00-1-2-01" for seen in server.seen)


def test_server_of_another_fhir_version_is_refused(server, endpoint, bundle):
    server.fhir_version = "5.0.0"
    with pytest.raises(Rejected, match="R4"):
        send(bundle, endpoint)


def test_invalid_bundle_never_leaves(server, endpoint, bundle):
    bundle["entry"][0]["resource"]["status"] = "done"
    with pytest.raises(Rejected) as caught:
        send(bundle, endpoint)
    assert caught.value.code == "report-not-valid-fhir"
    assert server.seen == []


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        ("http://ehr.example/fhir", {}),
        ("https://ehr.example/fhir", {"allowed_hosts": ["other.example"]}),
        ("ftp://127.0.0.1/fhir", {}),
        ("fhir", {}),
    ],
)
def test_endpoint_is_encrypted_and_on_the_list(url, changes):
    with pytest.raises(ValueError):
        FhirEndpoint(url, **changes)


def test_backlog_after_an_outage_drains_in_order_without_duplicates(server, fault):
    """Fifty reports, each failing once at a different place."""
    places = [TRANSACTION, "metadata", "^POST Patient/_search", "^POST DiagnosticReport/_search"]
    with FhirEndpoint(server.base_url) as endpoint:
        for number in range(50):
            server.faults.append(fault(places[number % 4], commit=number % 3 == 0))
            send(make_bundle(f"case{number:03}"), endpoint)
    reports = [report["identifier"][0]["value"] for report in server.all("DiagnosticReport")]
    assert reports == [f"case{number:03}.1" for number in range(50)]
