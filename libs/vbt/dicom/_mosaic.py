"""A Siemens mosaic: a whole volume tiled into one 2-D image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydicom import Dataset

from vbt.dicom._csa import csa_values

MOSAIC_TAGS = tuple((0x0019 << 16) | (block << 8) | 0x0A for block in range(0x10, 0x15))


@dataclass(frozen=True, slots=True)
class Mosaic:
    """How many tiles hold slices, how many lie in a row, and the slice normal (patient LPS) in tile order."""

    slices: int
    tiles_per_row: int
    slice_normal: tuple[float, ...] | None


def read_mosaic(dataset: Dataset) -> Mosaic | None:
    """The mosaic layout, or None for any other image.

    The slice normal comes from the CSA header: rows x columns alone leaves its sign, and so left and right, open.
    """
    if "MOSAIC" not in (dataset.get("ImageType") or ()):
        return None
    values: dict[str, tuple[str, ...]] = {}
    for block in range(0x10, 0x15):
        header = dataset.get((0x0029, (block << 8) | 0x10))
        if header is not None and isinstance(header.value, bytes):
            values = csa_values(header.value) or values
    slices = int(values.get("NumberOfImagesInMosaic", ("0",))[0]) or _private_count(dataset)
    normal = tuple(float(v) for v in values.get("SliceNormalVector", ()))
    return Mosaic(slices, math.ceil(math.sqrt(slices)), normal if len(normal) == 3 else None)


def _private_count(dataset: Dataset) -> int:
    for tag in MOSAIC_TAGS:
        if tag in dataset:
            return int(dataset[tag].value)
    return 0
