"""Files of recordings become what is kept of them: signals and places, a mask, a plan; nothing that names anyone."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from vbt.dicom import frame_of_reference_uid, lesion_mask
from vbt.electrophysiology import ChannelCheck, Kind, SensorRecording, read_seeg, read_sensors, require_usable
from vbt.errors import Rejected

_MOST_VOXELS = 2**26  # a T1 of a third of a millimetre
_MOST_BYTES = 512 << 20  # of a mask, decompressed
_GZIP = b"\x1f\x8b"
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)  # what gzip and nibabel raise for files that are not what they say
_REGION = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is kept of one file.

    Parameters
    ----------
    kind : ``"seeg"``, ``"eeg"``, ``"meg"``, ``"lesions"`` or ``"resection"``
    name : of the artifact, never of the file
    summary : for people
    checks : with the channels that fail them; they are left out once the connectome is known
    frame_of_reference_uid : of a DICOM Segmentation, to be compared with the study's; it is not kept
    """

    kind: str
    content: bytes
    media_type: str
    name: str
    summary: str
    checks: tuple[ChannelCheck, ...] = ()
    frame_of_reference_uid: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files to attach; None where there is none. ``electrodes`` are those of SEEG where there is SEEG."""

    seeg: Path | None = None
    eeg: Path | None = None
    meg: Path | None = None
    electrodes: Path | None = None
    lesions: Path | None = None
    resection: Sequence[str] = ()


def read(files: Files) -> Iterator[Content]:
    """Read and check all files.

    Raises
    ------
    Rejected
        ``electrodes-missing``, or as the functions below
    """
    if files.seeg is not None:
        if files.electrodes is None:
            raise Rejected(
                "electrodes-missing",
                rule="SEEG comes with the places of its contacts, in the scanner coordinates of the T1",
                got="a recording without them",
                action="give the table of electrodes too",
            )
        yield seeg(files.seeg, files.electrodes)
    elsewhere = None if files.seeg is not None else files.electrodes
    if files.eeg is not None:
        yield sensors(files.eeg, "eeg", elsewhere)
    if files.meg is not None:
        yield sensors(files.meg, "meg", None if files.eeg is not None else elsewhere)
    if files.lesions is not None:
        yield lesions(files.lesions)
    if files.resection:
        yield resection(files.resection)


def seeg(path: Path, electrodes: Path) -> Content:
    """SEEG with its electrodes; refused as `read_seeg` and `require_usable` refuse it."""
    return _signals(read_seeg(path, electrodes))


def sensors(path: Path, kind: Kind, electrodes: Path | None) -> Content:
    """EEG or MEG; refused as `read_sensors` and `require_usable` refuse it."""
    return _signals(read_sensors(path, kind, electrodes))


def lesions(path: Path) -> Content:
    """A mask, NIfTI or DICOM Segmentation, in scanner coordinates; only its voxels and its place are kept.

    Whether a Segmentation was drawn in the T1's frame of reference is told when it is attached, where the site's
    pseudonyms of the study's frames are; that the mask lies within the brain of the T1 is checked once the connectome
    is built.

    Raises
    ------
    Rejected
        ``lesion-mask-unreadable``, ``lesion-mask-too-large``, ``lesion-mask-without-frame``,
        ``lesion-mask-not-binary``, ``lesion-mask-empty``, or as `vbt.dicom.lesion_mask`
    """
    mask = lesion_mask(path) if _is_dicom(path) else _nifti(path)
    inside = np.asanyarray(mask.dataobj) != 0
    if not inside.any():
        raise Rejected(
            "lesion-mask-empty",
            rule="a lesion mask marks one voxel or more",
            got="a mask without any",
            action="check that the mask was exported with its lesions, or attach none",
        )
    volume = float(np.count_nonzero(inside)) * abs(float(np.linalg.det(mask.affine[:3, :3]))) / 1000.0
    bare = _image(inside.astype(np.uint8), mask.affine)
    content = gzip.compress(bare.to_bytes(), compresslevel=6, mtime=0)
    return Content(
        kind="lesions",
        content=content,
        media_type="application/x-nifti+gzip",
        name="lesion-mask.nii.gz",
        summary=f"lesions of {volume:.1f} mL",
        frame_of_reference_uid=frame_of_reference_uid(path) if _is_dicom(path) else "",
    )


def resection(regions: Sequence[str]) -> Content:
    """Regions that the clinician thinks of removing, by their labels in the connectome.

    Raises
    ------
    Rejected
        ``resection-malformed``
    """
    chosen = sorted(set(regions))
    if not chosen or not all(_REGION.fullmatch(region) for region in chosen):
        raise Rejected(
            "resection-malformed",
            rule="a resection names one region or more by their labels, such as lh.superiortemporal",
            got=f"{len(chosen)} names, of which not all are labels",
            action="give labels as the report's tables show them, with commas between them",
        )
    return Content(
        kind="resection",
        content=json.dumps(chosen).encode(),
        media_type="application/json",
        name="resection.json",
        summary=f"{len(chosen)} regions to resect",
    )


def _signals(recording: SensorRecording) -> Content:
    checks = require_usable(recording)
    usable = len(recording.channel_labels) - len({name for check in checks for name in check.channels})
    seconds = len(recording.signals) / recording.sampling_rate
    return Content(
        kind=recording.kind,
        content=recording.to_npz(),
        media_type="application/x-npz",
        name=f"{recording.kind}.npz",
        summary=f"{recording.kind.upper()} of {usable} usable channels over {seconds:.0f} s",
        checks=checks,
    )


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        raise _unreadable("no file that can be opened") from None


def _nifti(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.Nifti1Image.from_stream(_whole(path))
        shape = tuple(map(int, image.shape))
        stored = np.dtype(image.header.get_data_dtype())  # type: ignore[no-untyped-call]
    except _BROKEN:
        raise _unreadable("neither") from None
    if len(shape) != 3 or min(shape) < 1:
        raise _unreadable("an image of other dimensions")
    if stored.kind not in "biuf":
        raise _unreadable("colours or complex numbers")
    if math.prod(shape) > _MOST_VOXELS or math.prod(shape) * stored.itemsize > _MOST_BYTES:
        raise _too_large()
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])) or not np.isfinite(image.affine).all():
        raise Rejected(
            "lesion-mask-without-frame",
            rule="a lesion mask says where it lies in the scanner's coordinates (sform or qform)",
            got="an image that does not",
            action="export the mask on the grid of the T1 or FLAIR that it was drawn on",
        )
    try:
        return _image(_inside(image), image.affine)
    except _BROKEN:
        raise _unreadable("voxels that cannot be read") from None


def _inside(image: nib.Nifti1Image) -> np.ndarray:
    """Where the mask is set; slice by slice, for scaled values take eight times their room."""
    inside = np.empty(image.shape, dtype=np.uint8)
    values: set[float] = set()
    for k in range(image.shape[2]):
        voxels = np.asanyarray(image.dataobj[..., k])
        if not np.isfinite(voxels).all():
            raise _unreadable("voxels that are no numbers")
        inside[..., k] = marked = voxels != 0
        if marked.any():
            values |= {float(voxels[marked].min()), float(voxels[marked].max())}
        if len(values) > 1 or any(value <= 0 for value in values):
            raise _not_binary()
    return inside


def _whole(path: Path) -> io.BytesIO:
    """A file, decompressed to its end, where gzip's checksum is."""
    content = io.BytesIO()
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        source = gzip.GzipFile(fileobj=file) if compressed else file
        while piece := source.read(1 << 20):
            if content.tell() + len(piece) > _MOST_BYTES:
                raise _too_large()
            content.write(piece)
    content.seek(0)
    return content


def _image(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """With a header of its own: the free text of another's stays behind."""
    return nib.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]


def _unreadable(got: str) -> Rejected:
    return Rejected(
        "lesion-mask-unreadable",
        rule="a lesion mask is a three-dimensional NIfTI image or a DICOM Segmentation",
        got=got,
        action="export the mask as NIfTI or as a DICOM Segmentation",
    )


def _too_large() -> Rejected:
    return Rejected(
        "lesion-mask-too-large",
        rule=f"a lesion mask has {_MOST_VOXELS} voxels and {_MOST_BYTES} bytes at most",
        got="more",
        action="export the mask on the grid of the T1 or FLAIR that it was drawn on, as whole numbers of 8 bits",
    )


def _not_binary() -> Rejected:
    return Rejected(
        "lesion-mask-not-binary",
        rule="a lesion mask has one positive value for lesions and 0 for all else",
        got="several values, or negative ones",
        action="threshold a probability map, or join numbered lesions, and attach that mask",
    )
