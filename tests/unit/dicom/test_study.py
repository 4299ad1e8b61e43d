"""Series, roles, refusals and geometry on small studies written here."""

from __future__ import annotations

import resource
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from vbt.dicom import Role, anatomical_volume, diffusion_volumes, read_study, require_protocol
from vbt.errors import NotYet, Rejected

Write = Callable[..., Path]


def _directions(count: int) -> np.ndarray:
    angles = np.linspace(0, np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=1)


def _refusal(*paths: Path) -> str:
    with pytest.raises(Rejected) as caught:
        require_protocol(read_study(paths))
    return caught.value.code


def test_slices_become_volumes_in_scanner_ras(write_diffusion: Write) -> None:
    series = read_study([write_diffusion()]).series[0]
    volumes = diffusion_volumes(series)
    expected = [[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volumes.image.affine, expected)
    assert volumes.image.shape == (8, 6, 5, 8)
    # column 2, row 3, slice 4 of volume 1 is image number 10: 100 * 10 + 3 * 8 + 2
    assert volumes.image.get_fdata()[2, 3, 4, 1] == 1026


def test_directions_turn_from_patient_to_scanner_ras(write_diffusion: Write) -> None:
    volumes = diffusion_volumes(read_study([write_diffusion()]).series[0])
    np.testing.assert_allclose(volumes.bvals, [0, *[1000] * 7])
    np.testing.assert_allclose(volumes.bvecs[0], 0)
    np.testing.assert_allclose(volumes.bvecs[1], [-1, 0, 0])
    np.testing.assert_allclose(volumes.bvecs[5], np.array([0, -1, 1]) / np.sqrt(2), atol=1e-7)


def test_rescaling_is_applied(write_t1: Write) -> None:
    plain = anatomical_volume(read_study([write_t1()]).series[0]).get_fdata()
    scaled = read_study([write_t1("scaled", RescaleSlope=0.5, RescaleIntercept=-10)]).series[0]
    np.testing.assert_allclose(anatomical_volume(scaled).get_fdata(), plain * 0.5 - 10)


def test_file_names_and_order_change_nothing(write_diffusion: Write, tmp_path: Path) -> None:
    folder = write_diffusion()
    before = diffusion_volumes(read_study([folder]).series[0])
    rng = np.random.default_rng(1)
    for new, path in enumerate(rng.permutation(sorted(folder.iterdir()))):
        Path(path).rename(tmp_path / f"dwi/x{new:04}")
    after = diffusion_volumes(read_study([folder]).series[0])
    np.testing.assert_array_equal(before.image.get_fdata(), after.image.get_fdata())
    np.testing.assert_array_equal(before.bvecs, after.bvecs)


@pytest.mark.parametrize("syntax", ["implicit", "rle"])
def test_other_encodings_give_the_same_volume(write_t1: Write, syntax: str) -> None:
    plain = anatomical_volume(read_study([write_t1()]).series[0]).get_fdata()
    folder = write_t1("other")
    for path in folder.iterdir():
        image = dcmread(path)
        if syntax == "rle":
            image.compress(RLELossless, generate_instance_uid=False)
            image.save_as(path, enforce_file_format=True)
        else:
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            image.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(anatomical_volume(read_study([folder]).series[0]).get_fdata(), plain)


def test_complete_study_is_ready(write_diffusion: Write, write_t1: Write) -> None:
    chosen = require_protocol(read_study([write_diffusion(), write_t1()]))
    assert (chosen.diffusion.role, chosen.t1.role, chosen.fmri) == (Role.DIFFUSION, Role.T1, None)


def test_duplicates_are_counted_once(write_diffusion: Write, write_t1: Write, tmp_path: Path) -> None:
    folder = write_diffusion()
    for path in sorted(folder.iterdir())[:7]:
        (tmp_path / f"dwi/copy_{path.name}").write_bytes(path.read_bytes())
    series = read_study([folder, write_t1()]).series[0]
    assert (series.duplicates, len(series.instances), series.usable) == (7, 40, True)


def test_missing_slice_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion()
    (folder / "03_02.dcm").unlink()
    assert _refusal(folder, write_t1()) == "missing-slices"


def test_missing_slice_position_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion()
    for path in folder.glob("*_02.dcm"):
        path.unlink()
    assert _refusal(folder, write_t1()) == "missing-slices"


def test_missing_volume_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion(NumberOfTemporalPositions=8)
    for path in folder.glob("03_*.dcm"):
        path.unlink()
    assert _refusal(folder, write_t1()) == "missing-volumes"


def test_gap_in_the_instance_numbers_is_a_missing_volume(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion()
    for path in folder.glob("03_*.dcm"):
        path.unlink()
    assert _refusal(folder, write_t1()) == "missing-volumes"


def test_diffusion_without_gradients_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    assert _refusal(write_diffusion(gradients=False), write_t1()) == "diffusion-without-gradients"


def test_five_directions_are_refused_and_six_are_not(write_diffusion: Write, write_t1: Write) -> None:
    t1 = write_t1()
    assert _refusal(write_diffusion(_directions(5), name="five"), t1) == "diffusion-too-few-directions"
    require_protocol(read_study([write_diffusion(_directions(6), name="six"), t1]))


def test_opposite_directions_count_once(write_diffusion: Write, write_t1: Write) -> None:
    directions = np.concatenate([_directions(5), -_directions(5)])
    assert _refusal(write_diffusion(directions), write_t1()) == "diffusion-too-few-directions"


def test_trace_volume_is_dropped(write_diffusion: Write) -> None:
    directions = np.concatenate([np.eye(3), -np.eye(3), np.ones((1, 3)) / np.sqrt(3), np.zeros((1, 3))])
    directions = np.concatenate([directions, _directions(6)])
    volumes = diffusion_volumes(read_study([write_diffusion(directions)]).series[0])
    assert len(volumes.bvals) == len(directions)
    assert volumes.bvecs[1:].any(axis=1).all()


def test_study_without_diffusion_is_refused(write_t1: Write) -> None:
    assert _refusal(write_t1()) == "no-diffusion"


def test_study_without_t1_is_refused(write_diffusion: Write) -> None:
    assert _refusal(write_diffusion()) == "no-t1"


def test_file_that_is_not_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image " * 100)
    assert _refusal(tmp_path) == "not-dicom"


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_truncated_file_is_refused(write_diffusion: Write, write_t1: Write, kept: float) -> None:
    folder = write_diffusion()
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    study = read_study([folder, write_t1()])
    assert {file.reason.code for file in study.unreadable} <= {"truncated", "malformed-dicom"}
    assert len(study.unreadable) == 40


def test_unreadable_transfer_syntax_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion()
    for path in folder.iterdir():
        image = dcmread(path)
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        image.PixelData = encapsulate([b"\x00\x00\x01\xb3" + bytes(60)])
        image["PixelData"].is_undefined_length = True
        image.save_as(path, enforce_file_format=True)
    assert _refusal(folder, write_t1()) == "unreadable-transfer-syntax"


def test_deflated_file_is_refused_unopened(tmp_path: Path, write_diffusion: Write) -> None:
    path = sorted(write_diffusion().iterdir())[0]
    content = path.read_bytes()
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b"\0" * (64 << 20)) + deflate.flush()
    syntax = b"1.2.840.10008.1.2.1.99"
    head = content[:meta_end].replace(b"1.2.840.10008.1.2.1\0", syntax)
    head = head.replace(b"\x02\x00\x10\x00UI\x14\x00", b"\x02\x00\x10\x00UI\x16\x00")
    (tmp_path / "bomb").mkdir()
    (tmp_path / "bomb" / "bomb.dcm").write_bytes(head + bomb)
    assert _refusal(tmp_path / "bomb") == "unreadable-transfer-syntax"


@contextmanager
def _no_more_files() -> Iterator[None]:
    """Opening any file fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_system_that_cannot_open_a_file_says_nothing_about_the_image(write_diffusion: Write) -> None:
    paths = sorted(write_diffusion().iterdir())
    with _no_more_files(), pytest.raises(NotYet) as later:
        read_study(paths)
    assert later.value.code == "image-unreachable"
    assert str(paths[0]) not in str(later.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_system_that_cannot_open_a_file_says_nothing_about_its_pixels(
    write_diffusion: Write, *, compressed: bool
) -> None:
    folder = write_diffusion()
    for path in folder.iterdir() if compressed else ():
        image = dcmread(path)
        image.compress(RLELossless)
        image.save_as(path, enforce_file_format=True)
    series = read_study([folder]).series[0]
    with _no_more_files(), pytest.raises(NotYet) as later:
        diffusion_volumes(series)
    assert later.value.code == "image-unreachable"
    assert diffusion_volumes(series).image.get_fdata()[2, 3, 4, 1] == 1026


def test_sequence_bomb_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion()
    path = sorted(folder.iterdir())[0]
    content = path.read_bytes()
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    opening = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:meta_end] + opening * 10_000 + content[meta_end:])
    study = read_study([folder, write_t1()])
    assert [file.reason.code for file in study.unreadable] == ["malformed-dicom"]


def test_huge_element_length_is_refused(write_diffusion: Write, write_t1: Write) -> None:
    folder = write_diffusion()
    path = sorted(folder.iterdir())[0]
    content = path.read_bytes()
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[:meta_end] + b"\x08\x00\x08\x00UT\0\0\xf0\xff\xff\xff" + content[meta_end:])
    assert len(read_study([folder, write_t1()]).unreadable) == 1


def test_images_of_two_patients_are_refused(write_diffusion: Write, write_t1: Write) -> None:
    assert _refusal(write_diffusion(), write_t1(PatientID="P2")) == "several-patients"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, "derived image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "not a magnitude image"),
        ({"Modality": "CT"}, "not an MR image"),
        ({"EchoTime": 25.0}, "3-D gradient echo that is not T1-weighted"),
        ({"PixelSpacing": [4.0, 4.0]}, "3-D gradient echo too coarse for anatomy"),
    ],
)
def test_series_that_is_no_anatomy_says_why(write_t1: Write, changes: dict[str, object], reason: str) -> None:
    entry = read_study([write_t1(**changes)]).inventory()[0]
    assert (entry.role, entry.reason) == ("other", reason)


def test_adc_and_trace_maps_are_no_diffusion_series(write_diffusion: Write, write_t1: Write) -> None:
    derived = write_t1("adc", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], SeriesInstanceUID="1.2.3.9")
    series = read_study([write_diffusion(), write_t1(), derived]).series
    assert [s.role for s in series] == [Role.DIFFUSION, Role.T1, Role.OTHER]


def test_descriptions_do_not_decide_roles(write_t1: Write) -> None:
    entry = read_study([write_t1(SeriesDescription="DTI 64 directions", ProtocolName="fMRI rest")]).inventory()[0]
    assert entry.role == "t1"


def test_inventory_and_refusals_name_no_one(write_diffusion: Write, write_t1: Write) -> None:
    study = read_study([write_diffusion(gradients=False, SeriesDescription="CANARY"), write_t1()])
    text = f"{study!r} {study.inventory()!r} {[str(s.refusal) for s in study.series]}"
    for secret in ("CANARY", "Test^Person", "P1", "1.2.3.4", "/tmp"):
        assert secret not in text


def test_several_acquisitions_in_one_series_come_apart(write_t1: Write) -> None:
    second = write_t1("second", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for number, path in enumerate(sorted(second.iterdir())):
        image = dcmread(path)
        image.SOPInstanceUID, image.SeriesInstanceUID = f"1.9.{number}", "1.2.3.5"
        image.ImagePositionPatient = [float(number), 0.0, 0.0]
        image.save_as(path)
    study = read_study([write_t1(), second])
    assert [(s.role, s.usable) for s in study.series] == [(Role.T1, True), (Role.T1, True)]


def test_enhanced_frames_follow_their_dimension_indices(tmp_path: Path, write_diffusion: Write) -> None:
    classic = read_study([write_diffusion()]).series[0]
    expected = diffusion_volumes(classic)
    (tmp_path / "enhanced").mkdir()
    _enhanced(sorted((tmp_path / "dwi").iterdir())).save_as(tmp_path / "enhanced/one.dcm", enforce_file_format=True)
    volumes = diffusion_volumes(read_study([tmp_path / "enhanced"]).series[0])
    np.testing.assert_array_equal(volumes.image.get_fdata(), expected.image.get_fdata())
    np.testing.assert_allclose(volumes.image.affine, expected.image.affine)
    np.testing.assert_array_equal(volumes.bvecs, expected.bvecs)


def _enhanced(paths: list[Path]) -> Dataset:
    """The classic slices as frames of one object, in shuffled frame order."""
    images = [dcmread(path) for path in paths]
    rng = np.random.default_rng(3)
    order = [int(i) for i in rng.permutation(len(images))]
    first = dcmread(paths[0])
    first.SOPClassUID = first.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    first.NumberOfFrames = len(images)
    first.DimensionIndexSequence = []
    for pointer in (0x00209056, 0x00209057, 0x00209128):
        item = Dataset()
        item.DimensionIndexPointer = pointer
        first.DimensionIndexSequence.append(item)
    first.PerFrameFunctionalGroupsSequence = [
        _frame(images[i], stack=1, place=i % 5 + 1, volume=i // 5 + 1) for i in order
    ]
    first.SharedFunctionalGroupsSequence = [_shared(first)]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "DiffusionBValue"):
        delattr(first, keyword)
    first.PixelData = b"".join(images[i].PixelData for i in order)
    return first


def _shared(image: Dataset) -> Dataset:
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SpacingBetweenSlices = image.PixelSpacing, image.SpacingBetweenSlices
    orientation.ImageOrientationPatient = image.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    return shared


def _frame(image: Dataset, stack: int, place: int, volume: int) -> Dataset:
    frame, content, position, diffusion, direction = (Dataset() for _ in range(5))
    content.DimensionIndexValues = [stack, place, volume]
    position.ImagePositionPatient = image.ImagePositionPatient
    diffusion.DiffusionBValue = image.DiffusionBValue
    if image.DiffusionBValue:
        direction.DiffusionGradientOrientation = image.DiffusionGradientOrientation
        diffusion.DiffusionGradientDirectionSequence = [direction]
    frame.FrameContentSequence, frame.PlanePositionSequence = [content], [position]
    frame.MRDiffusionSequence = [diffusion]
    return frame
