"""What a stage shows of itself while it works: its row in the stage table, and the memory that it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vbt.platform import state
from vbt.platform.cases import Status
from vbt.platform.state import insert_new


def begin(connection: sa.Connection, case_id: str, revision: int, name: str) -> None:
    """The stage starts, or starts again."""
    _change(
        connection,
        (case_id, revision, name),
        {"status": Status.RUNNING, "fraction": 0.0, "message": "", "started_at": time.time(), "finished_at": None},
    )


def report(connection: sa.Connection, case_id: str, revision: int, name: str, message: str, fraction: float) -> None:
    """How far the stage has come; ``fraction`` from 0 to 1."""
    _change(connection, (case_id, revision, name), {"message": message, "fraction": min(max(fraction, 0.0), 1.0)})


def finish(
    connection: sa.Connection,
    case_id: str,
    revision: int,
    name: str,
    status: Status,
    *,
    seconds: float | None = None,
    peak_rss_bytes: int | None = None,
    detail: Mapping[str, Any] | None = None,
    message: str | None = None,
) -> None:
    """The stage ended, or waits for its next attempt."""
    values: dict[str, Any] = {"status": status, "seconds": seconds, "peak_rss_bytes": peak_rss_bytes}
    values["finished_at"] = time.time()
    if status is Status.DONE:
        values.update(fraction=1.0, message="")
    if message is not None:
        values["message"] = message
    if detail is not None:
        values["detail"] = json.dumps(dict(detail), sort_keys=True)
    _change(connection, (case_id, revision, name), values)


def done(connection: sa.Connection, case_id: str, name: str) -> dict[int, dict[str, Any]]:
    """What the stage left at each revision of the case that it finished, the newest first."""
    rows = connection.execute(
        sa.select(state.stage.c.revision, state.stage.c.detail)
        .where(state.stage.c.case_id == case_id, state.stage.c.stage == name, state.stage.c.status == Status.DONE)
        .order_by(state.stage.c.revision.desc())
    )
    return {row.revision: json.loads(row.detail) for row in rows}


class PeakMemory:
    """The most resident memory since it was made; per process, so neighbours in one process count in."""

    def __init__(self) -> None:
        self._resettable = sys.platform == "linux" and _reset_high_water_mark()

    def bytes(self) -> int:
        """Peak resident set in bytes."""
        if self._resettable:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _reset_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _change(connection: sa.Connection, place: tuple[str, int, str], values: dict[str, Any]) -> None:
    case_id, revision, name = place
    key = {"case_id": case_id, "revision": revision, "stage": name}
    insert_new(connection, state.stage, {**key, "status": Status.WAITING})
    here = sa.and_(*(state.stage.c[column] == value for column, value in key.items()))
    connection.execute(sa.update(state.stage).where(here).values(**values))
