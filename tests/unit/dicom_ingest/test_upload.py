"""A call's files are bounded in number and bytes, and nothing of them outlives the call or the service."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_ingest import recordings
from dicom_ingest.upload import Uploads
from vbt.api.dicom.v1 import dicom_pb2 as api
from vbt.errors import Rejected


def _piece(name: str, chunk: bytes = b"x", use: api.FileUse = api.FILE_USE_BESIDE) -> api.AttachRecordingsRequest:
    return api.AttachRecordingsRequest(use=use, name=name, chunk=chunk)


def _first() -> api.AttachRecordingsRequest:
    return api.AttachRecordingsRequest(case_id="case", region_labels=["lh.insula"])


def test_sixteen_files_are_taken_and_a_seventeenth_is_refused(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    pieces = [_piece(f"{n}.tsv") for n in range(16)]
    _, (plan,) = uploads.receive([_first(), *pieces, *pieces])
    assert plan.kind == "resection"
    with pytest.raises(Rejected) as refused:
        uploads.receive([_first(), *pieces, _piece("16.tsv")])
    assert refused.value.code == "upload-malformed"


@pytest.mark.parametrize("piece", [_piece("a.tsv", b""), api.AttachRecordingsRequest()], ids=["no byte", "no use"])
def test_a_stream_of_nothing_ends_at_its_first_message(tmp_path: Path, piece: api.AttachRecordingsRequest) -> None:
    taken = 0

    def stream() -> Iterator[api.AttachRecordingsRequest]:
        nonlocal taken
        yield _first()
        for _ in range(1000):
            taken += 1
            yield piece

    with pytest.raises(Rejected) as refused:
        Uploads(tmp_path / "uploads").receive(stream())
    assert (refused.value.code, taken) == ("upload-malformed", 1)


def test_files_lie_in_the_folder_of_the_service_and_go_with_the_call(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    uploads = Uploads(folder)
    seen = []

    def stream() -> Iterator[api.AttachRecordingsRequest]:
        yield _first()
        yield _piece("MUSTERMANN.tsv")
        seen.extend(path.name for path in folder.rglob("*.tsv"))
        yield _piece("broken.edf", use=api.FILE_USE_EEG)

    with pytest.raises(Rejected):
        uploads.receive(stream())
    assert seen == ["MUSTERMANN.tsv"]
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o077 == 0


def test_what_a_killed_service_left_is_gone_when_it_starts_again(tmp_path: Path) -> None:
    left = tmp_path / "uploads" / "tmp1" / "MUSTERMANN.edf"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    Uploads(tmp_path / "uploads")
    assert list((tmp_path / "uploads").iterdir()) == []


def test_calls_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads, now, most, counting = Uploads(tmp_path / "uploads"), 0, 0, threading.Lock()

    def read(files: recordings.Files) -> Iterator[recordings.Content]:
        nonlocal now, most
        with counting:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with counting:
            now -= 1
        yield recordings.resection(files.resection)

    monkeypatch.setattr(recordings, "read", read)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: uploads.receive([_first()]), range(8)))) == 8
    assert most == 1
