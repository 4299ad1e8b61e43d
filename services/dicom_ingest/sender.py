"""Sends files to a DICOM node as a modality or PACS would: C-STORE, one association per try."""

from __future__ import annotations

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import PresentationContext, build_context

from vbt.errors import NotYet
from vbt.platform.dicom_association import associate

_CONTEXTS_PER_ASSOCIATION = 128  # PS3.8 §9.3.2.2: odd identifiers 1 to 255
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_OUT_OF_RESOURCES = 0xA7
_PAUSE_BEFORE_RETRY = 2.0  # s

Progress = Callable[[str, float], None]


@dataclass
class SendReport:
    """What became of the files: `failed` were refused or not answered, `skipped` are no DICOM images."""

    sent: int = 0
    failed: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True)
class _Outgoing:
    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


def send_study(
    paths: Iterable[Path | str],
    host: str,
    port: int,
    *,
    called_ae_title: str = "VBT",
    calling_ae_title: str = "VBT-SEND",
    progress: Progress | None = None,
    tries: int = 3,
) -> SendReport:
    """Send files and folders (searched to any depth) over C-STORE; what failed is sent again in a new association.

    Raises
    ------
    NotYet : `receiver-unreachable` or `association-rejected` when no association could be made in any try
    """
    report = SendReport()
    waiting = list(_outgoing(paths, report))
    total = max(len(waiting), 1)
    # A path is then sent as the file's own bytes, not decoded and encoded again.
    _config.STORE_SEND_CHUNKED_DATASET = True
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

    def sent_one() -> None:
        report.sent += 1
        if progress and (report.sent % 20 == 0 or report.sent == total):
            progress("sending images", report.sent / total)

    for attempt in range(tries):
        if attempt and waiting:
            time.sleep(_PAUSE_BEFORE_RETRY)
        failed: list[_Outgoing] = []
        for batch in _batches(waiting):
            failed += _send_batch(batch, (host, port), (calling_ae_title, called_ae_title), report, sent_one)
        waiting = failed
        if not waiting:
            break
    report.failed += [file.path for file in waiting]
    if waiting and report.sent == 0 and not report.statuses:
        raise _unreachable(host, port)
    return report


def _outgoing(paths: Iterable[Path | str], report: SendReport) -> Iterator[_Outgoing]:
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file():
                continue
            found = _read_head(file)
            if found is None:
                report.skipped.append(file)
            else:
                yield found


def _read_head(path: Path) -> _Outgoing | None:
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    try:
        meta = read_file_meta_info(path)
        found = _Outgoing(path, str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
    except (AttributeError, ValueError, EOFError, NotImplementedError):
        return None
    return None if found.sop_class_uid == _MEDIA_STORAGE_DIRECTORY else found


def _batches(files: list[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """Files grouped so that each group needs no more presentation contexts than an association has."""
    by_context: dict[tuple[str, str], list[_Outgoing]] = defaultdict(list)
    for file in files:
        by_context[file.sop_class_uid, file.transfer_syntax_uid].append(file)
    contexts = list(by_context)
    for start in range(0, len(contexts), _CONTEXTS_PER_ASSOCIATION):
        chosen = set(contexts[start : start + _CONTEXTS_PER_ASSOCIATION])
        yield [file for file in files if (file.sop_class_uid, file.transfer_syntax_uid) in chosen]


def _send_batch(
    files: list[_Outgoing],
    address: tuple[str, int],
    ae_titles: tuple[str, str],
    report: SendReport,
    sent_one: Callable[[], None],
) -> list[_Outgoing]:
    """The files to send again: not answered, or refused for want of resources. Other refusals are final."""
    entity = AE(ae_titles[0])
    entity.requested_contexts = _contexts(files)
    handlers = [(evt.EVT_CONN_OPEN, _without_delay)]
    association = associate(entity, address, ae_title=ae_titles[1], evt_handlers=handlers)
    if not association.is_established:
        return files
    failed = []
    for file in files:
        status = _store(association, file)
        if status is not None:
            report.statuses[status] += 1
        if status is not None and (status == 0 or status >> 12 == 0xB):
            sent_one()
        elif status is None or status >> 8 == _OUT_OF_RESOURCES:
            failed.append(file)
        else:
            report.failed.append(file.path)
    if association.is_established:
        association.release()
    return failed


def _store(association: Any, file: _Outgoing) -> int | None:
    """The peer's status; None where the object could not be sent or was not answered."""
    if not association.is_established:
        return None
    try:
        answer = association.send_c_store(file.path)
    except (ValueError, RuntimeError, OSError, AttributeError):
        # No accepted context for this object, or a file that broke off: others can still go.
        return None
    status = answer.get("Status")
    return None if status is None else int(status)


def _contexts(files: list[_Outgoing]) -> list[PresentationContext]:
    pairs = dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in files)
    return [build_context(sop_class, [UID(syntax)]) for sop_class, syntax in pairs]


def _without_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _unreachable(host: str, port: int) -> NotYet:
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError:
        return NotYet(
            "receiver-unreachable",
            rule="the DICOM node must accept connections",
            got="no connection",
            action="check host and port, and that the node is up",
        )
    return NotYet(
        "association-rejected",
        rule="the DICOM node must accept the association",
        got="a rejection or no common presentation context",
        action="check the AE titles and what the node stores",
    )
