"""Files of recordings that come over gRPC: kept in a folder of their own while they are read, and then gone."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vbt.api.dicom.v1 import dicom_pb2 as api
from vbt.api.event.v1 import event_pb2
from vbt.errors import Rejected

if TYPE_CHECKING:
    from dicom_ingest.recordings import Content  # what reads files takes seconds to load

_MOST_BYTES = 64 << 20  # as float64 and with their checks, what a service of one GiB can hold
_MOST_FILES = 16  # three recordings in three files each, and the tables beside them
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PROTOCOL = re.compile(r"[a-z][a-z_]{0,31}|")
_FIELDS = {
    api.FILE_USE_SEEG: "seeg",
    api.FILE_USE_EEG: "eeg",
    api.FILE_USE_MEG: "meg",
    api.FILE_USE_ELECTRODES: "electrodes",
    api.FILE_USE_LESIONS: "lesions",
}


class Uploads:
    """Takes calls in; their files lie in a folder that is the service's own, and are read one call at a time.

    Parameters
    ----------
    directory : emptied first, for a service that was killed left files there that identify their patient
    """

    def __init__(self, directory: Path) -> None:
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700, parents=True)
        self._directory = directory
        self._reading = threading.Lock()  # reading takes many times the memory of a file

    def receive(
        self, requests: Iterable[api.AttachRecordingsRequest]
    ) -> tuple[api.AttachRecordingsRequest, list[Content]]:
        """The first message, and the contents of all files.

        Raises
        ------
        Rejected
            ``upload-malformed``, ``upload-too-large``, or as `dicom_ingest.recordings.read`
        """
        from dicom_ingest.recordings import Files, read

        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            asked, named = _written(requests, Path(directory))
            with self._reading:
                contents = list(read(Files(**named, resection=tuple(asked.region_labels))))
        if not contents:
            raise _malformed("nothing to attach")
        return asked, contents


def failed_checks(contents: Iterable[Content]) -> Iterator[event_pb2.Check]:
    """The checks that did not pass, with the channels in their labels."""
    for content in contents:
        for check in content.checks:
            if not check.passed:
                label = f"{check.label}, left out: {', '.join(check.channels)}"
                yield event_pb2.Check(
                    code=f"{content.kind}-{check.code}", label=label, value=check.value, limit=check.limit, passed=False
                )


def _written(
    requests: Iterable[api.AttachRecordingsRequest], directory: Path
) -> tuple[api.AttachRecordingsRequest, dict[str, Path]]:
    asked: api.AttachRecordingsRequest | None = None
    names: set[str] = set()
    named: dict[str, Path] = {}
    left = _MOST_BYTES
    for request in requests:
        if asked is None:
            asked = request
            if not _PROTOCOL.fullmatch(request.protocol):
                raise _malformed("a protocol that is no name of a twin")
            if request.use == api.FILE_USE_UNSPECIFIED:
                continue
        _require_piece(request)
        names.add(request.name)
        if len(names) > _MOST_FILES:
            raise _malformed(f"more than {_MOST_FILES} files")
        path = directory / request.name
        field = _FIELDS.get(request.use)
        if field is not None and named.setdefault(field, path) != path:
            raise _malformed("two files for one use")
        left -= len(request.chunk)
        if left < 0:
            raise Rejected(
                "upload-too-large",
                rule=f"files of one call have {_MOST_BYTES} bytes at most in all",
                got="more",
                action="cut the recording to some minutes around what matters, or use `vbt attach`",
            )
        with path.open("ab") as file:
            file.write(request.chunk)
    if asked is None:
        raise _malformed("no message")
    return asked, named


def _require_piece(request: api.AttachRecordingsRequest) -> None:
    """Each piece has a use and a byte at least: what has none would count against no bound."""
    if request.use == api.FILE_USE_UNSPECIFIED:
        raise _malformed("a file without a use")
    if not _NAME.fullmatch(request.name):
        raise _malformed("a file name of other characters than letters, digits, '.', '_' and '-'")
    if not request.chunk:
        raise _malformed("an empty piece")


def _malformed(got: str) -> Rejected:
    return Rejected(
        "upload-malformed",
        rule="a call names the case first and then sends each file in pieces under its name and use",
        got=got,
        action="correct the caller",
    )
