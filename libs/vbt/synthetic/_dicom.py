"""What the patient's DICOM objects share, and the study on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from vbt.synthetic._identity import add_identity

_STUDY_DATE, _STUDY_TIME = "20260213", "101500"
SOFTWARE = "vbt-synthetic 1"


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One series to be written.

    Parameters
    ----------
    kind : "t1", "dwi" or "bold"
    image : int16 volume or volumes; the array's axes are column, row, slice (, volume)
    number : series number
    repetition_time, echo_time, inversion_time : ms; 0 where it does not apply
    bvals, bvecs : s/mm² and unit vectors in scanner RAS+, of a diffusion series
    volume_seconds : time between volumes, s
    """

    kind: str
    image: nib.Nifti1Image
    seed: int
    number: int
    description: str
    repetition_time: float
    echo_time: float
    inversion_time: float = 0.0
    flip_angle: float = 90.0
    bvals: Float[np.ndarray, " volume"] | None = None
    bvecs: Float[np.ndarray, "volume 3"] | None = None
    volume_seconds: float = 0.0

    @property
    def volumes(self) -> int:
        return int(self.image.shape[3]) if len(self.image.shape) == 4 else 1

    @property
    def slices(self) -> int:
        return int(self.image.shape[2])

    def uid(self, *parts: object) -> str:
        """A UID that depends on the patient's seed, the series and the parts alone."""
        return uid(self.seed, self.kind, *parts)


def uid(*parts: object) -> str:
    """A UID drawn from the parts: the same parts give the same UID."""
    # pydicom joins its sources without a separator.
    return str(generate_uid(entropy_srcs=["/".join(map(str, ("vbt.synthetic", *parts)))]))


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where slices lie, in the patient's LPS frame as DICOM states it (mm)."""

    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, float]
    slice_spacing: float
    origin: Float[np.ndarray, "3"]
    step: Float[np.ndarray, "3"]

    @classmethod
    def of(cls, image: nib.Nifti1Image) -> Geometry:
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, float)
        sizes = np.linalg.norm(lps[:3, :3], axis=0)
        row, column = lps[:3, 0] / sizes[0], lps[:3, 1] / sizes[1]
        return cls(
            orientation=tuple(_decimal(v) for v in (*row, *column)),
            pixel_spacing=(float(sizes[1]), float(sizes[0])),
            slice_spacing=float(sizes[2]),
            origin=lps[:3, 3],
            step=lps[:3, 2],
        )

    def position(self, index: int) -> list[float]:
        return [_decimal(v) for v in self.origin + index * self.step]


def gradient_lps(acquisition: Acquisition, volume: int) -> tuple[float, list[float] | None]:
    """b-value and direction (patient LPS, None for b = 0) of a volume."""
    if acquisition.bvals is None or acquisition.bvecs is None:
        raise ValueError("not a diffusion series")
    b = float(acquisition.bvals[volume])
    x, y, z = (float(v) for v in acquisition.bvecs[volume])
    return b, None if b == 0 else [-x, -y, z]


def base_dataset(acquisition: Acquisition, sop_class_uid: str) -> Dataset:
    """Patient, study, series, frame of reference and equipment."""
    dataset = Dataset()
    add_identity(dataset)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class_uid
    dataset.StudyInstanceUID = uid(acquisition.seed, "study")
    dataset.FrameOfReferenceUID = uid(acquisition.seed, "frame of reference")
    dataset.SeriesInstanceUID = acquisition.uid("series")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = _STUDY_DATE
    dataset.StudyTime = _STUDY_TIME
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = clock(600.0 * acquisition.number)
    dataset.Modality = "MR"
    dataset.SeriesNumber = acquisition.number
    dataset.SeriesDescription = acquisition.description
    dataset.BodyPartExamined = "BRAIN"
    dataset.PatientPosition = "HFS"
    dataset.Manufacturer = "VBT Synthetic"
    dataset.ManufacturerModelName = "Digital Patient"
    dataset.SoftwareVersions = SOFTWARE
    dataset.MagneticFieldStrength = 3.0
    dataset.ImagingFrequency = 127.74
    dataset.ImagedNucleus = "1H"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    return dataset


def add_pixels(dataset: Dataset, frames: np.ndarray) -> None:
    """16-bit monochrome pixels; ``frames`` has rows and columns last."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = frames.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = np.ascontiguousarray(frames, "<u2").tobytes()


def save(dataset: Dataset, path: Path) -> Path:
    """A Part 10 file, the same bytes for the same dataset."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def clock(seconds: float) -> str:
    """Time of day (TM) some seconds into the study."""
    total = 10 * 3600 + 15 * 60 + seconds
    return f"{int(total // 3600) % 24:02d}{int(total // 60) % 60:02d}{total % 60:09.6f}"


def moment(seconds: float) -> str:
    """Date and time (DT) some seconds into the study."""
    return _STUDY_DATE + clock(seconds)


def _decimal(value: float) -> float:
    # A decimal string holds 16 characters.
    rounded = round(float(value), 8)
    return 0.0 if rounded == 0 else rounded
