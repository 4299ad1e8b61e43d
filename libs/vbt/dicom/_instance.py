"""One DICOM file becomes the few facts that grouping, geometry and gradients need; its pixels stay on disk."""

from __future__ import annotations

import errno
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom import Dataset, config, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from vbt.dicom._gradients import GRADIENT_TAGS, PHILIPS_001, Gradient, private_value, read_gradient
from vbt.dicom._identity import PatientKey
from vbt.dicom._mosaic import MOSAIC_TAGS, Mosaic, read_mosaic
from vbt.errors import NotYet, Rejected

# Everything pydicom is known to raise on hostile or broken input: it promises no exception type of its own. OSError is
# not among them, because it may speak of the disk: see `telling_disk_from_content`.
UNPARSABLE = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    NotImplementedError, RecursionError, OverflowError, struct.error,
)  # fmt: skip
# None: pydicom and the decoders say it of the content. EINVAL, EOVERFLOW: a length in the file led to a place that
# cannot be.
_ERRNO_OF_CONTENT = {None, errno.EINVAL, errno.EOVERFLOW}

MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
}
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_NATIVE = {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
# Inflating happens before any size is known: 1 MiB can become gigabytes (hospital.md 0.4). Big endian is retired.
_UNREAD = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
_UNDEFINED_LENGTH = 0xFFFFFFFF

_FACT_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Manufacturer",
    "SeriesNumber", "PatientID", "IssuerOfPatientID", "ImageType", "SamplesPerPixel", "Rows", "Columns",
    "BitsAllocated", "PixelRepresentation", "NumberOfFrames", "MRAcquisitionType", "ScanningSequence",
    "SequenceVariant", "SequenceName", "PulseSequenceName", "EchoPulseSequence", "EchoPlanarPulseSequence",
    "InversionTime", "RepetitionTime", "EchoTime", "FlipAngle", "NumberOfTemporalPositions", "ImagesInAcquisition",
    "ContrastBolusAgent", "AcquisitionContrast", "ComplexImageComponent", "TimeOfFlightContrast",
    "InversionRecovery", "TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber",
    "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence", "EffectiveEchoTime",
)  # fmt: skip


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"not a DICOM keyword: {keyword}")
    return tag


_WANTED: list[int] = [*map(_tag, _FACT_KEYWORDS), *GRADIENT_TAGS, *MOSAIC_TAGS]


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image: where it lies (patient LPS, mm), how its numbers scale, and its diffusion gradient."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    slice_spacing: float
    slope: float
    intercept: float
    gradient: Gradient
    echo_time: float
    order: tuple[int, ...]
    image_type: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contrast:
    """What the acquisition says about its own contrast, read from coded attributes only."""

    image_type: frozenset[str]
    three_dimensional: bool
    scanning_sequence: frozenset[str]
    sequence_variant: frozenset[str]
    echo_planar: bool
    inversion_time: float
    repetition_time: float
    echo_time: float
    acquisition_contrast: str
    contrast_agent: bool
    time_of_flight: bool


@dataclass(frozen=True, slots=True)
class Declared:
    """Counts the sender states about the whole series; None where it states none."""

    temporal_positions: int | None
    slices: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Instance:
    """One readable image file. It has no repr: its path and UIDs could identify the patient."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient: PatientKey
    modality: str
    manufacturer: str
    series_number: int
    instance_number: int
    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    signed: bool
    samples_per_pixel: int
    pixel_offset: int
    pixel_length: int
    frames: tuple[Frame, ...]
    mosaic: Mosaic | None
    contrast: Contrast
    declared: Declared

    @property
    def has_native_pixels(self) -> bool:
        return self.transfer_syntax_uid in _NATIVE


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One file that could not be used, and why; the path is for the operator only."""

    path: Path = field(repr=False)
    reason: Rejected


@contextmanager
def telling_disk_from_content() -> Iterator[None]:
    """What the system says of the disk becomes `NotYet`; what is said of the content, one of `UNPARSABLE`."""
    try:
        yield
    except OSError as error:
        if error.errno in _ERRNO_OF_CONTENT:
            raise InvalidDicomError from error
        raise _unreachable() from error


def read_instance(path: Path) -> Instance | Unreadable:
    """Read the header of one file; never raises for what the file holds.

    Raises
    ------
    NotYet : ``image-unreachable`` where the system cannot read the file now
    """
    try:
        with telling_disk_from_content(), path.open("rb") as file:
            if path.stat().st_size < 132:
                return Unreadable(path, _not_dicom())
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _read(path, content)
    except Rejected as reason:
        return Unreadable(path, reason)
    except UNPARSABLE:
        return Unreadable(path, _malformed())


def transfer_syntax(content: bytes | mmap.mmap) -> str:
    """The transfer syntax of a DICOM file, read from its file meta information without parsing the data set."""
    if content[128:132] != b"DICM":
        raise _not_dicom()
    at, end = 132, min(len(content), 132 + 65536)
    while at + 8 <= end and content[at : at + 2] == b"\x02\x00":
        long_form = content[at + 4 : at + 6] in (b"OB", b"UN", b"UT", b"SQ", b"OW")
        length, value = (
            (struct.unpack_from("<I", content, at + 8)[0], at + 12)
            if long_form
            else (struct.unpack_from("<H", content, at + 6)[0], at + 8)
        )
        if content[at : at + 4] == b"\x02\x00\x10\x00":
            return bytes(content[value : value + length]).rstrip(b"\x00 ").decode("ascii")
        at = value + length
    raise _malformed()


def _read(path: Path, content: mmap.mmap) -> Instance | Unreadable:
    syntax = transfer_syntax(content)
    if syntax in _UNREAD:
        return Unreadable(path, unreadable_transfer_syntax())
    with config.disable_value_validation():
        dataset = dcmread(cast(BinaryIO, content), stop_before_pixels=True, specific_tags=_WANTED)
        if dataset.file_meta.MediaStorageSOPClassUID == MEDIA_STORAGE_DIRECTORY:
            return Unreadable(path, _not_an_image())
        offset, length = _pixel_data(content, syntax)
        return _instance(path, dataset, syntax, offset, length)


def _pixel_data(content: mmap.mmap, syntax: str) -> tuple[int, int]:
    """Where the pixel values begin and how many bytes they take; pydicom stopped at their element's tag."""
    at = content.tell()
    head = content[at : at + 12]
    if len(head) < 12:
        if content.size() == at:
            return 0, 0
        raise _truncated()
    if struct.unpack("<HH", head[:4]) != (0x7FE0, 0x0010):
        return 0, 0
    implicit = syntax == ImplicitVRLittleEndian
    length = struct.unpack_from("<I", head, 4 if implicit else 8)[0]
    offset = at + (8 if implicit else 12)
    if length != _UNDEFINED_LENGTH and offset + length > content.size():
        raise _truncated()
    return offset, length


def _instance(path: Path, dataset: Dataset, syntax: str, offset: int, length: int) -> Instance:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    bits, samples = int(dataset.get("BitsAllocated") or 0), int(dataset.get("SamplesPerPixel") or 1)
    number_of_frames = int(dataset.get("NumberOfFrames") or 1)
    if length == 0 and (rows or str(dataset.SOPClassUID) in MR_CLASSES):
        raise _truncated()
    if syntax in _NATIVE and length < rows * columns * samples * number_of_frames * (bits // 8):
        raise _truncated()
    return Instance(
        path=path,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        patient=PatientKey.of(dataset),
        modality=str(dataset.get("Modality") or ""),
        manufacturer=str(dataset.get("Manufacturer") or "").upper(),
        series_number=_integer(dataset, "SeriesNumber"),
        instance_number=_integer(dataset, "InstanceNumber"),
        transfer_syntax_uid=syntax,
        rows=rows,
        columns=columns,
        bits_allocated=bits,
        signed=bool(dataset.get("PixelRepresentation")),
        samples_per_pixel=samples,
        pixel_offset=offset,
        pixel_length=length,
        frames=_frames(dataset),
        mosaic=read_mosaic(dataset),
        contrast=_contrast(dataset),
        declared=_declared(dataset),
    )


def _frames(dataset: Dataset) -> tuple[Frame, ...]:
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        if "ImagePositionPatient" not in dataset:
            return ()
        groups = _Groups((dataset,))
        order = tuple(
            _integer(dataset, keyword)
            for keyword in ("TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber")
        )
        return (_frame(groups, read_gradient(dataset), order, dataset),)
    shared: Any = dataset.get("SharedFunctionalGroupsSequence") or ({},)
    slice_dimensions = _slice_dimensions(dataset)
    frames = []
    for number, item in enumerate(per_frame):
        groups = _Groups((item, shared[0], dataset))
        dimensions = _floats(groups.value("FrameContentSequence", "DimensionIndexValues"))
        volume_dimensions = [int(v) for i, v in enumerate(dimensions) if i not in slice_dimensions]
        temporal = int(_number(groups.value("FrameContentSequence", "TemporalPositionIndex")))
        order = (_integer(dataset, "InstanceNumber"), temporal, *volume_dimensions, number)
        frames.append(_frame(groups, read_gradient(item, shared[0]), order, dataset))
    return tuple(frames)


def _slice_dimensions(dataset: Dataset) -> set[int]:
    """Which dimension indices count slices within a volume, not volumes."""
    slice_pointers = {0x00209057, 0x00200032, 0x00209056, 0x00201041}
    dimensions = dataset.get("DimensionIndexSequence") or ()
    return {i for i, item in enumerate(dimensions) if int(item.get("DimensionIndexPointer") or 0) in slice_pointers}


class _Groups:
    """Functional groups looked up per frame, then shared, then (for classic images) in the data set itself."""

    def __init__(self, datasets: tuple[Dataset | dict[str, object], ...]) -> None:
        self._datasets = datasets

    def value(self, group: str, keyword: str) -> object:
        for dataset in self._datasets:
            sequence = dataset.get(group)
            if sequence and keyword in sequence[0]:  # type: ignore[index]
                return sequence[0].get(keyword)  # type: ignore[index]
        for dataset in self._datasets:
            if keyword in dataset:
                return dataset.get(keyword)
        return None


def _frame(groups: _Groups, gradient: Gradient, order: tuple[int, ...], dataset: Dataset) -> Frame:
    spacing = groups.value("PixelMeasuresSequence", "SpacingBetweenSlices")
    thickness = groups.value("PixelMeasuresSequence", "SliceThickness")
    slope = groups.value("PixelValueTransformationSequence", "RescaleSlope")
    intercept = groups.value("PixelValueTransformationSequence", "RescaleIntercept")
    echo_time = groups.value("MREchoSequence", "EffectiveEchoTime") or dataset.get("EchoTime")
    frame_type = groups.value("MRImageFrameTypeSequence", "FrameType") or dataset.get("ImageType")
    return Frame(
        position=_floats(groups.value("PlanePositionSequence", "ImagePositionPatient")),
        orientation=_floats(groups.value("PlaneOrientationSequence", "ImageOrientationPatient")),
        pixel_spacing=_floats(groups.value("PixelMeasuresSequence", "PixelSpacing")),
        slice_spacing=_number(spacing) or _number(thickness),
        slope=1.0 if slope is None else _number(slope),
        intercept=_number(intercept),
        gradient=gradient,
        echo_time=_number(echo_time),
        order=order,
        image_type=_words(frame_type),
    )


def _contrast(dataset: Dataset) -> Contrast:
    shared: Any = (dataset.get("SharedFunctionalGroupsSequence") or ({},))[0]
    first: Any = (dataset.get("PerFrameFunctionalGroupsSequence") or ({},))[0]
    groups = _Groups((first, shared, dataset))
    component = str(groups.value("MRImageFrameTypeSequence", "ComplexImageComponent") or "")
    sequence = set(_words(dataset.get("ScanningSequence")))
    sequence |= {
        {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE"}.get(str(dataset.get("EchoPulseSequence") or ""), "")
    } - {""}
    repetition = groups.value("MRTimingAndRelatedParametersSequence", "RepetitionTime")
    inversion = groups.value("MRModifierSequence", "InversionTimes") or dataset.get("InversionTime")
    if isinstance(inversion, MultiValue | list):
        inversion = inversion[0] if len(inversion) else None
    recovery = groups.value("MRModifierSequence", "InversionRecovery")
    return Contrast(
        image_type=frozenset({*_words(dataset.get("ImageType")), component} - {""}),
        three_dimensional=dataset.get("MRAcquisitionType") == "3D",
        scanning_sequence=frozenset(sequence),
        sequence_variant=frozenset({*_words(dataset.get("SequenceVariant")), *({"MP"} if recovery == "YES" else ())}),
        echo_planar="EP" in sequence or dataset.get("EchoPlanarPulseSequence") == "YES",
        inversion_time=_number(inversion),
        repetition_time=_number(repetition),
        echo_time=_number(groups.value("MREchoSequence", "EffectiveEchoTime") or dataset.get("EchoTime")),
        acquisition_contrast=str(groups.value("MRImageFrameTypeSequence", "AcquisitionContrast") or ""),
        contrast_agent=bool(dataset.get("ContrastBolusAgent")),
        time_of_flight=dataset.get("TimeOfFlightContrast") == "YES",
    )


def _declared(dataset: Dataset) -> Declared:
    slices = private_value(dataset, 0x2001, PHILIPS_001, 0x18)
    return Declared(
        temporal_positions=_integer(dataset, "NumberOfTemporalPositions") or None,
        slices=None if slices is None else int(slices),
    )


def _words(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(word).upper() for word in (value if isinstance(value, MultiValue | list | tuple) else (value,)))


def _floats(value: object) -> tuple[float, ...]:
    if value is None:
        return ()
    return tuple(float(v) for v in (value if isinstance(value, MultiValue | list | tuple) else (value,)))


def _number(value: object) -> float:
    return 0.0 if value in (None, "") else float(value)  # type: ignore[arg-type]


def _integer(dataset: Dataset, keyword: str) -> int:
    value = dataset.get(keyword)
    return 0 if value in (None, "") else int(value)


def _not_dicom() -> Rejected:
    return Rejected(
        "not-dicom",
        rule="an input file must be DICOM Part 10",
        got="a file without the DICM prefix",
        action="send the images as the scanner exported them",
    )


def _truncated() -> Rejected:
    return Rejected(
        "truncated",
        rule="a DICOM file must hold all the bytes its elements announce",
        got="a file that ends early",
        action="send the file again",
    )


def _malformed() -> Rejected:
    return Rejected(
        "malformed-dicom",
        rule="a DICOM file must parse",
        got="elements that break the encoding rules",
        action="export the image again",
    )


def _unreachable() -> NotYet:
    return NotYet(
        "image-unreachable",
        rule="the disk must give the images that it holds",
        got="an error of the disk or of the system",
        action="check the disk and the system's limits; the images are read again later",
    )


def _not_an_image() -> Rejected:
    return Rejected(
        "not-an-image",
        rule="an input file must be an image",
        got="a DICOM directory",
        action="nothing is needed; the images beside it are read",
    )


def unreadable_transfer_syntax() -> Rejected:
    return Rejected(
        "unreadable-transfer-syntax",
        rule="pixel data must be in a transfer syntax this installation can decode",
        got="one it cannot",
        action="send the series uncompressed (Explicit VR Little Endian)",
    )
