"""A study that has been quiet long enough becomes de-identified volumes, or a stated refusal."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import sqlalchemy as sa
from pydicom import dcmread

from dicom_ingest.attachment import frame_key, recordings_of
from vbt.api.event.v1 import event_pb2
from vbt.dicom import (
    InventoryEntry,
    PatientIdentity,
    ProtocolSet,
    Role,
    Series,
    Study,
    anatomical_volume,
    deidentify,
    diffusion_volumes,
    frame_of_reference_uid,
    functional_volumes,
    patient_identity,
    read_study,
    require_protocol,
)
from vbt.errors import NotYet
from vbt.platform import events, state, wire
from vbt.platform.events import Event
from vbt.platform.identity import Vault
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext
from vbt.platform.state import reading

_NIFTI = "application/x-nifti+gzip"
_ROLES = {
    Role.DIFFUSION: event_pb2.SERIES_ROLE_DIFFUSION,
    Role.T1: event_pb2.SERIES_ROLE_T1,
    Role.FMRI: event_pb2.SERIES_ROLE_FMRI,
}


@dataclass(frozen=True, kw_only=True)
class StudyReader:
    """Handler of `StudyReceived`.

    Parameters
    ----------
    deidentification_key : keys the replacement UIDs and date offsets; the same for all studies of a site
    pseudonym : the site's, for the frames of reference of the images
    """

    objects: Objects
    vault: Vault
    deidentification_key: bytes
    pseudonym: Callable[[str], str]

    def __call__(self, event: Event, context: StageContext) -> Effects:
        received = wire.decode(event, event_pb2.StudyReceived)
        paths = _received_files(context.engine, event.subject)
        _require_reachable(paths)
        study = read_study(paths, lambda message, fraction: context.progress(message, 0.3 * fraction))
        _require_whole_files(study)
        chosen = require_protocol(study)
        identity = _identity(chosen)
        with tempfile.TemporaryDirectory(prefix="vbt-deidentified-") as directory:
            self._deidentify(chosen, Path(directory), context)
            clean = require_protocol(read_study([directory]))
            volumes, repetition_time = _volumes(clean, context)
            # Nothing is kept before all of it could be read: an erasure finds what the trail names, and the trail of a
            # refused study names no artifact.
            archive = self._put(_archive(Path(directory)), "application/x-tar", "deidentified.tar")
        frames = _frames(chosen, self.pseudonym)
        artifacts = {role: self._put(*volume) for role, volume in volumes.items()}
        with reading(context.engine) as connection:
            attached = recordings_of(connection, event.subject)
        message = event_pb2.StudyIngested(
            case_id=event.subject,
            revision=event.revision,
            protocol=received.protocol,
            consent_basis=context.consent.basis,
            series=list(_inventory(study, chosen)),
            repetition_time_s=repetition_time,
            deidentified_instances=archive,
            recordings=attached,
            **artifacts,
        )
        used = sum(len(series.instances) for series in _series(chosen))
        return wire.gives(
            context,
            message,
            topic=events.STUDY_INGESTED,
            action="study.ingested",
            summary=f"{len(paths)} images in {len(study.series)} series; {', '.join(artifacts)} read from {used}",
            outputs=[archive, *artifacts.values()],
            figures={
                "inventory": [_facts(entry) for entry in study.inventory()],
                "instances": len(paths),
                "frames": frames,
            },
            apply=[lambda connection: self.vault.seal(connection, event.subject, identity.to_dict())],
        )

    def _deidentify(self, chosen: ProtocolSet, directory: Path, context: StageContext) -> None:
        """Write clean instances to ``directory``; nothing later reads the originals."""
        instances = [instance for series in _series(chosen) for instance in series.instances]
        for number, instance in enumerate(instances):
            context.progress("removing identities", 0.3 + 0.5 * number / len(instances))
            dataset = deidentify(dcmread(instance.path), self.deidentification_key)
            dataset.save_as(directory / f"{number:06d}.dcm", enforce_file_format=True)

    def _put(self, content: bytes, media_type: str, name: str) -> event_pb2.Artifact:
        return wire.to_wire(self.objects.put(content, media_type, name))


def _frames(chosen: ProtocolSet, pseudonym: Callable[[str], str]) -> dict[str, str]:
    """Keys of the frames of reference that lesions may be drawn in, where the images name them."""
    uids = {
        name: frame_of_reference_uid(series.instances[0].path)
        for name, series in (("T1", chosen.t1), ("diffusion", chosen.diffusion))
    }
    return {name: frame_key(pseudonym, uid) for name, uid in uids.items() if uid}


def _archive(directory: Path) -> bytes:
    """The files of a folder as a tar, the same bytes for the same files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(directory.iterdir()):
            with path.open("rb") as content:
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                tar.addfile(entry, content)
    return archive.getvalue()


def _volumes(clean: ProtocolSet, context: StageContext) -> tuple[dict[str, tuple[bytes, str, str]], float]:
    """Content, media type and name of the volumes by their role, and the repetition time in s (0 without fMRI)."""
    context.progress("reading diffusion volumes", 0.85)
    diffusion = diffusion_volumes(clean.diffusion)
    gradients = json.dumps({"bvals": diffusion.bvals.tolist(), "bvecs": diffusion.bvecs.tolist()}).encode()
    volumes = {
        "diffusion": (_compressed(diffusion.image), _NIFTI, "diffusion.nii.gz"),
        "gradients": (gradients, "application/json", "gradients.json"),
        "t1": (_compressed(anatomical_volume(clean.t1)), _NIFTI, "t1.nii.gz"),
    }
    if clean.fmri is None:
        return volumes, 0.0
    context.progress("reading functional volumes", 0.95)
    functional = functional_volumes(clean.fmri)
    volumes["fmri"] = (_compressed(functional.image), _NIFTI, "fmri.nii.gz")
    return volumes, functional.repetition_time


def _compressed(image: nib.Nifti1Image) -> bytes:
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _received_files(engine: sa.Engine, case_id: str) -> list[Path]:
    study_key = sa.select(state.case.c.study_key).where(state.case.c.case_id == case_id).scalar_subquery()
    rows = sa.select(state.instance.c.path).where(state.instance.c.study_key == study_key)
    with reading(engine) as connection:
        return [Path(path) for path in connection.execute(rows.order_by(state.instance.c.path)).scalars()]


def _require_reachable(paths: Sequence[Path]) -> None:
    """A disk that is away says nothing about the images: the study must wait for it, not be refused for them."""
    missing = sum(not path.is_file() for path in paths)
    if missing:
        raise NotYet(
            "spool-unreachable",
            rule="received images stay in the spool until their study was read",
            got=f"{missing} of {len(paths)} files out of reach",
            action="check the disk of the spool; the study is read again later",
        )


def _require_whole_files(study: Study) -> None:
    """A file that broke off was part of some series, and nobody can tell which: the study is not taken without it."""
    for file in study.unreadable:
        if file.reason.code in ("truncated", "malformed-dicom"):
            raise file.reason


def _identity(chosen: ProtocolSet) -> PatientIdentity:
    return patient_identity(dcmread(chosen.t1.instances[0].path, stop_before_pixels=True))


def _series(chosen: ProtocolSet) -> Sequence[Series]:
    return [series for series in (chosen.diffusion, chosen.t1, chosen.fmri) if series is not None]


def _inventory(study: Study, chosen: ProtocolSet) -> Iterator[event_pb2.Series]:
    used = {series.number for series in _series(chosen)}
    for entry in study.inventory():
        yield event_pb2.Series(
            role=next((_ROLES[role] for role in _ROLES if role.value == entry.role), event_pb2.SERIES_ROLE_OTHER),
            instance_count=entry.instances,
            used=entry.series in used,
            reason="" if entry.series in used else entry.reason,
        )


def _facts(entry: InventoryEntry) -> dict[str, object]:
    return {
        "series": entry.series,
        "role": entry.role,
        "instances": entry.instances,
        "volumes": entry.volumes,
        "reason": entry.reason,
    }
