"""The ledger at work: waiting entries are integrated within moments, and told to whoever indexes them."""

from __future__ import annotations

import logging
import threading
import time

import sqlalchemy as sa

from audit_ledger.log import read_leaves
from audit_ledger.sequencer import MAX_BATCH, Sequencer
from vbt.api.event.v1 import event_pb2
from vbt.errors import NotYet
from vbt.ledger import parse_entry
from vbt.platform.events import AUDIT_RECORDED, Event
from vbt.platform.outbox import publish
from vbt.platform.state import bus_offset, insert_new

_log = logging.getLogger("vbt.audit_ledger")

_BEAT = 0.25
_HEARTBEAT = 60.0
_PLACE = {"group": "audit-relay", "topic": AUDIT_RECORDED, "partition": 0}


class Recorder:
    """A thread that keeps the log: it waits for its turn as the one writer, then integrates what comes."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-recorder", daemon=True)

    def start(self) -> None:
        """Begin to integrate entries."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether entries are being integrated; False once the stored log was found damaged."""
        return self._thread.is_alive()

    def drain(self) -> None:
        """Nothing: entries are integrated to the very end."""

    def stop(self, grace: float) -> bool:
        """Integrate what waits, say in the log that logging ends, and let another writer take over."""
        self._stopping.set()
        if self.alive:
            self._thread.join(grace)
        return not self.alive

    def _run(self) -> None:
        if not self._take_turn():
            return
        heard = time.monotonic()
        while not self._stopping.wait(_BEAT):
            try:
                self._sequencer.drain()
                tell_recorded(self._sequencer.engine)
                if time.monotonic() - heard > _HEARTBEAT:
                    self._sequencer.heartbeat()
                    heard = time.monotonic()
            except (NotYet, sa.exc.OperationalError) as error:
                # Entries wait in the outbox meanwhile: none is lost, and no effect is held up.
                _log.warning("audit.waiting", extra={"vbt.error": type(error).__name__})
        self._sequencer.stop()

    def _take_turn(self) -> bool:
        while True:
            try:
                self._sequencer.start()
                return True
            except (NotYet, sa.exc.OperationalError):
                if self._stopping.wait(1.0):
                    return False


def tell_recorded(engine: sa.Engine) -> int:
    """Publish `AuditRecorded` for the leaves that were not told yet, in order; the number told."""
    here = sa.and_(*(bus_offset.c[name] == value for name, value in _PLACE.items()))
    with engine.begin() as connection:
        insert_new(connection, bus_offset, {**_PLACE, "next_offset": 0})
        start = connection.execute(sa.select(bus_offset.c.next_offset).where(here).with_for_update()).scalar_one()
        leaves = list(read_leaves(connection, from_seq=start, to_seq=start + MAX_BATCH))
        for leaf in leaves:
            entry = parse_entry(leaf.entry)
            message = event_pb2.AuditRecorded(
                seq=leaf.seq,
                event_id=leaf.event_id,
                case_id=entry["case_id"] or "",
                action=entry["action"],
                leaf_hash=leaf.leaf_hash,
            )
            publish(connection, _event(message))
        if leaves:
            connection.execute(sa.update(bus_offset).where(here).values(next_offset=leaves[-1].seq + 1))
    return len(leaves)


def _event(message: event_pb2.AuditRecorded) -> Event:
    return Event(
        id=f"audit-{message.seq}-{message.event_id}",
        source="audit_ledger",
        type=AUDIT_RECORDED,
        subject=message.case_id or "audit",
        value=message.SerializeToString(deterministic=True),
    )
