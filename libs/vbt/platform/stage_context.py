"""A handler computes effects and commits nothing: what it needs meanwhile is its context, what it gives are effects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from opentelemetry.trace import Span

from vbt.errors import Rejected, TwinError
from vbt.platform import stages, state
from vbt.platform.audit import AuditEntry, ConsentDecision, Digest, Outcome, entry_id
from vbt.platform.events import CASE_STOPPED, Event
from vbt.platform.software import Software
from vbt.platform.state import reading

_log = logging.getLogger("vbt.platform")

_LOOK_SECONDS = 0.5


class Abandoned(BaseException):
    """The process shuts down and gives up the job; it starts again elsewhere. Not an error, so no handler sees it."""


class Parked(Exception):
    """Input and science are fine, but somebody outside has to change something before this event can be settled.

    It goes to the dead letters at once, to be sent again by a person.

    Parameters
    ----------
    why : the refusal; its action says what to change
    """

    def __init__(self, why: TwinError) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Everything a handler wants to happen, all of it or nothing.

    Parameters
    ----------
    apply : changes to the state, called inside the transaction
    events : (topic, event) to publish; an event without a traceparent gets the handler's
    audit : what goes on the trail (``StageContext.audit``)
    detail : figures for the stage's row, shown by ``vbt case show``; JSON
    afterwards : called once all that is durable; what it does may be left out, so it must not fail
    """

    apply: Sequence[Callable[[sa.Connection], None]] = ()
    events: Sequence[tuple[str, Event]] = ()
    audit: Sequence[AuditEntry] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    afterwards: Sequence[Callable[[], object]] = ()


@dataclass(kw_only=True)
class StageContext:
    """What a handler may know and say while it works on one event.

    Parameters
    ----------
    consent : the decision that let it begin
    permit : decides anew; raises where consent was withdrawn meanwhile, or the case cancelled
    """

    engine: sa.Engine
    event: Event
    group: str
    stage: str
    software: Software
    consent: ConsentDecision
    span: Span
    given_up: Callable[[], bool]
    permit: Callable[[sa.Connection], ConsentDecision]
    _reported_at: float = 0.0
    _looked_at: float = 0.0
    _cancelled: bool = False

    def cancelled(self) -> bool:
        """Whether the result is no longer wanted: somebody cancelled the case, or late images superseded it."""
        now = time.monotonic()
        if not self._cancelled and now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            self._cancelled = self._look()
        return self._cancelled

    def check(self) -> None:
        """Leave the job here if its result is not wanted any more; call it often in a long computation.

        Raises
        ------
        Rejected : ``cancelled``
        Abandoned : the process shuts down
        """
        if self.given_up():
            raise Abandoned
        if self.cancelled():
            raise cancelled_by_user()

    def require_wanted(self, connection: sa.Connection) -> None:
        """``check`` and the consent gate against the state itself, for an act that cannot be undone; holds the case's
        row until the caller's transaction ends.

        Raises
        ------
        Rejected : ``cancelled``; ``consent-withdrawn`` or ``consent-missing``
        """
        if self._is_unwanted(connection, lock=True):
            raise cancelled_by_user()
        self.permit(connection)

    def progress(self, message: str, fraction: float) -> None:
        """Show how far the stage is, from 0 to 1, and ``check``; cheap enough to be called often."""
        self.check()
        now = time.monotonic()
        if now - self._reported_at < _LOOK_SECONDS or not self.event.revision:
            return
        self._reported_at = now
        try:
            with self.engine.begin() as connection:
                stages.report(connection, self.event.subject, self.event.revision, self.stage, message, fraction)
        except sa.exc.OperationalError:
            # A job of half an hour must not end because the database was busy when it wanted to say "62 %".
            _log.warning("stage.progress-not-shown", extra={"vbt.case_id": self.event.subject, "vbt.stage": self.stage})

    def audit(
        self,
        action: str,
        *,
        outcome: Outcome = "success",
        inputs: Sequence[Digest] = (),
        outputs: Sequence[Digest] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """An entry about this event's effect; at most one per action."""
        return AuditEntry(
            event_id=entry_id(self.group, self.event.id, action),
            case_id=self.event.subject,
            revision=self.event.revision,
            action=action,
            outcome=outcome,
            actor=self.software.name,
            software=self.software,
            consent=self.consent,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            detail=detail or {},
        )

    def _look(self) -> bool:
        try:
            with reading(self.engine) as connection:
                return self._is_unwanted(connection)
        except sa.exc.OperationalError:
            return False  # asked again soon; the commit decides in any case

    def _is_unwanted(self, connection: sa.Connection, *, lock: bool = False) -> bool:
        if not self.event.revision:
            return False
        wanted = sa.select(state.case.c.revision, state.case.c.cancel_requested_at)
        here = wanted.where(state.case.c.case_id == self.event.subject)
        row = connection.execute(here.with_for_update() if lock else here).first()
        if row is None or row.revision != self.event.revision:
            return True
        # The notice that a case was stopped is still wanted after the cancellation that stopped it.
        return row.cancel_requested_at is not None and self.event.type != CASE_STOPPED


Handler = Callable[[Event, StageContext], Effects]


def cancelled_by_user() -> Rejected:
    """The refusal of a case that somebody cancelled."""
    return Rejected(
        "cancelled",
        rule="a case runs until it ends or somebody cancels it",
        got="a request to cancel",
        action="nothing; send the study again to start anew",
    )
