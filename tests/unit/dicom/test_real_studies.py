"""Real studies of three vendors in four encodings, against dcm2niix; and de-identified, against themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from vbt.dicom import (
    Role,
    Series,
    anatomical_volume,
    deidentify,
    diffusion_volumes,
    functional_volumes,
    read_study,
)

RealStudy = Callable[[str], Path]
# Study folder and how many usable series of each role it holds. The Philips fMRI is left to the bench: 4,725 files.
STUDIES = {
    "canon_galan_12dir": {Role.DIFFUSION: 2},
    "siemens_prisma_e11_mosaic20": {Role.DIFFUSION: 2},
    "siemens_prisma_xa30_enhanced": {Role.DIFFUSION: 2, Role.T1: 1, Role.FMRI: 1},
    "philips_elition/1301": {Role.T1: 1},
    "philips_elition/2201": {Role.DIFFUSION: 1},
}
KEY = b"a key of at least thirty-two bytes"


@pytest.fixture(scope="session")
def series_of(real_study: RealStudy) -> Callable[[str], tuple[Series, ...]]:
    read: dict[str, tuple[Series, ...]] = {}

    def usable(name: str) -> tuple[Series, ...]:
        study, _, part = name.partition("/")
        folder = real_study(study) / part
        if name not in read:
            read[name] = tuple(series for series in read_study([folder]).series if series.usable)
        return read[name]

    return usable


def _image(series: Series) -> nib.Nifti1Image:
    if series.role is Role.DIFFUSION:
        return diffusion_volumes(series).image
    return anatomical_volume(series) if series.role is Role.T1 else functional_volumes(series).image


def _dcm2niix(series: Series, folder: Path) -> Path:
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.exists():
        pytest.skip("dcm2niix is not installed")
    (folder / "in").mkdir()
    for number, instance in enumerate(series.instances):
        (folder / "in" / f"{number:05}.dcm").symlink_to(instance.path)
    # -p n: the same rescaling as DICOM states, not Philips' precise values
    subprocess.run(
        [program, "-z", "n", "-p", "n", "-f", "x", "-o", folder, folder / "in"], check=True, capture_output=True
    )
    (image,) = folder.glob("*.nii")
    return image


@pytest.mark.parametrize("name", STUDIES)
def test_roles_are_found_in_every_study(name: str, series_of: Callable[[str], tuple[Series, ...]]) -> None:
    found = [series.role for series in series_of(name)]
    assert {role: found.count(role) for role in found} == STUDIES[name]


@pytest.mark.parametrize("name", STUDIES)
def test_volumes_and_gradients_equal_dcm2niix(
    name: str, series_of: Callable[[str], tuple[Series, ...]], tmp_path: Path
) -> None:
    for series in series_of(name):
        folder = tmp_path / str(series.number)
        folder.mkdir()
        converted = _dcm2niix(series, folder)
        reference = nib.load(converted)
        ours = _image(series)
        assert np.linalg.det(ours.affine) > 0
        theirs, mine = nib.as_closest_canonical(reference), nib.as_closest_canonical(ours)
        # NIfTI headers hold float32: 1e-4 mm is their rounding
        np.testing.assert_allclose(mine.affine, theirs.affine, atol=2e-4)
        # volume by volume, so the order is compared too
        np.testing.assert_allclose(
            mine.get_fdata(dtype=np.float32), theirs.get_fdata(dtype=np.float32), rtol=1e-6, atol=1e-3
        )
        if series.role is Role.DIFFUSION:
            _same_gradients(series, converted, reference.affine)
        if series.role is Role.FMRI:
            assert ours.header.get_zooms()[3] == pytest.approx(reference.header.get_zooms()[3], rel=1e-4)
        shutil.rmtree(folder)


def _same_gradients(series: Series, converted: Path, affine: np.ndarray) -> None:
    volumes = diffusion_volumes(series)
    np.testing.assert_array_equal(volumes.bvals, np.loadtxt(converted.with_suffix(".bval")))
    bvecs = np.loadtxt(converted.with_suffix(".bvec")).T
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.linalg.det(axes) > 0:
        # FSL's bvecs count the first voxel axis as if the image were stored radiologically.
        bvecs[:, 0] *= -1
    world = bvecs @ axes.T
    weighted = volumes.bvals > 0
    cosines = np.abs(np.sum(world[weighted] * volumes.bvecs[weighted], axis=1))
    cosines /= np.linalg.norm(world[weighted], axis=1)
    assert np.degrees(np.arccos(np.clip(cosines, 0, 1))).max() < 0.1
    assert not volumes.bvecs[~weighted].any()


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "philips_elition/1301"])
def test_deidentified_volumes_and_gradients_are_equal_bit_for_bit(
    name: str, series_of: Callable[[str], tuple[Series, ...]], tmp_path: Path
) -> None:
    before = series_of(name)
    for number, instance in enumerate(i for series in before for i in series.instances):
        deidentify(dcmread(instance.path), KEY).save_as(tmp_path / f"{number:05}.dcm", enforce_file_format=True)
    after = read_study([tmp_path])
    assert not after.unreadable
    assert [series.role for series in after.series] == [series.role for series in before]
    for old, new in zip(before, after.series, strict=True):
        one, other = _image(old), _image(new)
        np.testing.assert_array_equal(one.affine, other.affine)
        np.testing.assert_array_equal(np.asanyarray(one.dataobj), np.asanyarray(other.dataobj))
        if old.role is Role.DIFFUSION:
            np.testing.assert_array_equal(diffusion_volumes(old).bvals, diffusion_volumes(new).bvals)
            np.testing.assert_array_equal(diffusion_volumes(old).bvecs, diffusion_volumes(new).bvecs)


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "philips_elition/2201"])
def test_deidentified_bytes_hold_nothing_of_the_patient(
    name: str, series_of: Callable[[str], tuple[Series, ...]], tmp_path: Path
) -> None:
    for series in series_of(name):
        original = dcmread(series.instances[0].path)
        path = tmp_path / "clean.dcm"
        deidentify(original, KEY).save_as(path, enforce_file_format=True)
        header = dcmread(path, stop_before_pixels=True).to_json()
        for keyword in (
            "PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "InstitutionAddress", "StationName",
            "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "DeviceSerialNumber",
            "StudyDate", "SeriesDescription", "StudyDescription",
        ):  # fmt: skip
            value = str(original.get(keyword) or "")
            # One site named its scanner after the model; the model itself may stay.
            if len(value) > 3 and value != original.get("ManufacturerModelName"):
                assert value not in header, keyword
