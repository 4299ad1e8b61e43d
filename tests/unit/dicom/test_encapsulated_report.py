"""The report object is a valid Encapsulated PDF that belongs to its patient and study."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from vbt.dicom import ObjectReference, PatientIdentity, encapsulated_report, patient_identity

IDENTITY = PatientIdentity(
    patient_id="P-1",
    issuer="HOSPITAL",
    name="Müller^Jörg",
    birth_date="19600102",
    sex="M",
    accession_number="A77",
    study_instance_uid="1.2.3.4",
    study_id="S1",
    study_date="20260102",
    study_time="101500",
    referring_physician="House^Gregory",
    specific_character_set="ISO_IR 192",
)
PDF = b"%PDF-1.7\n" + b"odd number of bytes"[:18] + b"\n%%EOF"


def _report(**changes: Any) -> Dataset:
    arguments: dict[str, Any] = {
        "result_id": "case 1 revision 1",
        "title": "Virtual brain twin",
        "created": datetime(2026, 1, 3, 12, 0, 1),
        "sources": [ObjectReference("1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5")],
        "software_version": "0.1.0",
    }
    return encapsulated_report(PDF, IDENTITY, **(arguments | changes))


def _bytes(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    judge = shutil.which("dciodvfy", path=str(Path(sys.executable).parent))
    if judge is None:
        pytest.skip("dicom3tools is not installed")
    (tmp_path / "report.dcm").write_bytes(_bytes(_report()))
    result = subprocess.run([judge, "-new", tmp_path / "report.dcm"], capture_output=True, text=True, check=False)
    assert "EncapsulatedPDF" in result.stderr
    assert not [line for line in result.stderr.splitlines() if line.startswith("Error")]


def test_document_and_identity_come_back(tmp_path: Path) -> None:
    (tmp_path / "report.dcm").write_bytes(_bytes(_report()))
    read = dcmread(tmp_path / "report.dcm")
    assert read.EncapsulatedDocument[: read.EncapsulatedDocumentLength] == PDF
    assert patient_identity(read) == IDENTITY
    assert read.SourceInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"


def test_same_result_gives_same_bytes_and_another_gives_other_uids() -> None:
    assert _bytes(_report()) == _bytes(_report())
    assert _report().SOPInstanceUID != _report(result_id="case 1 revision 2").SOPInstanceUID


def test_identity_is_never_printed() -> None:
    assert "Müller" not in f"{IDENTITY!r} {IDENTITY}"
    assert PatientIdentity.from_dict(IDENTITY.to_dict()) == IDENTITY


def test_something_other_than_pdf_is_a_mistake() -> None:
    with pytest.raises(ValueError):
        encapsulated_report(
            b"hello", IDENTITY, result_id="x", title="t", created=datetime(2026, 1, 1), sources=[], software_version="1"
        )
