"""`vbt demo`: a synthetic patient from its scanner to the verified ledger, in one command."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

import vbt_verify
from audit_ledger.log import AuditLog
from dicom_ingest.sender import send_study
from standalone.ledger import export
from standalone.progress import follow, stage_bars
from standalone.reports import findings_of, findings_table, write_report
from standalone.results import load_calibration, load_connectome
from standalone.show import STAGES, case_json, stage_table
from standalone.suite import Suite, SuiteSettings, suite_settings
from vbt.clinical.applications import application_of
from vbt.errors import NotYet
from vbt.platform import cases
from vbt.platform.cases import Case, Status
from vbt.platform.logs import start_logging
from vbt.platform.state import open_state, reading
from vbt.synthetic import (
    PatientSettings,
    SyntheticPatient,
    Truth,
    make_patient,
    recovery_scores,
    write_dicom,
    write_truth,
)

_MARK = ".vbt-demo"
_QUIET_SECONDS = 3.0
_WAIT_SECONDS = 60.0
_SMALL_DURATION = 120.0
_FROM_IMAGES = "resting_state"  # the application that needs the DICOM study alone


@dataclass(frozen=True)
class _Folders:
    """What the demo writes."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def patient(self) -> Path:
        return self.out / "patient"

    @property
    def recordings(self) -> Path:
        return self.out / "recordings"

    @property
    def report(self) -> Path:
        return self.out / "report"

    @property
    def truth(self) -> Path:
        return self.out / "truth"

    @property
    def ledger(self) -> Path:
        return self.out / "ledger" / "bundle.zip"


def run_demo(
    out: Path, *, seed: int, small: bool, as_json: bool, console: Console, application: str = _FROM_IMAGES
) -> int:
    """Make, send, follow, export and verify; the exit code.

    Parameters
    ----------
    application : which twin; all but the resting one need recordings that are attached once the images have gone
        through the line
    """
    application_of(application)
    folders = _Folders(out)
    if not _cleared(out):
        console.print(f"{out} exists and was not written by `vbt demo`; choose another folder with --out", markup=False)
        return 2
    shown = Console(stderr=True, highlight=False) if as_json else console
    settings = _settings(folders, seed, small=small)
    start_logging(settings.telemetry.log_level, folders.data / "vbt.log")
    with stage_bars(shown) as bars:
        patient = _make(folders, seed, PatientSettings.small() if small else PatientSettings(), bars)
        suite = Suite(settings, log=False)
        suite.start()
        try:
            case = _send_and_follow(suite, folders, bars)
            if case.status is Status.DONE and application != _FROM_IMAGES:
                from standalone.demo_recordings import attach_and_follow  # reading recordings takes long to load

                place = folders.recordings
                case = attach_and_follow(suite, settings, case, application, patient, place, bars, small=small)
            if case.status is Status.DONE:
                _write(suite, settings, folders, case, patient)
            export(settings, folders.ledger, None)
        finally:
            suite.stop()
    return _conclude(settings, folders, case, as_json=as_json, console=console)


def _cleared(out: Path) -> bool:
    """An empty folder to write to; False where somebody else's things are in it."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            return False
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text("written by `vbt demo`, which may delete this folder\n")
    (out / "data").mkdir(mode=0o700)
    return True


def _settings(folders: _Folders, seed: int, *, small: bool) -> SuiteSettings:
    return suite_settings(
        folders.data,
        # Nothing of a hospital that this shell may be set up for: no EHR, no PACS, no database, no bus.
        fhir={"base_url": ""},
        pacs={"host": ""},
        state={"url": ""},
        kafka={"bootstrap_servers": ""},
        objects={"url": ""},
        keys={"directory": None},
        ledger={"witness": None},
        policy={"consent_default": "permit"},
        dicom={"port": 0, "quiet_seconds": _QUIET_SECONDS, "minimum_free_bytes": 0, "spool": None},
        connectome={"rng_seed": seed},
        inference={"rng_seed": seed},
        simulation={"rng_seed": seed, **({"duration_seconds": _SMALL_DURATION} if small else {})},
    )


def _make(folders: _Folders, seed: int, settings: PatientSettings, bars: Progress) -> SyntheticPatient:
    task = bars.add_task("patient", total=1.0, says="")

    def show(message: str, fraction: float) -> None:
        bars.update(task, completed=fraction, says=message)

    patient = make_patient(seed, settings, lambda message, fraction: show(message, 0.8 * fraction))
    files = write_dicom(patient, folders.patient, lambda message, fraction: show(message, 0.8 + 0.2 * fraction))
    write_truth(patient, folders.truth)
    show(f"{len(files)} DICOM files; the truth kept aside", 1.0)
    bars.stop_task(task)
    return patient


def _send_and_follow(suite: Suite, folders: _Folders, bars: Progress) -> Case:
    task = bars.add_task("C-STORE", total=1.0, says="")
    report = send_study(
        [folders.patient],
        "127.0.0.1",
        suite.dicom_port,
        progress=lambda message, fraction: bars.update(task, completed=fraction, says=message),
    )
    bars.update(task, completed=1.0, says=f"{report.sent} images stored, {len(report.failed)} refused")
    bars.stop_task(task)
    return follow(suite.runtime.engine, _first_case(suite), bars.console, bars)


def _first_case(suite: Suite) -> str:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        with reading(suite.runtime.engine) as connection:
            found = cases.list_cases(connection)
        if found:
            return found[0].case_id
        time.sleep(0.1)
    raise NotYet(
        "no-case",
        rule="a study that was sent becomes a case",
        got="none within a minute",
        action="look at data/vbt.log in the demo's folder",
    )


def _write(suite: Suite, settings: SuiteSettings, folders: _Folders, case: Case, patient: SyntheticPatient) -> None:
    with reading(suite.runtime.engine) as connection:
        write_report(connection, settings, case.case_id, folders.report)
    calibration = load_calibration(case, suite.runtime.objects)
    connectome = load_connectome(case, suite.runtime.objects)
    truth = Truth.of(patient)
    resting = case.protocol == _FROM_IMAGES
    draws = {name: calibration.draws[name] for name in truth.parameters} if calibration.sound and resting else None
    scores = recovery_scores(truth, connectome, draws)
    if not resting:
        from standalone.demo_recordings import recording_scores

        scores[case.protocol] = recording_scores(case.protocol, calibration, folders.recordings)
    (folders.truth / "recovery.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n")


def _conclude(settings: SuiteSettings, folders: _Folders, case: Case, *, as_json: bool, console: Console) -> int:
    engine = open_state(settings.state_url)
    try:
        leaves = _leaves(AuditLog(engine), case)
        if as_json:
            console.print_json(data=_document(folders, case, leaves))
        else:
            console.print(stage_table([stage for stage in case.stages if stage.stage in STAGES], leaves))
            if case.status is Status.DONE:
                with reading(engine) as connection:
                    console.print()
                    console.print(findings_table(findings_of(connection, settings, case.case_id)))
            more = ", recordings/" if folders.recordings.exists() else ""
            console.print(
                f"\nwritten to {folders.out}: report/ truth/ ledger/ (and data/, patient/{more})", markup=False
            )
            console.print(f"vbt-verify {folders.ledger}", markup=False)
    finally:
        engine.dispose()
    verified = _verified(folders.ledger, console, as_json=as_json)
    return 0 if case.status is Status.DONE and verified == 0 else 1


def _verified(bundle: Path, console: Console, *, as_json: bool) -> int:
    """The verdict of the stand-alone verifier, its first line shown."""
    result = vbt_verify.Verification(bundle)
    if not as_json:
        console.print(vbt_verify.headline(result), markup=False)
    return {vbt_verify.OK: 0, vbt_verify.FAIL: 1}.get(result.status, 2)


def _leaves(log: AuditLog, case: Case) -> dict[str, int]:
    """For each stage the place of its newest entry in the log."""
    found: dict[str, int] = {}
    for leaf in log.leaves(case_id=case.case_id):
        entry: dict[str, Any] = json.loads(leaf.entry)
        stage = "receive" if entry["action"] == "study.received" else entry["actor"]
        found[stage] = leaf.seq
    return found


def _document(folders: _Folders, case: Case, leaves: dict[str, int]) -> dict[str, Any]:
    recovery = folders.truth / "recovery.json"
    return {
        "out": str(folders.out),
        "case": case_json(case),
        "ledger": leaves,
        "recovery": json.loads(recovery.read_text()) if recovery.exists() else None,
    }
