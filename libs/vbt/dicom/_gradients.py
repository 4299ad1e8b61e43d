"""The diffusion gradient of one image, from the standard attributes or the vendor's private ones.

Directions are unit vectors in the patient frame (LPS), as DICOM states them; `_volumes` turns them to scanner RAS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset

from vbt.dicom._csa import csa_values

SIEMENS_HEADER, SIEMENS_CSA = "SIEMENS MR HEADER", "SIEMENS CSA HEADER"
PHILIPS_001, PHILIPS_005, UIH = "PHILIPS IMAGING DD 001", "PHILIPS MR IMAGING DD 001", "IMAGE PRIVATE HEADER"

# Private creators sit at (gggg,00bb); specific_tags needs the creators and every block the element may lie in.
_PRIVATE = ((0x0019, (0x0C, 0x0D, 0x0E)), (0x0029, (0x10,)), (0x0065, (0x09, 0x37)), (0x2001, (0x03, 0x04, 0x18)),
            (0x2005, (0xB0, 0xB1, 0xB2)))  # fmt: skip
_BLOCKS = range(0x10, 0x15)
GRADIENT_TAGS: tuple[int, ...] = (
    0x00189075,  # Diffusion Directionality
    0x00189087,  # Diffusion b-value
    0x00189089,  # Diffusion Gradient Orientation
    *((group << 16) | block for group, _ in _PRIVATE for block in _BLOCKS),
    *(
        (group << 16) | (block << 8) | element
        for group, elements in _PRIVATE
        for element in elements
        for block in _BLOCKS
    ),
)


@dataclass(frozen=True, slots=True)
class Gradient:
    """b-value in s/mm² (None: not stated), unit direction in patient LPS (None: not stated or not directional)."""

    b_value: float | None = None
    direction: tuple[float, float, float] | None = None
    isotropic: bool = False

    @property
    def is_trace(self) -> bool:
        """Weighted but without a direction: a trace or otherwise combined image, not a measurement along one axis."""
        return bool(self.b_value) and (self.isotropic or self.direction is None)


NO_GRADIENT = Gradient()


def read_gradient(dataset: Dataset, shared: Any = None) -> Gradient:
    """The gradient of one classic image, or of one frame's functional groups (per frame, then `shared`)."""
    for source in (dataset, shared):
        if source:
            gradient = _standard(source)
            if gradient.b_value is not None:
                return gradient
    for read in (_siemens, _philips, _uih):
        gradient = read(dataset)
        if gradient.b_value is not None:
            return gradient
    return NO_GRADIENT


def _standard(dataset: Dataset) -> Gradient:
    """MR Diffusion macro (PS3.3 C.8.13.5.9), or its attributes at the top level as Philips classic writes them."""
    sequence = dataset.get("MRDiffusionSequence")
    item = sequence[0] if sequence else dataset
    b_value = item.get("DiffusionBValue")
    if b_value is None:
        return NO_GRADIENT
    nested = item.get("DiffusionGradientDirectionSequence")
    direction = (nested[0] if nested else item).get("DiffusionGradientOrientation")
    isotropic = item.get("DiffusionDirectionality") == "ISOTROPIC"
    return Gradient(float(b_value), _unit(direction), isotropic)


def _siemens(dataset: Dataset) -> Gradient:
    b_value = private_value(dataset, 0x0019, SIEMENS_HEADER, 0x0C)
    if b_value is not None:
        directionality = str(private_value(dataset, 0x0019, SIEMENS_HEADER, 0x0D) or "")
        direction = private_value(dataset, 0x0019, SIEMENS_HEADER, 0x0E)
        return Gradient(float(b_value), _unit(direction), directionality.strip() == "ISOTROPIC")
    header = private_value(dataset, 0x0029, SIEMENS_CSA, 0x10)
    if not isinstance(header, bytes):
        return NO_GRADIENT
    values = csa_values(header)
    if not values.get("B_value"):
        return NO_GRADIENT
    isotropic = "ISOTROPIC" in values.get("DiffusionDirectionality", ())
    return Gradient(float(values["B_value"][0]), _unit(values.get("DiffusionGradientDirection")), isotropic)


def _philips(dataset: Dataset) -> Gradient:
    b_value = private_value(dataset, 0x2001, PHILIPS_001, 0x03)
    if b_value is None:
        return NO_GRADIENT
    axes = [private_value(dataset, 0x2005, PHILIPS_005, element) for element in (0xB0, 0xB1, 0xB2)]
    isotropic = str(private_value(dataset, 0x2001, PHILIPS_001, 0x04) or "").strip() == "I"
    return Gradient(float(b_value), None if None in axes else _unit(axes), isotropic)


def _uih(dataset: Dataset) -> Gradient:
    b_value = private_value(dataset, 0x0065, UIH, 0x09)
    if b_value is None:
        return NO_GRADIENT
    return Gradient(float(b_value), _unit(private_value(dataset, 0x0065, UIH, 0x37)))


def private_value(dataset: Dataset, group: int, creator: str, element: int) -> Any:
    """A private element found by its creator, whatever block the creator reserved; None where it is absent."""
    for block in _BLOCKS:
        reserved = dataset.get((group, block))
        if reserved is not None and str(reserved.value).strip().upper() == creator:
            found = dataset.get((group, (block << 8) | element))
            if found is not None and found.value is not None and found.value != "":
                return found.value
    return None


def _unit(direction: Any) -> tuple[float, float, float] | None:
    if direction is None or len(direction) != 3:
        return None
    x, y, z = (float(v) for v in direction)
    norm = math.sqrt(x * x + y * y + z * z)
    return None if norm < 1e-3 or not math.isfinite(norm) else (x / norm, y / norm, z / norm)
