"""Every record ends in exactly one transaction: its effect, a stop, a later attempt or a dead letter.

The inbox row that names the record is part of that transaction, so a record that comes twice finds itself settled.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import DecodeError
from opentelemetry.trace import Span, SpanKind

from vbt.errors import Rejected, TwinError, Unsound
from vbt.platform import audit, cases, retries, stages, state
from vbt.platform.audit import ConsentDecision, Outcome
from vbt.platform.bus import Record
from vbt.platform.events import CASE_STOPPED, Event, Message, Undecodable
from vbt.platform.outbox import publish, publish_message
from vbt.platform.policy import ConsentPolicy
from vbt.platform.redaction import describe, error_code
from vbt.platform.software import Software
from vbt.platform.stage_context import Abandoned, Effects, Handler, Parked, StageContext, cancelled_by_user
from vbt.platform.state import insert_new
from vbt.platform.tracing import mark_failed, span, traceparent

_log = logging.getLogger("vbt.platform")

# A database that is away comes back or is restarted; SQL that cannot work must not be tried for ever.
_PATIENCE = 120.0

_Result = TypeVar("_Result")

Stopped = Callable[[Event, TwinError, str], tuple[str, Event]]


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """How one group settles what it reads."""

    engine: sa.Engine
    group: str
    stage: str
    handler: Handler
    stopped: Stopped
    software: Software
    policy: ConsentPolicy
    delays: Sequence[float]

    def settle(self, record: Record, given_up: Callable[[], bool]) -> None:
        """Settle one record; on return it is durably settled.

        Raises
        ------
        Abandoned : ``given_up()`` turned True before anything was committed
        """
        message = record.message
        try:
            event = Event.parse(message)
        except Undecodable as error:
            nameless = Event(
                id=f"{message.topic}/{record.partition}/{record.offset}",
                source="unknown",
                type=message.topic,
                subject="",
                value=message.value,
            )
            self._commit(partial(self._bury, nameless, message, error), given_up)
            return
        attributes = {"vbt.case_id": event.subject, "vbt.stage": self.stage, "messaging.message.id": event.id}
        name = f"process {event.type}"
        with span(name, parent=event.traceparent, kind=SpanKind.CONSUMER, attributes=attributes) as current:
            started = time.monotonic()
            outcome = self._settle_event(event, message, current, given_up)
        facts = {"vbt.case_id": event.subject, "vbt.stage": self.stage, "vbt.outcome": outcome}
        _log.info("event.settled", extra={**facts, "vbt.seconds": round(time.monotonic() - started, 3)})

    def _settle_event(self, event: Event, message: Message, current: Span, given_up: Callable[[], bool]) -> str:
        # The one boundary: whatever a handler, or the account of its failure, throws must not block the partition.
        try:
            return self._work(event, message, current, given_up)
        except Parked as parked:
            self._tell(parked.why, current)
            settle = partial(self._bury, event, message, parked.why)
        except Exception as error:  # noqa: BLE001
            self._tell(error, current)
            settle = partial(self._ending(error), event, message, error)
        try:
            return self._commit(settle, given_up, _PATIENCE)
        except sa.exc.OperationalError as error:
            # A database that is away for longer than our patience says nothing about the event: it is tried again.
            self._tell(error, current)
            return self._commit(partial(self._postpone, event, message, error), given_up)
        except Exception as error:  # noqa: BLE001
            self._tell(error, current)
            return self._commit(partial(self._bury, event, message, error), given_up)

    def _ending(self, error: Exception) -> Callable[[Event, Message, Exception, sa.Connection], str]:
        if isinstance(error, DecodeError | Undecodable):
            return self._bury
        return self._stop if isinstance(error, Rejected | Unsound) else self._postpone

    def _work(self, event: Event, message: Message, current: Span, given_up: Callable[[], bool]) -> str:
        consent = self._commit(partial(self._admit, event, message), given_up, _PATIENCE)
        if consent is None:
            return "skipped"
        context = StageContext(
            engine=self.engine,
            event=event,
            group=self.group,
            stage=self.stage,
            software=self.software,
            consent=consent,
            span=current,
            given_up=given_up,
            permit=partial(self._allowed, event),
        )
        memory, started = stages.PeakMemory(), time.monotonic()
        effects = self.handler(event, context)
        seconds, peak = time.monotonic() - started, memory.bytes()
        outcome = self._commit(partial(self._effect, event, effects, seconds, peak), given_up, _PATIENCE)
        for act in effects.afterwards:
            act()
        return outcome

    def _tell(self, error: Exception, current: Span) -> None:
        mark_failed(current, error)
        facts = {"vbt.stage": self.stage, "vbt.code": error_code(error), "vbt.cause": describe(error)}
        _log.warning("event.not-done", extra=facts)

    def _admit(self, event: Event, message: Message, connection: sa.Connection) -> ConsentDecision | None:
        """The gate before the handler: None where there is nothing to do for this record."""
        claims = (event.id, _attempt_claim(event, message))
        known = sa.and_(state.inbox.c.group == self.group, state.inbox.c.ce_id.in_(claims))
        if connection.execute(sa.select(state.inbox.c.ce_id).where(known)).first():
            return None
        if self._superseded(event, connection):
            self._claim(event.id, connection)
            self._drop(event, connection)
            return None
        consent = self._allowed(event, connection)
        if event.revision:
            stages.begin(connection, event.subject, event.revision, self.stage)
        return consent

    def _effect(self, event: Event, effects: Effects, seconds: float, peak: int, connection: sa.Connection) -> str:
        if not self._claim(event.id, connection):
            return "skipped"
        if self._superseded(event, connection):
            return self._drop(event, connection)
        consent = self._allowed(event, connection)
        for change in effects.apply:
            change(connection)
        for topic, caused in effects.events:
            publish(connection, caused if caused.traceparent else replace(caused, traceparent=traceparent()), topic)
        for entry in effects.audit:
            audit.record(connection, entry if entry.consent else replace(entry, consent=consent))
        self._finish(event, connection, cases.Status.DONE, seconds=seconds, peak_rss_bytes=peak, detail=effects.detail)
        return "done"

    def _stop(self, event: Event, message: Message, error: Exception, connection: sa.Connection) -> str:
        if self._superseded(event, connection):
            return self._drop(event, connection) if self._claim(event.id, connection) else "skipped"
        if event.type == CASE_STOPPED or not isinstance(
            error, TwinError
        ):  # a stop about a stop would go round for ever
            return self._bury(event, message, error, connection)
        if not self._claim(event.id, connection):
            return "skipped"
        topic, stop = self.stopped(event, error, self.stage)
        publish(connection, stop if stop.traceparent else replace(stop, traceparent=traceparent()), topic)
        facts = {"code": error.code, "rule": error.rule, "got": error.got, "action": error.action}
        self._record(event, connection, "case.stopped", "refused", facts)
        self._finish(event, connection, cases.Status.STOPPED, detail=facts, message=str(error))
        if event.revision:
            cases.set_status(connection, event.subject, cases.Status.STOPPED)
        return "stopped"

    def _postpone(self, event: Event, message: Message, error: Exception, connection: sa.Connection) -> str:
        later = retries.postponed(message, self.group, self.delays, error_code(error))
        if later is None:
            return self._bury(event, message, error, connection)
        if not self._claim(_attempt_claim(event, message), connection):
            return "skipped"
        publish_message(connection, later)
        self._finish(event, connection, cases.Status.RETRYING, message=error_code(error))
        return "retrying"

    def _bury(self, event: Event, message: Message, error: Exception, connection: sa.Connection) -> str:
        if not self._claim(event.id, connection):
            return "skipped"
        attempts = retries.attempts_of(message) + 1
        letter = connection.execute(
            sa.insert(state.dead_letter).values(
                group=self.group,
                topic=retries.original_topic(message.topic, self.group),
                ce_id=event.id,
                case_id=event.subject,
                code=error_code(error),
                cause=describe(error),
                attempts=attempts,
                headers=json.dumps(dict(message.headers)),
                value=message.value,
                at=time.time(),
            )
        )
        facts = {"code": error_code(error), "attempts": attempts}
        (number,) = letter.inserted_primary_key or (0,)
        self._record(event, connection, "event.dead-lettered", "failed", facts, act=str(number))
        self._finish(event, connection, cases.Status.FAILED, detail=facts, message=error_code(error))
        if event.revision and not self._superseded(event, connection):
            cases.set_status(connection, event.subject, cases.Status.FAILED)
        return "dead-lettered"

    def _drop(self, event: Event, connection: sa.Connection) -> str:
        self._record(event, connection, "event.superseded", "refused", {"code": "superseded"})
        self._finish(event, connection, cases.Status.SUPERSEDED)
        return "superseded"

    def _claim(self, claim: str, connection: sa.Connection) -> bool:
        return insert_new(connection, state.inbox, {"group": self.group, "ce_id": claim, "at": time.time()})

    def _superseded(self, event: Event, connection: sa.Connection) -> bool:
        """Whether the case has moved on; holds the case's row until the transaction ends."""
        if not event.revision:
            return False
        current = sa.select(state.case.c.revision).where(state.case.c.case_id == event.subject).with_for_update()
        return connection.execute(current).scalar() != event.revision

    def _allowed(self, event: Event, connection: sa.Connection) -> ConsentDecision:
        if event.type == CASE_STOPPED:  # whoever ordered the twin hears of its end, also when consent was withdrawn
            return ConsentDecision(decision="permit", basis="stop-notice")
        cancelled = sa.select(state.case.c.cancel_requested_at).where(state.case.c.case_id == event.subject)
        if connection.execute(cancelled).scalar() is not None:
            raise cancelled_by_user()
        return self.policy.decide(connection, event.subject)

    def _record(
        self,
        event: Event,
        connection: sa.Connection,
        action: str,
        outcome: Outcome,
        facts: Mapping[str, object],
        act: str = "",
    ) -> None:
        """Put an entry on the trail; ``act`` tells apart what may happen to one event more than once."""
        entry = audit.AuditEntry(
            event_id=audit.entry_id(self.group, event.id, action, *([act] if act else [])),
            case_id=event.subject,
            revision=event.revision,
            action=action,
            outcome=outcome,
            actor=self.software.name,
            software=self.software,
            detail={**facts, "stage": self.stage},
        )
        audit.record(connection, entry)

    def _finish(self, event: Event, connection: sa.Connection, status: cases.Status, **facts: object) -> None:
        if event.revision:
            stages.finish(connection, event.subject, event.revision, self.stage, status, **facts)  # type: ignore[arg-type]

    def _commit(
        self, work: Callable[[sa.Connection], _Result], given_up: Callable[[], bool], patience: float = float("inf")
    ) -> _Result:
        """Do ``work`` in one transaction, again while the database is away."""
        deadline, delay = time.monotonic() + patience, 0.1
        while True:
            if given_up():
                raise Abandoned
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except sa.exc.OperationalError as error:
                if time.monotonic() > deadline:
                    raise
                _log.warning("state.waiting", extra={"vbt.error": type(error).__name__, "vbt.seconds": delay})
            time.sleep(delay)
            delay = min(2 * delay, 5.0)


def _attempt_claim(event: Event, message: Message) -> str:
    """Names this attempt in the inbox, so that a record that comes twice is not postponed twice."""
    return f"{event.id}/attempt-{retries.attempts_of(message)}"
