"""An audit entry says who did what to which case, on what grounds and from which bytes; it commits with its effect."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import rfc8785
import sqlalchemy as sa
from opentelemetry import trace

from vbt.platform.events import rfc3339
from vbt.platform.software import Software
from vbt.platform.state import audit_leaf, audit_outbox, case, insert_new

_ENTRY_NAMESPACE = uuid.UUID("3d1f7a52-8a43-5b9e-b1c5-7662742e6175")

Outcome = Literal["success", "refused", "failed"]

_STREAMED = {"yield_per": 500}  # a ledger of years does not fit into memory


@dataclass(frozen=True, kw_only=True)
class ConsentDecision:
    """``basis`` names the consent that decided, or ``"site-default"`` where there is none."""

    decision: Literal["permit", "deny"]
    basis: str


@dataclass(frozen=True, kw_only=True)
class Digest:
    """An artifact that was read or written, by content."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One line of the trail. No field may hold a value that identifies the patient.

    Parameters
    ----------
    event_id : the same for the same act (``entry_id``), so that a repetition adds no second line
    action : ``"<noun>.<past participle>"``, e.g. ``"study.ingested"``
    actor : the service, or the authenticated person, that acted
    purpose : why, as a code of HL7 PurposeOfUse, e.g. ``"TREAT"``
    trace_id, span_id : the join key to the traces, sampled or not; taken from the current span
    """

    event_id: str
    case_id: str
    revision: int
    action: str
    outcome: Outcome
    actor: str
    software: Software
    purpose: str = "TREAT"
    consent: ConsentDecision | None = None
    inputs: tuple[Digest, ...] = ()
    outputs: tuple[Digest, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: str = field(default_factory=lambda: rfc3339(time.time()))
    trace_id: str = field(default_factory=lambda: trace.format_trace_id(_current().trace_id))
    span_id: str = field(default_factory=lambda: trace.format_span_id(_current().span_id))

    def canonical(self) -> bytes:
        """The entry's one byte string (RFC 8785), which the ledger hashes."""
        consent = self.consent
        return rfc8785.dumps(
            {
                "event_id": self.event_id,
                "at": self.at,
                "case_id": self.case_id,
                "revision": self.revision,
                "action": self.action,
                "outcome": self.outcome,
                "actor": self.actor,
                "purpose": self.purpose,
                "consent": {"decision": consent.decision, "basis": consent.basis} if consent else None,
                "inputs": [{"name": digest.name, "sha256": digest.sha256} for digest in self.inputs],
                "outputs": [{"name": digest.name, "sha256": digest.sha256} for digest in self.outputs],
                "software": {
                    "name": self.software.name,
                    "version": self.software.version,
                    "digest": self.software.digest,
                },
                "trace_id": self.trace_id,
                "span_id": self.span_id,
                "detail": dict(self.detail),
            }
        )


def entry_id(*parts: str) -> str:
    """The id of the entry about one act, named by its parts: the same parts give the same id."""
    return str(uuid.uuid5(_ENTRY_NAMESPACE, "\n".join(parts)))


def record(connection: sa.Connection, entry: AuditEntry) -> bool:
    """Put the entry on the trail if the caller's transaction commits; False where the same act is already on it."""
    row = {"event_id": entry.event_id, "entry": entry.canonical(), "at": time.time()}
    return insert_new(connection, audit_outbox, row)


def entries(connection: sa.Connection) -> Iterator[bytes]:
    """Every entry, first those that wait for the ledger, then those that it has; one may come twice."""
    # In this order, because on PostgreSQL each statement sees what was committed when it began: an entry that the
    # sequencer moves in between is then read twice, and in the other order not at all.
    for table in (audit_outbox, audit_leaf):
        yield from connection.execute(sa.select(table.c.entry), execution_options=_STREAMED).scalars()


def cases_that_gave(connection: sa.Connection, sha256: str) -> list[str]:
    """The cases of this site that an artifact was made for, by the trail; none for an artifact from elsewhere."""
    mark, found = sha256.encode(), set()
    for content in entries(connection):
        if mark in content:
            entry = json.loads(content)
            if any(output["sha256"] == sha256 for output in entry["outputs"]):
                found.add(entry["case_id"])
    known = sa.select(case.c.case_id).where(case.c.case_id.in_(found)).order_by(case.c.case_id)
    return list(connection.execute(known).scalars())


def cases_on_trail(connection: sa.Connection, prefix: str) -> list[str]:
    """The case ids beginning so that integrated entries speak of: cases, and runs on demand, which are no cases."""
    mark, found = f'"case_id":"{prefix}'.encode(), set()
    for content in connection.execute(sa.select(audit_leaf.c.entry), execution_options=_STREAMED).scalars():
        if mark in content:
            found.add(json.loads(content)["case_id"])
    return sorted(case_id for case_id in found if case_id.startswith(prefix))


def _current() -> trace.SpanContext:
    return trace.get_current_span().get_span_context()
