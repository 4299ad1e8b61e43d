"""Attaching puts a recording beside a case's images: the case starts its next revision with everything it has by then.

Artifacts, rows, audit entry and event are one transaction, behind the same consent gate as a step of the line.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import sqlalchemy as sa

from dicom_ingest.intake import STAGE as RECEIVE
from vbt.api.event.v1 import event_pb2
from vbt.dicom import note_frames
from vbt.errors import NotYet, Rejected
from vbt.platform import audit, cases, events, stages, state, wire
from vbt.platform.audit import AuditEntry, ConsentDecision, entry_id
from vbt.platform.cases import Case, Status
from vbt.platform.events import Event, event_id
from vbt.platform.objects import Objects
from vbt.platform.outbox import publish
from vbt.platform.policy import ConsentPolicy
from vbt.platform.software import Software
from vbt.platform.state import upsert
from vbt.platform.tracing import traceparent

if TYPE_CHECKING:
    from dicom_ingest.recordings import Content  # what reads files takes seconds to load

INGEST = "dicom_ingest"
_MULTIPLE_SCLEROSIS = frozenset({"eeg", "meg", "lesions"})
_WIRE_KINDS: Mapping[str, event_pb2.RecordingKind] = {
    "seeg": event_pb2.RECORDING_KIND_SEEG,
    "eeg": event_pb2.RECORDING_KIND_EEG,
    "meg": event_pb2.RECORDING_KIND_MEG,
    "lesions": event_pb2.RECORDING_KIND_LESIONS,
    "resection": event_pb2.RECORDING_KIND_RESECTION,
}


@dataclass(frozen=True, kw_only=True)
class Attached:
    """What attaching came to; ``changed`` False where the case had all of it already."""

    case_id: str
    revision: int
    protocol: str
    recordings: tuple[str, ...]
    changed: bool


@dataclass(frozen=True, kw_only=True)
class Attacher:
    """Attaches recordings to the cases of a site.

    Parameters
    ----------
    pseudonym : the site's, as reading the study used it for the frames of reference of its images
    software : of dicom_ingest, in whose name the event goes
    actor, operator : for the trail: the command, and who gave it
    """

    engine: sa.Engine
    objects: Objects
    policy: ConsentPolicy
    pseudonym: Callable[[str], str]
    software: Software
    actor: str
    operator: str

    def attach(self, case_id: str, contents: Sequence[Content], protocol: str | None = None) -> Attached:
        """Attach all of ``contents``, each in place of what was attached of its kind before.

        Parameters
        ----------
        protocol : which twin is asked for; None: what the recordings are for

        Raises
        ------
        Rejected
            ``protocol-unknown``, ``case-unknown``, ``case-erased``, ``case-cancelled``, ``case-without-study``,
            ``consent-…``
        NotYet : ``study-not-read``; the objects are out of reach
        """
        if not contents or len({content.kind for content in contents}) < len(contents):
            raise ValueError("attach one recording or more, one of each kind")
        _require_known(protocol)
        with self.engine.begin() as connection:
            connection.execute(sa.select(state.case.c.case_id).where(state.case.c.case_id == case_id).with_for_update())
            case = cases.read_case(connection, case_id)
            _require_open(case)
            consent = self.policy.decide(connection, case_id)
            study = _study(case)
            known = recordings_of(connection, case_id)
            before = {recording.kind: recording.content.sha256 for recording in known}
            frames = _frames(case)
            artifacts = {content.kind: self._kept(self._compared(content, frames)) for content in contents}
            wanted = protocol or _protocol({*_kinds(known), *artifacts}, case.protocol)
            same = all(before.get(_WIRE_KINDS[kind]) == artifact.sha256 for kind, artifact in artifacts.items())
            if same and wanted == case.protocol:
                return _attached(case, known, changed=False)
            for kind, artifact in artifacts.items():
                upsert(connection, state.recording, _row(case_id, kind, artifact))
            revised = self._revise(connection, case, study, wanted, [content.summary for content in contents])
            publish(connection, self._event(connection, revised, consent))
            audit.record(connection, self._entry(revised, consent, artifacts))
            return _attached(revised, recordings_of(connection, case_id), changed=True)

    def _compared(self, content: Content, frames: Mapping[str, str]) -> Content:
        """A mask with a note of the study's images that it does not share the frame of reference with."""
        if not (content.frame_of_reference_uid and frames):
            return content
        drawn = frame_key(self.pseudonym, content.frame_of_reference_uid)
        mask = nib.Nifti1Image.from_bytes(gzip.decompress(content.content))
        note_frames(mask, [name for name, frame in frames.items() if frame != drawn])
        noted = gzip.compress(mask.to_bytes(), compresslevel=6, mtime=0)
        return dataclasses.replace(content, content=noted, frame_of_reference_uid="")

    def _kept(self, content: Content) -> event_pb2.Artifact:
        return wire.to_wire(self.objects.put(content.content, content.media_type, content.name))

    def _revise(
        self,
        connection: sa.Connection,
        case: Case,
        study: event_pb2.StudyIngested,
        protocol: str,
        summaries: Sequence[str],
    ) -> Case:
        """The next revision stands on the same images: what receiving and reading them left is carried over."""
        case_id = case.case_id
        cases.new_revision(connection, case_id)
        connection.execute(sa.update(state.case).where(state.case.c.case_id == case_id).values(protocol=protocol))
        revised = cases.read_case(connection, case_id)
        carried = event_pb2.StudyIngested()
        carried.CopyFrom(study)
        carried.revision, carried.protocol = revised.revision, protocol
        del carried.recordings[:]
        carried.recordings.extend(recordings_of(connection, case_id))
        for stage in case.stages:
            if stage.stage not in (RECEIVE, INGEST):
                continue
            detail = dict(stage.detail)
            if stage.stage == INGEST:
                detail["result"] = base64.b64encode(carried.SerializeToString(deterministic=True)).decode()
                detail["summary"] = "attached: " + ", ".join(summaries)
            place = (connection, case_id, revised.revision, stage.stage)
            stages.begin(*place)
            stages.finish(*place, Status.DONE, seconds=0.0, detail=detail)
        return cases.read_case(connection, case_id)

    def _event(self, connection: sa.Connection, case: Case, consent: ConsentDecision) -> Event:
        message = event_pb2.RecordingAttached(
            case_id=case.case_id,
            revision=case.revision,
            protocol=case.protocol,
            consent_basis=consent.basis,
            recordings=recordings_of(connection, case.case_id),
        )
        content = message.SerializeToString(deterministic=True)
        digests = ",".join(recording.content.sha256 for recording in message.recordings)
        return Event(
            id=event_id(INGEST, case.case_id, case.revision, digests, self.software.digest),
            source=INGEST,
            type=events.RECORDING_ATTACHED,
            subject=case.case_id,
            revision=case.revision,
            traceparent=traceparent(),
            value=content,
        )

    def _entry(self, case: Case, consent: ConsentDecision, artifacts: Mapping[str, event_pb2.Artifact]) -> AuditEntry:
        return AuditEntry(
            event_id=entry_id(INGEST, case.case_id, "recording.attached", str(case.revision)),
            case_id=case.case_id,
            revision=case.revision,
            action="recording.attached",
            outcome="success",
            actor=self.actor,
            software=self.software,
            consent=consent,
            outputs=tuple(wire.digest(artifact) for artifact in artifacts.values()),
            detail={"kinds": sorted(artifacts), "protocol": case.protocol, "operator": self.operator},
        )


def recordings_of(connection: sa.Connection, case_id: str) -> list[event_pb2.Recording]:
    """Everything attached to a case, the latest of each kind, in the order of the kinds."""
    here = sa.select(state.recording).where(state.recording.c.case_id == case_id)
    found = [
        event_pb2.Recording(
            kind=_WIRE_KINDS[row.kind],
            content=event_pb2.Artifact(
                name=row.name, uri=row.uri, sha256=row.sha256, size_bytes=row.size_bytes, media_type=row.media_type
            ),
        )
        for row in connection.execute(here)
    ]
    return sorted(found, key=lambda recording: recording.kind)


def frame_key(pseudonym: Callable[[str], str], uid: str) -> str:
    """What is kept of a frame of reference's UID: as good for telling two apart."""
    return pseudonym(f"frame of reference {uid}")


def _frames(case: Case) -> Mapping[str, str]:
    """Keys of the frames of reference of the study's images, by what the images show; empty of an older study."""
    found = next((stage.detail.get("frames") for stage in case.stages if stage.stage == INGEST), None)
    return dict(found or {})


def _require_known(protocol: str | None) -> None:
    """A protocol goes into the trail for good, where no caller's own words belong."""
    if protocol is None:
        return
    from vbt.clinical.applications import NAMES  # what builds twins takes seconds to load

    if protocol not in NAMES:
        raise Rejected(
            "protocol-unknown",
            rule=f"a protocol names an application: {', '.join(NAMES)}",
            got="another name",
            action="ask for one of these, or leave it to what is attached",
        )


def _require_open(case: Case) -> None:
    if case.status is Status.ERASED:
        raise Rejected(
            "case-erased",
            rule="a recording is attached to a case that stands",
            got="a case that was erased",
            action="send the study anew, if the patient consents",
        )
    if case.cancel_requested:
        raise Rejected(
            "case-cancelled",
            rule="a recording is attached to a case that nobody cancelled",
            got="a cancelled case",
            action="send the study again to start anew, then attach",
        )


def _study(case: Case) -> event_pb2.StudyIngested:
    """What reading the images of the case's revision gave."""
    alone = ":" in case.study_key  # a step on demand, or what was kept aside
    study = None if alone else wire.result(case, INGEST, event_pb2.StudyIngested)
    if study is not None:
        return study
    if alone or case.status in cases.FINISHED:
        raise Rejected(
            "case-without-study",
            rule="a recording is attached to a case whose images could be read",
            got="a case without such images",
            action="see `vbt case show`; send a usable study first",
        )
    raise NotYet(
        "study-not-read",
        rule="a recording is attached once the images of the case are read",
        got="a case whose images are still being read",
        action="try again when `vbt case show` says that the study is done",
    )


def _protocol(kinds: Set[str], current: str) -> str:
    """Which twin the recordings are for."""
    if "seeg" in kinds:
        return "epilepsy"
    return "multiple_sclerosis" if kinds & _MULTIPLE_SCLEROSIS else current


def _row(case_id: str, kind: str, artifact: event_pb2.Artifact) -> dict[str, object]:
    return {
        "case_id": case_id,
        "kind": kind,
        "name": artifact.name,
        "uri": artifact.uri,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "media_type": artifact.media_type,
        "attached_at": time.time(),
    }


def _attached(case: Case, known: Sequence[event_pb2.Recording], *, changed: bool) -> Attached:
    return Attached(
        case_id=case.case_id,
        revision=case.revision,
        protocol=case.protocol,
        recordings=tuple(sorted(_kinds(known))),
        changed=changed,
    )


def _kinds(recordings: Sequence[event_pb2.Recording]) -> set[str]:
    names = {kind: name for name, kind in _WIRE_KINDS.items()}
    return {names[recording.kind] for recording in recordings}
