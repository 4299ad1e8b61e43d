"""Received images become one case, late images the next revision, and what is kept aside a case that says why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dicom_ingest.intake import STAGE, Intake
from dicom_ingest.receiver import QuarantinedObject, ReceivedInstance
from dicom_ingest.servicer import DicomServicer
from dicom_ingest.spool import Spool, file_head
from vbt.api.dicom.v1.dicom_pb2 import SubmitInstancesRequest
from vbt.api.event.v1.event_pb2 import StudyIngested, StudyReceived
from vbt.errors import NotYet
from vbt.platform import cases, state
from vbt.platform.cases import Status
from vbt.platform.software import this_software
from vbt.platform.state import open_state, reading
from vbt.platform.steps import Steps
from vbt.platform.tracing import PromisedIds


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_state(f"sqlite:///{tmp_path / 'vbt.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def intake(engine: sa.Engine) -> Intake:
    return new_intake(engine)


def test_a_study_is_one_case_once_it_is_quiet(engine: sa.Engine, intake: Intake) -> None:
    receive(intake, "study", 3)
    intake.close_quiet_studies()
    assert listed(engine) == []
    time.sleep(0.12)
    intake.close_quiet_studies()
    intake.close_quiet_studies()
    (case,) = listed(engine)
    assert (case.revision, case.stages[0].detail["instances"]) == (1, 3)
    assert [(event.revision, event.instance_count) for event in published(engine)] == [(1, 3)]


def test_a_study_waits_for_the_association_that_still_sends_it(engine: sa.Engine) -> None:
    sending = {"association-1"}
    intake = Intake(
        engine,
        this_software("dicom_ingest"),
        protocol="resting_state",
        quiet_seconds=0.1,
        idle_seconds=60.0,
        open_associations=lambda: sending,
    )
    receive(intake, "study", 3)
    close(intake)
    assert listed(engine) == []
    sending.clear()
    close(intake)
    assert len(listed(engine)) == 1


def test_an_association_that_stays_open_for_other_studies_delays_a_study_no_longer_than_the_idle_time(
    engine: sa.Engine,
) -> None:
    intake = never_ending(engine)
    receive(intake, "study", 3)
    close(intake)
    assert listed(engine) == []
    time.sleep(0.3)
    receive(intake, "other", 1)
    intake.close_quiet_studies()
    assert [case.study_key for case in listed(engine)] == ["study"]
    assert listed(engine)[0].stages[0].detail["summary"] == "3 images, no more for 0.4 s"
    receive(intake, "study", 2, first=3)
    close(intake)
    assert [event.revision for event in published(engine)] == [1]
    time.sleep(0.4)
    intake.close_quiet_studies()
    assert [(case.study_key, case.revision) for case in listed(engine)] == [("other", 1), ("study", 2)]


def test_a_stopped_study_that_is_being_sent_again_is_not_taken_for_idle(engine: sa.Engine) -> None:
    """Its images were received before, so that in the state they are old."""
    intake = never_ending(engine)
    receive(intake, "study", 3)
    time.sleep(0.5)
    intake.close_quiet_studies()
    with engine.begin() as connection:
        cases.set_status(connection, listed(engine)[0].case_id, Status.STOPPED)
    receive(intake, "study", 1, duplicate=True)
    close(intake)
    assert [event.revision for event in published(engine)] == [1]


def test_a_sender_that_lost_its_association_gets_the_quiet_time_to_come_back(engine: sa.Engine) -> None:
    sending = {"association-1"}
    intake = Intake(
        engine,
        this_software("dicom_ingest"),
        protocol="resting_state",
        quiet_seconds=0.4,
        idle_seconds=60.0,
        open_associations=lambda: sending,
    )
    receive(intake, "study", 3)
    time.sleep(0.5)
    intake.close_quiet_studies()
    sending.clear()
    intake.close_quiet_studies()
    assert listed(engine) == []
    receive(intake, "study", 2, first=3)
    time.sleep(0.5)
    intake.close_quiet_studies()
    assert [(event.revision, event.instance_count) for event in published(engine)] == [(1, 5)]


def test_late_images_are_the_next_revision(engine: sa.Engine, intake: Intake) -> None:
    receive(intake, "study", 3)
    close(intake)
    receive(intake, "study", 2, first=3)
    close(intake)
    (case,) = listed(engine)
    assert case.revision == 2
    assert [(event.revision, event.instance_count) for event in published(engine)] == [(1, 3), (2, 5)]


def test_sending_all_of_it_again_changes_nothing(engine: sa.Engine, intake: Intake) -> None:
    receive(intake, "study", 3)
    close(intake)
    receive(intake, "study", 3, duplicate=True)
    close(intake)
    assert [event.revision for event in published(engine)] == [1]


def test_a_stopped_study_that_is_sent_again_starts_anew(engine: sa.Engine, intake: Intake) -> None:
    receive(intake, "study", 3)
    close(intake)
    with engine.begin() as connection:
        cases.set_status(connection, listed(engine)[0].case_id, Status.STOPPED)
    receive(intake, "study", 3, duplicate=True)
    close(intake)
    assert [event.revision for event in published(engine)] == [1, 2]


def test_a_study_that_is_erased_while_it_is_sent_again_is_let_go(engine: sa.Engine, intake: Intake) -> None:
    receive(intake, "study", 3)
    close(intake)
    receive(intake, "study", 3, duplicate=True)
    with engine.begin() as connection:
        cases.set_status(connection, listed(engine)[0].case_id, Status.ERASED)
        for table in (state.instance, state.receiving, state.stage):
            connection.execute(sa.delete(table))
    receive(intake, "other", 1)
    close(intake)
    assert [(case.study_key, case.revision) for case in listed(engine)] == [("other", 1), ("study", 1)]


def test_a_study_left_open_by_a_crash_is_closed_after_the_next_start(engine: sa.Engine, intake: Intake) -> None:
    receive(intake, "study", 3)
    close(new_intake(engine))
    assert len(listed(engine)) == 1
    close(new_intake(engine))
    assert [event.revision for event in published(engine)] == [1]


def test_who_sends_while_the_state_is_away_is_asked_to_come_back(
    engine: sa.Engine, intake: Intake, tmp_path: Path
) -> None:
    """Over C-STORE as A700, over gRPC as UNAVAILABLE, which is what the guard makes of NotYet."""
    engine.dispose()
    (tmp_path / "vbt.db").rename(tmp_path / "away.db")
    (tmp_path / "vbt.db").mkdir()
    with pytest.raises(NotYet):
        receive(intake, "study", 1)


def test_a_study_whose_closing_is_tried_again_has_one_span(
    engine: sa.Engine, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = InMemorySpanExporter()
    provider = TracerProvider(id_generator=PromisedIds())
    provider.add_span_processor(SimpleSpanProcessor(written))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    receive(intake, "study", 3)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE outbox RENAME TO away"))
    with pytest.raises(sa.exc.OperationalError):
        close(intake)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO outbox"))
    close(intake)
    assert [(span.name, span.attributes) for span in written.get_finished_spans()] == [
        ("receive study", {"vbt.revision": 1})
    ]


def test_what_is_kept_aside_is_one_stopped_case_per_association(engine: sa.Engine, intake: Intake) -> None:
    for sha256 in ("a" * 64, "b" * 64):
        intake.quarantined(QuarantinedObject("malformed", sha256, Path("aside"), "association-1", 10, "study"))
    (case,) = listed(engine)
    assert case.status is Status.STOPPED
    objects = case.stages[0].detail["objects"]
    assert [(thing["sha256"][0], thing["study_key"]) for thing in objects] == [("a", "study"), ("b", "study")]
    with reading(engine) as connection:
        topics = connection.execute(sa.select(state.outbox.c.topic)).scalars().all()
        entries = connection.execute(sa.select(sa.func.count()).select_from(state.audit_outbox)).scalar()
    assert (topics, entries) == (["vbt.case.stopped.v1"], 2)


@pytest.mark.parametrize("vr", [b"ZZ", b"FD"], ids=["of no known VR", "of the wrong length"])
def test_a_file_head_that_cannot_be_decoded_is_kept_aside(
    engine: sa.Engine, intake: Intake, tmp_path: Path, vr: bytes
) -> None:
    spool = Spool(tmp_path / "spool", bytes(32), reserve_bytes=0)
    steps = Steps(engine, this_software("dicom_ingest"), StudyReceived, StudyIngested)
    head = file_head("1.2.3", "1.2.4", "1.2.840.10008.1.2.1").replace(b"\x02\x00\x03\x00UI", b"\x02\x00\x03\x00" + vr)
    requests = iter([SubmitInstancesRequest(chunk=head, last=False), SubmitInstancesRequest(chunk=b"", last=True)])
    servicer = DicomServicer(steps, spool, intake, None, None)  # type: ignore[arg-type]  # nothing is attached here
    kept = servicer.SubmitInstances(requests, None)  # type: ignore[arg-type]
    assert (kept.stored, kept.quarantined) == (0, 1)


def new_intake(engine: sa.Engine) -> Intake:
    return Intake(engine, this_software("dicom_ingest"), protocol="resting_state", quiet_seconds=0.1, idle_seconds=60.0)


def never_ending(engine: sa.Engine) -> Intake:
    """An intake whose one association stays open."""
    return Intake(
        engine,
        this_software("dicom_ingest"),
        protocol="resting_state",
        quiet_seconds=0.1,
        idle_seconds=0.4,
        open_associations=lambda: {"association-1"},
    )


def receive(intake: Intake, study: str, count: int, *, first: int = 0, duplicate: bool = False) -> None:
    for number in range(first, first + count):
        instance = ReceivedInstance(
            sop_key=f"{study}-{number}",
            study_key=study,
            series_key="series",
            sha256=f"{number:064d}",
            path=Path(f"{number}.dcm"),
            association="association-1",
            size=10,
            duplicate=duplicate,
        )
        intake.stored(instance)


def close(intake: Intake) -> None:
    time.sleep(0.12)
    intake.close_quiet_studies()


def listed(engine: sa.Engine) -> list[cases.Case]:
    with reading(engine) as connection:
        return cases.list_cases(connection)


def published(engine: sa.Engine) -> list[StudyReceived]:
    with reading(engine) as connection:
        rows = connection.execute(sa.select(state.outbox.c.value).order_by(state.outbox.c.id)).scalars()
        return [StudyReceived.FromString(value) for value in rows]


def test_the_stage_is_named_as_the_command_line_shows_it() -> None:
    from standalone.show import STAGES

    assert STAGES[0] == STAGE
