"""`vbt up`: the suite on one machine, waiting for a PACS."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console

from standalone.show import TITLES, outcome
from standalone.suite import Suite, suite_settings
from vbt.platform import cases
from vbt.platform.cases import Status
from vbt.platform.logs import start_logging
from vbt.platform.state import reading

_NEWS = (Status.RUNNING, Status.DONE, Status.STOPPED, Status.FAILED, Status.RETRYING)


def run_up(data: Path, *, host: str, port: int, quiet_seconds: float, idle_seconds: float, console: Console) -> None:
    """Run until SIGINT or SIGTERM, telling each stage of each case as it begins and ends."""
    waiting = {"quiet_seconds": quiet_seconds, "idle_seconds": idle_seconds}
    settings = suite_settings(data, dicom={"host": host, "port": port, **waiting})
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    start_logging(settings.telemetry.log_level, data / "vbt.log")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    suite = Suite(settings, log=False)
    suite.start()
    console.print(f"waiting for studies at {host}:{suite.dicom_port}, AE title {settings.dicom.ae_title}")
    console.print(f"state, artifacts, keys and log in {data}; end with Ctrl-C")
    told: set[tuple[str, int, str, Status]] = set()
    while not stop.wait(0.5):
        _tell(suite.runtime.engine, told, console)
    console.print("finishing what is in hand …")
    suite.stop()


def _tell(engine: sa.Engine, told: set[tuple[str, int, str, Status]], console: Console) -> None:
    with reading(engine) as connection:
        recent = cases.list_cases(connection, limit=20)
    for case in reversed(recent):
        for stage in case.stages:
            news = (case.case_id, case.revision, stage.stage, stage.status)
            if stage.status in _NEWS and news not in told:
                told.add(news)
                console.print(
                    f"{case.case_id}  {TITLES.get(stage.stage, stage.stage)}: {stage.status.value}  {outcome(stage)}",
                    markup=False,
                )
