"""One stage as a process, to be killed: it writes one consent row per event and passes the event on."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import sqlalchemy as sa

from vbt.errors import TwinError
from vbt.platform import state
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.consumer import Consumer
from vbt.platform.events import CASE_STOPPED, CONNECTOME_BUILT, STUDY_INGESTED, Event
from vbt.platform.outbox import Relay
from vbt.platform.software import Software
from vbt.platform.stage_context import Effects, StageContext
from vbt.platform.state import open_state


def _build(event: Event, context: StageContext) -> Effects:
    time.sleep(0.01)
    row = {"case_id": event.subject, "status": "permit", "reference": event.id, "at": 0.0}
    return Effects(
        apply=[lambda connection: connection.execute(sa.insert(state.consent).values(row)) and None],
        events=[(CONNECTOME_BUILT, replace(event, id=f"built-{event.id}", type=CONNECTOME_BUILT))],
        audit=[context.audit("connectome.built")],
    )


def _stopped(event: Event, _error: TwinError, stage: str) -> tuple[str, Event]:
    return CASE_STOPPED, replace(event, source=stage, type=CASE_STOPPED)


def main(url: str) -> None:
    engine = open_state(url)
    bus = SqliteBus(engine, lease_seconds=1.0)
    software = Software(name="worker", version="0", digest="0" * 64)
    Relay(engine, bus, interval=0.01, lease_seconds=1.0).start()
    Consumer(engine, bus, "worker", [STUDY_INGESTED], _build, stopped=_stopped, software=software).start()
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
