"""What is not DICOM of the synthetic patient: a seizure in SEEG, resting EEG and a lesion mask, as BIDS has them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pybv
from jaxtyping import Float

from vbt.synthetic._patient import Progress, SyntheticPatient
from vbt.synthetic._resting_eeg import (
    COUPLING,
    GAMMA,
    SAMPLING_RATE,
    VELOCITY,
    SyntheticEeg,
    SyntheticLesions,
    make_lesions,
    make_resting_eeg,
)
from vbt.synthetic._seizure import SAMPLING_RATE as SEEG_SAMPLING_RATE
from vbt.synthetic._seizure import SECONDS_PER_UNIT, SyntheticSeizure, make_seizure

_TO_SEIZURE, _TO_EEG = 7, 8  # of the seed's streams, beside those that make the images
EEG_SECONDS = 240.0
_RESOLUTION = 0.01  # µV per unit of the file


@dataclass(frozen=True, kw_only=True)
class RecordingFiles:
    """Where the recordings were written, as `vbt attach` takes them; ``truth`` is JSON."""

    seeg: Path
    seeg_electrodes: Path
    eeg: Path
    eeg_electrodes: Path
    lesions: Path
    truth: Path


def write_recordings(
    patient: SyntheticPatient,
    directory: Path,
    progress: Progress = lambda _message, _fraction: None,
    *,
    eeg_seconds: float = EEG_SECONDS,
) -> RecordingFiles:
    """Simulate and write all of it; the same patient gives the same bytes."""
    progress("a seizure", 0.0)
    seizure = make_seizure(np.random.default_rng([patient.seed, _TO_SEIZURE]), patient.connectome, patient.anatomy)
    seeg = _write(
        directory, "ieeg", "seizure", seizure.signals, seizure.implantation.contact_labels, SEEG_SAMPLING_RATE,
        seizure.implantation.positions, onset=seizure.onset,
    )  # fmt: skip
    progress("lesions", 0.4)
    rng = np.random.default_rng([patient.seed, _TO_EEG])
    lesions = make_lesions(rng, patient.anatomy, patient.bundles)
    mask = directory / "anat" / "sub-01_label-lesion_mask.nii.gz"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.write_bytes(gzip.compress(lesions.mask.to_bytes(), mtime=0))
    progress("resting EEG", 0.5)
    eeg = make_resting_eeg(rng, patient.connectome, lesions, eeg_seconds)
    written = _write(directory, "eeg", "rest", eeg.signals, eeg.channel_labels, SAMPLING_RATE, eeg.positions)
    truth = directory / "truth.json"
    truth.write_text(json.dumps(_truth(patient, seizure, lesions, eeg), indent=1))
    progress("done", 1.0)
    return RecordingFiles(
        seeg=seeg[0], seeg_electrodes=seeg[1], eeg=written[0], eeg_electrodes=written[1], lesions=mask, truth=truth
    )


def _write(
    directory: Path,
    kind: str,
    task: str,
    signals: Float[np.ndarray, "time channel"],
    labels: tuple[str, ...],
    rate: float,
    positions: Float[np.ndarray, "channel 3"],
    onset: float | None = None,
) -> tuple[Path, Path]:
    """BrainVision and its tables; the recording and its electrodes."""
    folder, stem = directory / kind, f"sub-01_task-{task}"
    folder.mkdir(parents=True, exist_ok=True)
    pybv.write_brainvision(
        data=signals.T,
        sfreq=rate,
        ch_names=list(labels),
        fname_base=f"{stem}_{kind}",
        folder_out=folder,
        overwrite=True,
        resolution=_RESOLUTION,
        unit="µV",
        fmt="binary_float32",
    )
    named = "SEEG" if kind == "ieeg" else "EEG"
    prefix = "iEEG" if kind == "ieeg" else "EEG"
    electrodes = folder / f"{stem}_electrodes.tsv"
    rows = [f"{label}\t{x:.2f}\t{y:.2f}\t{z:.2f}\tn/a" for label, (x, y, z) in zip(labels, positions, strict=True)]
    electrodes.write_text("\n".join(["name\tx\ty\tz\tsize", *rows]) + "\n")
    channels = [f"{label}\t{named}\tµV\tgood" for label in labels]
    (folder / f"{stem}_channels.tsv").write_text("\n".join(["name\ttype\tunits\tstatus", *channels]) + "\n")
    frame = {f"{prefix}CoordinateSystem": "ScanRAS", f"{prefix}CoordinateUnits": "mm"}
    (folder / f"{stem}_coordsystem.json").write_text(json.dumps(frame, indent=1))
    (folder / f"{stem}_{kind}.json").write_text(
        json.dumps({"TaskName": task, "SamplingFrequency": rate, "PowerLineFrequency": 50}, indent=1)
    )
    if onset is not None:
        (folder / f"{stem}_events.tsv").write_text(f"onset\tduration\ttrial_type\n{onset:.3f}\t0\tseizure onset\n")
    return folder / f"{stem}_{kind}.vhdr", electrodes


def _truth(
    patient: SyntheticPatient, seizure: SyntheticSeizure, lesions: SyntheticLesions, eeg: SyntheticEeg
) -> dict[str, object]:
    labels = patient.connectome.region_labels
    return {
        "seizure": {
            "onset_zone": [labels[region] for region in seizure.onset_zone],
            "propagation_zone": [labels[region] for region in seizure.propagation_zone],
            "onset_s": round(seizure.onset, 3),
            "coupling": seizure.coupling,
            "seconds_per_unit": SECONDS_PER_UNIT,
            "eta": {label: round(float(value), 4) for label, value in zip(labels, seizure.eta, strict=True)},
        },
        "resting_eeg": {
            "velocity_m_s": VELOCITY,
            "gamma": GAMMA,
            "coupling": COUPLING,
            "channels": len(eeg.channel_labels),
            "lesioned_tracts": {
                f"{labels[bundle.regions[0]]}--{labels[bundle.regions[1]]}": round(
                    float(lesions.fraction[bundle.regions]), 4
                )
                for bundle in patient.bundles
                if lesions.fraction[bundle.regions] > 0
            },
        },
    }
