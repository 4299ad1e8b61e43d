"""From the voltages of a simulated seizure back to the excitabilities that made it, by the engine that patients get."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from vbt.clinical import epilepsy
from vbt.clinical._epilepsy_twins import coupling_weights
from vbt.clinical.application import Recordings
from vbt.connectome import Connectome
from vbt.electrophysiology import SensorRecording
from vbt.simulation import Epileptor2D, Network, Trajectory, simulate

LABELS = tuple(f"lh.area{region}" for region in range(4))
ETA = np.array([-3.2, -1.6, -2.4, -3.1])
SECONDS, RATE, SECONDS_PER_UNIT = 100, 256.0, 2.0
SWING = 1.5  # of log power from rest to burst; above 4 the windows' averages differ from the model by more than noise


def _patient() -> tuple[Connectome, Recordings]:
    """Four blocks side by side with four shafts through them."""
    rng = np.random.default_rng(0)
    weights = np.triu(rng.random((4, 4)) + 0.2, 1)
    weights = weights + weights.T
    half = np.arange(20) // 10
    voxels = 1 + half[:, None, None] + 2 * half[None, :, None] + np.zeros((1, 1, 20), dtype=int)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -19.0
    labels = nib.Nifti1Image(voxels.astype(np.int16), affine)
    shafts = [(y, z) for z in (-10.0, 10.0) for y in (-10.0, 10.0)]
    positions = np.array([(-15.0 + 5.0 * contact, y, z) for y, z in shafts for contact in range(7)])
    start = np.repeat(np.array([[-2.0], [5.0]]), 4, axis=1)
    network = Network(
        mass=Epileptor2D(x0=ETA, K=1.0), weights=coupling_weights(weights), tract_lengths=np.zeros((4, 4)),
        velocity=1.0, initial=start,
    )  # fmt: skip
    run = simulate(
        [network], [0], duration=SECONDS / SECONDS_PER_UNIT / 1000.0, monitors=[Trajectory(1e-4)], dt=0.1,
        precision="double",
    )  # fmt: skip
    x = run.observations[0].values[0][:, :4]
    log_power = (x - x[0]) @ epilepsy.seeg_gain(labels, 4, positions).T
    log_power *= SWING / log_power.max()
    at, known = np.arange(round(SECONDS * RATE)) / RATE, 0.1 * SECONDS_PER_UNIT * np.arange(len(x))
    amplitude = np.exp(0.5 * np.stack([np.interp(at, known, column) for column in log_power.T], axis=1))
    seeg = SensorRecording(
        kind="seeg",
        signals=4e-5 * amplitude * rng.normal(size=amplitude.shape),
        sampling_rate=RATE,
        channel_labels=tuple(f"{shaft}{contact}" for shaft in "ABCD" for contact in range(1, 8)),
        positions=positions,
    )
    connectome = Connectome(
        weights=weights,
        tract_lengths=np.where(weights > 0, 40.0, 0.0),
        region_labels=LABELS,
        centres=np.array([(-10.0, -10.0, 0.0), (10.0, -10.0, 0.0), (-10.0, 10.0, 0.0), (10.0, 10.0, 0.0)]),
        is_cortical=np.ones(4, dtype=bool),
        parcellation="blocks",
    )
    return connectome, Recordings(seeg=seeg, labels=labels)


@pytest.mark.slow
def test_voltages_of_a_seizure_give_back_its_onset_zone_and_what_removing_it_does() -> None:
    connectome, recordings = _patient()
    calibration = epilepsy.calibrate(
        connectome, recordings, rng_seed=1, progress=lambda _message, _fraction: None, checkpoint=None
    )
    assert calibration.sound, calibration.reasons
    median, _, _ = calibration.region_intervals("eta")
    np.testing.assert_allclose(median[[1, 2]], ETA[[1, 2]], atol=0.1)
    np.testing.assert_allclose(median, ETA, atol=0.35)
    assert calibration.interval("K")[0] == pytest.approx(1.0, abs=0.1)
    assert calibration.onset_zone().tolist() == [False, True, False, False]
    run = epilepsy.run_scenarios(
        connectome, recordings, calibration, rng_seed=1, duration=200.0, progress=lambda _message, _fraction: None,
        draws=20,
    )  # fmt: skip
    best = run.of("searched")[0]
    assert run.resections[best].regions == (1,)
    assert (run.free(0), run.free(best)) == (0.0, 1.0)
    told = epilepsy.findings((), calibration, run)
    assert told.tables[0].rows[0].label == LABELS[1]
    assert "seizures start in lh.area1;" in told.conclusion
