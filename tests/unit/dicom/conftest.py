"""Small studies written here, and the real ones where ../shared/data has them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ARCHIVES = Path(__file__).resolve().parents[4] / "shared" / "data"
UNPACKED = Path.home() / ".cache" / "vbt-data"
REAL_STUDIES = (
    "canon_galan_12dir", "philips_elition", "siemens_prisma_e11_mosaic20", "siemens_prisma_xa30_enhanced",
)  # fmt: skip
DIRECTIONS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, -1, 0]]) / np.sqrt(
    [[1], [1], [1], [2], [2], [2], [2]]
)
ROWS, COLUMNS, SLICES = 6, 8, 5


@pytest.fixture(scope="session")
def real_study() -> Callable[[str], Path]:
    """The folder of a real study, unpacked outside the project when its archive is at hand."""

    def folder(name: str) -> Path:
        found = UNPACKED / name
        if not found.exists():
            archive = ARCHIVES / f"{name}.tar.xz"
            if not archive.exists():
                pytest.skip(f"the real study {name} is not in ../shared/data")
            UNPACKED.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as tar:
                tar.extractall(UNPACKED, filter="data")
        return found

    return folder


def mr_image(study: str, series: str, number: int, position: float, **attributes: object) -> FileDataset:
    """One classic axial MR slice with distinct pixel values."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[str(attributes.get("SeriesInstanceUID", series)), str(number)]
    )
    image = FileDataset("", Dataset(), preamble=b"\0" * 128, file_meta=meta)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.Modality, image.Manufacturer = "MR", "TEST"
    image.PatientID, image.PatientName = "P1", "Test^Person"
    image.SeriesNumber, image.InstanceNumber = int(series.rsplit(".", 1)[1]), number
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    image.ImagePositionPatient = [-10.0, -20.0, position]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness, image.SpacingBetweenSlices = [2.0, 1.5], 3.0, 3.0
    image.Rows, image.Columns, image.SamplesPerPixel = ROWS, COLUMNS, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.ScanningSequence, image.MRAcquisitionType, image.EchoTime = ["EP", "SE"], "2D", 80.0
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    values = np.arange(image.Rows * image.Columns, dtype="<u2") + 100 * number
    image.PixelData = values.tobytes()
    return image


@pytest.fixture
def write_diffusion(tmp_path: Path) -> Callable[..., Path]:
    """Write a diffusion series: b0 and then one volume per direction, slice by slice; returns its folder."""

    def write(
        directions: np.ndarray = DIRECTIONS,
        gradients: bool = True,
        name: str = "dwi",
        **more: object,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        number = 0
        for volume in range(len(directions) + 1):
            for place in range(SLICES):
                number += 1
                image = mr_image("1.2.3", "1.2.3.4", number, 3.0 * place, **more)
                image.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
                if gradients:
                    image.DiffusionBValue = 1000.0 if volume else 0.0
                    image.DiffusionGradientOrientation = list(directions[volume - 1]) if volume else [0.0, 0.0, 0.0]
                image.save_as(folder / f"{volume:02}_{place:02}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def write_t1(tmp_path: Path) -> Callable[..., Path]:
    """Write a T1 series of 64 one-millimetre slices; returns its folder."""

    def write(name: str = "t1", **more: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        contrast = {
            "ScanningSequence": "GR", "SequenceVariant": "MP", "MRAcquisitionType": "3D", "EchoTime": 3.0,
            "RepetitionTime": 7.0, "PixelSpacing": [1.0, 1.0], "SpacingBetweenSlices": 1.0, "SliceThickness": 1.0,
        } | more  # fmt: skip
        for place in range(64):
            image = mr_image("1.2.3", "1.2.3.5", place + 1, float(place), **contrast)
            image.save_as(folder / f"{place:03}.dcm", enforce_file_format=True)
        return folder

    return write
