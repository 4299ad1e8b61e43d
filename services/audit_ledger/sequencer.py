"""One writer gives every waiting audit entry its place in the log, and signs what the log has become.

An entry waits in ``audit_outbox``, written there in the transaction of the effect it describes. The sequencer moves
entries in batches: outbox rows out, leaves in and a signed checkpoint, all in one transaction, so that a crash at any
point leaves no gap and no duplicate. Only then is the witness asked, and its cosignature added to the checkpoint.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa

from audit_ledger.log import AuditLog, Receipt, checkpoint_of, newest_checkpoint
from audit_ledger.witness import Witness
from vbt.errors import NotYet, Rejected, Unsound
from vbt.ledger import (
    Checkpoint,
    Note,
    NoteSigner,
    Signature,
    Tree,
    canonical_entry,
    leaf_hash,
    parse_entry,
    sequenced_entry,
    timestamp,
)
from vbt.platform.state import audit_checkpoint, audit_leaf, audit_outbox, bus_lease, insert_new, reading

MAX_BATCH = 500
_LEASE = {"group": "audit-ledger", "topic": "audit_outbox", "partition": 0}


@dataclass(frozen=True)
class _Waiting:
    event_id: str
    entry: bytes


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Sequencer:
    """The only writer of the log; a second one is turned away with `NotYet` while the first holds the lease.

    Parameters
    ----------
    engine : from `vbt.platform.state.open_state`
    signer : the log's key (`vbt.ledger.ED25519`); its name is the log's origin
    witness : cosigns every checkpoint; None leaves the log provable only against its own key
    clock : UTC; a clock that goes backwards never makes log time go backwards
    lease_seconds : how long after the writer's death another may take over
    """

    def __init__(
        self,
        engine: sa.Engine,
        signer: NoteSigner,
        *,
        witness: Witness | None = None,
        clock: Callable[[], datetime] = utc_now,
        lease_seconds: float = 5.0,
    ) -> None:
        self.engine = engine
        self.log = AuditLog(engine)
        self.witness = witness
        self._signer = signer
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._owner = uuid.uuid4().hex

    @property
    def signer(self) -> NoteSigner:
        """The log's key."""
        return self._signer

    def start(self) -> None:
        """Open the log for writing and say so in it; raises `Unsound` when what is stored is damaged."""
        self.record("audit.logging-started")

    def stop(self) -> None:
        """Integrate what waits, say in the log that logging ends, and let another writer take over."""
        self.record("audit.logging-stopped")
        with self.engine.begin() as connection:
            connection.execute(bus_lease.delete().where(*_lease_row(), bus_lease.c.owner == self._owner))

    def heartbeat(self) -> None:
        """Prove that logging went on although nothing happened; call it every minute."""
        self.record("audit.heartbeat")

    def drain(self) -> int:
        """Integrate everything that waits, in order; the number of leaves added."""
        added = 0
        while self._has_work():
            added += self._integrate(_take_outbox)
        return added

    def record(
        self, action: str, *, case_id: str | None = None, outcome: str = "success", detail: dict[str, Any] | None = None
    ) -> Receipt:
        """Integrate what waits, then one entry of the ledger itself as the last leaf under a checkpoint of its own."""
        self.drain()
        entry = self._own_entry(action, case_id=case_id, outcome=outcome, detail=detail or {})
        self._integrate(lambda _: [entry])
        return self.log.receipt(entry.event_id)

    def _has_work(self) -> bool:
        with reading(self.engine) as connection:
            if connection.execute(sa.select(audit_outbox.c.id).limit(1)).first() is not None:
                return True
            note = newest_checkpoint(connection)
        if self._lacks_cosignature(note):
            self._ask_witness()
        return False

    def _integrate(self, take: Callable[[sa.Connection], Sequence[_Waiting]]) -> int:
        with self.log.lock:
            try:
                with self.engine.begin() as connection:
                    self._hold_lease(connection)
                    rows = self._place(connection, take(connection))
                    if rows:
                        connection.execute(audit_leaf.insert(), rows)
                        self._sign_checkpoint(connection, rows)
            except BaseException:
                # The tree in memory may now be ahead of what was stored.
                self.log.forget()
                raise
            self._ask_witness()
        return len(rows)

    def _place(self, connection: sa.Connection, waiting: Sequence[_Waiting]) -> list[dict[str, Any]]:
        tree = self.log.follow(connection)
        at = max(self._clock(), _newest_time(connection, tree.size))
        rows: list[dict[str, Any]] = []
        for seq, candidate in enumerate(self._new(connection, waiting), tree.size):
            entry = self._leaf_entry(candidate, seq, at)
            rows.append(
                {
                    "seq": seq,
                    "event_id": candidate.event_id,
                    "entry": entry,
                    "leaf_hash": leaf_hash(entry),
                    "at": at.timestamp(),
                }
            )
        for row in rows:
            tree.append(row["leaf_hash"])
        return rows

    def _new(self, connection: sa.Connection, waiting: Sequence[_Waiting]) -> list[_Waiting]:
        """Entries not yet in the log: redeliveries fall away, another entry under a taken event_id is reported."""
        stored = _stored(connection, [candidate.event_id for candidate in waiting])
        new = [candidate for candidate in waiting if candidate.event_id not in stored]
        for candidate in waiting:
            if candidate.event_id in stored and _as_written(stored[candidate.event_id]) != candidate.entry:
                conflict = self._conflict(candidate)
                if not _stored(connection, [conflict.event_id]):
                    new.append(conflict)
        return new

    def _conflict(self, candidate: _Waiting) -> _Waiting:
        digest = hashlib.sha256(candidate.entry).hexdigest()
        detail = {"event_id": candidate.event_id, "refused_entry_sha256": digest}
        return self._own_entry("audit.conflict", event_id=f"conflict-{digest}", outcome="refused", detail=detail)

    def _leaf_entry(self, waiting: _Waiting, seq: int, at: datetime) -> bytes:
        try:
            if parse_entry(waiting.entry)["event_id"] == waiting.event_id:
                return sequenced_entry(waiting.entry, seq=seq, at=at)
            code = "event-id-differs"
        except Rejected as error:
            code = error.code
        # An entry nobody can read must not stop the log: its digest takes its place.
        detail = {"code": code, "refused_entry_sha256": hashlib.sha256(waiting.entry).hexdigest()}
        stand_in = self._own_entry("audit.malformed", event_id=waiting.event_id, outcome="refused", detail=detail)
        return sequenced_entry(stand_in.entry, seq=seq, at=at)

    def _sign_checkpoint(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        tree = self.log.follow(connection)
        text = str(Checkpoint(self._signer.verifier_key.name, tree.size, tree.root()))
        note = Note(text, (self._signer.sign(text),))
        connection.execute(audit_checkpoint.insert(), {"size": tree.size, "note": str(note), "at": rows[-1]["at"]})

    def _ask_witness(self) -> None:
        with self.log.lock:
            with reading(self.engine) as connection:
                tree = self.log.follow(connection)
                note = checkpoint_of(connection, tree.size)
            if note is None or self.witness is None or not self._lacks_cosignature(note):
                return
            signature = self._cosignature(self.witness, tree, note)
            with self.engine.begin() as connection:
                row = audit_checkpoint.update().where(audit_checkpoint.c.size == note.checkpoint.size)
                connection.execute(row.values(note=str(note.with_signature(signature))))

    def _cosignature(self, witness: Witness, tree: Tree, note: Note) -> Signature:
        size, seen = note.checkpoint.size, witness.size
        if seen > size:
            raise _diverged(f"{size} entries where the witness has seen {seen}")
        hashes = [tree.leaf(index) for index in range(seen, size)]
        try:
            return witness.cosign(note, seen, hashes, tree.consistency_proof(seen, size))
        except Rejected as error:
            raise _diverged(f"a log that the witness refuses ({error.got})") from error

    def _lacks_cosignature(self, note: Note | None) -> bool:
        return note is not None and self.witness is not None and note.cosigned_at(self.witness.verifier_key) is None

    def _hold_lease(self, connection: sa.Connection) -> None:
        now = time.time()
        mine = {"owner": self._owner, "expires_at": now + self._lease_seconds}
        free = sa.or_(bus_lease.c.owner == self._owner, bus_lease.c.expires_at < now)
        # The row stays locked to the end of the transaction, so that two writers never see the same last leaf.
        renewed = connection.execute(bus_lease.update().where(*_lease_row(), free).values(mine)).rowcount
        if not renewed and not insert_new(connection, bus_lease, {**_LEASE, **mine}):
            raise NotYet(
                "audit-lease-held",
                rule="the log has one writer",
                got="another writer at work",
                action="wait until it stops or its lease ends",
            )

    def _own_entry(
        self,
        action: str,
        *,
        outcome: str,
        detail: dict[str, Any],
        case_id: str | None = None,
        event_id: str | None = None,
    ) -> _Waiting:
        event_id = event_id or str(uuid.uuid4())
        fields: dict[str, Any] = {
            "event_id": event_id,
            "at": timestamp(self._clock()),
            "case_id": case_id,
            "revision": None,
            "action": action,
            "outcome": outcome,
            "actor": "audit-ledger",
            "purpose": "audit",
            "consent": None,
            "inputs": [],
            "outputs": [],
            "software": {"name": "vbt", "version": version("vbt"), "digest": ""},
            "trace_id": "",
            "span_id": "",
            "detail": detail,
        }
        return _Waiting(event_id, canonical_entry(fields))


def _take_outbox(connection: sa.Connection) -> list[_Waiting]:
    oldest = sa.select(audit_outbox.c.id, audit_outbox.c.event_id, audit_outbox.c.entry)
    rows = connection.execute(oldest.order_by(audit_outbox.c.id).limit(MAX_BATCH)).all()
    connection.execute(audit_outbox.delete().where(audit_outbox.c.id.in_([row.id for row in rows])))
    return [_Waiting(row.event_id, bytes(row.entry)) for row in rows]


def _stored(connection: sa.Connection, event_ids: Sequence[str]) -> dict[str, bytes]:
    query = sa.select(audit_leaf.c.event_id, audit_leaf.c.entry).where(audit_leaf.c.event_id.in_(event_ids))
    return {event_id: bytes(entry) for event_id, entry in connection.execute(query)} if event_ids else {}


def _as_written(leaf_entry: bytes) -> bytes:
    """The entry without what the sequencer added."""
    fields: dict[str, Any] = parse_entry(leaf_entry)
    return canonical_entry({name: value for name, value in fields.items() if name not in ("seq", "sequenced_at")})


def _newest_time(connection: sa.Connection, size: int) -> datetime:
    if size == 0:
        return datetime.fromtimestamp(0, UTC)
    entry = connection.execute(sa.select(audit_leaf.c.entry).where(audit_leaf.c.seq == size - 1)).scalar_one()
    return datetime.fromisoformat(parse_entry(bytes(entry))["sequenced_at"])


def _lease_row() -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(bus_lease.c[name] == value for name, value in _LEASE.items())


def _diverged(got: str) -> Unsound:
    return Unsound(
        "audit-log-diverged",
        rule="the log extends what its witness has signed",
        got=got,
        action="stop writing, keep both directories and verify an export against the witness's note",
    )
