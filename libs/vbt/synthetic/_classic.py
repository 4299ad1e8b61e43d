"""A series as classic MR images: one file per slice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import MRImageStorage

from vbt.synthetic._dicom import Acquisition, Geometry, add_pixels, base_dataset, clock, gradient_lps, save

_SEQUENCES = {
    "t1": {"ScanningSequence": ["GR", "IR"], "SequenceVariant": ["SP", "MP"], "MRAcquisitionType": "3D"},
    "dwi": {"ScanningSequence": ["EP", "SE"], "SequenceVariant": "SK", "MRAcquisitionType": "2D"},
    "bold": {"ScanningSequence": ["EP", "GR"], "SequenceVariant": "SK", "MRAcquisitionType": "2D"},
}


def write_classic(acquisition: Acquisition, directory: Path) -> Iterator[Path]:
    """Write every slice of every volume, volume by volume."""
    geometry = Geometry.of(acquisition.image)
    template = _template(acquisition, geometry)
    pixels = np.asarray(acquisition.image.dataobj).reshape(*acquisition.image.shape[:3], -1)
    for volume in range(acquisition.volumes):
        for index in range(acquisition.slices):
            dataset = _slice(template, acquisition, geometry, volume, index)
            add_pixels(dataset, pixels[:, :, index, volume].T)
            yield save(dataset, directory / f"{volume + 1:04d}-{index + 1:04d}.dcm")


def _template(acquisition: Acquisition, geometry: Geometry) -> Dataset:
    dataset = base_dataset(acquisition, MRImageStorage)
    for keyword, value in _SEQUENCES[acquisition.kind].items():
        setattr(dataset, keyword, value)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.ScanOptions = ["FS"] if acquisition.kind == "dwi" else ""
    dataset.RepetitionTime = acquisition.repetition_time
    dataset.EchoTime = acquisition.echo_time
    if acquisition.inversion_time:
        dataset.InversionTime = acquisition.inversion_time
    dataset.EchoTrainLength = 1 if acquisition.kind == "t1" else acquisition.image.shape[1]
    dataset.EchoNumbers = 1
    dataset.NumberOfAverages = 1.0
    dataset.FlipAngle = acquisition.flip_angle
    dataset.InPlanePhaseEncodingDirection = "COL"
    dataset.PixelSpacing = list(geometry.pixel_spacing)
    dataset.SliceThickness = dataset.SpacingBetweenSlices = geometry.slice_spacing
    dataset.ImageOrientationPatient = list(geometry.orientation)
    if acquisition.volumes > 1:
        dataset.NumberOfTemporalPositions = acquisition.volumes
    return dataset


def _slice(template: Dataset, acquisition: Acquisition, geometry: Geometry, volume: int, index: int) -> Dataset:
    dataset = Dataset()
    dataset.update(template)
    dataset.SOPInstanceUID = acquisition.uid("instance", volume, index)
    dataset.AcquisitionNumber = volume + 1
    dataset.InstanceNumber = volume * acquisition.slices + index + 1
    seconds = 600.0 * acquisition.number + volume * acquisition.volume_seconds
    dataset.AcquisitionTime = dataset.ContentTime = clock(seconds)
    dataset.ImagePositionPatient = geometry.position(index)
    dataset.SliceLocation = round(index * geometry.slice_spacing, 6)
    if acquisition.volumes > 1:
        dataset.TemporalPositionIdentifier = volume + 1
    if acquisition.bvals is not None:
        b, direction = gradient_lps(acquisition, volume)
        dataset.DiffusionBValue = b
        dataset.DiffusionDirectionality = "DIRECTIONAL" if direction else "NONE"
        if direction:
            dataset.DiffusionGradientOrientation = direction
    return dataset
