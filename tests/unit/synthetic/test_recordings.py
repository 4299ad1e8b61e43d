"""The recordings of the synthetic patient show what their truth says, by the readers of the suite."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vbt.electrophysiology import SensorRecording, bipolar, read_seeg, read_sensors, seizure_envelope
from vbt.synthetic import RecordingFiles, SyntheticPatient, write_recordings


@pytest.fixture(scope="module")
def files(patient: SyntheticPatient, tmp_path_factory: pytest.TempPathFactory) -> RecordingFiles:
    return write_recordings(patient, tmp_path_factory.mktemp("recordings"), eeg_seconds=20.0)


@pytest.fixture(scope="module")
def seeg(files: RecordingFiles) -> SensorRecording:
    return read_seeg(files.seeg, files.seeg_electrodes)


def test_contacts_lie_in_the_brain_along_straight_shafts(seeg: SensorRecording, patient: SyntheticPatient) -> None:
    voxels = np.round(patient.anatomy.voxels(seeg.positions)).astype(int)
    assert patient.anatomy.brain[tuple(voxels.T)].all()
    shafts = {label.rstrip("0123456789") for label in seeg.channel_labels}
    assert len(shafts) == 10
    for shaft in shafts:
        places = seeg.positions[[label.rstrip("0123456789") == shaft for label in seeg.channel_labels]]
        steps = np.diff(places, axis=0)
        apart = np.linalg.norm(steps, axis=1) / 3.5
        np.testing.assert_allclose(apart, np.round(apart), atol=0.01)
        np.testing.assert_allclose(np.cross(steps, places[-1] - places[0]), 0.0, atol=0.7)  # rounding of the places
        assert (places[:, 0] < 0).all() == shaft.endswith("'")


def test_fast_activity_rises_first_and_most_where_the_onset_zone_is(
    seeg: SensorRecording, files: RecordingFiles, patient: SyntheticPatient
) -> None:
    truth = json.loads(files.truth.read_text())["seizure"]
    envelope = seizure_envelope(bipolar(seeg))
    rise = envelope.values.max(axis=0) - envelope.values[envelope.times < truth["onset_s"] - 4.0].mean(axis=0)
    zone = [patient.connectome.region_labels.index(label) + 1 for label in truth["onset_zone"]]
    points = patient.anatomy.points(np.argwhere(np.isin(patient.anatomy.labels, zone)).astype(float))
    loudest = envelope.positions[np.argmax(rise)]
    assert np.linalg.norm(points - loudest, axis=1).min() < 5.0
    assert 2.0 < rise.max() < 6.0
    assert envelope.onset == pytest.approx(truth["onset_s"])


def test_the_lesioned_share_of_every_tract_is_that_of_its_streamlines(
    files: RecordingFiles, patient: SyntheticPatient
) -> None:
    lesioned = json.loads(files.truth.read_text())["resting_eeg"]["lesioned_tracts"]
    image = nib.Nifti1Image.from_filename(files.lesions)
    mask, from_scanner = np.asarray(image.dataobj) > 0, np.linalg.inv(image.affine)
    labels = patient.connectome.region_labels
    assert lesioned
    for bundle in patient.bundles:
        lines = [np.round(nib.affines.apply_affine(from_scanner, line)).astype(int) for line in bundle.streamlines]
        share = np.mean([mask[tuple(line.T)].any() for line in lines])
        name = f"{labels[bundle.regions[0]]}--{labels[bundle.regions[1]]}"
        assert lesioned.get(name, 0.0) == pytest.approx(share, abs=0.02)


def test_the_eeg_has_its_electrodes_around_the_head(files: RecordingFiles, patient: SyntheticPatient) -> None:
    eeg = read_sensors(files.eeg, "eeg", files.eeg_electrodes)
    brain = patient.anatomy.points(np.argwhere(patient.anatomy.brain)[::50].astype(float))
    away = np.linalg.norm(eeg.positions[:, None] - brain[None], axis=-1).min(axis=1)
    assert eeg.signals.shape == (5000, 61)
    assert away.min() > 3.0
    assert away.max() < 45.0
    assert np.abs(eeg.signals).max() < 200e-6


def test_the_same_patient_gives_the_same_bytes(
    files: RecordingFiles, patient: SyntheticPatient, tmp_path: Path
) -> None:
    again = write_recordings(patient, tmp_path, eeg_seconds=20.0)
    for name in ("seeg", "seeg_electrodes", "eeg", "eeg_electrodes", "lesions", "truth"):
        assert getattr(files, name).read_bytes() == getattr(again, name).read_bytes()
    assert files.seeg.with_suffix(".eeg").read_bytes() == again.seeg.with_suffix(".eeg").read_bytes()
