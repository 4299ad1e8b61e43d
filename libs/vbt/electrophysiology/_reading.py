"""A recording's file and the tables beside it become signals with places, and nothing that names anyone."""

from __future__ import annotations

from functools import cache
from math import isclose
from pathlib import Path

import mne
import numpy as np
from jaxtyping import Float

from vbt.electrophysiology._files import Opened, open_recording
from vbt.electrophysiology._names import channel_names, seizure_events
from vbt.electrophysiology._recording import Kind, SensorRecording
from vbt.electrophysiology._sidecars import Channels, read_channels, read_electrodes, read_events, read_power_line
from vbt.errors import Rejected

_BIDS_TYPES = {
    "seeg": frozenset({"SEEG", "ECOG", "DBS"}),
    "eeg": frozenset({"EEG"}),
    "meg": frozenset({"MEGMAG", "MEGGRADAXIAL", "MEGGRADPLANAR", "MEGOTHER"}),
}
_MAGNETIC = ("mag", "grad")


def read_seeg(path: Path, electrodes: Path) -> SensorRecording:
    """Intracranial EEG as BIDS has it: EDF, BDF, BrainVision or FIF, and ``electrodes.tsv`` in the T1's scanner RAS+.

    ``channels.tsv``, ``events.tsv`` and the JSON with the mains' frequency are read where they lie beside the
    recording, ``coordsystem.json`` where it lies beside the electrodes. Channels are kept that have a place, that are
    pairs of contacts with places (``A1-A2``, placed in their middle), or that ``channels.tsv`` calls SEEG.

    Raises
    ------
    Rejected
        for files that are not what they say (``recording-…``, ``electrodes-unreadable``, ``sidecar-unreadable``),
        ``electrode-frame-unknown``, ``electrode-coordinates-implausible``, ``channel-names-ambiguous``,
        ``channels-of-different-rates``, and ``electrodes-do-not-match`` where no channel has a place.
    """
    recording = _read(path, "seeg", electrodes)
    if not np.isfinite(recording.positions).all(axis=1).any():
        raise Rejected(
            "electrodes-do-not-match",
            rule="channels and electrodes have the same names",
            got="no channel with the name of an electrode",
            action="check that recording and electrodes are of the same implantation",
        )
    return recording


def read_sensors(path: Path, kind: Kind, electrodes: Path | None = None) -> SensorRecording:
    """EEG or MEG: EDF, BDF, BrainVision or FIF.

    Positions come from ``electrodes.tsv`` (T1's scanner RAS+) and are NaN without it: neither the head coordinates of
    a file nor a standard montage are the T1's frame. An EEG channel without a position is kept where its name is one
    of the 10-05 system, by which a standard head places it (`vbt.simulation.standard_eeg`). Of MEG, magnetometers
    are kept, or gradiometers where there are no magnetometers.

    Raises
    ------
    Rejected
        as `read_seeg`; ``no-channels-of-kind`` where the file has no channel of the kind.
    """
    return _read(path, kind, electrodes)


@cache
def standard_names() -> frozenset[str]:
    """Names of electrodes in the 10-05 system."""
    return frozenset(mne.channels.make_standard_montage("colin27_1005").ch_names)


def _read(path: Path, kind: Kind, electrodes: Path | None) -> SensorRecording:
    opened = open_recording(path)
    table = read_channels(path, kind)
    places = {} if electrodes is None else read_electrodes(electrodes, kind)
    candidates = _candidates(opened, kind)
    names = channel_names((opened.raw.ch_names[index] for index in candidates), kind)
    positions = np.array([_place(name, places) for name in names]).reshape(-1, 3)
    kept = [row for row, name in enumerate(names) if _belongs(name, positions[row], kind, table)]
    if not kept:
        raise Rejected(
            "electrodes-do-not-match" if kind == "seeg" else "no-channels-of-kind",
            rule="a recording has channels of its kind, named as its electrodes are",
            got=f"none among {len(opened.raw.ch_names)} channels",
            action="check the kind, the names of the channels and the electrodes",
        )
    picks = [candidates[row] for row in kept]
    _require_one_rate(opened, picks)
    labels = tuple(names[row] for row in kept)
    marked = {*(table.bad if table else ()), *channel_names(opened.bad, kind)}
    rate = float(opened.raw.info["sfreq"])
    events = (*opened.marks, *read_events(path))
    return SensorRecording(
        kind=kind,
        signals=opened.signals(picks),
        sampling_rate=rate,
        channel_labels=labels,
        positions=positions[kept],
        bad_channels=tuple(index for index, label in enumerate(labels) if label in marked),
        events=seizure_events(dict.fromkeys(events), opened.raw.n_times / rate),
        power_line=read_power_line(path) or float(opened.raw.info["line_freq"] or 0.0),
        left_out=len(opened.raw.ch_names) - len(kept),
    )


def _candidates(opened: Opened, kind: Kind) -> list[int]:
    """Channels that may be of the kind. EDF calls everything EEG; FIF and BrainVision know better."""
    types = opened.types
    if kind == "meg":
        wanted = {next((magnetic for magnetic in _MAGNETIC if magnetic in types), "mag")}
    else:
        wanted = {"eeg", "seeg", "ecog", "dbs"} if kind == "seeg" else {"eeg"}
    return [index for index, found in enumerate(types) if found in wanted]


def _belongs(name: str, position: Float[np.ndarray, "3"], kind: Kind, table: Channels | None) -> bool:
    if table is not None and name in table.kinds:
        return table.kinds[name] in _BIDS_TYPES[kind]
    return kind == "meg" or bool(np.isfinite(position).all()) or (kind == "eeg" and name in standard_names())


def _place(name: str, places: dict[str, Float[np.ndarray, "3"]]) -> Float[np.ndarray, "3"]:
    """Of a contact, or the middle of a pair of contacts."""
    unknown = np.full(3, np.nan)
    if name in places:
        return places[name]
    first, _, second = name.partition("-")
    if first not in places:
        return unknown
    # A2 of "A1-A2" may be written as "2".
    shaft = first.rstrip("0123456789")
    return np.asarray((places[first] + places.get(second, places.get(shaft + second, unknown))) / 2)


def _require_one_rate(opened: Opened, picks: list[int]) -> None:
    """EDF may keep channels at different rates: MNE-Python stretches all to the fastest, be it only the ECG."""
    fastest = float(opened.raw.info["sfreq"])
    rates = {opened.rates[pick] for pick in picks} if opened.rates else {fastest}
    if any(not isclose(rate, fastest, rel_tol=1e-6) for rate in rates):
        raise Rejected(
            "channels-of-different-rates",
            rule="channels of one recording have one sampling rate",
            got=" and ".join(f"{rate:g} Hz" for rate in sorted({*rates, fastest})),
            action="export the recording with one sampling rate, or without the channels of another",
        )
