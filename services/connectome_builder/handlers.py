"""De-identified volumes become a structural connectome, with BOLD and what was attached to the case.

A recording that comes later joins the connectome that was built from the same images; nothing is tracked again.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from connectome_builder.prepared import Prepared
from connectome_builder.recordings import join_recordings
from vbt.api.event.v1 import event_pb2
from vbt.connectome import BuildSettings, ConnectomeBuild, RegionalBold, build_connectome, regional_bold
from vbt.errors import NotYet
from vbt.platform import cases, events, stages, wire
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext
from vbt.platform.state import reading

_NPZ = "application/x-npz"
_BUILD_SHARE = 0.85  # of the stage's time, where functional images follow


_NIFTI = "application/x-nifti+gzip"
_INGEST = "dicom_ingest"
_SAME_IMAGES = ("diffusion", "gradients", "t1", "fmri", "repetition_time_s")


@dataclass(frozen=True, kw_only=True)
class _Base:
    """A connectome without recordings, and what the stage's row says of how it was built."""

    message: event_pb2.ConnectomeBuilt
    summary: str
    figures: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ConnectomeBuilder:
    """Handler of `StudyIngested` and `RecordingAttached`.

    Parameters
    ----------
    rng_seed : seeds denoising, registration sampling and tracking
    """

    objects: Objects
    build: BuildSettings
    rng_seed: int

    def __call__(self, event: Event, context: StageContext) -> Effects:
        prepared = Prepared(self.objects)
        if event.type == events.RECORDING_ATTACHED:
            attached = wire.decode(event, event_pb2.RecordingAttached)
            study, base = _known(context)
            base = base or self._base(event, study, prepared, context)
            return self._joined(base, attached, study, prepared, context)
        study = wire.decode(event, event_pb2.StudyIngested)
        return self._joined(self._base(event, study, prepared, context), study, study, prepared, context)

    def _base(self, event: Event, study: event_pb2.StudyIngested, prepared: Prepared, context: StageContext) -> _Base:
        gradients = json.loads(self.objects.get(wire.from_wire(study.gradients)))
        share = _BUILD_SHARE if study.HasField("fmri") else 1.0
        build = build_connectome(
            self._image(study.diffusion),
            np.array(gradients["bvals"]),
            np.array(gradients["bvecs"]),
            self._image(study.t1),
            rng_seed=self.rng_seed,
            settings=self.build,
            progress=lambda message, fraction: context.progress(message, share * fraction),
        )
        bold = self._bold(study, build, context) if study.HasField("fmri") else None
        message = _message(event, study, build, bold, prepared)
        return _Base(message=message, summary=_summary(build, bold), figures={"rng_seed": self.rng_seed})

    def _joined(
        self,
        base: _Base,
        given: event_pb2.StudyIngested | event_pb2.RecordingAttached,
        study: event_pb2.StudyIngested,
        prepared: Prepared,
        context: StageContext,
    ) -> Effects:
        """The connectome at this revision with everything attached by now; only here is anything put into the store."""
        message = event_pb2.ConnectomeBuilt()
        message.CopyFrom(base.message)
        message.revision, message.protocol = given.revision, given.protocol
        join_recordings(message, given.recordings, prepared)
        checks = message.quality
        message.verdict = event_pb2.VERDICT_SOUND if all(c.passed for c in checks) else event_pb2.VERDICT_REVIEW
        bold = [message.bold] if message.HasField("bold") else []
        images = [study.diffusion, study.gradients, study.t1, *([study.fmri] if bold else [])]
        kept = [message.connectome, *bold, message.tracts, message.labels, *message.pictures]
        names = [recording.content.name.split(".")[0] for recording in message.recordings]
        effects = wire.gives(
            context,
            message,
            topic=events.CONNECTOME_BUILT,
            action="connectome.built",
            summary="; ".join([base.summary, *([f"with {', '.join(names)}"] if names else [])]),
            inputs=[*images, *(recording.content for recording in given.recordings)],
            outputs=[*kept, *(recording.content for recording in message.recordings)],
            figures={
                "quality": {check.code: check.value for check in checks},
                "review": [check.code for check in checks if not check.passed],
                "connectome": base.summary,
                **base.figures,
            },
        )
        prepared.keep()
        return effects

    def _image(self, artifact: event_pb2.Artifact) -> nib.Nifti1Image:
        return nib.Nifti1Image.from_bytes(gzip.decompress(self.objects.get(wire.from_wire(artifact))))

    def _bold(self, study: event_pb2.StudyIngested, build: ConnectomeBuild, context: StageContext) -> RegionalBold:
        return regional_bold(
            self._image(study.fmri),
            study.repetition_time_s,
            build.anatomy,
            build.connectome.region_labels,
            progress=lambda message, fraction: context.progress(message, _BUILD_SHARE + (1 - _BUILD_SHARE) * fraction),
        )


def _known(context: StageContext) -> tuple[event_pb2.StudyIngested, _Base | None]:
    """The images of the case's revision, and the newest connectome that was built from the very same."""
    case_id = context.event.subject
    with reading(context.engine) as connection:
        study = wire.result(cases.read_case(connection, case_id), _INGEST, event_pb2.StudyIngested)
        read = stages.done(connection, case_id, _INGEST)
        built = stages.done(connection, case_id, context.stage)
    if study is None:
        raise NotYet(
            "study-not-read",
            rule="a recording joins a case whose images were read",
            got="a case at a revision without images",
            action="nothing; the recording is taken up once the images are read",
        )
    for revision, detail in built.items():
        message = wire.message_of(detail, event_pb2.ConnectomeBuilt)
        complete = message.HasField("tracts") and message.HasField("labels") and "connectome" in detail
        if complete and revision in read:
            images = wire.message_of(read[revision], event_pb2.StudyIngested)
            if all(getattr(images, name) == getattr(study, name) for name in _SAME_IMAGES):
                figures = {"rng_seed": detail["rng_seed"]}
                return study, _Base(message=message, summary=detail["connectome"], figures=figures)
    return study, None


def _message(
    event: Event,
    study: event_pb2.StudyIngested,
    build: ConnectomeBuild,
    bold: RegionalBold | None,
    prepared: Prepared,
) -> event_pb2.ConnectomeBuilt:
    return event_pb2.ConnectomeBuilt(
        case_id=event.subject,
        revision=event.revision,
        protocol=study.protocol,
        connectome=prepared.put(build.connectome.to_npz(), _NPZ, "connectome.npz"),
        parcellation=build.connectome.parcellation,
        bold=prepared.put(bold.to_npz(), _NPZ, "bold.npz") if bold else None,
        quality=_checks(build, bold),
        methods=[*build.methods, *(bold.methods if bold else ())],
        tracts=prepared.put(build.tracts.to_npz(), _NPZ, "tracts.npz"),
        labels=prepared.put(_compressed(build.labels), _NIFTI, "labels.nii.gz"),
        pictures=[
            prepared.put(content, "image/png", f"{name}.png") for name, content in sorted(build.pictures.items())
        ],
    )


def _compressed(image: nib.Nifti1Image) -> bytes:
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _checks(build: ConnectomeBuild, bold: RegionalBold | None) -> Iterator[event_pb2.Check]:
    for check in (*build.quality, *(bold.quality if bold else ())):
        yield event_pb2.Check(
            code=check.code, label=check.label, value=check.value, limit=check.limit, passed=check.passed
        )


def _summary(build: ConnectomeBuild, bold: RegionalBold | None) -> str:
    weights = build.connectome.weights
    edges = int(np.count_nonzero(np.triu(weights)))
    text = f"{len(weights)} regions, {edges} connections, {int(np.triu(build.counts).sum())} streamlines"
    return f"{text}; BOLD of {len(bold.time_series)} volumes" if bold else text
