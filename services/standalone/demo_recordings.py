"""The demo's second revision: what is no DICOM image is attached, and the answer is compared with the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from standalone.attach import Files, attach
from standalone.progress import follow
from standalone.suite import Suite, SuiteSettings
from vbt.inference import Calibration
from vbt.platform.cases import Case
from vbt.synthetic import RecordingFiles, SyntheticPatient, write_recordings

_SMALL_EEG_SECONDS = 120.0
_LEVEL = 0.90


def attach_and_follow(
    suite: Suite,
    settings: SuiteSettings,
    case: Case,
    application: str,
    patient: SyntheticPatient,
    folder: Path,
    bars: Progress,
    *,
    small: bool,
) -> Case:
    """Write the patient's recordings, attach those that the application takes, and follow the next revision."""
    task = bars.add_task("recordings", total=1.0, says="")

    def show(message: str, fraction: float) -> None:
        bars.update(task, completed=fraction, says=message)

    seconds = {"eeg_seconds": _SMALL_EEG_SECONDS} if small else {}
    written = write_recordings(patient, folder, lambda message, fraction: show(message, 0.9 * fraction), **seconds)
    show("attaching", 0.9)
    files = _files(written, application)
    attached, contents = attach(suite.runtime.engine, settings, case.case_id, files, application)
    show(f"revision {attached.revision}: {'; '.join(content.summary for content in contents)}", 1.0)
    bars.stop_task(task)
    return follow(suite.runtime.engine, case.case_id, bars.console, bars)


def recording_scores(application: str, calibration: Calibration, folder: Path) -> dict[str, Any]:
    """How near a sound posterior came to what the recordings were made from."""
    truth = json.loads((folder / "truth.json").read_text())
    if not calibration.sound:
        return {"verdict": calibration.verdict, "reasons": list(calibration.reasons)}
    if application == "epilepsy":
        return _excitability(calibration, truth["seizure"])
    return _conduction(calibration, truth["resting_eeg"])


def _files(written: RecordingFiles, application: str) -> Files:
    if application == "epilepsy":
        return Files(seeg=written.seeg, electrodes=written.seeg_electrodes)
    return Files(eeg=written.eeg, electrodes=written.eeg_electrodes, lesions=written.lesions)


def _excitability(calibration: Calibration, truth: dict[str, Any]) -> dict[str, Any]:
    """Of the regions used: is the truth in the interval, and are those of the onset zone the most excitable?"""
    true = np.array([truth["eta"][label] for label in calibration.region_labels])
    median, low, high = calibration.region_intervals("eta", _LEVEL)
    zone = np.array([label in truth["onset_zone"] for label in calibration.region_labels])
    highest = np.argsort(-median)[: int(zone.sum())]
    return {
        "verdict": calibration.verdict,
        "excitability_rmse": _rounded(np.sqrt(np.mean((median - true) ** 2))),
        "excitability_coverage": _rounded(np.mean((low <= true) & (true <= high))),
        "onset_zone": truth["onset_zone"],
        "onset_zone_among_as_many_most_excitable": _rounded(zone[highest].mean()),
    }


def _conduction(calibration: Calibration, truth: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": calibration.verdict}
    for name, key in (("velocity", "velocity_m_s"), ("gamma", "gamma")):
        if name in calibration.draws:
            median, low, high = calibration.interval(name, _LEVEL)
            found[name] = {
                "true": truth[key],
                "median": _rounded(median),
                "interval": [_rounded(low), _rounded(high)],
                "inside": low <= truth[key] <= high,
            }
    return found


def _rounded(value: Any) -> float:
    return round(float(value), 4)
