"""Images are arrays with an affine to scanner RAS+ millimetres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


def image_of(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """An image around an array, whose dtype it keeps (NIfTI knows no booleans: they become 0 and 1)."""
    array = array.astype(np.uint8) if array.dtype == bool else array
    return nib.Nifti1Image(array, np.asarray(affine, dtype=float))  # type: ignore[no-untyped-call]


def open_image(path: Path) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(path)


def array_of(image: nib.Nifti1Image, dtype: Any = np.float32) -> np.ndarray:
    """The image's values."""
    return np.asarray(image.dataobj, dtype=dtype)


def affine_of(image: nib.Nifti1Image) -> np.ndarray:
    """Voxel to scanner RAS+ mm, 4 by 4."""
    return np.asarray(image.affine, dtype=float)


def canonical(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same image with its axes flipped and permuted to run closest to right, anterior, superior."""
    turned = nib.orientations.apply_orientation(array_of(image), _orientation(image))  # type: ignore[no-untyped-call]
    to_turned = nib.orientations.inv_ornt_aff(_orientation(image), image.shape[:3])  # type: ignore[no-untyped-call]
    return image_of(np.ascontiguousarray(turned), affine_of(image) @ to_turned)


def on_axes_of(image: nib.Nifti1Image, values: np.ndarray) -> nib.Nifti1Image:
    """Values given on the canonical axes of ``image``, as an image on its own axes."""
    back = nib.orientations.ornt_transform(  # type: ignore[no-untyped-call]
        nib.orientations.axcodes2ornt("RAS"),  # type: ignore[no-untyped-call]
        _orientation(image),
    )
    turned = nib.orientations.apply_orientation(values, back)  # type: ignore[no-untyped-call]
    return image_of(np.ascontiguousarray(turned), affine_of(image))


def _orientation(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(nib.orientations.io_orientation(affine_of(image)))  # type: ignore[no-untyped-call]
