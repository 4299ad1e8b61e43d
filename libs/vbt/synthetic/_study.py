"""The patient as a study on disk: a T1, a diffusion series and a resting functional run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vbt.synthetic._classic import write_classic
from vbt.synthetic._dicom import Acquisition
from vbt.synthetic._enhanced import write_enhanced
from vbt.synthetic._patient import Progress, SyntheticPatient
from vbt.synthetic._settings import Encoding


def write_dicom(
    patient: SyntheticPatient,
    directory: Path,
    progress: Progress = lambda _message, _fraction: None,
) -> list[Path]:
    """Write the study as Part 10 files (Explicit VR Little Endian), one folder per series.

    Classic series hold one file per slice, Enhanced ones a single file; which, the patient's settings say. The same
    patient gives the same bytes.
    """
    settings = patient.settings
    series: list[tuple[Acquisition, Encoding]] = [
        (_t1(patient), "classic"),
        (_diffusion(patient), settings.diffusion.encoding),
        (_functional(patient), settings.functional.encoding),
    ]
    total = sum(a.volumes * a.slices for a, _ in series)
    written: list[Path] = []
    done = 0
    for acquisition, encoding in series:
        for path, frames in _written(acquisition, encoding, directory / acquisition.kind):
            written.append(path)
            done += frames
            if encoding == "enhanced" or len(written) % 50 == 0:
                progress(f"writing {acquisition.description}", done / total)
    return written


def _written(acquisition: Acquisition, encoding: Encoding, directory: Path) -> Iterator[tuple[Path, int]]:
    if encoding == "enhanced":
        yield write_enhanced(acquisition, directory / "series.dcm"), acquisition.volumes * acquisition.slices
    else:
        for path in write_classic(acquisition, directory):
            yield path, 1


def _t1(patient: SyntheticPatient) -> Acquisition:
    return Acquisition(
        kind="t1",
        image=patient.t1,
        seed=patient.seed,
        number=2,
        description="T1 sagittal",
        repetition_time=8.1,
        echo_time=3.7,
        inversion_time=900.0,
        flip_angle=8.0,
    )


def _diffusion(patient: SyntheticPatient) -> Acquisition:
    return Acquisition(
        kind="dwi",
        image=patient.diffusion.image,
        seed=patient.seed,
        number=3,
        description="diffusion",
        repetition_time=7000.0,
        echo_time=88.0,
        bvals=patient.diffusion.bvals,
        bvecs=patient.diffusion.bvecs,
        volume_seconds=7.0,
    )


def _functional(patient: SyntheticPatient) -> Acquisition:
    seconds = patient.functional.repetition_time
    return Acquisition(
        kind="bold",
        image=patient.functional.image,
        seed=patient.seed,
        number=4,
        description="resting state",
        repetition_time=1000.0 * seconds,
        echo_time=30.0,
        flip_angle=77.0,
        volume_seconds=seconds,
    )
