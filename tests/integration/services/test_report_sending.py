"""What leaves the house is on the trail before it leaves, whatever becomes of the case meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.trace import INVALID_SPAN

from report_writer.fhir_endpoint import FhirEndpoint
from report_writer.handlers import ReportWriter
from report_writer.settings import ReportSettings
from vbt.api.event.v1 import event_pb2
from vbt.errors import Rejected
from vbt.fhir import Site
from vbt.platform import cases, state
from vbt.platform.audit import ConsentDecision
from vbt.platform.events import CASE_STOPPED, Event
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.settings import read_settings
from vbt.platform.software import this_software
from vbt.platform.stage_context import StageContext

SYSTEM = "urn:oid:1.2.276.0.76.3.1.999"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    runtime = open_runtime("report_writer", read_settings(ReportSettings, data=tmp_path), log=False)
    yield runtime
    runtime.close()


@pytest.fixture
def ehr(fhir_server_module: ModuleType) -> Iterator[Any]:
    with fhir_server_module.FhirServer() as running:
        running.add({"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": "MRN-7"}]})
        yield running


@pytest.fixture
def case(runtime: Runtime) -> cases.Case:
    """A case that stopped, of a patient who is known."""
    with runtime.engine.begin() as connection:
        made = cases.create_case(connection, study_key="study", protocol="resting_state")
        who = {"patient_id": "MRN-7", "issuer": "1.2.276.0.76.3.1.999", "accession_number": "A-1"}
        runtime.vault.seal(connection, made.case_id, {**who, "study_instance_uid": "1.2.826.0.1.7"})
    return made


def test_a_report_is_on_the_trail_before_it_is_sent(runtime: Runtime, ehr: Any, case: cases.Case) -> None:
    seen: list[list[str]] = []

    def opened(headers: dict[str, str]) -> FhirEndpoint:
        seen.append(actions(runtime.engine))
        return FhirEndpoint(ehr.base_url, headers=headers)

    event = stopped(case)
    # Its effects are not committed: that is what late images do to a report that is just being delivered.
    writer(runtime, opened, sends=("ehr",))(event, context(runtime.engine, event))
    assert len(ehr.all("DiagnosticReport")) == 1
    assert seen == [["identity.opened", "report.sending"]]
    writer(runtime, opened, sends=("ehr",))(event, context(runtime.engine, event))
    assert actions(runtime.engine).count("report.sending") == 1


def test_a_report_that_is_not_wanted_any_more_is_not_sent(runtime: Runtime, ehr: Any, case: cases.Case) -> None:
    event = stopped(case)
    with runtime.engine.begin() as connection:
        cases.new_revision(connection, case.case_id)
    with pytest.raises(Rejected):
        writer(runtime, lambda headers: FhirEndpoint(ehr.base_url, headers=headers), sends=("ehr",))(
            event, context(runtime.engine, event)
        )
    assert ehr.all("DiagnosticReport") == []
    assert "report.sending" not in actions(runtime.engine)


def test_a_report_that_is_only_kept_is_not_said_to_be_sent(runtime: Runtime, case: cases.Case) -> None:
    event = stopped(case)
    effects = writer(runtime, lambda _headers: None)(event, context(runtime.engine, event))
    assert actions(runtime.engine) == ["identity.opened"]
    assert effects.detail["tier"] == "file"
    assert effects.detail["summary"].endswith("kept here: no EHR is configured")


def test_an_ehr_that_takes_nothing_is_named(runtime: Runtime, ehr: Any, case: cases.Case) -> None:
    ehr.creatable = set()
    event = stopped(case)
    endpoint = FhirEndpoint(ehr.base_url)
    effects = writer(runtime, lambda _headers: endpoint, sends=("ehr",))(event, context(runtime.engine, event))
    assert effects.detail["tier"] == "not-taken"
    assert "takes neither reports nor documents" in effects.detail["summary"]
    (entry,) = effects.audit
    assert entry.detail["tier"] == "not-taken"
    (_, delivered) = effects.events[0]
    tier = event_pb2.ReportDelivered.FromString(delivered.value).write_tier
    assert tier == event_pb2.WRITE_TIER_NOT_TAKEN


def writer(
    runtime: Runtime, open_endpoint: Callable[[dict[str, str]], FhirEndpoint | None], *, sends: tuple[str, ...] = ()
) -> ReportWriter:
    return ReportWriter(
        objects=runtime.objects,
        vault=runtime.vault,
        site=Site(namespace="https://vbt.example/fhir", patient_system="", accession_system=""),
        open_endpoint=open_endpoint,
        sends=sends,
        send_to_pacs=lambda *_: 0,
    )


def stopped(case: cases.Case) -> Event:
    message = event_pb2.CaseStopped(
        case_id=case.case_id,
        revision=case.revision,
        stage="dicom_ingest",
        kind=event_pb2.STOP_KIND_REJECTED,
        code="no-t1",
        rule="a twin needs a T1 image",
        got="none",
        action="send it",
    )
    return Event(
        id="stop-1",
        source="dicom_ingest",
        type=CASE_STOPPED,
        subject=case.case_id,
        revision=case.revision,
        value=message.SerializeToString(),
    )


def context(engine: sa.Engine, event: Event) -> StageContext:
    return StageContext(
        engine=engine,
        event=event,
        group="report_writer",
        stage="report_writer",
        software=this_software("report_writer"),
        consent=ConsentDecision(decision="permit", basis="site-default"),
        span=INVALID_SPAN,
        given_up=lambda: False,
        permit=lambda _connection: ConsentDecision(decision="permit", basis="stop-notice"),
    )


def actions(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        rows = connection.execute(sa.select(state.audit_outbox.c.entry).order_by(state.audit_outbox.c.id)).scalars()
        return [json.loads(row)["action"] for row in rows]
