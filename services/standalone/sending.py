"""`vbt send`: what a PACS does, with a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dicom_ingest.sender import send_study
from standalone.progress import stage_bars


@dataclass(frozen=True)
class Sent:
    """How many files the receiver stored, refused, and how many were no DICOM images."""

    stored: int
    failed: int
    unreadable: int


def send_with_bar(paths: Sequence[Path], host: str, port: int, *, called: str, calling: str, console: Console) -> Sent:
    """Send files and folders over C-STORE.

    Raises
    ------
    NotYet : no association could be made
    """
    with stage_bars(console) as bars:
        task = bars.add_task("sending", total=1.0, says="")
        report = send_study(
            paths,
            host,
            port,
            called_ae_title=called,
            calling_ae_title=calling,
            progress=lambda message, fraction: bars.update(task, completed=fraction, says=message),
        )
        bars.update(task, completed=1.0, says=f"{report.sent} images")
    return Sent(stored=report.sent, failed=len(report.failed), unreadable=len(report.skipped))
