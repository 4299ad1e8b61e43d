"""`kill -9` in the middle of anything, a new start, and the case ends with the very numbers of an undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAGES = ("dicom_ingest", "connectome_builder", "twin_inference", "brain_simulator")


def test_five_kills_change_nothing(vbt: Any, vbt_at: Callable[[Path], Any], demo: tuple[Path, dict[str, Any]]) -> None:
    out, printed = demo
    # Another number of BLAS threads than the undisturbed run had: that must not change a bit either.
    vbt.environment["OMP_NUM_THREADS"] = "1"
    vbt.up()
    _kill_while_receiving(vbt, out / "patient")
    vbt.up()
    sent = vbt.send(out / "patient")
    assert sent["failed"] == 0
    for stage in STAGES:
        vbt.wait(lambda stage=stage: vbt.stage(stage) in ("running", "done"), f"{stage} did not begin")
        assert vbt.stage(stage) == "running", f"{stage} was over before it could be killed"
        time.sleep(1.0)
        vbt.kill()
        vbt.up()
    vbt.wait(lambda: vbt.stage("report_writer") == "done", "the case did not come to its end")
    assert vbt.stop() == 0
    assert len(vbt.cases()) == 1
    assert vbt.cases()[0]["status"] == "done"
    undisturbed = vbt_at(out / "data")
    assert _findings(vbt, vbt.cases()[0]["case_id"]) == _findings(undisturbed, printed["case"]["case_id"])
    assert vbt.run("ledger", "verify").returncode == 0
    _each_step_took_effect_once(vbt)


def _kill_while_receiving(vbt: Any, patient: Path) -> None:
    sender = subprocess.Popen(
        [sys.executable, "-m", "standalone", "send", str(patient), "--to", f"127.0.0.1:{vbt.ports['dicom']}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    spool = vbt.data / "spool"
    vbt.wait(lambda: any(spool.glob("[0-9a-f][0-9a-f]/*.dcm")), "nothing was received")
    vbt.kill()
    sender.kill()
    sender.wait()


def _findings(vbt: Any, case_id: str) -> Any:
    return json.loads(vbt.run("report", "show", case_id, "--json").stdout)


def _each_step_took_effect_once(vbt: Any) -> None:
    entries = json.loads(vbt.run("ledger", "show", "--json", "--limit", "10000").stdout)
    actions = [entry["action"] for entry in entries if entry["case_id"]]
    for action in ("study.ingested", "connectome.built", "twin.calibrated", "scenarios.simulated", "report.delivered"):
        assert actions.count(action) == 1, action
