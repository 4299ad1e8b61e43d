"""Dead letters wait for a person, who looks at the cause, mends it, and sends them again."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import sqlalchemy as sa

from vbt.errors import Rejected
from vbt.platform import audit, state
from vbt.platform.audit import AuditEntry
from vbt.platform.cases import Status, read_case, set_status
from vbt.platform.events import Message
from vbt.platform.outbox import publish_message
from vbt.platform.retries import afresh
from vbt.platform.software import Software


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """An event that a group could not settle; ``cause`` holds places in the code, no message of a foreign error."""

    id: int
    group: str
    topic: str
    ce_id: str
    case_id: str
    code: str
    cause: str
    attempts: int
    at: float
    replayed_at: float | None


def dead_letters(connection: sa.Connection, *, replayed: bool = False, limit: int = 100) -> list[DeadLetter]:
    """The newest first; those already sent again only where ``replayed``."""
    columns = [state.dead_letter.c[name] for name in DeadLetter.__dataclass_fields__]
    wanted = sa.select(*columns).order_by(state.dead_letter.c.id.desc()).limit(limit)
    if not replayed:
        wanted = wanted.where(state.dead_letter.c.replayed_at.is_(None))
    return [DeadLetter(**row._mapping) for row in connection.execute(wanted)]


def replay(connection: sa.Connection, number: int, *, actor: str, software: Software) -> None:
    """Send the dead letter again, on its first topic and with a clean record of attempts, if the transaction commits.

    Raises
    ------
    Rejected : ``dead-letter-unknown``; ``dead-letter-replayed``, it was sent again before
    """
    row = connection.execute(
        sa.select(state.dead_letter).where(state.dead_letter.c.id == number).with_for_update()
    ).first()
    if row is None or row.replayed_at is not None:
        raise Rejected(
            "dead-letter-unknown" if row is None else "dead-letter-replayed",
            rule="a dead letter is sent again by its number, once",
            got="an unknown number" if row is None else "one that was sent again before",
            action="list the dead letters; a letter that failed again has a new number",
        )
    claims = sa.or_(state.inbox.c.ce_id == row.ce_id, state.inbox.c.ce_id.startswith(f"{row.ce_id}/attempt-"))
    connection.execute(sa.delete(state.inbox).where(state.inbox.c.group == row.group, claims))
    headers = json.loads(row.headers)
    message = Message(topic=row.topic, key=row.case_id, headers=headers, value=row.value)
    publish_message(connection, afresh(message))
    connection.execute(
        sa.update(state.dead_letter).where(state.dead_letter.c.id == number).values(replayed_at=time.time())
    )
    revision = int(headers["ce_revision"]) if headers.get("ce_revision", "").isdecimal() else 0
    if revision and read_case(connection, row.case_id).revision == revision:
        set_status(connection, row.case_id, Status.RUNNING)
    entry = AuditEntry(
        event_id=audit.entry_id("dead-letter", str(number), "event.replayed"),
        case_id=row.case_id,
        revision=revision,
        action="event.replayed",
        outcome="success",
        actor=actor,
        software=software,
        detail={"group": row.group, "code": row.code},
    )
    audit.record(connection, entry)
