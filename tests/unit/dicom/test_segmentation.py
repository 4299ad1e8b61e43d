"""A lesion mask out of a DICOM Segmentation lies where it was drawn."""

from __future__ import annotations

from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from vbt.dicom._frame_of_reference import frame_of_reference_uid, note_frames, noted_frames
from vbt.dicom._segmentation import lesion_mask
from vbt.errors import Rejected

SHAPE = (9, 12, 10)  # slices, rows, columns
FRAME = generate_uid(entropy_srcs=["frame"])
LESION = CodedConcept("49755003", "SCT", "Morphologically abnormal structure")
TISSUE = CodedConcept("85756007", "SCT", "Tissue")


def geometry(oblique: bool = True) -> np.ndarray:
    """(slice, row, column) indices to LPS mm."""
    turn = np.deg2rad(20.0) if oblique else 0.0
    across = np.array([np.cos(turn), np.sin(turn), 0.0])
    down = np.array([-np.sin(turn), np.cos(turn), 0.0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = 3.0 * np.cross(across, down), 1.5 * down, 0.8 * across
    affine[:3, 3] = [-31.0, 17.5, -44.0]
    return affine


def source(affine: np.ndarray) -> list[Dataset]:
    """The headers of the MR slices on which the lesions are drawn."""
    slices = []
    study, series = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
    for number in range(SHAPE[0]):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        image.SOPInstanceUID = generate_uid(entropy_srcs=["slice", str(number)])
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, FRAME
        image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "P1", "Test^Person", "", ""
        image.AccessionNumber = image.StudyID = image.StudyDate = image.StudyTime = image.ReferringPhysicianName = ""
        image.Modality, image.Rows, image.Columns = "MR", SHAPE[1], SHAPE[2]
        image.ImagePositionPatient = [float(f"{x:.8g}") for x in affine[:3, 3] + number * affine[:3, 0]]
        image.ImageOrientationPatient = [
            float(f"{x:.10g}") for axis in (2, 1) for x in affine[:3, axis] / np.linalg.norm(affine[:3, axis])
        ]
        image.PixelSpacing, image.SliceThickness, image.SpacingBetweenSlices = [1.5, 0.8], 3.0, 3.0
        slices.append(image)
    return slices


def segment(number: int, category: CodedConcept) -> highdicom.seg.SegmentDescription:
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"segment {number}",
        segmented_property_category=category,
        segmented_property_type=CodedConcept("52988006", "SCT", "Lesion"),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def written(folder: Path, pixels: np.ndarray, affine: np.ndarray, *categories: CodedConcept, kind="BINARY") -> Path:
    path = folder / "lesions.dcm"
    highdicom.seg.Segmentation(
        source_images=source(affine),
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[segment(i + 1, category) for i, category in enumerate(categories)],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="TEST",
        manufacturer_model_name="TEST",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)
    return path


def drawn() -> np.ndarray:
    pixels = np.zeros(SHAPE, dtype=np.uint8)
    pixels[2, 3:5, 4] = pixels[5:7, 8, 1] = pixels[6, 2, 9] = 1  # slices 3 and 4 have no frame
    return pixels


def world(mask) -> set[tuple[float, ...]]:
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    return {tuple(np.round(p, 2)) for p in voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3]}


def expected(pixels: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    lps = np.argwhere(pixels) @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(np.round(p, 2)) for p in lps * [-1, -1, 1]}


@pytest.mark.parametrize("oblique", [False, True])
def test_every_voxel_lies_where_it_was_drawn(tmp_path, oblique):
    affine = geometry(oblique)
    mask = lesion_mask(written(tmp_path, drawn(), affine, LESION))
    assert world(mask) == expected(drawn(), affine)
    assert abs(np.linalg.det(mask.affine[:3, :3])) == pytest.approx(3.0 * 1.5 * 0.8)


def test_one_frame_is_enough_for_a_volume(tmp_path):
    pixels = drawn()
    pixels[5:] = 0
    mask = lesion_mask(written(tmp_path, pixels, geometry(), LESION))
    assert world(mask) == expected(pixels, geometry())


def test_lesions_drawn_as_several_segments_are_joined(tmp_path):
    pixels = np.stack([drawn(), np.roll(drawn(), 1, axis=0)], axis=3)
    mask = lesion_mask(written(tmp_path, pixels, geometry(), LESION, LESION))
    assert world(mask) == expected(pixels.any(axis=3), geometry())


def test_a_tissue_beside_the_lesions_is_left_out(tmp_path):
    pixels = np.stack([np.ones(SHAPE, dtype=np.uint8), drawn()], axis=3)
    mask = lesion_mask(written(tmp_path, pixels, geometry(), TISSUE, LESION))
    assert world(mask) == expected(drawn(), geometry())


def test_fractions_count_from_the_threshold_that_is_stated(tmp_path):
    soft = drawn() * 0.4
    soft[2, 3, 4] = 0.8
    path = written(tmp_path, soft, geometry(), LESION, kind="FRACTIONAL")
    with pytest.raises(Rejected) as refused:
        lesion_mask(path)
    assert refused.value.code == "segmentation-fractional"
    assert world(lesion_mask(path, threshold=0.5)) == expected(soft > 0.5, geometry())
    assert world(lesion_mask(path, threshold=0.3)) == expected(drawn(), geometry())


def test_another_frame_of_reference_is_refused_where_it_is_known(tmp_path):
    path = written(tmp_path, drawn(), geometry(), LESION)
    assert world(lesion_mask(path, frame_of_reference_uid=FRAME))
    with pytest.raises(Rejected) as refused:
        lesion_mask(path, frame_of_reference_uid=generate_uid())
    assert refused.value.code == "segmentation-of-another-frame"
    assert FRAME not in str(refused.value)


def test_the_frame_of_reference_is_read_and_a_note_of_those_it_differs_from_survives_the_file(tmp_path):
    path = written(tmp_path, drawn(), geometry(), LESION)
    assert frame_of_reference_uid(path) == FRAME
    assert frame_of_reference_uid(tmp_path / "missing.dcm") == ""
    mask = lesion_mask(path)
    assert noted_frames(mask) is None
    for names in ((), ("T1",), ("T1", "diffusion")):
        note_frames(mask, names)
        assert noted_frames(nib.Nifti1Image.from_bytes(mask.to_bytes())) == names


def test_segments_of_other_categories_only_are_refused(tmp_path):
    other = CodedConcept("123037004", "SCT", "Anatomical Structure")
    pixels = np.stack([drawn(), np.roll(drawn(), 1, axis=0)], axis=3)
    with pytest.raises(Rejected) as refused:
        lesion_mask(written(tmp_path, pixels, geometry(), TISSUE, other))
    assert refused.value.code == "segmentation-without-lesion"


def _as_image(content: Dataset) -> None:
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def _without_frames(content: Dataset) -> None:
    del content.PerFrameFunctionalGroupsSequence


def _without_segments(content: Dataset) -> None:
    del content.SegmentSequence


def _without_category(content: Dataset) -> None:
    del content.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence


def _without_type(content: Dataset) -> None:
    del content.SegmentationType


def _without_pixels(content: Dataset) -> None:
    content.PixelData = content.PixelData[:10]


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (_as_image, "not-a-segmentation"),
        (_without_frames, "segmentation-irregular"),
        (_without_segments, "segmentation-unreadable"),
        (_without_category, "segmentation-unreadable"),
        (_without_type, "segmentation-unreadable"),
        (_without_pixels, "segmentation-unreadable"),
    ],
)
def test_what_is_no_whole_segmentation_is_refused(tmp_path, broken, code):
    path = written(tmp_path, drawn(), geometry(), LESION)
    content = dcmread(path)
    broken(content)
    content.save_as(path)
    with pytest.raises(Rejected) as refused:
        lesion_mask(path)
    assert refused.value.code == code


def test_what_is_no_dicom_file_is_refused(tmp_path):
    path = tmp_path / "lesions.dcm"
    path.write_bytes(b"\0" * 200)
    with pytest.raises(Rejected) as refused:
        lesion_mask(path)
    assert refused.value.code == "segmentation-unreadable"


def test_a_stack_longer_than_a_head_is_refused(tmp_path):
    path = written(tmp_path, drawn(), geometry(False), LESION)
    content = dcmread(path)
    last = content.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    last.ImagePositionPatient = [-31.0, 17.5, 3.0 * 2_000_000 - 44.0]
    content.save_as(path)
    with pytest.raises(Rejected) as refused:
        lesion_mask(path)
    assert refused.value.code == "segmentation-too-large"


@pytest.mark.parametrize(
    ("side", "slices"),
    [
        (65535, 2**33),  # 2^65 voxels, which whole numbers of 64 bits would count as fewer than none
        (3344, 7),  # 2^26.2
    ],
)
def test_more_voxels_than_any_head_are_refused_before_they_are_made(tmp_path, side, slices):
    path = written(tmp_path, drawn(), geometry(False), LESION)
    content = dcmread(path)
    content.Rows = content.Columns = side
    first, *_, last = content.PerFrameFunctionalGroupsSequence
    content.PerFrameFunctionalGroupsSequence = [first, last]
    content.NumberOfFrames = 2
    start = [float(x) for x in first.PlanePositionSequence[0].ImagePositionPatient]
    last.PlanePositionSequence[0].ImagePositionPatient = [*start[:2], start[2] + 3.0 * (slices - 1)]
    content.save_as(path)
    with pytest.raises(Rejected) as refused:
        lesion_mask(path)
    assert refused.value.code == "segmentation-too-large"
    assert str(2**26) in refused.value.rule
