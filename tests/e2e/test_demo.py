"""One command takes a DICOM study in at one end and leaves report, pictures and verified ledger at the other."""

from __future__ import annotations

import base64
import itertools
import json
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vbt.fhir import from_json, validate
from vbt.synthetic import CANARIES

Demo = tuple[Path, dict[str, Any]]


def test_every_stage_came_to_its_end(demo: Demo) -> None:
    _, printed = demo
    stages = {stage["stage"]: stage for stage in printed["case"]["stages"]}
    assert list(stages) == [
        "receive", "dicom_ingest", "connectome_builder", "twin_inference", "brain_simulator", "report_writer",
    ]  # fmt: skip
    assert {stage["status"] for stage in stages.values()} == {"done"}
    assert all(stage["seconds"] > 0 for stage in stages.values())


def test_report_is_a_valid_bundle_a_pdf_and_pictures(demo: Demo) -> None:
    out, _ = demo
    bundle = from_json((out / "report/bundle.json").read_bytes())
    assert validate(bundle) == []
    kinds = {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert {"DiagnosticReport", "Observation", "DocumentReference", "Provenance", "Device", "ImagingStudy"} <= kinds
    report = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    assert report["status"] == "preliminary"
    pdf = (out / "report/report.pdf").read_bytes()
    assert base64.b64decode(report["presentedForm"][0]["data"]) == pdf
    assert pdf.startswith(b"%PDF-")
    assert {"connectome.png"} <= {path.name for path in (out / "report").glob("*.png")}


def test_a_stranger_verifies_the_ledger(demo: Demo) -> None:
    out, _ = demo
    program = Path(sys.executable).parent / "vbt-verify"
    result = subprocess.run([program, out / "ledger/bundle.zip", "--json"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert json.loads(result.stdout)["verdict"] == "verified"


def test_the_delivered_report_is_the_one_in_the_ledger(demo: Demo) -> None:
    out, _ = demo
    program = Path(sys.executable).parent / "vbt-verify"
    bundle, report = out / "ledger/bundle.zip", out / "report/report.pdf"
    assert subprocess.run([program, bundle, "--report", report], capture_output=True, check=False).returncode == 0
    forged = out.parent / "forged.pdf"
    forged.write_bytes(report.read_bytes() + b"\n")
    assert subprocess.run([program, bundle, "--report", forged], capture_output=True, check=False).returncode != 0


def test_every_stage_left_an_entry_under_the_trace_of_the_case(demo: Demo) -> None:
    out, printed = demo
    with zipfile.ZipFile(out / "ledger/bundle.zip") as bundle:
        entries = [json.loads(line) for line in bundle.read("entries.jsonl").splitlines()]
    mine = [entry for entry in entries if entry["case_id"] == printed["case"]["case_id"]]
    actions = [entry["action"] for entry in mine]
    assert actions == [
        "study.received", "study.ingested", "connectome.built", "twin.calibrated", "scenarios.simulated",
        "identity.opened", "report.delivered",
    ]  # fmt: skip
    assert len({entry["trace_id"] for entry in mine}) == 1
    for before, after in itertools.pairwise(mine[2:5]):
        assert {o["sha256"] for o in before["outputs"]} & {i["sha256"] for i in after["inputs"]}


def test_one_trace_runs_from_the_association_to_the_report(demo: Demo) -> None:
    out, _ = demo
    spans = [json.loads(line) for line in (out.parent / "spans.jsonl").read_text().splitlines()]
    by_id = {span["context"]["span_id"]: span for span in spans}
    report = next(span for span in spans if span["name"] == "process vbt.simulation.scenarios-simulated.v1")
    names = []
    while report is not None:
        names.append(report["name"])
        report = by_id.get(report["parent_id"])
    assert names[-2:] == ["receive study", "dicom association"]
    assert len(names) >= 6
    (association,) = (span for span in spans if span["name"] == "dicom association")
    assert association["context"]["trace_id"] == f"0x{_trace_of_the_case(demo)}"
    assert association["start_time"] < association["end_time"] < by_name(spans, "receive study")["end_time"]


def by_name(spans: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = (span for span in spans if span["name"] == name)
    return found


def _trace_of_the_case(demo: Demo) -> str:
    out, printed = demo
    with zipfile.ZipFile(out / "ledger/bundle.zip") as bundle:
        entries = [json.loads(line) for line in bundle.read("entries.jsonl").splitlines()]
    (trace_id,) = {entry["trace_id"] for entry in entries if entry["case_id"] == printed["case"]["case_id"]}
    return str(trace_id)


def test_no_identifying_value_leaves_the_vault_but_in_the_report(demo: Demo) -> None:
    out, _ = demo
    values = {value for _, value in CANARIES if len(str(value)) >= 5}
    needles = {str(value).encode() for value in values}
    leaks = {
        (place, needle) for place, content in _everything_but_the_report(out) for needle in needles if needle in content
    }
    assert not leaks


def test_the_scanner_sees_a_leak(tmp_path: Path) -> None:
    value = next(str(value) for _, value in CANARIES if len(str(value)) >= 5)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/vbt.log").write_text(json.dumps({"event": value}))
    assert any(value.encode() in content for _, content in _everything_but_the_report(tmp_path))


def test_truth_was_kept_and_recovery_scored(demo: Demo) -> None:
    out, printed = demo
    scores = json.loads((out / "truth/recovery.json").read_text())
    assert printed["recovery"] == scores
    assert scores["true_edges"] > 0
    assert 0.0 <= scores["recall"] <= 1.0


def _everything_but_the_report(out: Path) -> Iterator[tuple[str, bytes]]:
    """Logs, spans, database rows, artifacts and file names; not the spool, the vault's bytes and the report itself."""
    reports = {path.read_bytes() for path in (out / "report").glob("*") if path.suffix in (".pdf", ".json")}
    for path in sorted((out / "data").rglob("*")):
        yield "file name", str(path.relative_to(out)).encode()
        if path.is_file() and "spool" not in path.parts and path.suffix != ".db" and path.read_bytes() not in reports:
            yield str(path.relative_to(out)), path.read_bytes()
    spans = out.parent / "spans.jsonl"
    if spans.exists():
        yield "spans", spans.read_bytes()
    database = out / "data/vbt.db"
    if database.exists():
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    yield table, b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)


@pytest.mark.parametrize("text", ["vbt demo", "pip install -e '.[dev]' && pytest"])
def test_readme_shows_the_commands(text: str) -> None:
    assert re.search(re.escape(text), (Path(__file__).resolve().parents[2] / "README.md").read_text())
