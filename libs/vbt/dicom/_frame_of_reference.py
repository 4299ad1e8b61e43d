"""Whether an image was drawn in the frame of reference of others, which de-identification leaves no UID to tell by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
from pydicom import dcmread

from vbt.dicom._instance import UNPARSABLE

_PREFIX = "frames of reference compared; differs from: "


def frame_of_reference_uid(path: Path) -> str:
    """The UID in a DICOM file; empty where the file or it is missing. It identifies: not for keeping."""
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"])
        return str(found.get("FrameOfReferenceUID") or "")
    except (*UNPARSABLE, OSError):
        return ""


def note_frames(image: nib.Nifti1Image, differing: Sequence[str]) -> None:
    """Write into the image's own description from the frames of which other images its frame differs."""
    image.header["descrip"] = (_PREFIX + ", ".join(differing)).encode()


def noted_frames(image: nib.Nifti1Image) -> tuple[str, ...] | None:
    """Names of the images in another frame, as `note_frames` left them; None where nothing was compared."""
    text = bytes(image.header["descrip"].tobytes()).rstrip(b"\0").decode("ascii", "replace")
    if not text.startswith(_PREFIX):
        return None
    return tuple(name for name in text.removeprefix(_PREFIX).split(", ") if name)
