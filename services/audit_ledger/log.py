"""The stored log as everyone may read it: entries in order, their proofs, and receipts to keep elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from vbt.errors import NotYet, Rejected, Unsound
from vbt.ledger import Note, Tree, parse_entry
from vbt.platform.state import audit_checkpoint, audit_leaf, reading

RECEIPT_FORMAT = "vbt-receipt/1"
# For one statement: set on the connection it would make every later one a server-side cursor.
_STREAMED = {"yield_per": 2000}


@dataclass(frozen=True)
class Leaf:
    """One integrated entry: its place from 0, the bytes that were hashed, and their leaf hash."""

    seq: int
    event_id: str
    entry: bytes
    leaf_hash: bytes


@dataclass(frozen=True)
class Receipt:
    """Proof, to be kept outside the log, that an entry is in it: who holds one will notice if the entry goes missing.

    Parameters
    ----------
    inclusion_proof : RFC 9162 §2.1.3 path, 32 bytes each
    checkpoint : the signed note that the path leads to
    """

    event_id: str
    leaf_index: int
    leaf_hash: bytes
    inclusion_proof: tuple[bytes, ...]
    checkpoint: str

    def to_json(self) -> bytes:
        """The receipt as `vbt-verify --receipts` reads it."""
        fields = {
            "format": RECEIPT_FORMAT,
            "event_id": self.event_id,
            "leaf_index": self.leaf_index,
            "leaf_hash": self.leaf_hash.hex(),
            "inclusion_proof": [step.hex() for step in self.inclusion_proof],
            "checkpoint": self.checkpoint,
        }
        return json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


class AuditLog:
    """Reads the log and proves what it holds; any number of processes may do so at once.

    The tree (64 bytes per entry) is kept in memory and follows the stored leaves.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        # Held from before a snapshot is taken, so that no thread compares an older snapshot with a newer tree.
        self.lock = threading.RLock()
        self._tree = Tree()

    def follow(self, connection: sa.Connection) -> Tree:
        """The tree of all stored leaves; raises `Unsound` when what is stored no longer fits what was read before."""
        stored = connection.execute(sa.select(sa.func.max(audit_leaf.c.seq))).scalar()
        size = 0 if stored is None else int(stored) + 1
        if size < self._tree.size:
            raise _damaged("the log only grows", f"{size} entries where there were {self._tree.size}")
        if size > self._tree.size or size == 0:
            self._extend(connection)
        return self._tree

    def forget(self) -> None:
        """Drop the tree in memory, so that the next call reads it anew."""
        self._tree = Tree()

    def checkpoint(self) -> Note | None:
        """The newest checkpoint; None while the log is empty."""
        with reading(self.engine) as connection:
            return newest_checkpoint(connection)

    def leaves(self, *, from_seq: int = 0, to_seq: int | None = None, case_id: str | None = None) -> Iterator[Leaf]:
        """Entries with from_seq ≤ seq < to_seq in log order, only those of one case when it is given."""
        with reading(self.engine) as connection:
            yield from read_leaves(connection, from_seq=from_seq, to_seq=to_seq, case_id=case_id)

    def receipt(self, event_id: str) -> Receipt:
        """Receipt of one entry under the newest checkpoint; `NotYet` while the entry waits to be integrated."""
        with self.lock, reading(self.engine) as connection:
            row = connection.execute(sa.select(audit_leaf.c.seq).where(audit_leaf.c.event_id == event_id)).scalar()
            if row is None:
                raise NotYet(
                    "audit-entry-not-integrated",
                    rule="only an integrated entry has a receipt",
                    got="an entry that is not in the log",
                    action="ask again in a moment",
                )
            return self._receipt(connection, int(row))

    def receipt_at(self, seq: int) -> tuple[Leaf, Receipt]:
        """One entry with its receipt under the newest checkpoint; `Rejected` when the log has no such place."""
        with self.lock, reading(self.engine) as connection:
            for leaf in read_leaves(connection, from_seq=seq, to_seq=seq + 1):
                return leaf, self._receipt(connection, seq)
        raise Rejected(
            "audit-entry-unknown", rule="the place is in the log", got="a place beyond its end", action="ask for less"
        )

    def case_receipts(self, case_id: str) -> tuple[Receipt, ...]:
        """Receipts of all entries of a case, in log order."""
        with self.lock, reading(self.engine) as connection:
            seqs = [leaf.seq for leaf in read_leaves(connection, case_id=case_id)]
            return tuple(self._receipt(connection, seq) for seq in seqs)

    def _receipt(self, connection: sa.Connection, seq: int) -> Receipt:
        tree = self.follow(connection)
        note = checkpoint_of(connection, tree.size)
        if note is None:
            raise _damaged("every leaf lies under a checkpoint", "a leaf beyond the newest one")
        query = sa.select(audit_leaf.c.event_id).where(audit_leaf.c.seq == seq)
        return Receipt(
            event_id=str(connection.execute(query).scalar_one()),
            leaf_index=seq,
            leaf_hash=tree.leaf(seq),
            inclusion_proof=tree.inclusion_proof(seq),
            checkpoint=str(note),
        )

    def _extend(self, connection: sa.Connection) -> None:
        # Read before the leaves: on PostgreSQL more of both may be committed between two statements.
        signed = newest_checkpoint(connection)
        columns = sa.select(audit_leaf.c.seq, audit_leaf.c.leaf_hash).where(audit_leaf.c.seq >= self._tree.size)
        rows = connection.execute(columns.order_by(audit_leaf.c.seq), execution_options=_STREAMED)
        for seq, leaf_hash in rows:
            if seq != self._tree.size:
                missing = self._tree.size
                self.forget()
                raise _damaged("entries are numbered without a gap", f"no entry {missing}")
            self._tree.append(bytes(leaf_hash))
        self._compare(signed, checkpoint_of(connection, self._tree.size))

    def _compare(self, signed: Note | None, at_end: Note | None) -> None:
        """Nothing that was signed is missing, and the leaves give the root of the checkpoint at their end."""
        size = self._tree.size
        complete = signed is None or signed.checkpoint.size <= size
        fits = at_end is not None and at_end.checkpoint.root == self._tree.root()
        if not complete or (size and not fits):
            self.forget()
            raise _damaged("the leaves give the root of the newest checkpoint", f"{size} leaves that do not")


def newest_checkpoint(connection: sa.Connection) -> Note | None:
    """The newest stored checkpoint; None while the log is empty."""
    newest = sa.select(audit_checkpoint.c.note).order_by(audit_checkpoint.c.size.desc()).limit(1)
    text = connection.execute(newest).scalar()
    return Note.parse(text) if text is not None else None


def checkpoint_of(connection: sa.Connection, size: int) -> Note | None:
    """The stored checkpoint of the first `size` entries."""
    text = connection.execute(sa.select(audit_checkpoint.c.note).where(audit_checkpoint.c.size == size)).scalar()
    return Note.parse(text) if text is not None else None


def read_leaves(
    connection: sa.Connection, *, from_seq: int = 0, to_seq: int | None = None, case_id: str | None = None
) -> Iterator[Leaf]:
    """Entries with from_seq ≤ seq < to_seq in log order, only those of one case when it is given."""
    query = sa.select(audit_leaf.c.seq, audit_leaf.c.event_id, audit_leaf.c.entry, audit_leaf.c.leaf_hash)
    query = query.where(audit_leaf.c.seq >= from_seq).order_by(audit_leaf.c.seq)
    if to_seq is not None:
        query = query.where(audit_leaf.c.seq < to_seq)
    mentions = None if case_id is None else json.dumps(case_id, ensure_ascii=False).encode()
    for seq, event_id, entry, leaf_hash in connection.execute(query, execution_options=_STREAMED):
        if mentions is None or (mentions in entry and parse_entry(entry).get("case_id") == case_id):
            yield Leaf(int(seq), str(event_id), bytes(entry), bytes(leaf_hash))


def _damaged(rule: str, got: str) -> Unsound:
    return Unsound("audit-log-damaged", rule=rule, got=got, action="stop writing, export the log and verify it")
