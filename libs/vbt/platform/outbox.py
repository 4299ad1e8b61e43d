"""The outbox makes an effect and its event one transaction; a relay moves the events to the bus afterwards.

The relay may send twice (it died between the bus and its own mark) but never loses and never overtakes: readers skip
what their inbox already holds.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vbt.errors import NotYet
from vbt.platform import leases
from vbt.platform.bus import Bus
from vbt.platform.events import Event, Message
from vbt.platform.retention import Retention
from vbt.platform.state import outbox, reading

_log = logging.getLogger("vbt.platform")

_LEASE = ("relay", "outbox", 0)
_BATCH = 200
_FIRST_TRIM = 60.0  # seconds after the start, when there is more urgent work


def publish(connection: sa.Connection, event: Event, topic: str | None = None) -> None:
    """Send ``event`` if, and only if, the caller's transaction commits."""
    publish_message(connection, event.message(topic))


def publish_message(connection: sa.Connection, message: Message) -> None:
    """Send ``message`` as it is if, and only if, the caller's transaction commits."""
    connection.execute(
        sa.insert(outbox).values(
            topic=message.topic,
            key=message.key,
            headers=json.dumps(dict(message.headers)),
            value=message.value,
            created_at=time.time(),
        )
    )


class Relay:
    """A thread that moves the outbox to the bus, in the order of its rows, for as long as the bus takes them.

    Every process may run one on the same state: a lease lets one of them work, the others stand by. The one that works
    also removes what the retention lets go, once an hour.
    """

    def __init__(
        self,
        engine: sa.Engine,
        bus: Bus,
        *,
        interval: float = 0.1,
        lease_seconds: float = 10.0,
        backoff: float = 5.0,
        retention: Retention | None = None,
        trim_seconds: float = 3600.0,
    ) -> None:
        self._engine = engine
        self._bus = bus
        self._interval = interval
        self._lease_seconds = lease_seconds
        self._backoff = backoff
        self._retention = retention
        self._trim_seconds = trim_seconds
        self._trim_at = time.monotonic() + min(trim_seconds, _FIRST_TRIM)
        self._owner = uuid.uuid4().hex
        self._lease_until = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-relay", daemon=True)

    def start(self) -> None:
        """Begin to relay."""
        self._thread.start()

    def stop(self, grace: float = 10.0) -> None:
        """Relay what is there now, then stop; what cannot be sent in ``grace`` seconds waits for the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(grace)

    def _run(self) -> None:
        delay = self._interval
        while True:
            stopping = self._stopping.is_set()
            try:
                moved = self._move()
                if not stopping:
                    self._trim()
                delay = self._interval
            except (NotYet, sa.exc.OperationalError) as error:
                moved = 0
                delay = min(max(2 * delay, 0.2), self._backoff)
                _log.warning("outbox.waiting", extra={"vbt.error": type(error).__name__, "vbt.seconds": delay})
            if stopping and moved < _BATCH:
                break
            if moved < _BATCH:
                self._stopping.wait(delay)
        self._let_go()

    def _move(self) -> int:
        # Look first, because taking the lease is a write; look again under the lease, because its last holder may have
        # sent meanwhile what the first look showed.
        if not self._unsent(1) or not self._leads():
            return 0
        rows = self._unsent(_BATCH)
        if not rows:
            return 0
        self._bus.send(
            *(Message(topic=row.topic, key=row.key, headers=json.loads(row.headers), value=row.value) for row in rows)
        )
        with self._engine.begin() as connection:
            sent = outbox.c.id.in_([row.id for row in rows])
            connection.execute(sa.update(outbox).where(sent).values(sent_at=time.time()))
        return len(rows)

    def _trim(self) -> None:
        if self._retention is None or time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + self._trim_seconds
        if self._leads():
            removed = self._retention.trim(self._engine, self._bus)
            _log.info("messages.trimmed", extra={f"vbt.{table}": rows for table, rows in removed.items()})

    def _unsent(self, most: int) -> Sequence[sa.Row[Any]]:
        wanted = sa.select(outbox).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.id).limit(most)
        with reading(self._engine) as connection:
            return connection.execute(wanted).all()

    def _leads(self) -> bool:
        now = time.time()
        if now < self._lease_until - self._lease_seconds / 2:
            return True
        with self._engine.begin() as connection:
            leads = leases.take(connection, _LEASE, self._owner, now, self._lease_seconds)
        self._lease_until = now + self._lease_seconds if leads else 0.0
        return leads

    def _let_go(self) -> None:
        try:
            with self._engine.begin() as connection:
                leases.release(connection, _LEASE, self._owner)
        except sa.exc.OperationalError:
            _log.warning("outbox.lease-kept", extra={"vbt.seconds": self._lease_seconds})
