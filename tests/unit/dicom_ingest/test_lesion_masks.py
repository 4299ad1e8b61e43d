"""A mask is read whole or refused by its rule, whatever its file says."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dicom_ingest.recordings import lesions
from vbt.errors import Rejected

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def _voxels(kind: Any = np.uint8) -> np.ndarray:
    voxels = np.zeros((6, 5, 4), dtype=kind)
    voxels[1:3, 1:4, 2] = 1
    return voxels


def _nifti(voxels: np.ndarray, slope: float | None = None) -> bytes:
    image = nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0]))
    if slope is not None:
        image.header.set_slope_inter(slope, 0.0)
    return bytes(image.to_bytes())


def _changed(content: bytes, where: int, what: bytes) -> bytes:
    return content[:where] + what + content[where + len(what) :]


def _code(tmp_path: Path, content: bytes, name: str = "mask.nii") -> str:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Rejected) as refused:
        lesions(path)
    return refused.value.code


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_mask_of_any_numbers_is_kept_as_bits_of_the_same_place(
    tmp_path: Path, kind: type[np.generic], compressed: bool
) -> None:
    content = _nifti(_voxels(kind))
    path = tmp_path / "mask"
    path.write_bytes(gzip.compress(content) if compressed else content)
    kept = lesions(path)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(kept.content))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), _voxels())
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert kept.summary == "lesions of 0.0 mL"


def test_a_compressed_mask_of_another_checksum_is_refused(tmp_path: Path) -> None:
    voxels = np.pad(np.random.default_rng(0).integers(0, 2, (64, 64, 64), dtype=np.uint8), 1)
    content = gzip.compress(_nifti(voxels))
    flipped = bytes(byte ^ 0xFF for byte in content[-8:-4])
    assert _code(tmp_path, content[:-8] + flipped + content[-4:], "mask.nii.gz") == "lesion-mask-unreadable"
    assert _code(tmp_path, content[:-9], "mask.nii.gz") == "lesion-mask-unreadable"


def test_a_broken_stream_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(_nifti(np.random.default_rng(0).integers(0, 2, (20, 20, 20), dtype=np.uint8)))
    for where in range(10, len(content), 37):
        assert _code(tmp_path, _changed(content, where, b"\xff\xff\xff\xff"), "m.nii.gz") == "lesion-mask-unreadable"


@pytest.mark.parametrize("kind", [RGB, np.complex64])
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, kind: Any) -> None:
    assert _code(tmp_path, _nifti(np.zeros((6, 5, 4), dtype=kind))) == "lesion-mask-unreadable"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    voxels = _voxels(np.float32)
    voxels[0, 0, 3] = value
    assert _code(tmp_path, _nifti(voxels)) == "lesion-mask-unreadable"


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0])
def test_a_second_value_is_refused_and_not_taken_for_lesion(tmp_path: Path, value: float) -> None:
    voxels = _voxels(np.float32)
    voxels[0, 0, 3] = value
    assert _code(tmp_path, _nifti(voxels)) == "lesion-mask-not-binary"


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    assert _code(tmp_path, _nifti(np.zeros((6, 5, 4), dtype=np.uint8))) == "lesion-mask-empty"


@pytest.mark.parametrize("sides", [(32767, 32767, 32767), (16384, 16384, 16384), (-5, -6, 4), (0, 5, 4)])
def test_impossible_sides_are_refused_before_memory_is_taken(tmp_path: Path, sides: tuple[int, int, int]) -> None:
    content = _changed(_nifti(_voxels()), 42, np.array(sides, dtype="<i2").tobytes())
    assert _code(tmp_path, content) in {"lesion-mask-too-large", "lesion-mask-unreadable"}


def test_what_decompresses_beyond_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_ingest.recordings._MOST_BYTES", 10_000)
    bomb = gzip.compress(_nifti(_voxels()) + bytes(1 << 20))
    assert len(bomb) < 10_000
    assert _code(tmp_path, bomb, "mask.nii.gz") == "lesion-mask-too-large"


def test_a_header_with_any_byte_changed_is_read_or_refused_and_never_crashes(tmp_path: Path) -> None:
    whole, rng = _nifti(_voxels(np.int16), slope=1.0), np.random.default_rng(3)
    path = tmp_path / "mask.nii"
    for _ in range(400):
        changed = bytearray(whole)
        for where in rng.integers(0, 352, size=3):
            changed[where] = rng.integers(256)
        path.write_bytes(bytes(changed))
        try:
            lesions(path)
        except Rejected as refusal:
            assert refusal.code.startswith("lesion-mask-")  # noqa: PT017 - most are read
