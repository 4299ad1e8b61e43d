"""Neighbouring contacts of one electrode against each other, which leaves what is near them."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from vbt.electrophysiology._recording import SensorRecording
from vbt.errors import Rejected

_CONTACT = re.compile(r"(.*\D)(\d+)")


def bipolar(recording: SensorRecording) -> SensorRecording:
    """A1-A2, A2-A3, … placed in the middle of the two contacts; pairs with a bad contact are not made.

    A recording whose channels are pairs already is given back as it is.

    Raises
    ------
    Rejected
        ``too-few-channels`` where no electrode has two neighbouring good contacts.
    """
    if all("-" in label for label in recording.channel_labels):
        return recording
    where = {}
    for index, label in enumerate(recording.channel_labels):
        contact = _CONTACT.fullmatch(label)
        if contact is not None and index not in recording.bad_channels:
            where[contact[1], int(contact[2])] = index
    pairs = [(index, where[shaft, n + 1]) for (shaft, n), index in sorted(where.items()) if (shaft, n + 1) in where]
    if not pairs:
        raise Rejected(
            "too-few-channels",
            rule="a bipolar montage needs an electrode with two neighbouring good contacts, such as A1 and A2",
            got=f"{len(where)} good contacts, no two of them neighbours",
            action="attach the recording with all contacts of its electrodes",
        )
    first, second = (np.array(ends) for ends in zip(*pairs, strict=True))
    return dataclasses.replace(
        recording,
        signals=recording.signals[:, first] - recording.signals[:, second],
        channel_labels=tuple(f"{recording.channel_labels[a]}-{recording.channel_labels[b]}" for a, b in pairs),
        positions=(recording.positions[first] + recording.positions[second]) / 2,
        bad_channels=(),
    )
