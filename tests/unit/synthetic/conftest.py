"""One small patient and its study on disk, shared by the tests; its activity is given, so nothing is simulated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vbt.synthetic import PatientSettings, SyntheticPatient, make_patient, write_dicom

SETTINGS = PatientSettings.small()
SEED = 7


def activity() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((SETTINGS.functional.volumes, 83))


@pytest.fixture(scope="session")
def patient() -> SyntheticPatient:
    return make_patient(SEED, SETTINGS, regional_bold=activity())


@pytest.fixture(scope="session")
def twin_patient() -> SyntheticPatient:
    """The same patient made again."""
    return make_patient(SEED, SETTINGS, regional_bold=activity())


@pytest.fixture(scope="session")
def study(patient: SyntheticPatient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T1 and diffusion classic, functional Enhanced."""
    directory = tmp_path_factory.mktemp("study")
    write_dicom(patient, directory)
    return directory


@pytest.fixture(scope="session")
def other_encoding(patient: SyntheticPatient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diffusion Enhanced and, cut to few volumes, functional classic."""
    run = patient.functional
    short = dataclasses.replace(run, image=run.image.slicer[..., :4])
    settings = dataclasses.replace(
        SETTINGS,
        diffusion=dataclasses.replace(SETTINGS.diffusion, encoding="enhanced"),
        functional=dataclasses.replace(SETTINGS.functional, encoding="classic"),
    )
    directory = tmp_path_factory.mktemp("other")
    write_dicom(dataclasses.replace(patient, settings=settings, functional=short), directory)
    return directory
