"""Images are arrays with an affine to scanner RAS+ millimetres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


def image_of(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """An image around an array, whose dtype it keeps."""
    return nib.Nifti1Image(array, np.asarray(affine, dtype=float))  # type: ignore[no-untyped-call]


def open_image(path: Path) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(path)


def array_of(image: nib.Nifti1Image, dtype: Any = np.float32) -> np.ndarray:
    """The image's values."""
    return np.asarray(image.dataobj, dtype=dtype)


def affine_of(image: nib.Nifti1Image) -> np.ndarray:
    """Voxel to scanner RAS+ mm, 4 by 4."""
    return np.asarray(image.affine, dtype=float)
