"""A process that is killed loses nothing and does nothing twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import uuid
from pathlib import Path

import sqlalchemy as sa

from vbt.platform import state
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.events import CONNECTOME_BUILT, STUDY_INGESTED, Event
from vbt.platform.outbox import Relay, publish
from vbt.platform.state import open_state, reading

WORKER = Path(__file__).parent / "crash_worker.py"
EVENTS = 120
KILLS = 5


def _start(url: str) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen([sys.executable, str(WORKER), url], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    return worker


def _count(engine: sa.Engine, table: sa.Table) -> int:
    with reading(engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'vbt.db'}"
    engine = open_state(url)
    names = [uuid.uuid4().hex for _ in range(EVENTS)]
    moments = random.Random(7)
    with engine.begin() as connection:
        for name in names:
            event = Event(id=name, source="t", type=STUDY_INGESTED, subject=f"case-{name[0]}", value=b"")
            publish(connection, event)
            if moments.random() < 0.2:
                publish(connection, event)
    killed_at = []
    for _ in range(KILLS):
        worker = _start(url)
        time.sleep(moments.uniform(0.1, 0.5))
        killed_at.append(_count(engine, state.consent))
        worker.kill()
        worker.wait()
    worker = _start(url)
    deadline = time.monotonic() + 120
    while _count(engine, state.consent) < EVENTS and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    worker.kill()
    worker.wait()
    with reading(engine) as connection:
        effects = list(connection.execute(sa.select(state.consent.c.reference)).scalars())
    assert sorted(effects) == sorted(names)
    assert _count(engine, state.audit_outbox) == EVENTS
    assert _count(engine, state.dead_letter) == 0
    assert killed_at[-1] < EVENTS, "the worker was done before it was killed; the test shows nothing"
    assert _passed_on(engine) == {f"built-{name}" for name in names}


def _passed_on(engine: sa.Engine) -> set[str]:
    bus = SqliteBus(engine)
    relay = Relay(engine, bus, lease_seconds=1.0)
    time.sleep(1.1)  # the killed worker's lease on the outbox
    relay.start()
    relay.stop()
    reader = bus.subscribe("auditor", [CONNECTOME_BUILT])
    came = set()
    while (record := reader.poll(0.5)) is not None:
        came.add(Event.parse(record.message).id)
        reader.commit(record)
    return came
