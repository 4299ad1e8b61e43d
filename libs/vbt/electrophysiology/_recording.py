"""Signals of electrodes or sensors with where they were taken, in one unit."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Kind = Literal["seeg", "eeg", "meg"]
SEIZURE_ONSET = "seizure onset"
SEIZURE_OFFSET = "seizure offset"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something marked in a recording; times in s from the recording's beginning.

    What `read_seeg` and `read_sensors` give is labelled ``"seizure onset"`` or ``"seizure offset"`` and nothing else:
    the free text of an annotation may name a patient.
    """

    label: str
    onset: float
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SensorRecording:
    """One recording, as read.

    Parameters
    ----------
    signals : V for electrodes, T for magnetometers
    sampling_rate : Hz
    positions : mm in the T1's scanner RAS+ frame; for SEEG the contacts, NaN where unknown
    bad_channels : indices that the recording itself marks as bad
    power_line : Hz; 0 where unknown
    left_out : how many channels of the file are none of this kind or have no name or place to know them by
    """

    kind: Kind
    signals: Float[np.ndarray, "time channel"]
    sampling_rate: float
    channel_labels: tuple[str, ...]
    positions: Float[np.ndarray, "channel 3"]
    bad_channels: tuple[int, ...] = ()
    events: tuple[Event, ...] = ()
    power_line: float = 0.0
    left_out: int = 0

    def __post_init__(self) -> None:
        channels = self.signals.shape[1]
        if len(self.channel_labels) != channels or self.positions.shape != (channels, 3):
            raise ValueError(
                f"signals have {channels} channels, labels {len(self.channel_labels)}, positions {self.positions.shape}"
            )

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same recording."""
        plain = {
            "kind": self.kind,
            "sampling_rate": self.sampling_rate,
            "channel_labels": self.channel_labels,
            "bad_channels": self.bad_channels,
            "events": [asdict(event) for event in self.events],
            "power_line": self.power_line,
            "left_out": self.left_out,
        }
        buffer = io.BytesIO()
        record = np.array(json.dumps(plain, sort_keys=True))
        np.savez_compressed(buffer, signals=self.signals, positions=self.positions, record=record)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> SensorRecording:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = json.loads(str(archive["record"]))
            return cls(
                kind=plain["kind"],
                signals=archive["signals"],
                sampling_rate=plain["sampling_rate"],
                channel_labels=tuple(plain["channel_labels"]),
                positions=archive["positions"],
                bad_channels=tuple(plain["bad_channels"]),
                events=tuple(Event(**event) for event in plain["events"]),
                power_line=plain["power_line"],
                left_out=plain["left_out"],
            )
