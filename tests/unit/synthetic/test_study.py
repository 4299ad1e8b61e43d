"""The study on disk is valid DICOM that other readers understand, full of things to remove."""

from __future__ import annotations

import hashlib
import subprocess
import sysconfig
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from vbt.synthetic import CANARIES, SyntheticPatient, write_dicom

SCRIPTS = Path(sysconfig.get_path("scripts"))


def _digest(directory: Path) -> dict[str, str]:
    files = sorted(directory.rglob("*.dcm"))
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_gives_the_same_bytes(study: Path, twin_patient: SyntheticPatient, tmp_path: Path) -> None:
    write_dicom(twin_patient, tmp_path)
    assert _digest(tmp_path) == _digest(study)


def test_every_instance_has_its_own_valid_uid(study: Path) -> None:
    uids = [pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID for path in study.rglob("*.dcm")]
    assert len(set(uids)) == len(uids)
    assert all(uid.is_valid for uid in uids)


@pytest.mark.parametrize(
    "where",
    ["study:t1/0001-0001", "study:dwi/0001-0001", "study:dwi/0002-0003", "study:bold/series",
     "other_encoding:dwi/series", "other_encoding:bold/0002-0001"],
)  # fmt: skip
def test_dciodvfy_finds_no_error(where: str, request: pytest.FixtureRequest) -> None:
    fixture, _, name = where.partition(":")
    path = request.getfixturevalue(fixture) / f"{name}.dcm"
    verdict = subprocess.run([SCRIPTS / "dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (verdict.stdout + verdict.stderr).splitlines()
    assert any("IOD" in line or line.startswith("Warning") for line in lines) or "MRImage" in "".join(lines)
    assert [line for line in lines if line.startswith("Error")] == []


def test_classic_slices_state_gradient_and_place(study: Path, patient: SyntheticPatient) -> None:
    to_lps = np.diag([-1.0, -1.0, 1.0])
    image = patient.diffusion.image
    for path in sorted((study / "dwi").glob("*.dcm"))[::37]:
        slice_ = pydicom.dcmread(path)
        volume = slice_.TemporalPositionIdentifier - 1
        index = (slice_.InstanceNumber - 1) % image.shape[2]
        assert slice_.DiffusionBValue == patient.diffusion.bvals[volume]
        direction = slice_.get("DiffusionGradientOrientation")
        if slice_.DiffusionBValue == 0:
            assert direction is None
        else:
            np.testing.assert_allclose(direction, to_lps @ patient.diffusion.bvecs[volume], atol=1e-12)
        corner = np.asarray(image.affine) @ [0, 0, index, 1]
        np.testing.assert_allclose(slice_.ImagePositionPatient, to_lps @ corner[:3], atol=1e-6)
        np.testing.assert_array_equal(slice_.pixel_array, np.asarray(image.dataobj)[:, :, index, volume].T)


def _converted(series: Path, out: Path) -> Path:
    subprocess.run([SCRIPTS / "dcm2niix", "-f", "x", "-o", out, series], capture_output=True, check=True)
    return out / "x.nii"


@pytest.mark.parametrize("fixture", ["study", "other_encoding"])
def test_dcm2niix_reads_the_gradients(
    fixture: str, request: pytest.FixtureRequest, patient: SyntheticPatient, tmp_path: Path
) -> None:
    image = nib.load(_converted(request.getfixturevalue(fixture) / "dwi", tmp_path))
    bvals, bvecs = np.loadtxt(tmp_path / "x.bval"), np.loadtxt(tmp_path / "x.bvec").T
    np.testing.assert_array_equal(bvals, patient.diffusion.bvals)
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.linalg.det(axes) > 0:  # FSL's convention flips x then
        bvecs = bvecs * [-1, 1, 1]
    cosine = (bvecs @ axes.T * patient.diffusion.bvecs).sum(axis=1)[bvals > 0]
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.1


@pytest.mark.parametrize(("series", "scan"), [("t1", "t1"), ("dwi", "diffusion"), ("bold", "functional")])
def test_dcm2niix_reads_the_same_images(
    series: str, scan: str, study: Path, patient: SyntheticPatient, tmp_path: Path
) -> None:
    source = getattr(patient, scan)
    truth = nib.as_closest_canonical(getattr(source, "image", source))
    read = nib.as_closest_canonical(nib.load(_converted(study / series, tmp_path)))
    np.testing.assert_allclose(read.affine, truth.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(read.dataobj), np.asarray(truth.dataobj))
    if series == "bold":
        assert read.header.get_zooms()[3] == pytest.approx(patient.functional.repetition_time)


@pytest.mark.parametrize("name", ["t1/0001-0001", "dwi/0002-0003", "bold/series"])
def test_canaries_are_planted(name: str, study: Path) -> None:
    content = (study / f"{name}.dcm").read_bytes()
    absent_in_enhanced = {"ImageComments"} if name.startswith("bold") else set()
    missing = [keyword for keyword, value in CANARIES if value.encode() not in content]
    assert set(missing) <= absent_in_enhanced


def test_canaries_can_be_told_from_one_another() -> None:
    values = [value for _, value in CANARIES]
    assert len(set(values)) == len(values)
    assert min(len(value) for value in values) >= 6
