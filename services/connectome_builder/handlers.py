"""De-identified volumes become a structural connectome, and regional BOLD where functional images came."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from vbt.api.event.v1 import event_pb2
from vbt.connectome import BuildSettings, ConnectomeBuild, RegionalBold, build_connectome, regional_bold
from vbt.platform import events, wire
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext

_NPZ = "application/x-npz"
_BUILD_SHARE = 0.85  # of the stage's time, where functional images follow


@dataclass(frozen=True, kw_only=True)
class ConnectomeBuilder:
    """Handler of `StudyIngested`.

    Parameters
    ----------
    rng_seed : seeds denoising, registration sampling and tracking
    """

    objects: Objects
    build: BuildSettings
    rng_seed: int

    def __call__(self, event: Event, context: StageContext) -> Effects:
        study = wire.decode(event, event_pb2.StudyIngested)
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
        message = self._message(event, study, build, bold)
        inputs = [study.diffusion, study.gradients, study.t1, *([study.fmri] if bold else [])]
        outputs = [message.connectome, *([message.bold] if bold else []), *message.pictures]
        return wire.gives(
            context,
            message,
            topic=events.CONNECTOME_BUILT,
            action="connectome.built",
            summary=_summary(build, bold),
            inputs=inputs,
            outputs=outputs,
            figures={
                "quality": {check.code: check.value for check in build.quality},
                "review": [check.code for check in message.quality if not check.passed],
                "rng_seed": self.rng_seed,
            },
        )

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

    def _message(
        self, event: Event, study: event_pb2.StudyIngested, build: ConnectomeBuild, bold: RegionalBold | None
    ) -> event_pb2.ConnectomeBuilt:
        quality = list(_checks(build, bold))
        return event_pb2.ConnectomeBuilt(
            case_id=event.subject,
            revision=event.revision,
            protocol=study.protocol,
            connectome=wire.to_wire(self.objects.put(build.connectome.to_npz(), _NPZ, "connectome.npz")),
            parcellation=build.connectome.parcellation,
            bold=wire.to_wire(self.objects.put(bold.to_npz(), _NPZ, "bold.npz")) if bold else None,
            quality=quality,
            verdict=event_pb2.VERDICT_SOUND if all(c.passed for c in quality) else event_pb2.VERDICT_REVIEW,
            methods=[*build.methods, *(bold.methods if bold else ())],
            pictures=[
                wire.to_wire(self.objects.put(content, "image/png", f"{name}.png"))
                for name, content in sorted(build.pictures.items())
            ],
        )


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
