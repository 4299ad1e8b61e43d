"""What is no DICOM image comes to a case, and its second revision is a report of the application it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vbt.clinical.applications import NAMES
from vbt.fhir import from_json, validate

Demo = tuple[Path, dict[str, Any]]


# A seizure seen by some eighty sensors takes many minutes to invert.
_APPLICATIONS = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "epilepsy" else [])
    for name in NAMES
    if name != "resting_state"
]


@pytest.fixture(scope="module", params=_APPLICATIONS)
def attached(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The folder that the demo of an application wrote, and what it printed."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    result = subprocess.run(
        [
            sys.executable, "-m", "standalone", "demo", "--small", "--application", request.param,
            "--out", str(out), "--json",
        ],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("VBT_")},
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:] + result.stdout[-4000:]
    return out, json.loads(result.stdout)


def test_the_second_revision_is_the_application_s_and_is_reported(attached: Demo) -> None:
    out, printed = attached
    case = printed["case"]
    assert case["revision"] == 2
    assert case["protocol"] in NAMES[1:]
    assert {stage["status"] for stage in case["stages"]} == {"done"}
    bundle = from_json((out / "report/bundle.json").read_bytes())
    assert validate(bundle) == []
    assert (out / "report/report.pdf").read_bytes().startswith(b"%PDF-")


def test_its_gate_stands_in_the_case_and_an_unsound_twin_gives_no_number(attached: Demo) -> None:
    out, printed = attached
    stage = next(stage for stage in printed["case"]["stages"] if stage["stage"] == "twin_inference")
    assert {"r-hat", "ess", "least-shrinkage"} <= set(stage["detail"]["gate"])
    sound = stage["detail"]["verdict"] == "sound"
    bundle = from_json((out / "report/bundle.json").read_bytes())
    found = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"]
    assert sound == any("valueQuantity" in resource for resource in found)
    assert sound == (out / "report/posterior.nc").exists()


def test_the_ledger_proves_attachment_and_report(attached: Demo) -> None:
    out, printed = attached
    program = Path(sys.executable).parent / "vbt-verify"
    command = [program, out / "ledger/bundle.zip", "--report", out / "report/report.pdf", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert printed["recovery"][printed["case"]["protocol"]]["verdict"] in ("sound", "unsound")
