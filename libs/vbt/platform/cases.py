"""A case is one study on its way to a report; late images start a new revision, which voids the work on the old one."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from vbt.errors import Rejected
from vbt.platform import state
from vbt.platform.state import reading


class Status(StrEnum):
    """Where a case or one of its stages stands."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    ERASED = "erased"


FINISHED = frozenset({Status.DONE, Status.STOPPED, Status.FAILED, Status.ERASED})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage's work on one revision; times in seconds since the epoch."""

    stage: str
    status: Status
    fraction: float
    message: str
    started_at: float | None
    finished_at: float | None
    seconds: float | None
    peak_rss_bytes: int | None
    detail: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case with the stages of its current revision, in the order in which they began."""

    case_id: str
    revision: int
    status: Status
    protocol: str
    study_key: str
    created_at: float
    updated_at: float
    cancel_requested: bool
    stages: tuple[Stage, ...] = ()


def new_case_id() -> str:
    """A random id, never derived from the patient."""
    return secrets.token_hex(8)


def create_case(
    connection: sa.Connection, *, study_key: str, protocol: str, status: Status = Status.RUNNING, case_id: str = ""
) -> Case:
    """A new case at revision 1, under a random id unless told one."""
    now = time.time()
    case_id = case_id or new_case_id()
    connection.execute(
        sa.insert(state.case).values(
            case_id=case_id,
            revision=1,
            status=status,
            protocol=protocol,
            study_key=study_key,
            created_at=now,
            updated_at=now,
        )
    )
    return read_case(connection, case_id)


def new_revision(connection: sa.Connection, case_id: str) -> int:
    """Start the case again, because images came late: what runs on the old revision can no longer take effect."""
    changed = connection.execute(
        sa.update(state.case)
        .where(state.case.c.case_id == case_id)
        .values(
            revision=state.case.c.revision + 1,
            status=Status.RUNNING,
            cancel_requested_at=None,
            updated_at=time.time(),
        )
    )
    if not changed.rowcount:
        raise _unknown()
    return read_case(connection, case_id).revision


def set_status(connection: sa.Connection, case_id: str, status: Status) -> None:
    """Where the case as a whole stands."""
    connection.execute(
        sa.update(state.case).where(state.case.c.case_id == case_id).values(status=status, updated_at=time.time())
    )


def request_cancel(connection: sa.Connection, case_id: str) -> bool:
    """Ask the running stage to stop; False where the case had already ended."""
    changed = connection.execute(
        sa.update(state.case)
        .where(state.case.c.case_id == case_id, state.case.c.status.not_in(FINISHED))
        .values(cancel_requested_at=time.time(), updated_at=time.time())
    )
    if not changed.rowcount:
        read_case(connection, case_id)
    return changed.rowcount == 1


def read_case(connection: sa.Connection, case_id: str) -> Case:
    """The case with its stages.

    Raises
    ------
    Rejected : ``case-unknown``
    """
    row = connection.execute(sa.select(state.case).where(state.case.c.case_id == case_id)).first()
    if row is None:
        raise _unknown()
    return _case(connection, row)


def case_of_study(connection: sa.Connection, study_key: str) -> Case | None:
    """The newest case of a study, or None where there is none."""
    newest = sa.select(state.case).where(state.case.c.study_key == study_key).order_by(state.case.c.created_at.desc())
    row = connection.execute(newest.limit(1)).first()
    return None if row is None else _case(connection, row)


def cases_beginning_with(connection: sa.Connection, prefix: str, *, limit: int = 10) -> list[str]:
    """The ids of cases that begin so, at most ``limit``."""
    found = sa.select(state.case.c.case_id).where(state.case.c.case_id.startswith(prefix, autoescape=True))
    return list(connection.execute(found.order_by(state.case.c.case_id).limit(limit)).scalars())


def list_cases(connection: sa.Connection, *, limit: int = 100) -> list[Case]:
    """The newest cases first."""
    rows = connection.execute(sa.select(state.case).order_by(state.case.c.created_at.desc()).limit(limit)).all()
    return [_case(connection, row) for row in rows]


def watch(
    engine: sa.Engine, case_id: str, *, interval: float = 0.25, going_on: Callable[[], bool] = lambda: True
) -> Iterator[Case]:
    """The case now and after each change, until it ended or ``going_on()`` turns False."""
    last = None
    while going_on():
        with reading(engine) as connection:
            current = read_case(connection, case_id)
        if current != last:
            yield current
            last = current
        if current.status in FINISHED:
            return
        time.sleep(interval)


def _case(connection: sa.Connection, row: sa.Row[Any]) -> Case:
    stages = connection.execute(
        sa.select(state.stage)
        .where(state.stage.c.case_id == row.case_id, state.stage.c.revision == row.revision)
        .order_by(state.stage.c.started_at, state.stage.c.stage)
    )
    return Case(
        case_id=row.case_id,
        revision=row.revision,
        status=Status(row.status),
        protocol=row.protocol,
        study_key=row.study_key,
        created_at=row.created_at,
        updated_at=row.updated_at,
        cancel_requested=row.cancel_requested_at is not None,
        stages=tuple(_stage(stage) for stage in stages),
    )


def _stage(row: sa.Row[Any]) -> Stage:
    return Stage(
        stage=row.stage,
        status=Status(row.status),
        fraction=row.fraction,
        message=row.message,
        started_at=row.started_at,
        finished_at=row.finished_at,
        seconds=row.seconds,
        peak_rss_bytes=row.peak_rss_bytes,
        detail=json.loads(row.detail),
    )


def _unknown() -> Rejected:
    return Rejected(
        "case-unknown",
        rule="a case is named by an id that this site gave",
        got="an unknown case id",
        action="list the cases",
    )
