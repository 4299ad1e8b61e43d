"""What is attached starts the case's next revision, once, behind the consent gate, and goes with the case."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mne
import nibabel as nib
import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from dicom_ingest.intake import Intake
from standalone.cli import app
from standalone.suite import suite_settings
from vbt.api.event.v1 import event_pb2
from vbt.electrophysiology import SensorRecording
from vbt.platform import cases, stages, state, wire
from vbt.platform.cases import Case, Status
from vbt.platform.events import RECORDING_ATTACHED, Event, Message
from vbt.platform.policy import record_consent
from vbt.platform.runtime import open_objects
from vbt.platform.software import this_software
from vbt.platform.state import open_state, reading

RATE = 256.0
runner = CliRunner()


class Site:
    """A site's directory with one case whose images were read."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.settings = suite_settings(data)
        self.engine = open_state(self.settings.state_url)
        self.objects = open_objects(self.settings)
        self.files = data.parent / "files"
        self.files.mkdir()
        with self.engine.begin() as connection:
            case = cases.create_case(connection, study_key="study", protocol="resting_state", status=Status.DONE)
            self.case_id = case.case_id
            study = event_pb2.StudyIngested(case_id=case.case_id, revision=1, protocol="resting_state")
            study.t1.CopyFrom(wire.to_wire(self.objects.put(b"t1", "x", "t1.nii.gz")))
            result = base64.b64encode(study.SerializeToString()).decode()
            stages.finish(connection, case.case_id, 1, "receive", Status.DONE, detail={"instances": 1})
            stages.finish(connection, case.case_id, 1, "dicom_ingest", Status.DONE, detail={"result": result})
            row = {"sop_key": "1", "study_key": "study", "series_key": "s", "sha256": "0", "path": "/nowhere"}
            connection.execute(sa.insert(state.instance).values(**row, received_at=0.0, association="a"))

    def seeg(self, seed: int = 0) -> list[str]:
        """Options that attach a seizure of two electrodes."""
        names = [f"{shaft}{n}" for shaft in "AB" for n in range(1, 6)]
        info = mne.create_info(names, RATE, "seeg")
        info["subject_info"] = {"last_name": "MUSTERMANN"}
        path = self.files / f"sub-MUSTERMANN{seed}_ieeg.edf"
        signals = np.random.default_rng(seed).normal(0.0, 5e-5, (10, int(40 * RATE)))
        signals[3] = 0.0
        mne.export.export_raw(path, mne.io.RawArray(signals, info, verbose="ERROR"), overwrite=True, verbose="ERROR")
        electrodes = self.files / "electrodes.tsv"
        rows = [f"{name}\t{3.5 * n}\t{ord(name[0])}\t0" for n, name in enumerate(names)]
        electrodes.write_text("name\tx\ty\tz\n" + "\n".join(rows))
        return ["--seeg", str(path), "--electrodes", str(electrodes)]

    def lesions(self) -> list[str]:
        image = nib.Nifti1Image(np.pad(np.ones((3, 3, 3), dtype=np.uint8), 4), np.diag([2.0, 2.0, 2.0, 1.0]))
        image.header["descrip"] = b"MUSTERMANN"
        path = self.files / "lesions.nii.gz"
        nib.save(image, path)
        return ["--lesions", str(path)]

    def run(self, *arguments: str, expect: int = 0) -> Any:
        result = runner.invoke(app, [*arguments, "--data", str(self.data)])
        code = 0 if result.exception is None else getattr(result.exception, "code", result.exit_code)
        assert code == expect, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    def refused(self, *arguments: str) -> str:
        result = runner.invoke(app, ["attach", self.case_id, *arguments, "--data", str(self.data)])
        return str(getattr(result.exception, "code", result.exception))

    def case(self) -> Case:
        with reading(self.engine) as connection:
            return cases.read_case(connection, self.case_id)

    def rows(self, table: sa.Table) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(sa.select(table)).all())

    def events(self) -> list[event_pb2.RecordingAttached]:
        sent = [
            Event.parse(Message(topic=row.topic, key=row.key, headers=json.loads(row.headers), value=row.value))
            for row in self.rows(state.outbox)
            if row.topic == RECORDING_ATTACHED
        ]
        return [wire.decode(event, event_pb2.RecordingAttached) for event in sent]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.engine.dispose()


def test_attaching_starts_the_next_revision_of_another_twin(site: Site) -> None:
    told = site.run("attach", site.case_id[:6], *site.seeg())
    assert "9 usable channels over 40 s" in told
    assert "A4" in told
    assert "vbt up" in told
    case = site.case()
    assert (case.revision, case.protocol, case.status) == (2, "epilepsy", Status.RUNNING)
    (sent,) = site.events()
    assert (sent.revision, sent.protocol, sent.consent_basis) == (2, "epilepsy", "site-default")
    (recording,) = sent.recordings
    kept = SensorRecording.from_npz(site.objects.get(wire.from_wire(recording.content)))
    assert (kept.kind, len(kept.channel_labels)) == ("seeg", 10)
    entry = json.loads(site.rows(state.audit_outbox)[-1].entry)
    assert entry["action"] == "recording.attached"
    assert entry["outputs"] == [{"name": "seeg.npz", "sha256": recording.content.sha256}]
    assert entry["consent"] == {"decision": "permit", "basis": "site-default"}


def test_nothing_of_the_files_names_anyone(site: Site) -> None:
    site.run("attach", site.case_id, *site.seeg(), *site.lesions())
    everything = b"".join(path.read_bytes() for path in site.data.rglob("*") if path.is_file())
    assert b"MUSTERMANN" not in everything


def test_the_same_attachment_again_changes_nothing(site: Site) -> None:
    site.run("attach", site.case_id, *site.seeg())
    again = site.run("attach", site.case_id, *site.seeg(), "--json")
    assert (again["changed"], again["revision"]) == (False, 2)
    assert len(site.events()) == 1
    other = site.run("attach", site.case_id, *site.seeg(seed=1), "--json")
    assert (other["changed"], other["revision"]) == (True, 3)
    assert len(site.rows(state.recording)) == 1


def test_each_revision_carries_everything_attached_so_far(site: Site) -> None:
    site.run("attach", site.case_id, *site.lesions())
    assert site.case().protocol == "multiple_sclerosis"
    site.run("attach", site.case_id, *site.seeg(), "--resection", "lh.insula, lh.bankssts")
    kinds = [recording.kind for recording in site.events()[-1].recordings]
    assert kinds == [
        event_pb2.RECORDING_KIND_SEEG,
        event_pb2.RECORDING_KIND_LESIONS,
        event_pb2.RECORDING_KIND_RESECTION,
    ]
    study = wire.result(site.case(), "dicom_ingest", event_pb2.StudyIngested)
    assert study is not None
    assert (study.revision, study.protocol) == (3, "epilepsy")
    assert [recording.kind for recording in study.recordings] == kinds
    plan = site.events()[-1].recordings[-1].content
    assert json.loads(site.objects.get(wire.from_wire(plan))) == ["lh.bankssts", "lh.insula"]


def test_a_restart_takes_an_attachment_for_no_late_image(site: Site) -> None:
    site.run("attach", site.case_id, *site.lesions())
    intake = Intake(
        site.engine, this_software("dicom_ingest"), protocol="resting_state", quiet_seconds=0, idle_seconds=0
    )
    intake.close_quiet_studies()
    assert site.case().revision == 2


@pytest.mark.parametrize("status", ["withdrawn", "cancelled", "erased", "unread", "unreadable", "alone"])
def test_a_case_that_may_not_go_on_takes_no_recording(site: Site, status: str) -> None:
    with site.engine.begin() as connection:
        changes: dict[str, dict[str, object]] = {
            "cancelled": {"cancel_requested_at": 1.0},
            "erased": {"status": Status.ERASED},
            "unread": {"status": Status.RUNNING, "revision": 2},
            "unreadable": {"status": Status.STOPPED, "revision": 2},
            "alone": {"study_key": "request:1"},
        }
        if status == "withdrawn":
            record_consent(connection, status="deny", reference="B-12/2026", study_key="study")
        else:
            connection.execute(sa.update(state.case).values(**changes[status]))
    codes = {
        "withdrawn": "consent-withdrawn",
        "cancelled": "case-cancelled",
        "erased": "case-erased",
        "unread": "study-not-read",
        "unreadable": "case-without-study",
        "alone": "case-without-study",
    }
    stored = {path.name for path in (site.data / "objects").iterdir()}
    assert site.refused(*site.lesions()) == codes[status]
    assert site.rows(state.recording) == site.events() == site.rows(state.audit_outbox) == []
    assert {path.name for path in (site.data / "objects").iterdir()} == stored


def test_what_cannot_be_used_is_refused_at_the_terminal(site: Site) -> None:
    broken = site.files / "broken.edf"
    broken.write_bytes(b"no recording")
    options = site.seeg()
    assert site.refused(*options[:2]) == "electrodes-missing"
    assert site.refused("--seeg", str(broken), *options[2:]) == "recording-format-unknown"
    assert site.refused("--lesions", str(broken)) == "lesion-mask-unreadable"
    assert site.refused("--resection", "lh.insula,Frau Mustermann") == "resection-malformed"
    assert site.refused(*options, "--application", "astrology") == "protocol-unknown"
    assert site.case().revision == 1


def test_an_erasure_destroys_what_was_attached(site: Site) -> None:
    site.run("attach", site.case_id, *site.seeg(), *site.lesions())
    digests = [row.sha256 for row in site.rows(state.recording)]
    assert all((site.data / "objects" / digest).exists() for digest in digests)
    with site.engine.begin() as connection:
        cases.set_status(connection, site.case_id, Status.DONE)
    site.settings.spool_directory.mkdir(exist_ok=True)
    (erased,) = site.run("erase", site.case_id, "--yes", "--json")
    assert erased["artifacts"] == 2
    assert site.rows(state.recording) == []
    assert not any((site.data / "objects" / digest).exists() for digest in digests)
