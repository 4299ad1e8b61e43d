from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from vbt.electrophysiology import SEIZURE_OFFSET, SEIZURE_ONSET, Event, SensorRecording, read_seeg, read_sensors
from vbt.errors import Rejected

CONTACTS = ("A'1", "A'2", "A'3", "A'4", "B1", "B2", "B3", "B4", "B5")
Bids = Callable[..., tuple[Path, Path]]


@pytest.mark.parametrize("suffix", [".edf", ".vhdr", ".fif"])
def test_what_another_tool_wrote_is_read_with_its_amplitudes_places_and_seizure(
    bids: Bids, suffix: str, signals: np.ndarray, places: np.ndarray
) -> None:
    recording = read_seeg(*bids(suffix))
    assert recording.channel_labels == CONTACTS
    assert recording.sampling_rate == 512.0
    # EDF keeps 16 bits over the range of a channel, about ±250 µV.
    np.testing.assert_allclose(recording.signals[: signals.shape[1]], signals[:-1].T, atol=2e-8)
    np.testing.assert_allclose(recording.positions, places)
    assert [event.label for event in recording.events] == [SEIZURE_ONSET, SEIZURE_OFFSET]
    assert [event.onset for event in recording.events] == pytest.approx([12.0, 30.0])
    assert recording.left_out == 1


@pytest.mark.parametrize("suffix", [".edf", ".vhdr", ".fif"])
def test_nothing_that_identifies_a_patient_is_kept(bids: Bids, suffix: str) -> None:
    path, electrodes = bids(suffix)
    written = b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert b"MUSTERMANN" in written
    recording = read_seeg(path, electrodes)
    kept = repr(recording).encode() + recording.to_npz()
    assert not any(word in kept for word in (b"MUSTERMANN", b"Erika", b"4711", b"1961", b"2024"))


def test_the_archive_gives_the_recording_back(bids: Bids) -> None:
    recording = read_seeg(*bids())
    again = SensorRecording.from_npz(recording.to_npz())
    np.testing.assert_array_equal(again.signals, recording.signals)
    assert again.to_npz() == recording.to_npz()
    assert (again.events, again.left_out) == (recording.events, 1)


def test_metres_become_millimetres(bids: Bids, places: np.ndarray) -> None:
    np.testing.assert_allclose(read_seeg(*bids(unit="m")).positions, places)


@pytest.mark.parametrize("frame", ["MNI152NLin2009aSym", "ACPC", "Pixels", "Other"])
def test_coordinates_of_another_frame_are_refused(bids: Bids, frame: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_seeg(*bids(frame=frame))
    assert refused.value.code == "electrode-frame-unknown"


def test_the_tables_beside_a_recording_are_read(bids: Bids) -> None:
    path, electrodes = bids()
    stem = path.name.removesuffix("_ieeg.edf")
    rows = "".join(
        f"EEG {c}-Ref\t{'ECG' if c == 'B5' else 'SEEG'}\tV\t{'bad' if c == 'B1' else 'good'}\n" for c in CONTACTS
    )
    path.with_name(f"{stem}_channels.tsv").write_text("name\ttype\tunits\tstatus\n" + rows)
    path.with_name(f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n14.5\t10\tseizure\n1\tn/a\tErika\n")
    path.with_suffix(".json").write_text(json.dumps({"PowerLineFrequency": 50, "Institution": "X"}))
    recording = read_seeg(path, electrodes)
    assert recording.channel_labels == CONTACTS[:-1]
    assert [recording.channel_labels[i] for i in recording.bad_channels] == ["B1"]
    assert recording.power_line == 50.0
    assert {Event(label=SEIZURE_ONSET, onset=14.5), Event(label=SEIZURE_OFFSET, onset=24.5)} <= set(recording.events)
    assert len(recording.events) == 4


def test_a_pair_of_contacts_lies_in_their_middle(tmp_path: Path, bids: Bids, places: np.ndarray) -> None:
    _, electrodes = bids()
    info = mne.create_info(["A'1-A'2", "B1-2"], 512.0, "seeg")
    path = tmp_path / "pairs_raw.fif"
    mne.io.RawArray(np.ones((2, 100)), info, verbose="ERROR").save(path, verbose="ERROR")
    np.testing.assert_allclose(
        read_seeg(path, electrodes).positions, [(places[0] + places[1]) / 2, (places[4] + places[5]) / 2]
    )


def test_leading_zeros_and_typographic_primes_do_not_part_a_channel_from_its_electrode(bids: Bids) -> None:
    path, electrodes = bids()
    electrodes.write_text(electrodes.read_text().replace("A'1", "A’01"))
    assert read_seeg(path, electrodes).channel_labels == CONTACTS


def test_electrodes_of_another_implantation_are_refused(bids: Bids) -> None:
    path, electrodes = bids()
    electrodes.write_text("name\tx\ty\tz\nZ1\t0\t0\t0\nZ2\t4\t0\t0\n")
    with pytest.raises(Rejected) as refused:
        read_seeg(path, electrodes)
    assert refused.value.code == "electrodes-do-not-match"


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("name\tx\ty\nA1\t0\t0\n", "electrodes-unreadable"),
        ("name\tx\ty\tz\n", "electrodes-unreadable"),
        ("name\tx\ty\tz\nA1\t0\n", "electrodes-unreadable"),
        ("\x00\x01\x02", "electrodes-unreadable"),
        ("name\tx\ty\tz\nA1\t0\t0\t0\nA1\t5\t0\t0\n", "channel-names-ambiguous"),
        ("name\tx\ty\tz\nA1\tn/a\tn/a\tn/a\n", "electrode-coordinates-implausible"),
        ("name\tx\ty\tz\nA1\t0\t0\t0\nA2\t0.0035\t0\t0\n", "electrode-coordinates-implausible"),
        ("name\tx\ty\tz\nA1\t0\t0\t0\nA2\t1e300\t0\t0\n", "electrode-coordinates-implausible"),
    ],
)
def test_a_broken_table_of_electrodes_is_refused_by_its_rule(bids: Bids, table: str, code: str) -> None:
    path, electrodes = bids()
    electrodes.write_text(table)
    with pytest.raises(Rejected) as refused:
        read_seeg(path, electrodes)
    assert refused.value.code == code


def test_eeg_is_known_by_the_names_of_the_10_05_system(tmp_path: Path) -> None:
    info = mne.create_info(["Fp1", "Cz", "O2", "HEOG", "Frau Mustermann"], 256.0, "eeg")
    path = tmp_path / "rest_raw.fif"
    mne.io.RawArray(np.random.default_rng(0).normal(0, 1e-5, (5, 1000)), info, verbose="ERROR").save(
        path, verbose="ERROR"
    )
    recording = read_sensors(path, "eeg")
    assert (recording.channel_labels, recording.left_out) == (("Fp1", "Cz", "O2"), 2)
    assert np.isnan(recording.positions).all()
    with pytest.raises(Rejected, match="channels of its kind"):
        read_sensors(path, "meg")


def test_magnetometers_are_kept_before_gradiometers(tmp_path: Path) -> None:
    info = mne.create_info(["MEG 0111", "MEG 0112", "EEG 001"], 256.0, ["mag", "grad", "eeg"])
    path = tmp_path / "rest_raw.fif"
    mne.io.RawArray(np.full((3, 1000), 1e-12), info, verbose="ERROR").save(path, verbose="ERROR")
    recording = read_sensors(path, "meg")
    assert recording.channel_labels == ("MEG0111",)
    np.testing.assert_allclose(recording.signals, 1e-12, rtol=1e-6)


def _edf(path: Path, *channels: tuple[str, float]) -> None:
    signals = [
        edfio.EdfSignal(
            np.random.default_rng(0).normal(0.0, 50.0, int(10 * rate)), rate, label=label, physical_dimension="uV"
        )
        for label, rate in channels
    ]
    edfio.Edf(signals, annotations=[edfio.EdfAnnotation(1.0, None, "calm")]).write(path)


@pytest.mark.parametrize(
    "other",
    [[("ECG", 1000.0)], [("ECG", 1000.0), ("B4", 1000.0)], [("ECG", 1000.0), ("ECG", 100.0)], [("ECG", 1000.5)]],
    ids=["faster ECG", "faster contact", "two of one name", "fractional rate"],
)
@pytest.mark.parametrize("first", [True, False])
def test_contacts_slower_than_another_channel_are_refused_and_not_stretched(
    bids: Bids, tmp_path: Path, other: list[tuple[str, float]], first: bool
) -> None:
    _, electrodes = bids()
    path = tmp_path / "mixed.edf"
    slow = [("B1", 100.0), ("B2", 100.0)]
    _edf(path, *(other + slow if first else slow + other))
    with pytest.raises(Rejected) as refused:
        read_seeg(path, electrodes)
    assert refused.value.code == "channels-of-different-rates"
    assert "100 Hz and 1000" in str(refused.value)


def test_a_slower_channel_beside_the_contacts_does_no_harm(bids: Bids, tmp_path: Path) -> None:
    _, electrodes = bids()
    path = tmp_path / "mixed.edf"
    _edf(path, ("Temp", 1.0), ("B1", 100.0), ("B2", 100.0))
    recording = read_seeg(path, electrodes)
    assert (recording.sampling_rate, recording.channel_labels) == (100.0, ("B1", "B2"))
    stored = np.random.default_rng(0).normal(0.0, 50.0, 1000) * 1e-6
    np.testing.assert_allclose(recording.signals[:, 0], stored, atol=1e-8)
