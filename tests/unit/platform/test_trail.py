"""Who reads the trail reads every entry, also one that the ledger takes up in that very moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from vbt.platform import audit, cases
from vbt.platform.audit import AuditEntry, Digest
from vbt.platform.software import Software
from vbt.platform.state import audit_leaf, audit_outbox

SHA256 = hashlib.sha256(b"connectome").hexdigest()


@pytest.fixture
def case_id(engine: sa.Engine, software: Software) -> str:
    """A case of which one entry waits for the ledger."""
    with engine.begin() as connection:
        case = cases.create_case(connection, study_key="study", protocol="resting_state")
        entry = AuditEntry(
            event_id="built",
            case_id=case.case_id,
            revision=1,
            action="connectome.built",
            outcome="success",
            actor="connectome_builder",
            software=software,
            outputs=(Digest(name="connectome.npz", sha256=SHA256),),
        )
        audit.record(connection, entry)
    return case.case_id


def integrate(engine: sa.Engine) -> None:
    """What the ledger does: what waits is deleted and inserted as leaves, in one transaction."""
    with engine.begin() as connection:
        for seq, row in enumerate(connection.execute(sa.select(audit_outbox)).all()):
            leaf = {"seq": seq, "event_id": row.event_id, "entry": row.entry, "leaf_hash": b"", "at": row.at}
            connection.execute(sa.insert(audit_leaf).values(leaf))
        connection.execute(sa.delete(audit_outbox))


@pytest.fixture
def by_statement(engine: sa.Engine) -> Iterator[sa.Engine]:
    """The same state, where every statement sees what was committed when it began, as on PostgreSQL."""
    plain = sa.create_engine(engine.url)
    yield plain
    plain.dispose()


def test_an_entry_that_is_taken_up_between_two_looks_is_seen(
    engine: sa.Engine, by_statement: sa.Engine, case_id: str
) -> None:
    looks: list[str] = []

    def taken_up(_connection: sa.Connection, _cursor: object, statement: str, *_: Any) -> None:
        if "audit_" in statement:
            looks.append(statement)
            if len(looks) == 2:
                integrate(engine)

    sa.event.listen(by_statement, "before_cursor_execute", taken_up)
    with by_statement.connect() as connection:
        assert audit.cases_that_gave(connection, SHA256) == [case_id]
    assert len(looks) == 2
    with by_statement.connect() as connection:
        assert audit.cases_on_trail(connection, case_id[:6]) == [case_id]
        assert audit.cases_that_gave(connection, SHA256) == [case_id]
