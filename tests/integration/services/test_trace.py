"""One trace per case from the DICOM association on, also when the process dies before the study is closed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from vbt.platform import state
from vbt.platform.state import open_state, reading

MR = "1.2.840.10008.5.1.4.1.1.4"
STUDY = "1.2.826.0.1.3680043.9.4711"
Span = dict[str, Any]


@dataclass
class Ingest:
    """The ingest service in a process of its own."""

    data: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    seen: list[Span] = field(default_factory=list)

    def start(self, quiet_seconds: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VBT_")} | {
            "VBT_DATA": str(self.data),
            "VBT_DICOM__PORT": str(self.port),
            "VBT_DICOM__QUIET_SECONDS": str(quiet_seconds),
            "VBT_DICOM__MINIMUM_FREE_BYTES": "0",
            "VBT_TELEMETRY__SPANS_PATH": str(self.data / "spans.jsonl"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dicom_ingest"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait(self._listens, "the port did not open")

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=60)

    def spans(self, name: str) -> list[Span]:
        path = self.data / "spans.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [span for span in map(json.loads, lines) if span["name"] == name]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    service = Ingest(tmp_path)
    yield service
    if service.process is not None and service.process.poll() is None:
        service.end(signal.SIGKILL)


def test_the_trace_of_a_case_begins_with_its_association_also_after_a_kill(ingest: Ingest) -> None:
    ingest.start(quiet_seconds=3600.0)
    send(ingest.port, 1, 2)
    wait(lambda: len(ingest.spans("dicom association")) == 1, "the association left no span")
    ingest.end(signal.SIGKILL)
    assert ingest.spans("receive study") == []

    ingest.start(quiet_seconds=0.3)
    wait(lambda: len(ingest.spans("process vbt.dicom.study-received.v1")) == 1, "the study was not closed")
    (association,), (study,) = ingest.spans("dicom association"), ingest.spans("receive study")
    (next_step,) = ingest.spans("process vbt.dicom.study-received.v1")
    assert association["parent_id"] is None
    assert association["attributes"]["vbt.instances"] == 2
    assert study["parent_id"] == association["context"]["span_id"]
    assert next_step["parent_id"] == study["context"]["span_id"]
    assert {span["context"]["trace_id"] for span in (association, study, next_step)} == {
        f"0x{trace_id}" for trace_id in trace_ids(ingest.data)
    }
    # It began with the first image, in the process that was killed.
    assert association["start_time"] < study["start_time"] < association["end_time"] < study["end_time"]

    send(ingest.port, 3)
    wait(lambda: len(ingest.spans("receive study")) == 2, "the late image made no revision")
    late = ingest.spans("receive study")[1]
    assert late["parent_id"] == ingest.spans("dicom association")[1]["context"]["span_id"]
    assert [link["context"]["span_id"] for link in late["links"]] == [study["context"]["span_id"]]


def test_a_second_association_joins_the_trace_of_the_study_by_a_link(ingest: Ingest) -> None:
    ingest.start(quiet_seconds=2.0)
    send(ingest.port, 1)
    send(ingest.port, 2)
    wait(lambda: len(ingest.spans("receive study")) == 1, "the study was not closed")
    (study,) = ingest.spans("receive study")
    first, second = ingest.spans("dicom association")
    assert study["parent_id"] == first["context"]["span_id"]
    assert [link["context"]["span_id"] for link in study["links"]] == [second["context"]["span_id"]]


def test_an_image_that_reached_the_disk_but_not_the_database_is_taken_up_at_start(ingest: Ingest) -> None:
    ingest.start(quiet_seconds=3600.0)
    send(ingest.port, 1, 2)
    ingest.end(signal.SIGKILL)
    engine = open_state(f"sqlite:///{ingest.data / 'vbt.db'}")
    with engine.begin() as connection:
        one = sa.select(state.instance.c.sop_key).limit(1).scalar_subquery()
        connection.execute(sa.delete(state.instance).where(state.instance.c.sop_key == one))
    ingest.start(quiet_seconds=3600.0)
    with reading(engine) as connection:
        kept = connection.execute(sa.select(state.instance.c.association, state.instance.c.study_key)).all()
    engine.dispose()
    assert len(kept) == 2
    assert len({row.study_key for row in kept}) == 1
    assert "recovered" in {row.association for row in kept}


def test_spans_of_an_association_say_nothing_of_sender_or_study(ingest: Ingest) -> None:
    ingest.start(quiet_seconds=0.3)
    send(ingest.port, 1)
    wait(lambda: len(ingest.spans("receive study")) == 1, "the study was not closed")
    written = (ingest.data / "spans.jsonl").read_text()
    assert STUDY not in written
    assert "STATION-7" not in written


def send(port: int, *numbers: int) -> None:
    entity = AE("STATION-7")
    entity.add_requested_context(MR, [ExplicitVRLittleEndian])
    association = entity.associate("127.0.0.1", port)
    assert association.is_established
    assert [int(association.send_c_store(image(number)).Status) for number in numbers] == [0] * len(numbers)
    association.release()


def image(number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MR, f"{STUDY}.9.{number}"
    made = FileDataset("", Dataset(), preamble=bytes(128), file_meta=meta)
    made.SOPClassUID, made.SOPInstanceUID = MR, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = STUDY, f"{STUDY}.1", "MR"
    made.Rows = made.Columns = 4
    made.BitsAllocated = 16
    made.PixelData = bytes(32)
    return made


def trace_ids(data: Path) -> set[str]:
    """Those of the entries on the trail."""
    engine = open_state(f"sqlite:///{data / 'vbt.db'}")
    try:
        with reading(engine) as connection:
            entries = connection.execute(sa.select(state.audit_outbox.c.entry)).scalars().all()
    finally:
        engine.dispose()
    return {json.loads(entry)["trace_id"] for entry in entries}


def wait(until: Callable[[], bool], otherwise: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
