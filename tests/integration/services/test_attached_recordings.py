"""A recording that comes later joins the connectome that was built before, and is held against its brain."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mne
import nibabel as nib
import numpy as np
import pytest
import sqlalchemy as sa
from opentelemetry.trace import INVALID_SPAN

from connectome_builder import __main__ as connectome_builder
from connectome_builder.handlers import ConnectomeBuilder
from connectome_builder.settings import BuilderSettings
from dicom_ingest.attachment import Attacher, frame_key
from dicom_ingest.recordings import Content, resection
from dicom_ingest.servicer import DicomServicer
from dicom_ingest.upload import Uploads
from vbt.api.dicom.v1 import dicom_pb2 as api
from vbt.api.event.v1 import event_pb2
from vbt.connectome import BuildSettings, Connectome, LesionedTracts, Tracts
from vbt.electrophysiology import SensorRecording
from vbt.errors import Rejected
from vbt.platform import cases, stages, state, wire
from vbt.platform.audit import ConsentDecision
from vbt.platform.cases import Status
from vbt.platform.events import Event, Message
from vbt.platform.policy import ConsentPolicy
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.settings import Settings, read_settings
from vbt.platform.software import this_software
from vbt.platform.stage_context import Effects, StageContext

PERMIT = ConsentDecision(decision="permit", basis="site-default")
REGIONS = ("lh.insula", "rh.insula")
RATE = 256.0


class Line:
    """A case whose connectome was built: two regions left and right, one tract of ten straight streamlines."""

    def __init__(self, runtime: Runtime, data: Path) -> None:
        self.runtime, self.data = runtime, data
        with runtime.engine.begin() as connection:
            self.case_id = cases.create_case(connection, study_key="study", protocol="resting_state").case_id
        self.study = event_pb2.StudyIngested(case_id=self.case_id, revision=1, protocol="resting_state")
        for name in ("diffusion", "gradients", "t1"):
            getattr(self.study, name).CopyFrom(self._kept(name.encode(), name))
        self.built = self._built()
        self.finish("dicom_ingest", self.study, {})
        figures = {"rng_seed": 3, "connectome": "2 regions", "summary": "2 regions"}
        self.finish("connectome_builder", self.built, figures)

    def attach(self, *contents: Content) -> Event:
        """Attach and give the event that goes out."""
        self._attacher().attach(self.case_id, contents)
        with self.runtime.engine.connect() as connection:
            row = connection.execute(sa.select(state.outbox).order_by(state.outbox.c.id.desc()).limit(1)).one()
        return Event.parse(Message(topic=row.topic, key=row.key, headers=json.loads(row.headers), value=row.value))

    def servicer(self) -> DicomServicer:
        """The gRPC face, of which only attaching is called."""
        return DicomServicer(None, None, None, self._attacher(), Uploads(self.data / "uploads"))  # type: ignore[arg-type]

    def _attacher(self) -> Attacher:
        return Attacher(
            engine=self.runtime.engine,
            objects=self.runtime.objects,
            policy=ConsentPolicy(),
            pseudonym=self.runtime.keys.pseudonym,
            software=this_software("dicom_ingest"),
            actor="t",
            operator="t",
        )

    def build(self, event: Event) -> Effects:
        context = StageContext(
            engine=self.runtime.engine,
            event=event,
            group="connectome_builder",
            stage="connectome_builder",
            software=this_software("connectome_builder"),
            consent=PERMIT,
            span=INVALID_SPAN,
            given_up=lambda: False,
            permit=lambda _connection: PERMIT,
        )
        return ConnectomeBuilder(objects=self.runtime.objects, build=BuildSettings(), rng_seed=3)(event, context)

    def built_from(self, event: Event) -> event_pb2.ConnectomeBuilt:
        return wire.message_of(self.build(event).detail, event_pb2.ConnectomeBuilt)

    def contents(self, message: event_pb2.ConnectomeBuilt) -> dict[str, bytes]:
        return wire.recordings(message, self.runtime.objects)

    def kept(self) -> set[str]:
        """Digests of all that is in the store."""
        return {path.name for path in Path(self.runtime.objects.url.removeprefix("file://")).iterdir()}

    def _kept(self, content: bytes, name: str) -> event_pb2.Artifact:
        return wire.to_wire(self.runtime.objects.put(content, "x", name))

    def _built(self) -> event_pb2.ConnectomeBuilt:
        labels = np.zeros((40, 20, 20), dtype=np.uint8)
        labels[2:6, 2:18, 2:18], labels[34:38, 2:18, 2:18] = 1, 2
        image = nib.Nifti1Image(labels, _affine())
        along = np.arange(-300, 301, 20)
        line = np.stack([along, 0 * along, 0 * along], axis=1)
        tracts = Tracts(
            points=np.concatenate([line + np.array([0, 20 * n - 100, 0]) for n in range(10)]).astype(np.int16),
            offsets=np.arange(11) * len(line),
            regions=np.tile([0, 1], (10, 1)),
            region_labels=REGIONS,
        )
        connectome = Connectome(
            weights=np.array([[0.0, 1.0], [1.0, 0.0]]),
            tract_lengths=np.array([[0.0, 60.0], [60.0, 0.0]]),
            region_labels=REGIONS,
            centres=np.array([[-32.0, 0.0, 0.0], [32.0, 0.0, 0.0]]),
            is_cortical=np.array([True, True]),
            parcellation="two",
        )
        return event_pb2.ConnectomeBuilt(
            case_id=self.case_id,
            revision=1,
            protocol="resting_state",
            connectome=self._kept(connectome.to_npz(), "connectome.npz"),
            tracts=self._kept(tracts.to_npz(), "tracts.npz"),
            labels=self._kept(gzip.compress(image.to_bytes(), mtime=0), "labels.nii.gz"),
            quality=[event_pb2.Check(code="streamlines", label="s", value=10, limit="≥ 1", passed=True)],
            verdict=event_pb2.VERDICT_SOUND,
        )

    def finish(
        self, stage: str, message: event_pb2.StudyIngested | event_pb2.ConnectomeBuilt, more: dict[str, object]
    ) -> None:
        detail = {"result": base64.b64encode(message.SerializeToString()).decode(), **more}
        with self.runtime.engine.begin() as connection:
            stages.finish(connection, self.case_id, 1, stage, Status.DONE, detail=detail)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    runtime = open_runtime("t", read_settings(Settings, data=tmp_path / "data"), log=False)
    yield Line(runtime, tmp_path / "data")
    runtime.close()


def test_lesions_become_the_share_of_the_tract_that_they_cross(line: Line) -> None:
    """The mask holds the streamlines at y = -10, -8, …, 8 whose y is below 0: five of ten."""
    message = line.built_from(line.attach(_mask(slice(18, 22), slice(5, 10), slice(8, 12))))
    assert (message.revision, message.protocol) == (2, "multiple_sclerosis")
    assert message.connectome == line.built.connectome
    lesioned = LesionedTracts.from_npz(line.contents(message)["lesions"])
    assert lesioned.fraction[0, 1] == pytest.approx(0.5, abs=0.11)
    assert {check.code: check.value for check in message.quality} == {"streamlines": 10, "lesions-tracts": 1}
    assert message.verdict == event_pb2.VERDICT_SOUND


@pytest.mark.parametrize(
    ("drawn", "told", "passed"),
    [
        ("1.2.3", "is that of T1 and diffusion", True),
        ("1.2.4", "differs from that of diffusion", True),
        ("1.2.5", "differs from that of T1 and diffusion", False),
    ],
)
def test_a_segmentation_of_another_frame_of_reference_is_flagged_by_name(
    line: Line, drawn: str, told: str, passed: bool
) -> None:
    uids = {"T1": drawn if passed else "1.2.3", "diffusion": "1.2.3"}
    frames = {name: frame_key(line.runtime.keys.pseudonym, uid) for name, uid in uids.items()}
    line.finish("dicom_ingest", line.study, {"frames": frames})
    mask = dataclasses.replace(_mask(slice(18, 22), slice(5, 10), slice(8, 12)), frame_of_reference_uid=drawn)
    event = line.attach(mask)
    (attached,) = event_pb2.RecordingAttached.FromString(event.value).recordings
    kept = gzip.decompress(line.runtime.objects.get(wire.from_wire(attached.content)))
    assert drawn.encode() not in kept
    message = line.built_from(event)
    (check,) = [check for check in message.quality if check.code == "lesions-frame-of-reference"]
    assert check.label == f"Lesions: the frame of reference that they were drawn in {told}"
    assert check.passed is passed
    assert (message.verdict == event_pb2.VERDICT_REVIEW) is not passed
    again = line.built_from(line.attach(_seeg(outside=0)))
    assert [check.code for check in again.quality].count("lesions-frame-of-reference") == 1


def test_a_mask_of_another_head_stops_the_case_and_a_better_one_goes_on(line: Line) -> None:
    far = line.attach(_mask(slice(18, 22), slice(5, 10), slice(8, 12), shift=200.0))
    with pytest.raises(Rejected) as refused:
        line.build(far)
    assert refused.value.code == "lesions-outside-brain"
    again = line.built_from(line.attach(_mask(slice(18, 22), slice(5, 10), slice(8, 12))))
    assert (again.revision, len(again.recordings)) == (3, 1)


def test_contacts_outside_the_brain_are_left_out_by_name(line: Line) -> None:
    message = line.built_from(line.attach(_seeg(outside=2)))
    kept = SensorRecording.from_npz(line.contents(message)["seeg"])
    assert kept.channel_labels == tuple(f"A{n}" for n in range(1, 11))
    flagged = next(check for check in message.quality if not check.passed)
    assert (flagged.code, flagged.value) == ("seeg-electrodes-outside-brain", 2)
    assert flagged.label.endswith("A11, A12")
    assert message.verdict == event_pb2.VERDICT_REVIEW


def test_an_implantation_of_another_head_is_refused(line: Line) -> None:
    with pytest.raises(Rejected) as refused:
        line.build(line.attach(_seeg(outside=12)))
    assert refused.value.code == "electrodes-outside-brain"


def test_each_kind_attached_joins_those_before_and_its_checks_come_once(line: Line) -> None:
    first = line.attach(_seeg(outside=1))
    effects = line.build(first)
    with line.runtime.engine.begin() as connection:
        stages.finish(connection, line.case_id, 2, "connectome_builder", Status.DONE, detail=effects.detail)
    message = line.built_from(line.attach(_mask(slice(18, 22), slice(5, 10), slice(8, 12)), resection(["lh.insula"])))
    assert set(line.contents(message)) == {"seeg", "lesions", "resection", "labels"}
    codes = [check.code for check in message.quality]
    assert sorted(set(codes)) == sorted(codes)
    assert {"streamlines", "seeg-usable-channels", "lesions-tracts"} <= set(codes)


def test_the_running_service_hears_of_an_attachment(line: Line, tmp_path: Path) -> None:
    settings = read_settings(BuilderSettings, data=tmp_path / "data")
    (consumer,) = connectome_builder.build(line.runtime, settings).workers
    consumer.start()
    line.runtime.relay.start()
    try:
        line.attach(resection(["lh.insula"]))
        deadline = time.monotonic() + 30.0
        while (built := _result(line)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        consumer.drain()
        consumer.stop(10.0)
        line.runtime.relay.stop()
    assert built is not None
    assert (built.revision, [one.kind for one in built.recordings]) == (2, [event_pb2.RECORDING_KIND_RESECTION])


def _result(line: Line) -> event_pb2.ConnectomeBuilt | None:
    with line.runtime.engine.connect() as connection:
        case = cases.read_case(connection, line.case_id)
    return wire.result(case, "connectome_builder", event_pb2.ConnectomeBuilt) if case.revision == 2 else None


def test_a_plan_of_unknown_regions_is_refused(line: Line) -> None:
    with pytest.raises(Rejected) as refused:
        line.build(line.attach(resection(["lh.nowhere"])))
    assert refused.value.code == "resection-region-unknown"


def test_a_build_that_is_refused_leaves_nothing_in_the_store(line: Line) -> None:
    """An erasure would not find it: of a step that was refused, the trail names no outputs."""
    mask = _mask(slice(18, 22), slice(5, 10), slice(8, 12))
    event = line.attach(_seeg(outside=2), mask, resection(["lh.nowhere"]))
    before = line.kept()
    with pytest.raises(Rejected) as refused:
        line.build(event)
    assert refused.value.code == "resection-region-unknown"
    assert line.kept() == before


def test_a_build_leaves_in_the_store_what_it_names(line: Line) -> None:
    event = line.attach(_seeg(outside=2), _mask(slice(18, 22), slice(5, 10), slice(8, 12)), resection(["lh.insula"]))
    before = line.kept()
    effects = line.build(event)
    named = {digest.sha256 for entry in effects.audit for digest in entry.outputs}
    assert len(line.kept() - before) == 2
    assert line.kept() - before <= named <= line.kept()


def test_other_images_are_built_anew(line: Line) -> None:
    """Late images gave the case another T1, of which no connectome was built."""
    event = line.attach(resection(["lh.insula"]))
    with line.runtime.engine.begin() as connection:
        line.study.t1.CopyFrom(line.study.gradients)
        detail = {"result": base64.b64encode(line.study.SerializeToString()).decode()}
        stages.finish(connection, line.case_id, 2, "dicom_ingest", Status.DONE, detail=detail)
    with pytest.raises(json.JSONDecodeError):  # it begins to read the images, which are none here
        line.build(event)


def _pieces(path: Path, use: api.FileUse) -> Iterator[api.AttachRecordingsRequest]:
    content = path.read_bytes()
    for begin in range(0, len(content), 100_000):
        yield api.AttachRecordingsRequest(use=use, name=path.name, chunk=content[begin : begin + 100_000])


def test_a_recording_comes_over_grpc_with_the_files_beside_it(line: Line, tmp_path: Path) -> None:
    names = [f"A{n}" for n in range(1, 11)]
    info = mne.create_info(names, RATE, "seeg", verbose="ERROR")
    signals = np.random.default_rng(0).normal(0.0, 5e-5, (10, int(40 * RATE)))
    signals[2] = 0.0
    header = tmp_path / "sub-01_ieeg.vhdr"
    mne.export.export_raw(header, mne.io.RawArray(signals, info, verbose="ERROR"), verbose="ERROR")
    electrodes, frame = tmp_path / "sub-01_electrodes.tsv", tmp_path / "sub-01_coordsystem.json"
    electrodes.write_text("name\tx\ty\tz\n" + "\n".join(f"{name}\t{0.004 * n}\t0\t0" for n, name in enumerate(names)))
    frame.write_text(json.dumps({"iEEGCoordinateSystem": "ScanRAS", "iEEGCoordinateUnits": "m"}))
    beside = [frame, header.with_suffix(".eeg"), header.with_suffix(".vmrk")]
    requests = [
        api.AttachRecordingsRequest(case_id=line.case_id, region_labels=["lh.insula"]),
        *(piece for path in beside for piece in _pieces(path, api.FILE_USE_BESIDE)),
        *_pieces(header, api.FILE_USE_SEEG),
        *_pieces(electrodes, api.FILE_USE_ELECTRODES),
    ]
    answer = line.servicer().AttachRecordings(iter(requests), None)
    assert (answer.revision, answer.protocol, answer.changed) == (2, "epilepsy", True)
    assert [(check.code, check.label[-2:]) for check in answer.checks] == [("seeg-flat-channels", "A3")]
    again = line.servicer().AttachRecordings(iter(requests), None)
    assert (again.revision, again.changed) == (2, False)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"use": api.FILE_USE_LESIONS, "name": "../../lesions.nii", "chunk": b"x"}, "upload-malformed"),
        ({"use": api.FILE_USE_LESIONS, "name": ".hidden", "chunk": b"x"}, "upload-malformed"),
        ({"protocol": "Frau Mustermann"}, "upload-malformed"),
        ({}, "upload-malformed"),
        ({"use": api.FILE_USE_LESIONS, "name": "lesions.nii", "chunk": bytes(65 << 20)}, "upload-too-large"),
        ({"use": api.FILE_USE_SEEG, "name": "a.edf", "chunk": b"x"}, "electrodes-missing"),
    ],
)
def test_a_caller_that_sends_something_else_is_refused(line: Line, request_: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as refused:
        line.servicer().AttachRecordings(iter([api.AttachRecordingsRequest(case_id=line.case_id, **request_)]), None)
    assert refused.value.code == code


def test_a_protocol_that_is_no_application_is_refused_before_anything_is_written(line: Line) -> None:
    named = api.AttachRecordingsRequest(case_id=line.case_id, protocol="erika_mustermann", region_labels=["lh.insula"])
    with line.runtime.engine.connect() as connection:
        before = cases.read_case(connection, line.case_id)
    stored = set((line.data / "objects").iterdir())
    with pytest.raises(Rejected) as refused:
        line.servicer().AttachRecordings(iter([named]), None)
    assert refused.value.code == "protocol-unknown"
    assert "erika" not in str(refused.value)
    with line.runtime.engine.connect() as connection:
        assert cases.read_case(connection, line.case_id) == before
        assert not connection.execute(sa.select(state.audit_outbox)).all()
    assert set((line.data / "objects").iterdir()) == stored


def _affine() -> np.ndarray:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-40.0, -20.0, -20.0)
    return affine


def _mask(*where: slice, shift: float = 0.0) -> Content:
    voxels, affine = np.zeros((40, 20, 20), dtype=np.uint8), _affine()
    voxels[where] = 1
    affine[0, 3] += shift
    content = gzip.compress(nib.Nifti1Image(voxels, affine).to_bytes(), mtime=0)
    return Content(kind="lesions", content=content, media_type="x", name="lesion-mask.nii.gz", summary="lesions")


def _seeg(outside: int) -> Content:
    """Twelve contacts along x, the last ones far above the brain."""
    positions = np.stack([np.linspace(-25, 25, 12), np.zeros(12), np.zeros(12)], axis=1)
    if outside:
        positions[-outside:, 2] = 90.0
    recording = SensorRecording(
        kind="seeg",
        signals=np.random.default_rng(0).normal(0.0, 5e-5, (int(40 * RATE), 12)),
        sampling_rate=RATE,
        channel_labels=tuple(f"A{n}" for n in range(1, 13)),
        positions=positions,
    )
    return Content(kind="seeg", content=recording.to_npz(), media_type="x", name="seeg.npz", summary="SEEG")
