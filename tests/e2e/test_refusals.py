"""What bad input gets: a stated reason, an audit entry, a stopped case; the port stays up and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from vbt.api.dicom.v1 import dicom_pb2, dicom_pb2_grpc
from vbt.platform.grpc_channel import open_channel
from vbt.synthetic import PatientSettings, make_patient, write_dicom

Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small patient's DICOM files."""
    folder = tmp_path_factory.mktemp("study") / "patient"
    write_dicom(make_patient(0, PatientSettings.small()), folder)
    return folder


@pytest.fixture(scope="module")
def site(vbt_at: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A suite that runs through all tests of this module."""
    suite = vbt_at(tmp_path_factory.mktemp("site") / "data")
    suite.up()
    yield suite
    suite.kill()


def series_of(dataset: pydicom.Dataset) -> str:
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return "fmri"
    return "diffusion" if "DiffusionBValue" in dataset else "t1"


def drop(kind: str) -> Edit:
    def edit(folder: Path) -> None:
        for path in folder.rglob("*.dcm"):
            if series_of(pydicom.dcmread(path, stop_before_pixels=True)) == kind:
                path.unlink()

    return edit


def each(kind: str, change: Callable[[pydicom.Dataset], None]) -> Edit:
    def edit(folder: Path) -> None:
        for path in folder.rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            if series_of(dataset) == kind:
                change(dataset)
                dataset.save_as(path)

    return edit


def without_some_slices(folder: Path) -> None:
    paths = [path for path in sorted(folder.rglob("*.dcm")) if series_of(pydicom.dcmread(path)) == "diffusion"]
    for path in paths[5:8]:
        path.unlink()


def without_gradients(dataset: pydicom.Dataset) -> None:
    for keyword in ("DiffusionBValue", "DiffusionGradientOrientation", "DiffusionDirectionality"):
        if keyword in dataset:
            delattr(dataset, keyword)


def with_five_directions(folder: Path) -> None:
    """Keeps b = 0 and five directions, numbered as if no more had been acquired."""
    seen: list[tuple[float, ...]] = []
    number = 0
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        if series_of(dataset) != "diffusion":
            continue
        if dataset.DiffusionBValue:
            direction = tuple(round(float(x), 4) for x in dataset.DiffusionGradientOrientation)
            if direction not in seen and len(seen) < 5:
                seen.append(direction)
            if direction not in seen:
                path.unlink()
                continue
        number += 1
        dataset.InstanceNumber = number
        if "NumberOfTemporalPositions" in dataset:
            del dataset.NumberOfTemporalPositions
        dataset.save_as(path)


def truncated(folder: Path) -> None:
    """Cuts off half of the pixels of one T1 image."""
    path = next(path for path in sorted(folder.rglob("*.dcm")) if series_of(pydicom.dcmread(path)) == "t1")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - len(pydicom.dcmread(path).PixelData) // 2])


REFUSALS: dict[str, Edit] = {
    "no-diffusion": drop("diffusion"),
    "no-t1": drop("t1"),
    "missing-slices": without_some_slices,
    "diffusion-without-gradients": each("diffusion", without_gradients),
    "diffusion-too-few-directions": with_five_directions,
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_study_that_cannot_give_a_twin_stops_with_its_reason(
    site: Any, study: Path, tmp_path: Path, code: str
) -> None:
    folder = copy_as_new_study(study, tmp_path / "study")
    REFUSALS[code](folder)
    known = {case["case_id"] for case in site.cases()}
    site.send(folder)
    case = ended(site, known)
    stopped = next(stage for stage in case["stages"] if stage["status"] == "stopped")
    assert stopped["detail"]["code"] == code
    assert {"rule", "got", "action"} <= set(stopped["detail"])
    assert_on_the_trail(site, case["case_id"], code)


def test_a_truncated_image_is_refused_at_once_and_its_whole_copy_is_taken(
    site: Any, study: Path, tmp_path: Path
) -> None:
    folder = copy_as_new_study(study, tmp_path / "study")
    drop("diffusion")(folder)
    whole = {path: path.read_bytes() for path in folder.rglob("*.dcm")}
    truncated(folder)
    known = {case["case_id"] for case in site.cases()}
    assert site.send(folder, check=False)["failed"] == 1
    for path, content in whole.items():
        path.write_bytes(content)
    assert site.send(folder)["failed"] == 0

    def whole_study() -> list[dict[str, Any]]:
        new = [case for case in site.cases() if case["case_id"] not in known]
        return [case for case in new if case["stages"][0]["detail"].get("instances") == len(whole)]

    site.wait(lambda: bool(whole_study()), "the whole copy was not taken", seconds=120.0)
    aside = next(case for case in site.cases() if case["case_id"] not in known and case["protocol"] == "quarantine")
    assert aside["stages"][0]["detail"]["code"] == "malformed"


def test_what_is_no_dicom_is_kept_aside_and_said_so(site: Any, study: Path, tmp_path: Path) -> None:
    known = {case["case_id"] for case in site.cases()}
    whole = next(study.rglob("*.dcm")).read_bytes()
    answer = submit(site, [b"this is a letter, not an image" * 50, whole[:300]])
    assert (answer.stored, answer.quarantined) == (0, 2)
    case = ended(site, known)
    assert case["stages"][0]["detail"]["code"] == "malformed"
    assert len(case["stages"][0]["detail"]["objects"]) == 2
    assert_on_the_trail(site, case["case_id"], "malformed")
    sent = site.send(next(iter(write_letter(tmp_path))), check=False)
    assert (sent["stored"], sent["unreadable"]) == (0, 1)


def test_the_port_is_still_open_after_all_of_it(site: Any, study: Path, tmp_path: Path) -> None:
    folder = copy_as_new_study(study, tmp_path / "study")
    drop("diffusion")(folder)
    assert site.send(folder)["failed"] == 0


def copy_as_new_study(study: Path, folder: Path) -> Path:
    """The same images under new UIDs, so that each test has a study of its own."""
    uids: dict[str, str] = {}
    for number, path in enumerate(sorted(study.rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            dataset[keyword].value = uids.setdefault(dataset[keyword].value, pydicom.uid.generate_uid())
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        target = folder / f"{number:05d}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target)
    return folder


def write_letter(folder: Path) -> Iterator[Path]:
    letter = folder / "letter.txt"
    letter.write_text("Dear colleague")
    yield letter


def submit(site: Any, files: list[bytes]) -> dicom_pb2.SubmitInstancesResponse:
    requests = [dicom_pb2.SubmitInstancesRequest(chunk=content, last=True) for content in files]
    with open_channel(f"127.0.0.1:{site.ports['grpc']}", deadline=60.0) as channel:
        return dicom_pb2_grpc.DicomServiceStub(channel).SubmitInstances(iter(requests))


def ended(site: Any, known: set[str]) -> dict[str, Any]:
    """The new case, once it has stopped."""

    def new() -> list[dict[str, Any]]:
        return [case for case in site.cases() if case["case_id"] not in known and case["status"] == "stopped"]

    site.wait(lambda: bool(new()), "the study did not become a stopped case", seconds=120.0)
    return new()[0]


def assert_on_the_trail(site: Any, case_id: str, code: str) -> None:
    def refused() -> list[dict[str, Any]]:
        entries = json.loads(site.run("ledger", "show", "--case", case_id, "--json").stdout)
        return [entry for entry in entries if entry["outcome"] == "refused" and entry["detail"].get("code") == code]

    site.wait(lambda: bool(refused()), "no entry on the trail", seconds=30.0)
