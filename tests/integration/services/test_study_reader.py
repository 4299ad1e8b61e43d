"""What a study that cannot be read comes to: a refusal that leaves nothing behind, or another try."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from opentelemetry.trace import INVALID_SPAN
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from dicom_ingest.attachment import frame_key
from dicom_ingest.handlers import StudyReader
from dicom_ingest.settings import IngestSettings
from vbt.api.event.v1.event_pb2 import StudyReceived
from vbt.errors import NotYet, Rejected
from vbt.platform import cases, state
from vbt.platform.audit import ConsentDecision
from vbt.platform.events import STUDY_RECEIVED, Event
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.settings import read_settings
from vbt.platform.software import this_software
from vbt.platform.stage_context import Effects, StageContext
from vbt.synthetic import PatientSettings, make_patient, write_dicom

PERMIT = ConsentDecision(decision="permit", basis="site-default")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    runtime = open_runtime("dicom_ingest", read_settings(IngestSettings, data=tmp_path / "data"), log=False)
    yield runtime
    runtime.close()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    small = PatientSettings.small()
    tiny = dataclasses.replace(
        small,
        bundles=4,
        diffusion=dataclasses.replace(small.diffusion, b0_volumes=1, directions=6, encoding="enhanced"),
        functional=dataclasses.replace(small.functional, volumes=20, voxel_mm=12.0, shape=(16, 19, 13)),
    )
    activity = np.random.default_rng(0).standard_normal((tiny.functional.volumes, 83))
    write_dicom(make_patient(0, tiny, regional_bold=activity), tmp_path / "study")
    return tmp_path / "study"


def test_a_study_whose_pixels_cannot_be_decoded_leaves_no_artifact(runtime: Runtime, study: Path) -> None:
    """Its headers are those of a good study, so it is refused only after its identities were removed."""
    for path in study.rglob("*.dcm"):
        image = dcmread(path)
        if "DiffusionBValue" not in image and "PerFrameFunctionalGroupsSequence" not in image:
            image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
            image.PixelData = encapsulate([bytes(64)])
            image["PixelData"].is_undefined_length = True
            image.save_as(path, enforce_file_format=True)
    with pytest.raises(Rejected) as refused:
        read(runtime, study)
    assert refused.value.code == "unreadable-transfer-syntax"
    assert kept_objects(runtime) == []


def test_the_frames_of_reference_of_t1_and_diffusion_are_kept_as_pseudonyms(runtime: Runtime, study: Path) -> None:
    uids = {str(dcmread(path, stop_before_pixels=True).FrameOfReferenceUID) for path in study.rglob("*.dcm")}
    (uid,) = uids  # one session
    frames = read(runtime, study).detail["frames"]
    assert frames == dict.fromkeys(("T1", "diffusion"), frame_key(runtime.keys.pseudonym, uid))
    assert uid not in str(frames)


def test_a_spool_that_is_out_of_reach_refuses_no_study(runtime: Runtime, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "1.dcm").touch()
    with pytest.raises(NotYet) as later:
        read(runtime, folder, gone=True)
    assert later.value.code == "spool-unreachable"


def read(runtime: Runtime, study: Path, *, gone: bool = False) -> Effects:
    with runtime.engine.begin() as connection:
        case = cases.create_case(connection, study_key="study", protocol="resting_state")
        for path in study.rglob("*.dcm"):
            row = {"sop_key": path.name + path.parent.name, "study_key": "study", "series_key": "s", "sha256": "0"}
            connection.execute(
                sa.insert(state.instance).values(**row, path=str(path), received_at=0.0, association="a")
            )
    if gone:
        study.rename(study.with_name("elsewhere"))
    received = StudyReceived(case_id=case.case_id, revision=1, protocol="resting_state")
    event = Event(
        id="e", source="t", type=STUDY_RECEIVED, subject=case.case_id, revision=1, value=received.SerializeToString()
    )
    context = StageContext(
        engine=runtime.engine,
        event=event,
        group="dicom_ingest",
        stage="dicom_ingest",
        software=this_software("dicom_ingest"),
        consent=PERMIT,
        span=INVALID_SPAN,
        given_up=lambda: False,
        permit=lambda _connection: PERMIT,
    )
    return StudyReader(
        objects=runtime.objects,
        vault=runtime.vault,
        deidentification_key=bytes(32),
        pseudonym=runtime.keys.pseudonym,
    )(event, context)


def kept_objects(runtime: Runtime) -> list[Path]:
    return list(Path(runtime.objects.url.removeprefix("file://")).iterdir())
