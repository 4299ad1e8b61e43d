"""Cases, their stages and their dead letters, as people see them."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from vbt.api.event.v1.event_pb2 import ConnectomeBuilt
from vbt.errors import Rejected
from vbt.platform import cases, stages, state
from vbt.platform.cases import Status
from vbt.platform.dead_letters import dead_letters, replay
from vbt.platform.events import CONNECTOME_BUILT, STUDY_INGESTED, Event
from vbt.platform.software import Software, this_software
from vbt.platform.state import reading
from vbt.platform.steps import Steps


def _case(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        return cases.create_case(connection, study_key="study", protocol="resting_state").case_id


def test_a_case_id_says_nothing_about_the_study(engine: sa.Engine) -> None:
    assert _case(engine) != _case(engine)


def test_late_images_start_a_new_revision(engine: sa.Engine) -> None:
    case_id = _case(engine)
    with engine.begin() as connection:
        stages.begin(connection, case_id, 1, "connectome_builder")
        cases.request_cancel(connection, case_id)
        assert cases.new_revision(connection, case_id) == 2
        case = cases.case_of_study(connection, "study")
    assert case is not None
    assert (case.revision, case.stages, case.cancel_requested) == (2, (), False)


def test_an_unknown_case_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for act in (cases.read_case, cases.new_revision, cases.request_cancel):
            with pytest.raises(Rejected, match="unknown case id"):
                act(connection, "nobody")


def test_a_case_that_ended_cannot_be_cancelled(engine: sa.Engine) -> None:
    case_id = _case(engine)
    with engine.begin() as connection:
        cases.set_status(connection, case_id, Status.DONE)
        assert not cases.request_cancel(connection, case_id)


def test_watching_shows_each_change_and_ends_with_the_case(engine: sa.Engine) -> None:
    case_id = _case(engine)
    seen: list[tuple[str, list[float]]] = []

    def watch() -> None:
        changes = cases.watch(engine, case_id, interval=0.01)
        seen.extend((case.status, [stage.fraction for stage in case.stages]) for case in changes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(0.1)
    with engine.begin() as connection:
        stages.begin(connection, case_id, 1, "connectome_builder")
        stages.report(connection, case_id, 1, "connectome_builder", "tracking", 0.6)
    time.sleep(0.1)
    with engine.begin() as connection:
        cases.set_status(connection, case_id, Status.DONE)
    watcher.join(10)
    assert seen == [("running", []), ("running", [0.6]), ("done", [0.6])]


def _bury(engine: sa.Engine, case_id: str) -> int:
    event = Event(id="e1", source="t", type=STUDY_INGESTED, subject=case_id, value=b"v", revision=1)
    headers = {**event.message().headers, "x-attempts": "3", "x-error": "OSError", "x-not-before": "1"}
    row = {
        "group": "connectome_builder",
        "topic": STUDY_INGESTED,
        "ce_id": "e1",
        "case_id": case_id,
        "code": "OSError",
        "cause": "OSError",
        "attempts": 4,
        "headers": json.dumps(headers),
        "value": b"v",
        "at": 0.0,
    }
    with engine.begin() as connection:
        for ce_id in ("e1", "e1/attempt-0", "e10"):
            connection.execute(sa.insert(state.inbox).values(group="connectome_builder", ce_id=ce_id, at=0.0))
        connection.execute(sa.insert(state.inbox).values(group="other", ce_id="e1", at=0.0))
        cases.set_status(connection, case_id, Status.FAILED)
        return int(connection.execute(sa.insert(state.dead_letter).values(row)).inserted_primary_key[0])


def test_a_replayed_letter_has_a_fresh_chance_in_its_own_group(engine: sa.Engine, software: Software) -> None:
    case_id = _case(engine)
    number = _bury(engine, case_id)
    with engine.begin() as connection:
        replay(connection, number, actor="somebody", software=software)
    with reading(engine) as connection:
        (sent,) = connection.execute(sa.select(state.outbox))
        inbox = {(row.group, row.ce_id) for row in connection.execute(sa.select(state.inbox))}
        entry = json.loads(connection.execute(sa.select(state.audit_outbox.c.entry)).scalar_one())
        assert dead_letters(connection) == []
        assert dead_letters(connection, replayed=True)[0].replayed_at is not None
        assert cases.read_case(connection, case_id).status is Status.RUNNING
    assert (sent.topic, sent.key, bytes(sent.value)) == (STUDY_INGESTED, case_id, b"v")
    assert not [name for name in json.loads(sent.headers) if name.startswith("x-")]
    assert inbox == {("connectome_builder", "e10"), ("other", "e1")}
    assert (entry["action"], entry["actor"]) == ("event.replayed", "somebody")


def test_a_letter_is_replayed_once(engine: sa.Engine, software: Software) -> None:
    number = _bury(engine, _case(engine))
    with engine.begin() as connection:
        replay(connection, number, actor="somebody", software=software)
        with pytest.raises(Rejected, match="sent again before"):
            replay(connection, number, actor="somebody", software=software)
        with pytest.raises(Rejected, match="unknown number"):
            replay(connection, number + 1, actor="somebody", software=software)


def test_software_is_named_by_its_content() -> None:
    one, other = this_software("audit_ledger"), this_software("standalone")
    assert one.digest != other.digest
    assert len(one.digest) == 64


def test_equal_requests_at_the_same_time_make_one_case(engine: sa.Engine, software: Software) -> None:
    steps = Steps(engine, software, CONNECTOME_BUILT, ConnectomeBuilt)
    together = threading.Barrier(6)

    def submit(_: int) -> str:
        together.wait()
        return steps.submit("the same", ConnectomeBuilt())

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(submit, range(6)))
    assert len(found) == 1
    with reading(engine) as connection:
        assert [case.case_id for case in cases.list_cases(connection)] == list(found)
        assert connection.execute(sa.select(sa.func.count()).select_from(state.outbox)).scalar() == 1


def test_cases_are_found_by_how_their_ids_begin(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for case_id in ("ab12", "ab34", "a%45"):
            cases.create_case(connection, study_key=case_id, protocol="p", case_id=case_id)
        assert cases.cases_beginning_with(connection, "ab") == ["ab12", "ab34"]
        assert cases.cases_beginning_with(connection, "a%") == ["a%45"]
        assert cases.cases_beginning_with(connection, "", limit=2) == ["a%45", "ab12"]
