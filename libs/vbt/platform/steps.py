"""One step of the line on its own: what stands behind submit, get, list, watch and cancel of every service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
import sqlalchemy as sa
from google.protobuf.message import Message

from vbt.api.event.v1 import step_pb2
from vbt.platform import audit, cases, state, wire
from vbt.platform.cases import FINISHED, Case
from vbt.platform.events import Event, event_id
from vbt.platform.outbox import publish
from vbt.platform.software import Software
from vbt.platform.state import insert_new, reading

Input = TypeVar("Input", bound=Message)
Result = TypeVar("Result", bound=Message)

_LIST_DEFAULT = 100
_LIST_MOST = 1000


@dataclass(frozen=True)
class Steps(Generic[Input, Result]):
    """The runs of one stage.

    Parameters
    ----------
    topic : where the stage takes its input from
    result : the message that the stage gives
    """

    engine: sa.Engine
    software: Software
    topic: str
    result: type[Result]

    @property
    def stage(self) -> str:
        return self.software.name

    def submit(self, request_id: str, message: Input) -> str:
        """Start the stage on ``message`` as a case of its own; the same ``request_id`` gives the same case.

        Parameters
        ----------
        request_id : chosen by the caller, so that it may ask again; empty: every call is a request of its own

        Returns
        -------
        case_id
        """
        request_key = f"request:{audit.entry_id(self.stage, request_id or uuid.uuid4().hex)}"
        with self.engine.begin() as connection:
            case_id = cases.new_case_id()
            # An equal request that comes in this very moment waits here until ours is committed, and then finds it.
            if not insert_new(connection, state.request, {"request_key": request_key, "case_id": case_id}):
                known = sa.select(state.request.c.case_id).where(state.request.c.request_key == request_key)
                return str(connection.execute(known).scalar_one())
            case = cases.create_case(connection, study_key=request_key, protocol=f"step:{self.stage}", case_id=case_id)
            filled = type(message)()
            filled.CopyFrom(message)
            filled.case_id = case.case_id  # type: ignore[attr-defined]
            filled.revision = case.revision  # type: ignore[attr-defined]
            publish(connection, self._event(case, filled))
            entry_id = audit.entry_id(self.stage, request_key, "step.submitted")
            audit.record(connection, self._entry(case, entry_id, "step.submitted"))
        return case.case_id

    def get(self, case_id: str) -> tuple[step_pb2.Step, Result | None]:
        """Where the stage stands for a case, and its result if it succeeded."""
        with reading(self.engine) as connection:
            case = cases.read_case(connection, case_id)
        return wire.step(case, self.stage), wire.result(case, self.stage, self.result)

    def list(self, limit: int) -> list[step_pb2.Step]:
        """The newest cases first; ``limit`` 0 means 100, at most 1000."""
        with reading(self.engine) as connection:
            found = cases.list_cases(connection, limit=min(limit or _LIST_DEFAULT, _LIST_MOST))
        return [wire.step(case, self.stage) for case in found]

    def watch(self, case_id: str, context: grpc.ServicerContext) -> Iterator[step_pb2.Step]:
        """The stage's state after each change, at most once a second, until it ended or the caller left."""
        shown = None
        for case in cases.watch(self.engine, case_id, going_on=context.is_active):
            now = wire.step(case, self.stage)
            if now != shown:
                yield now
                shown = now
            if case.status in FINISHED or now.state >= step_pb2.STEP_STATE_SUCCEEDED:
                return
            time.sleep(1.0)

    def cancel(self, case_id: str) -> bool:
        """Ask the stage to stop; False where the case had ended."""
        with self.engine.begin() as connection:
            taken = cases.request_cancel(connection, case_id)
            entry = self._entry(
                cases.read_case(connection, case_id),
                str(uuid.uuid4()),  # each request is an act of its own
                "case.cancel-requested",
                "success" if taken else "refused",
            )
            audit.record(connection, entry)
        return taken

    def _event(self, case: Case, message: Message) -> Event:
        return Event(
            id=event_id(self.stage, case.case_id, case.revision, case.study_key, self.software.digest),
            source=self.stage,
            type=self.topic,
            subject=case.case_id,
            revision=case.revision,
            headers={wire.SINGLE_STEP: "1"},
            value=message.SerializeToString(deterministic=True),
        )

    def _entry(self, case: Case, entry_id: str, action: str, outcome: audit.Outcome = "success") -> audit.AuditEntry:
        return audit.AuditEntry(
            event_id=entry_id,
            case_id=case.case_id,
            revision=case.revision,
            action=action,
            outcome=outcome,
            actor=self.stage,
            software=self.software,
        )
