"""How events end: exactly one transaction each, and what is in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.message import DecodeError

from vbt.errors import NotYet, Rejected, TwinError, Unsound
from vbt.platform import cases, state
from vbt.platform.bus import Record
from vbt.platform.cases import Case, Status
from vbt.platform.events import CASE_STOPPED, CONNECTOME_BUILT, STUDY_INGESTED, Event
from vbt.platform.policy import ConsentPolicy, record_consent
from vbt.platform.settlement import Settlement
from vbt.platform.software import Software
from vbt.platform.stage_context import Abandoned, Effects, Handler, Parked, StageContext
from vbt.platform.state import reading

CANARY = "Mustermann^Erika"


def _stopped(event: Event, error: TwinError, stage: str) -> tuple[str, Event]:
    stop = replace(event, id=f"stop-{event.id}", source=stage, type=CASE_STOPPED, value=error.code.encode())
    return CASE_STOPPED, stop


class Line:
    """One stage on a state, to which a test gives events by hand."""

    def __init__(self, engine: sa.Engine, software: Software) -> None:
        self.engine = engine
        self.software = software
        with engine.begin() as connection:
            self.case: Case = cases.create_case(connection, study_key="study", protocol="resting_state")

    def event(self, name: str = "e1", *, revision: int = 1, topic: str = STUDY_INGESTED) -> Event:
        case_id = self.case.case_id
        return Event(id=name, source="t", type=topic, subject=case_id, value=b"v", revision=revision)

    def settle(
        self,
        handler: Handler,
        event: Event | None = None,
        *,
        headers: dict[str, str] | None = None,
        given_up: Callable[[], bool] = lambda: False,
        stopped: Callable[[Event, TwinError, str], tuple[str, Event]] = _stopped,
        default: Any = "permit",
    ) -> None:
        message = (event or self.event()).message()
        message = replace(message, headers={**message.headers, **(headers or {})})
        settlement = Settlement(
            engine=self.engine,
            group="connectome_builder",
            stage="connectome_builder",
            handler=handler,
            stopped=stopped,
            software=self.software,
            policy=ConsentPolicy(default),
            delays=(1.0, 2.0),
        )
        settlement.settle(Record(message=message, partition=0, offset=0), given_up)

    def rows(self, table: sa.Table) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(sa.select(table)))

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(row.entry) for row in self.rows(state.audit_outbox)]

    def read(self) -> Case:
        with reading(self.engine) as connection:
            return cases.read_case(connection, self.case.case_id)


@pytest.fixture
def line(engine: sa.Engine, software: Software) -> Line:
    return Line(engine, software)


def _build(event: Event, context: StageContext) -> Effects:
    caused = replace(event, id=f"caused-{event.id}", type=CONNECTOME_BUILT)
    return Effects(
        events=[(CONNECTOME_BUILT, caused)], audit=[context.audit("connectome.built")], detail={"streamlines": 7}
    )


def _raise(error: BaseException) -> Handler:
    def handler(_event: Event, _context: StageContext) -> Effects:
        raise error

    return handler


def _rejected(code: str = "too-few") -> Rejected:
    return Rejected(code, rule="r", got="g", action="a")


def test_an_effect_commits_with_its_event_and_its_audit_entry(line: Line) -> None:
    line.settle(_build)
    (sent,) = line.rows(state.outbox)
    (entry,) = line.audit()
    (stage,) = line.read().stages
    assert sent.topic == CONNECTOME_BUILT
    assert (entry["action"], entry["outcome"]) == ("connectome.built", "success")
    assert entry["consent"] == {"decision": "permit", "basis": "site-default"}
    assert (stage.status, stage.fraction, stage.detail) == (Status.DONE, 1.0, {"streamlines": 7})
    assert stage.seconds is not None
    assert stage.peak_rss_bytes is not None
    assert stage.peak_rss_bytes > 1_000_000


@pytest.mark.parametrize("fails", [False, True])
def test_what_comes_afterwards_waits_until_the_effect_is_durable(line: Line, *, fails: bool) -> None:
    seen: list[Status] = []

    def clearing(event: Event, context: StageContext) -> Effects:
        def apply(connection: sa.Connection) -> None:
            cases.set_status(connection, event.subject, Status.DONE)
            if fails:
                raise RuntimeError

        return replace(_build(event, context), apply=[apply], afterwards=[lambda: seen.append(line.read().status)])

    line.settle(clearing)
    assert seen == ([] if fails else [Status.DONE])


def test_an_effect_that_fails_half_way_leaves_nothing(line: Line) -> None:
    def broken(event: Event, context: StageContext) -> Effects:
        good = _build(event, context)
        return replace(
            good, apply=[lambda connection: cases.set_status(connection, event.subject, Status.DONE), _break]
        )

    def _break(_connection: sa.Connection) -> None:
        raise RuntimeError

    line.settle(broken)
    assert [row.topic for row in line.rows(state.outbox)] == [f"{STUDY_INGESTED}.connectome_builder.retry.1s"]
    assert line.audit() == []
    assert line.read().status is Status.RUNNING


def test_a_record_that_comes_twice_is_settled_once(line: Line) -> None:
    line.settle(_build)
    line.settle(_build)
    assert len(line.rows(state.outbox)) == 1
    assert len(line.audit()) == 1


def test_of_two_workers_on_one_record_the_second_to_commit_changes_nothing(line: Line) -> None:
    def overtaken(event: Event, context: StageContext) -> Effects:
        line.settle(_build)  # a worker that was frozen wakes after another did its work
        slow = _build(event, context)
        return replace(slow, audit=[context.audit("connectome.built-again")])

    line.settle(overtaken)
    assert len(line.rows(state.outbox)) == 1
    assert [entry["action"] for entry in line.audit()] == ["connectome.built"]


def test_what_a_person_has_to_settle_outside_waits_in_the_dead_letters(line: Line) -> None:
    line.settle(_raise(Parked(_rejected("patient-not-matched"))))
    (letter,) = line.rows(state.dead_letter)
    assert (letter.code, letter.attempts) == ("patient-not-matched", 1)
    assert [row.topic for row in line.rows(state.outbox)] == []
    assert line.read().status is Status.FAILED


@pytest.mark.parametrize("kind", [Rejected, Unsound])
def test_a_refusal_stops_the_case_and_says_why(line: Line, kind: type[TwinError]) -> None:
    line.settle(_raise(kind("too-few", rule="r", got="g", action="a")))
    (sent,) = line.rows(state.outbox)
    (entry,) = line.audit()
    case = line.read()
    assert (sent.topic, sent.value) == (CASE_STOPPED, b"too-few")
    assert (entry["action"], entry["outcome"], entry["detail"]["code"]) == ("case.stopped", "refused", "too-few")
    assert (case.status, case.stages[0].status) == (Status.STOPPED, Status.STOPPED)


def test_not_yet_goes_to_the_retry_topic_with_its_code_alone(line: Line) -> None:
    line.settle(_raise(NotYet("disk-full", rule="r", got="g", action="a")))
    (sent,) = line.rows(state.outbox)
    headers = json.loads(sent.headers)
    assert sent.topic.endswith(".retry.1s")
    assert (headers["x-attempts"], headers["x-error"], headers["ce_id"]) == ("1", "disk-full", "e1")
    assert line.read().stages[0].status is Status.RETRYING


def test_an_attempt_that_comes_twice_is_postponed_once(line: Line) -> None:
    for _ in range(2):
        line.settle(_raise(NotYet("disk-full", rule="r", got="g", action="a")))
    assert len(line.rows(state.outbox)) == 1


def test_the_last_attempt_becomes_a_dead_letter(line: Line) -> None:
    line.settle(_raise(OSError(CANARY)), headers={"x-attempts": "2"})
    (letter,) = line.rows(state.dead_letter)
    assert (letter.code, letter.attempts, letter.topic) == ("OSError", 3, STUDY_INGESTED)
    assert line.audit()[0]["outcome"] == "failed"
    assert line.read().status is Status.FAILED


def test_bytes_that_no_handler_can_decode_are_buried_at_once(line: Line) -> None:
    line.settle(_raise(DecodeError(CANARY)))
    (letter,) = line.rows(state.dead_letter)
    assert (letter.code, letter.attempts) == ("DecodeError", 1)


def test_the_words_of_a_foreign_exception_reach_no_table(line: Line) -> None:
    for attempt in range(3):
        line.settle(_raise(ValueError(f"bad name {CANARY}")), headers={"x-attempts": str(attempt)})
    for table in state.metadata.tables.values():
        for row in line.rows(table):
            assert CANARY not in str([bytes(cell) if isinstance(cell, memoryview) else cell for cell in row])
    (letter,) = line.rows(state.dead_letter)
    assert "ValueError" in letter.cause
    assert "test_settlement.py" in letter.cause


def test_an_effect_of_an_older_revision_is_dropped_and_audited(line: Line) -> None:
    def overtaken(event: Event, context: StageContext) -> Effects:
        with line.engine.begin() as connection:
            cases.new_revision(connection, event.subject)
        return _build(event, context)

    line.settle(overtaken)
    assert line.rows(state.outbox) == []
    assert [entry["action"] for entry in line.audit()] == ["event.superseded"]


def test_a_refusal_of_an_older_revision_does_not_stop_the_newer(line: Line) -> None:
    def overtaken(event: Event, _context: StageContext) -> Effects:
        with line.engine.begin() as connection:
            cases.new_revision(connection, event.subject)
        raise _rejected()

    line.settle(overtaken)
    assert line.rows(state.outbox) == []
    assert line.read().status is Status.RUNNING


def test_superseded_work_is_not_even_begun(line: Line) -> None:
    with line.engine.begin() as connection:
        cases.new_revision(connection, line.case.case_id)
    line.settle(_raise(AssertionError("the handler ran")))
    assert [entry["action"] for entry in line.audit()] == ["event.superseded"]


def test_withdrawn_consent_stops_the_case_before_the_handler(line: Line) -> None:
    with line.engine.begin() as connection:
        record_consent(connection, status="deny", reference="Consent/1", study_key="study")
    line.settle(_raise(AssertionError("the handler ran")))
    assert line.audit()[0]["detail"]["code"] == "consent-withdrawn"
    assert line.read().status is Status.STOPPED


def test_consent_withdrawn_during_the_work_undoes_it(line: Line) -> None:
    def withdrawn(event: Event, context: StageContext) -> Effects:
        with line.engine.begin() as connection:
            record_consent(connection, status="deny", reference="Consent/1", case_id=event.subject)
        return _build(event, context)

    line.settle(withdrawn)
    assert [row.topic for row in line.rows(state.outbox)] == [CASE_STOPPED]
    assert [entry["action"] for entry in line.audit()] == ["case.stopped"]


def test_the_notice_of_a_stop_is_delivered_without_consent(line: Line) -> None:
    with line.engine.begin() as connection:
        record_consent(connection, status="deny", reference="Consent/1", study_key="study")
        cases.request_cancel(connection, line.case.case_id)
    seen: list[str] = []

    def notify(_event: Event, context: StageContext) -> Effects:
        context.check()
        seen.append(context.consent.basis)
        return Effects()

    line.settle(notify, line.event(topic=CASE_STOPPED))
    assert seen == ["stop-notice"]


def test_a_refused_stop_notice_does_not_go_round(line: Line) -> None:
    line.settle(_raise(_rejected()), line.event(topic=CASE_STOPPED))
    assert line.rows(state.outbox) == []
    assert [row.code for row in line.rows(state.dead_letter)] == ["too-few"]


def test_a_stop_notice_that_nobody_wants_any_more_is_no_dead_letter(line: Line) -> None:
    def overtaken(event: Event, context: StageContext) -> Effects:
        with line.engine.begin() as connection:
            cases.new_revision(connection, event.subject)
        with line.engine.begin() as connection:
            context.require_wanted(connection)
        return Effects()

    line.settle(overtaken, line.event(topic=CASE_STOPPED))
    assert line.rows(state.dead_letter) == []
    assert [entry["action"] for entry in line.audit()] == ["event.superseded"]


def test_an_act_that_cannot_be_undone_asks_for_consent_again(line: Line) -> None:
    done = []

    def send(_event: Event, context: StageContext) -> Effects:
        with line.engine.begin() as connection:
            record_consent(connection, status="deny", reference="Consent/2", study_key="study")
        with line.engine.begin() as connection:
            context.require_wanted(connection)
        done.append("sent")
        return Effects()

    line.settle(send)
    (sent,) = line.rows(state.outbox)
    assert (done, sent.topic, sent.value) == ([], CASE_STOPPED, b"consent-withdrawn")


def test_a_cancelled_case_stops_where_its_handler_looks(line: Line) -> None:
    steps: list[str] = []

    def long_job(event: Event, context: StageContext) -> Effects:
        context.progress("first", 0.1)
        steps.append("first")
        with line.engine.begin() as connection:
            assert cases.request_cancel(connection, event.subject)
        threading.Event().wait(0.6)
        context.progress("second", 0.2)
        steps.append("second")
        return Effects()

    line.settle(long_job)
    assert steps == ["first"]
    assert line.audit()[0]["detail"]["code"] == "cancelled"


def test_an_abandoned_job_commits_nothing(line: Line) -> None:
    over = threading.Event()

    def drained(event: Event, context: StageContext) -> Effects:
        over.set()
        return _build(event, context)

    with pytest.raises(Abandoned):
        line.settle(drained, given_up=over.is_set)
    assert line.rows(state.inbox) == []
    assert line.rows(state.outbox) == []


def test_a_stop_that_cannot_be_told_becomes_a_dead_letter(line: Line) -> None:
    def broken(_event: Event, _error: TwinError, _stage: str) -> tuple[str, Event]:
        raise KeyError(CANARY)

    line.settle(_raise(_rejected()), stopped=broken)
    assert [row.code for row in line.rows(state.dead_letter)] == ["KeyError"]


def test_a_site_may_demand_recorded_consent(line: Line) -> None:
    line.settle(_build, default="deny")
    assert line.audit()[0]["detail"]["code"] == "consent-missing"
    with line.engine.begin() as connection:
        record_consent(connection, status="permit", reference="Consent/2", study_key="study")
        cases.new_revision(connection, line.case.case_id)
    line.settle(_build, line.event("e2", revision=2), default="deny")
    assert line.audit()[-1]["consent"] == {"decision": "permit", "basis": "Consent/2"}


def test_the_trace_goes_on_through_the_event(line: Line) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    cause = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    line.settle(_build, replace(line.event(), traceparent=cause))
    (sent,) = line.rows(state.outbox)
    assert json.loads(sent.headers)["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert line.audit()[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_a_database_that_is_away_for_long_buries_nothing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away for longer than the patience with the effect and the patience with its account together."""
    monkeypatch.setattr("vbt.platform.settlement._PATIENCE", 0.15)
    away = threading.Event()

    def is_away(_connection: sa.Connection) -> None:
        if away.is_set():
            raise sa.exc.OperationalError("BEGIN", {}, Exception("the server closed the connection"))

    def handler(_event: Event, _context: StageContext) -> Effects:
        away.set()
        threading.Timer(1.5, away.clear).start()
        return Effects()

    sa.event.listen(line.engine, "engine_connect", is_away)
    line.settle(handler)
    assert line.rows(state.dead_letter) == []
    (again,) = line.rows(state.outbox)
    assert again.topic.endswith(".retry.1s")
