"""EEG and MEG see the regions as independent forward models say, wherever the patient lies in the scanner."""

from __future__ import annotations

import dataclasses

import mne
import numpy as np
import pytest
from mne._fiff.constants import FIFF

from vbt.clinical._multiple_sclerosis_sensors import SensorView, _electrodes, _sources, sensor_view
from vbt.connectome import Connectome, desikan_killiany
from vbt.electrophysiology import SensorRecording
from vbt.errors import Rejected
from vbt.simulation import desikan_killiany_sources, lead_field, standard_eeg

MOVE = np.array([[0.95, 0.08, 0.0], [-0.08, 0.97, 0.1], [0.02, -0.1, 0.99]])
SHIFT = np.array([12.0, -30.0, 25.0])


@pytest.fixture(scope="module")
def connectome() -> Connectome:
    atlas = desikan_killiany()
    count = len(atlas.region_labels)
    weights = np.ones((count, count)) - np.eye(count)
    return Connectome(
        weights=weights,
        tract_lengths=weights * 50.0,
        region_labels=atlas.region_labels,
        centres=atlas.centres @ MOVE.T + SHIFT,
        is_cortical=atlas.is_cortical,
        parcellation=atlas.name,
    )


def electrodes() -> tuple[tuple[str, ...], np.ndarray]:
    """32 names of the 10-5 system and their places on the template's head, MNI mm."""
    info, to_head = standard_eeg("colin27_1005")
    chosen = [name for name in info["ch_names"] if len(name) <= 3 and name not in ("T3", "T4", "T5", "T6")][::2][:32]
    places = np.array([info["chs"][info["ch_names"].index(name)]["loc"][:3] for name in chosen])
    return tuple(chosen), mne.transforms.apply_trans(mne.transforms.invert_transform(to_head), places) * 1000.0


def recording(kind: str, labels: tuple[str, ...], positions: np.ndarray, **changes) -> SensorRecording:
    rng = np.random.default_rng(0)
    made = SensorRecording(
        kind=kind,
        signals=rng.normal(size=(400, len(labels))),
        sampling_rate=200.0,
        channel_labels=labels,
        positions=positions,
    )
    return dataclasses.replace(made, **changes)


def seen_by_channels(view: SensorView) -> np.ndarray:
    return view.basis @ view.gain


def test_measured_and_standard_electrodes_see_the_same(connectome):
    labels, places = electrodes()
    measured = sensor_view(recording("eeg", labels, places @ MOVE.T + SHIFT), connectome)
    standard = sensor_view(recording("eeg", labels, np.full((len(labels), 3), np.nan)), connectome)
    assert (measured.located, standard.located) == ("measured", "standard")
    one, two = seen_by_channels(measured), seen_by_channels(standard)
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.97


def test_names_are_known_as_recorders_write_them(connectome):
    labels, places = electrodes()
    written = tuple(f"EEG {name.upper()}-REF" for name in labels)
    nowhere = np.full(places.shape, np.nan)
    plain = sensor_view(recording("eeg", labels, nowhere), connectome)
    np.testing.assert_array_equal(sensor_view(recording("eeg", written, nowhere), connectome).gain, plain.gain)


def test_the_order_of_channels_does_not_matter(connectome):
    labels, places = electrodes()
    order = np.random.default_rng(1).permutation(len(labels))
    nowhere = np.full(places.shape, np.nan)
    one = sensor_view(recording("eeg", labels, nowhere), connectome)
    two = sensor_view(recording("eeg", tuple(labels[i] for i in order), nowhere), connectome)
    np.testing.assert_allclose(seen_by_channels(two), seen_by_channels(one)[order], atol=1e-9)


def test_what_all_electrodes_share_is_not_seen(connectome):
    labels, places = electrodes()
    here = recording("eeg", labels, places @ MOVE.T + SHIFT)
    drifting = dataclasses.replace(here, signals=here.signals + 50.0 * np.sin(np.arange(400))[:, None])
    np.testing.assert_allclose(
        sensor_view(drifting, connectome).signals, sensor_view(here, connectome).signals, atol=1e-9
    )


def test_white_noise_of_the_sensors_stays_white(connectome):
    labels, places = electrodes()
    basis = sensor_view(recording("eeg", labels, places @ MOVE.T + SHIFT), connectome).basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)


def test_what_regions_outside_the_model_send_is_not_seen(connectome):
    labels, places = electrodes()
    here = recording("eeg", labels, places @ MOVE.T + SHIFT)
    alone = np.array([3, 17, 60])
    view = sensor_view(here, connectome, alone)
    assert np.abs(view.gain[:, alone]).max() < 1e-9
    sent = _electrodes(here.positions, _sources(connectome, "eeg"))[:, alone]
    louder = dataclasses.replace(here, signals=here.signals + np.ones((400, 3)) @ sent.T)
    np.testing.assert_allclose(sensor_view(louder, connectome, alone).signals, view.signals, atol=1e-7)


def test_a_bad_channel_is_left_out(connectome):
    labels, places = electrodes()
    view = sensor_view(recording("eeg", labels, places @ MOVE.T + SHIFT, bad_channels=(3, 5)), connectome)
    assert set(range(len(labels))) - set(view.channels.tolist()) == {3, 5}


def test_magnetometers_see_the_field_that_mne_computes(connectome):
    """The same dipoles and radial point magnetometers in MNE's spherical head."""
    sources = desikan_killiany_sources(desikan_killiany())
    positions = sources.positions @ MOVE.T + SHIFT
    where = electrodes()[1] @ MOVE.T + SHIFT
    near = positions - positions.mean(axis=0)
    fit = np.linalg.lstsq(np.column_stack([2 * near, np.ones(len(near))]), (near**2).sum(axis=1), rcond=None)[0]
    centre = fit[:3] + positions.mean(axis=0)
    out = (where - centre) / np.linalg.norm(where - centre, axis=1, keepdims=True)
    view = sensor_view(recording("meg", electrodes()[0], centre + 120.0 * out), connectome)
    info = mne.create_info([str(i) for i in range(len(out))], 1000.0, "mag", verbose="ERROR")
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
    for channel, towards in zip(info["chs"], out, strict=True):
        across = np.linalg.svd(towards[None])[2][1:]
        channel["loc"][:] = np.concatenate([0.12 * towards, across[0], across[1], towards])
        channel["coil_type"] = FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    there = dataclasses.replace(
        sources, positions=positions - centre, orientations=sources.orientations @ np.linalg.inv(MOVE)
    )
    sphere = mne.make_sphere_model((0.0, 0.0, 0.0), 0.115, verbose="ERROR")
    expected = lead_field(info, there, sphere, kind="meg", least_depth=0.5).gain
    found, same = view.gain, view.basis.T @ expected
    assert np.corrcoef(found.ravel(), same.ravel())[0, 1] > 0.999
    left = expected - view.basis @ same
    assert np.linalg.norm(left) < 0.35 * np.linalg.norm(expected)  # the weak directions, on purpose


def _far(connectome: Connectome) -> tuple[str, SensorRecording, Connectome]:
    labels, places = electrodes()
    return "sensors-not-around-head", recording("eeg", labels, places + 200.0), connectome


def _in_metres(connectome: Connectome) -> tuple[str, SensorRecording, Connectome]:
    labels, places = electrodes()
    return "sensors-not-around-head", recording("eeg", labels, (places @ MOVE.T + SHIFT) / 1000.0), connectome


def _in_the_brain(connectome: Connectome) -> tuple[str, SensorRecording, Connectome]:
    labels, places = electrodes()
    return "sensors-not-around-head", recording("meg", labels, 0.3 * places @ MOVE.T + SHIFT), connectome


def _few(connectome: Connectome) -> tuple[str, SensorRecording, Connectome]:
    labels, _ = electrodes()
    return "too-few-channels", recording("eeg", labels[:5], np.full((5, 3), np.nan)), connectome


def _unknown(connectome: Connectome) -> tuple[str, SensorRecording, Connectome]:
    names = tuple(f"channel {i}" for i in range(20))
    return "too-few-channels", recording("eeg", names, np.full((20, 3), np.nan)), connectome


def _other_atlas(connectome: Connectome) -> tuple[str, SensorRecording, Connectome]:
    labels, places = electrodes()
    other = dataclasses.replace(connectome, region_labels=tuple(f"x{i}" for i in range(83)))
    return "parcellation-without-cortex", recording("meg", labels, places @ MOVE.T * 1.3 + SHIFT), other


@pytest.mark.parametrize("case", [_far, _in_metres, _in_the_brain, _few, _unknown, _other_atlas])
def test_sensors_that_cannot_see_this_brain_are_refused(connectome, case):
    code, made, patient = case(connectome)
    with pytest.raises(Rejected) as refused:
        sensor_view(made, patient)
    assert refused.value.code == code
