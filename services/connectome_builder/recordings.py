"""What was attached to a case meets the connectome: checked against the brain, and reduced to what the twin needs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping

import nibabel as nib

from connectome_builder.prepared import Prepared
from vbt.api.event.v1 import event_pb2
from vbt.connectome import Connectome, Tracts, lesion_fractions
from vbt.dicom import noted_frames
from vbt.electrophysiology import ChannelCheck, SensorRecording, require_usable, without
from vbt.errors import Rejected

_NPZ = "application/x-npz"
_SIGNALS: Mapping[event_pb2.RecordingKind, str] = {
    event_pb2.RECORDING_KIND_SEEG: "seeg",
    event_pb2.RECORDING_KIND_EEG: "eeg",
    event_pb2.RECORDING_KIND_MEG: "meg",
}
_CHECKED = (*_SIGNALS.values(), "lesions")


def join_recordings(
    message: event_pb2.ConnectomeBuilt, recordings: Iterable[event_pb2.Recording], prepared: Prepared
) -> None:
    """Put recordings and their checks into a message, in place of those that it has.

    Of signals, channels that fail a check are left out and named in the check. Of lesions, the share of every tract
    that they cross is kept. Nothing goes into the store here.

    Raises
    ------
    Rejected
        as `require_usable` and `lesion_fractions`; ``resection-region-unknown``
    """
    kept = [check for check in message.quality if not check.code.startswith(tuple(f"{kind}-" for kind in _CHECKED))]
    joined: list[event_pb2.Recording] = []
    for recording in recordings:
        content = prepared.get(recording.content)
        if recording.kind in _SIGNALS:
            artifact, checks = _signals(_SIGNALS[recording.kind], content, message, prepared)
            kept.extend(checks)
        elif recording.kind == event_pb2.RECORDING_KIND_LESIONS:
            artifact, checks = _lesions(content, message, prepared)
            kept.extend(checks)
        else:
            _require_regions(json.loads(content), message, prepared)
            artifact = recording.content
        joined.append(event_pb2.Recording(kind=recording.kind, content=artifact))
    del message.quality[:], message.recordings[:]
    message.quality.extend(kept)
    message.recordings.extend(joined)


def _signals(
    kind: str, content: bytes, message: event_pb2.ConnectomeBuilt, prepared: Prepared
) -> tuple[event_pb2.Artifact, list[event_pb2.Check]]:
    recording = SensorRecording.from_npz(content)
    checks = require_usable(recording, labels=_labels(message, prepared))
    usable = without(recording, checks)
    artifact = prepared.put(usable.to_npz(), _NPZ, f"{kind}.npz")
    return artifact, list(_channel_checks(kind, checks, len(usable.channel_labels)))


def _channel_checks(kind: str, checks: Iterable[ChannelCheck], usable: int) -> Iterator[event_pb2.Check]:
    name = kind.upper()
    yield event_pb2.Check(
        code=f"{kind}-usable-channels", label=f"{name}: usable channels", value=usable, limit="≥ 1", passed=True
    )
    for check in checks:
        if not check.passed:
            label = f"{name}: {check.label[0].lower()}{check.label[1:]}, left out: {', '.join(check.channels)}"
            yield event_pb2.Check(
                code=f"{kind}-{check.code}", label=label, value=check.value, limit=check.limit, passed=False
            )


def _lesions(
    content: bytes, message: event_pb2.ConnectomeBuilt, prepared: Prepared
) -> tuple[event_pb2.Artifact, list[event_pb2.Check]]:
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    tracts = Tracts.from_npz(prepared.get(message.tracts))
    lesioned = lesion_fractions(tracts, mask, _labels(message, prepared))
    artifact = prepared.put(lesioned.to_npz(), _NPZ, "lesions.npz")
    crossed = int((lesioned.fraction > 0).sum()) // 2
    check = event_pb2.Check(
        code="lesions-tracts",
        label=f"Tracts that the lesions ({lesioned.lesions}, {lesioned.volume_ml:.1f} mL) cross",
        value=crossed,
        limit="≥ 1",
        passed=crossed > 0,
    )
    return artifact, [check, *_frames(mask)]


def _frames(mask: nib.Nifti1Image) -> Iterator[event_pb2.Check]:
    """Lesions are laid over tracts in the T1's frame; where they were drawn in another, a person must look."""
    differing = noted_frames(mask)
    if differing is None:
        return
    where = f"differs from that of {' and '.join(differing)}" if differing else "is that of T1 and diffusion"
    yield event_pb2.Check(
        code="lesions-frame-of-reference",
        label=f"Lesions: the frame of reference that they were drawn in {where}",
        value=len(differing),
        limit="that of the T1",
        passed="T1" not in differing,
    )


def _labels(message: event_pb2.ConnectomeBuilt, prepared: Prepared) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(prepared.get(message.labels)))


def _require_regions(regions: list[str], message: event_pb2.ConnectomeBuilt, prepared: Prepared) -> None:
    known = Connectome.from_npz(prepared.get(message.connectome)).region_labels
    unknown = [region for region in regions if region not in known]
    if unknown:
        raise Rejected(
            "resection-region-unknown",
            rule="a resection names regions of the connectome, such as lh.superiortemporal",
            got=f"{len(unknown)} unknown of {len(regions)}",
            action="attach the plan again with labels as the report's tables show them",
        )
