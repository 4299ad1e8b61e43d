"""What nobody needs any more leaves the tables: messages that every group has read, and the memory of having read them.

The memory outlives the messages, because one that comes twice must find itself settled.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vbt.platform.bus import Bus
from vbt.platform.state import bus_log, dead_letter, inbox, outbox, reading

_BATCH = 1000  # rows per transaction, so that no writer waits long


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long messages are kept.

    Parameters
    ----------
    days : after which a message goes that was sent and that every group has read; what was settled is remembered for
        twice as long
    """

    days: float

    def trim(self, engine: sa.Engine, bus: Bus) -> dict[str, int]:
        """Remove what is old enough; the number of rows by table."""
        now, keep = time.time(), self.days * 86400.0
        return {
            "bus_log": bus.trim(now - keep),
            "outbox": _trim_outbox(engine, now - keep),
            "inbox": _trim_inbox(engine, now - 2 * keep),
        }


def _trim_outbox(engine: sa.Engine, before: float) -> int:
    old = sa.select(outbox.c.id).where(outbox.c.sent_at < before).limit(_BATCH)
    return _in_batches(engine, sa.delete(outbox).where(outbox.c.id.in_(old)))


def _trim_inbox(engine: sa.Engine, before: float) -> int:
    """Forget what was settled before ``before`` and before anything that can still come: then it cannot come again."""
    with reading(engine) as connection:
        oldest = (
            connection.execute(sa.select(sa.func.min(bus_log.c.at))).scalar(),
            connection.execute(sa.select(sa.func.min(outbox.c.created_at)).where(outbox.c.sent_at.is_(None))).scalar(),
        )
    horizon = min([before, *(at for at in oldest if at is not None)])
    # A dead letter that is sent again comes to all groups: those that settled it must still know.
    waiting = sa.exists().where(dead_letter.c.ce_id == inbox.c.ce_id, dead_letter.c.replayed_at.is_(None))
    old = sa.select(inbox.c.group, inbox.c.ce_id).where(inbox.c.at < horizon, ~waiting).limit(_BATCH)
    return _in_batches(engine, sa.delete(inbox).where(sa.tuple_(inbox.c.group, inbox.c.ce_id).in_(old)))


def _in_batches(engine: sa.Engine, delete: sa.Delete) -> int:
    removed = 0
    while True:
        with engine.begin() as connection:
            result: sa.CursorResult[Any] = connection.execute(delete)
            removed += result.rowcount
        if result.rowcount < _BATCH:
            return removed
