"""A case on its way, as one progress bar per stage."""

from __future__ import annotations

import time

import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from standalone.show import STAGES, TITLES, outcome
from vbt.platform import cases
from vbt.platform.cases import FINISHED, Case, Status
from vbt.platform.state import reading

_BEAT = 0.25
_REPORT = "report_writer"


def stage_bars(console: Console) -> Progress:
    """An empty display of bars in the suite's style; on a pipe it prints a line per finished stage instead."""
    return Progress(
        TextColumn("{task.description:<15}", table_column=Column(no_wrap=True, min_width=15)),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[says]}", table_column=Column(no_wrap=True)),
        console=console,
    )


def follow(engine: sa.Engine, case_id: str, console: Console, bars: Progress | None = None) -> Case:
    """Show the stages of a case until it ended and its report was written.

    Parameters
    ----------
    bars : a display that runs already, to which the stages are added
    """
    if bars is not None:
        return _follow(engine, case_id, bars)
    with stage_bars(console) as own:
        return _follow(engine, case_id, own)


def _follow(engine: sa.Engine, case_id: str, bars: Progress) -> Case:
    shown: dict[str, TaskID] = {}
    while True:
        with reading(engine) as connection:
            case = cases.read_case(connection, case_id)
        for stage in case.stages:
            if stage.stage not in STAGES:
                continue
            if stage.stage not in shown:
                shown[stage.stage] = bars.add_task(TITLES[stage.stage], total=1.0, says="")
            done = stage.status in (Status.DONE, Status.STOPPED, Status.FAILED)
            bars.update(shown[stage.stage], completed=1.0 if done else stage.fraction, says=outcome(stage))
            if done:
                bars.stop_task(shown[stage.stage])
        if _is_over(case):
            return case
        time.sleep(_BEAT)


def _is_over(case: Case) -> bool:
    """Whether the case ended, the report about its end included."""
    if case.status not in FINISHED:
        return False
    report = next((stage for stage in case.stages if stage.stage == _REPORT), None)
    return case.status is not Status.STOPPED or (report is not None and report.status in FINISHED)
