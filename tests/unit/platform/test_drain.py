"""A consumer that is told to stop finishes its job, or gives it up uncommitted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from vbt.errors import TwinError
from vbt.platform import state
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.consumer import Consumer
from vbt.platform.events import CASE_STOPPED, STUDY_INGESTED, Event
from vbt.platform.software import Software
from vbt.platform.stage_context import Effects, StageContext
from vbt.platform.state import open_state, reading


class Line:
    """A consumer with one event in hand, whose handler runs until it is let go."""

    def __init__(self, engine: sa.Engine, software: Software) -> None:
        self.engine = engine
        self.began, self.let_go = threading.Event(), threading.Event()
        self.looks = True
        self.bus = SqliteBus(engine, lease_seconds=1.0)
        self.bus.send(Event(id="e1", source="t", type=STUDY_INGESTED, subject="c", value=b"").message())
        self.consumer = Consumer(
            engine, self.bus, "g", [STUDY_INGESTED], self._handle, stopped=self._stopped, software=software
        )
        self.consumer.start()
        assert self.began.wait(10)

    def _handle(self, _event: Event, context: StageContext) -> Effects:
        self.began.set()
        while not self.let_go.wait(0.05):
            if self.looks:
                context.check()
        return Effects(audit=[context.audit("connectome.built")])

    def _stopped(self, event: Event, _error: TwinError, _stage: str) -> tuple[str, Event]:
        return CASE_STOPPED, event

    def committed(self) -> int:
        """How many records the groups will never be given again."""
        with reading(self.engine) as connection:
            return connection.execute(sa.select(sa.func.sum(state.bus_offset.c.next_offset))).scalar_one()

    def count(self, table: sa.Table) -> int:
        with reading(self.engine) as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


@pytest.fixture
def line(tmp_path: Path, software: Software) -> Iterator[Line]:
    line = Line(open_state(f"sqlite:///{tmp_path / 'vbt.db'}"), software)
    yield line
    line.let_go.set()


def test_a_job_that_ends_in_time_is_committed(line: Line) -> None:
    threading.Timer(0.5, line.let_go.set).start()
    assert line.consumer.stop(grace=10)
    assert line.count(state.audit_outbox) == 1
    assert line.committed() == 1


@pytest.mark.parametrize("looks", [True, False])
def test_a_job_that_takes_too_long_is_given_up(line: Line, looks: bool) -> None:
    line.looks = looks
    started = time.monotonic()
    assert not line.consumer.stop(grace=0.3)
    assert time.monotonic() - started < 8
    line.let_go.set()  # also a job that never looked may not commit any more
    time.sleep(0.3)
    assert line.count(state.audit_outbox) == 0
    assert line.count(state.inbox) == 0
    again = line.bus.subscribe("g", [STUDY_INGESTED])
    assert again.poll(5) is not None


def test_progress_is_shown_while_the_job_runs(tmp_path: Path, software: Software) -> None:
    from vbt.platform import cases

    engine = open_state(f"sqlite:///{tmp_path / 'vbt.db'}")
    with engine.begin() as connection:
        case_id = cases.create_case(connection, study_key="s", protocol="p").case_id
    bus = SqliteBus(engine)
    bus.send(Event(id="e1", source="t", type=STUDY_INGESTED, subject=case_id, value=b"", revision=1).message())
    let_go = threading.Event()

    def handle(_event: Event, context: StageContext) -> Effects:
        context.progress("tracking", 0.62)
        let_go.wait(10)
        return Effects()

    consumer = Consumer(
        engine,
        bus,
        "g",
        [STUDY_INGESTED],
        handle,
        stopped=lambda e, _error, _stage: (CASE_STOPPED, e),
        software=software,
    )
    consumer.start()
    shown = next(case for case in cases.watch(engine, case_id) if case.stages and case.stages[0].fraction)
    let_go.set()
    assert consumer.stop()
    assert (shown.stages[0].message, shown.stages[0].fraction) == ("tracking", 0.62)
