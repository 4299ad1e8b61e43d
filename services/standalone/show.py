"""Cases and their stages as a terminal shows them, and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vbt.platform.cases import Case, Stage, Status

STAGES = (
    "receive",
    "dicom_ingest",
    "connectome_builder",
    "twin_inference",
    "brain_simulator",
    "report_writer",
)
"""The stages of a case, in the order in which they run."""

TITLES: Mapping[str, str] = {
    "receive": "images received",
    "dicom_ingest": "study",
    "connectome_builder": "connectome",
    "twin_inference": "calibration",
    "brain_simulator": "scenarios",
    "report_writer": "report",
}
_COLOURS: Mapping[Status, str] = {
    Status.DONE: "green",
    Status.RUNNING: "cyan",
    Status.STOPPED: "yellow",
    Status.FAILED: "red",
    Status.RETRYING: "magenta",
    Status.ERASED: "dim",
}


def case_list(cases: Sequence[Case]) -> Table:
    """One line per case."""
    table = Table(box=None, pad_edge=False)
    for heading in ("case", "rev.", "status", "protocol", "stage", "begun (UTC)"):
        table.add_column(heading)
    for case in cases:
        current = case.stages[-1] if case.stages else None
        where = "" if current is None else TITLES.get(current.stage, current.stage)
        table.add_row(
            case.case_id, str(case.revision), status_text(case.status), case.protocol, where, moment(case.created_at)
        )
    return table


def case_detail(case: Case) -> RenderableType:
    """A case with its stages: what came out, how long it took, what it needed, or why it stopped."""
    head = Text.assemble(("case ", "bold"), case.case_id, f"  revision {case.revision}  ", status_text(case.status))
    facts = Text(f"protocol {case.protocol}, begun {moment(case.created_at)} UTC")
    return Group(head, facts, stage_table(case.stages))


def stage_table(stages: Sequence[Stage], leaves: Mapping[str, int] | None = None) -> Table:
    """One line per stage; with ``leaves``, the number of its entry in the ledger."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("what came out", overflow="fold")
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("peak memory", justify="right", no_wrap=True)
    if leaves is not None:
        table.add_column("ledger", justify="right", no_wrap=True)
    for stage in stages:
        cells: list[RenderableType] = [
            TITLES.get(stage.stage, stage.stage),
            status_text(stage.status),
            outcome(stage),
            "" if stage.seconds is None else f"{stage.seconds:.1f}",
            "" if not stage.peak_rss_bytes else f"{stage.peak_rss_bytes / 2**30:.2f} GiB",
        ]
        if leaves is not None:
            cells.append(f"#{leaves[stage.stage]}" if stage.stage in leaves else "")
        table.add_row(*cells)
    return table


def outcome(stage: Stage) -> str:
    """What the stage gave, is doing, or stopped for, and what of it a person must look at."""
    said = str(stage.detail.get("summary") or stage.message)
    review = stage.detail.get("review")
    return f"{said}; a person must look at: {', '.join(review)}" if review else said


def status_text(status: Status) -> Text:
    return Text(status.value, style=_COLOURS.get(status, ""))


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def case_json(case: Case) -> dict[str, Any]:
    """The case as JSON values; the wire form of results is left out."""
    return {
        "case_id": case.case_id,
        "revision": case.revision,
        "status": case.status.value,
        "protocol": case.protocol,
        "created_at": moment(case.created_at),
        "stages": [
            {
                "stage": stage.stage,
                "status": stage.status.value,
                "fraction": stage.fraction,
                "message": stage.message,
                "seconds": stage.seconds,
                "peak_rss_bytes": stage.peak_rss_bytes,
                "detail": {name: value for name, value in stage.detail.items() if name != "result"},
            }
            for stage in case.stages
        ],
    }
