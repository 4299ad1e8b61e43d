"""Recordings written by other tools: MNE-Python with edfio and pybv."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest

RATE = 512.0
CONTACTS = ("A'1", "A'2", "A'3", "A'4", "B1", "B2", "B3", "B4", "B5")
IDENTIFYING = ("MUSTERMANN", "4711", "1961")


@pytest.fixture
def signals() -> np.ndarray:
    """Channel by time, V: noise of 50 µV."""
    return np.random.default_rng(1).normal(0.0, 50e-6, (len(CONTACTS) + 1, int(40 * RATE)))


@pytest.fixture
def places() -> np.ndarray:
    along = np.arange(len(CONTACTS))[:, None] * 3.5
    return np.array([-40.0, 10.0, 5.0]) + along * np.array([1.0, 0.1, -0.2])


@pytest.fixture
def bids(tmp_path: Path, signals: np.ndarray, places: np.ndarray) -> Callable[..., tuple[Path, Path]]:
    """A recording and its electrodes, as BIDS has them, with what identifies a patient wherever a format allows it."""

    def write(
        suffix: str = ".edf", unit: str = "mm", frame: str = "ScanRAS", name: str = "EEG {}-Ref"
    ) -> tuple[Path, Path]:
        names = [name.format(contact) for contact in CONTACTS] + ["ECG"]
        info = mne.create_info(names, RATE, "seeg")
        info["subject_info"] = {
            "his_id": "4711",
            "last_name": "MUSTERMANN",
            "first_name": "Erika",
            "birthday": datetime.date(1961, 8, 12),
        }
        raw = mne.io.RawArray(signals, info, verbose="ERROR")
        raw.set_meas_date(datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=datetime.UTC))
        labels = ["SZ onset", "Frau MUSTERMANN calls", "Seizure end"]
        raw.set_annotations(mne.Annotations([12.0, 13.0, 30.0], [0.0] * 3, labels, raw.info["meas_date"]))
        path = tmp_path / f"sub-01_task-ictal_ieeg{suffix}"
        if suffix == ".fif":
            raw.save(path, verbose="ERROR")
        else:
            mne.export.export_raw(path, raw, verbose="ERROR")
        electrodes = tmp_path / "sub-01_electrodes.tsv"
        scale = {"mm": 1.0, "m": 1e-3}[unit]
        rows = [f"{c}\t" + "\t".join(repr(float(v)) for v in p * scale) for c, p in zip(CONTACTS, places, strict=True)]
        electrodes.write_text("name\tx\ty\tz\n" + "\n".join(rows) + "\n")
        system = {"iEEGCoordinateSystem": frame, "iEEGCoordinateUnits": unit}
        (tmp_path / "sub-01_coordsystem.json").write_text(json.dumps(system))
        return path, electrodes

    return write
