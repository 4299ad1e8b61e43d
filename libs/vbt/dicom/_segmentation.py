"""A DICOM Segmentation becomes a lesion mask with an exact affine to scanner RAS+ millimetres."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
from jaxtyping import Bool
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from vbt.dicom._instance import UNPARSABLE
from vbt.errors import Rejected

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_CLASSES = {SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE}
# Inflating happens before any size is known; big endian is retired.
_UNREAD = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
# SNOMED CT "Morphologically abnormal structure": the category of a lesion (DICOM PS3.16, CID 7150), and its older code.
_LESION_CATEGORIES = {"49755003", "M-01000"}
# 406³, a head of 256 mm at 0.63 mm, finer than lesions are drawn: as of a mask in NIfTI. Of fractions a voxel takes 8
# bytes while it is read, half a gigabyte in all.
_MOST_VOXELS = 2**26


def lesion_mask(
    path: Path, *, frame_of_reference_uid: str | None = None, threshold: float | None = None
) -> nib.Nifti1Image:
    """The union of a segmentation's lesions: 1 inside, 0 elsewhere, on the segmentation's own grid.

    Where segments are of several categories, those of morphologically abnormal structures are the lesions.

    Parameters
    ----------
    frame_of_reference_uid : of the T1, where it is known; a segmentation in another frame is refused
    threshold : from which fraction a voxel of a fractional segmentation counts as lesion, in (0, 1]

    Raises
    ------
    Rejected
        ``segmentation-unreadable``, ``not-a-segmentation``, ``segmentation-of-another-frame``,
        ``segmentation-fractional``, ``segmentation-irregular``, ``segmentation-too-large``,
        ``segmentation-without-lesion``

    References
    ----------
    DICOM PS3.3, A.51 (Segmentation IOD) and C.8.20.
    """
    segmentation = _opened(path)
    try:
        if frame_of_reference_uid is not None and str(segmentation.FrameOfReferenceUID) != frame_of_reference_uid:
            raise _another_frame()
        if str(segmentation.SegmentationType) != "FRACTIONAL":
            threshold = None
        elif threshold is None:
            raise _fractional()
        segments = _lesions(segmentation)
        _refuse_grid(segmentation)
        return _volume(segmentation, segments, threshold)
    except UNPARSABLE as failure:
        raise _unreadable() from failure


def _opened(path: Path) -> Any:
    try:
        meta = read_file_meta_info(path)
        if meta.TransferSyntaxUID in _UNREAD:
            raise _unreadable()
        if meta.MediaStorageSOPClassUID not in _CLASSES:
            raise _not_a_segmentation()
        segmentation = highdicom.seg.segread(path)
        if segmentation.SOPClassUID not in _CLASSES:
            raise _not_a_segmentation()
    except UNPARSABLE as failure:
        raise _unreadable() from failure
    return segmentation


def _lesions(segmentation: Any) -> list[int]:
    """Numbers of the segments that are lesions."""
    categories = {}
    for number in segmentation.segment_numbers:
        category = segmentation.get_segment_description(number).segmented_property_category
        categories[int(number)] = str(category.value)
    marked = [number for number, code in categories.items() if code in _LESION_CATEGORIES]
    if marked or len(set(categories.values())) == 1:
        return marked or list(categories)
    raise Rejected(
        "segmentation-without-lesion",
        rule="among segments of several categories, lesions are morphologically abnormal structures",
        got=f"{len(categories)} segments of {len(set(categories.values()))} other categories",
        action="send the segmentation of the lesions alone",
    )


def _refuse_grid(segmentation: Any) -> None:
    geometry = segmentation.get_volume_geometry()
    if geometry is None:
        raise Rejected(
            "segmentation-irregular",
            rule="the segmentation's frames lie parallel at equal distances",
            got="frames that fill no regular volume",
            action="resample the segmentation onto a regular volume",
        )
    voxels = math.prod(int(side) for side in geometry.spatial_shape)
    if voxels > _MOST_VOXELS:
        raise Rejected(
            "segmentation-too-large",
            rule=f"a segmentation has at most {_MOST_VOXELS} voxels",
            got=f"{voxels}",
            action="resample the segmentation to the grid of the T1",
        )


def _volume(segmentation: Any, segments: Iterable[int], threshold: float | None) -> nib.Nifti1Image:
    inside: Bool[np.ndarray, "slice row column"] | None = None
    volume: Any = None
    if threshold is None:
        volume = segmentation.get_volume(
            segment_numbers=list(segments), combine_segments=True, skip_overlap_checks=True
        )
        inside = volume.array > 0
    else:
        for segment in segments:  # one at a time: each is as large as the whole
            volume = segmentation.get_volume(segment_numbers=[segment])
            above = volume.array[..., 0] >= threshold
            inside = above if inside is None else inside | above
    mask = np.asarray(inside, dtype=np.uint8)
    return nib.Nifti1Image(mask, volume.get_affine("RAS"))  # type: ignore[no-untyped-call]


def _another_frame() -> Rejected:
    return Rejected(
        "segmentation-of-another-frame",
        rule="the segmentation is drawn in the scanner's frame of reference of the T1",
        got="another frame of reference",
        action="send the segmentation of this patient's session, or register it first",
    )


def _fractional() -> Rejected:
    return Rejected(
        "segmentation-fractional",
        rule="lesions are drawn with sharp borders, or the fraction that counts as lesion is stated",
        got="a fractional segmentation and no threshold",
        action="state the threshold, or send a binary segmentation",
    )


def _not_a_segmentation() -> Rejected:
    return Rejected(
        "not-a-segmentation",
        rule="a DICOM lesion mask is a Segmentation object",
        got="another SOP class",
        action="export the lesions as DICOM SEG or NIfTI",
    )


def _unreadable() -> Rejected:
    return Rejected(
        "segmentation-unreadable",
        rule="the segmentation is a complete DICOM file in a transfer syntax that is read here",
        got="content that could not be parsed",
        action="export it again as Explicit VR Little Endian",
    )
