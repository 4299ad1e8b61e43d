"""Names of channels and words of annotations, reduced to what cannot identify anyone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vbt.electrophysiology._recording import SEIZURE_OFFSET, SEIZURE_ONSET, Event, Kind
from vbt.errors import Rejected

LONGEST_NAME = 16
_PRIMES = str.maketrans({"’": "'", "′": "'", "`": "'", "´": "'", "‘": "'"})
_BEFORE = re.compile(r"^(?:s?eeg|ieeg|pol)[\s_-]+", re.IGNORECASE)
_AFTER = re.compile(r"[\s_-]+(?:ref|g2|avg|car|le)$", re.IGNORECASE)
_LEADING_ZEROS = re.compile(r"(?<=[A-Za-z'])0+(?=\d)")
_OTHER = re.compile(r"[^A-Za-z0-9'_-]")
_SEIZURE = r"(?:seizure|seiz|sz|ictal|eeg|crise|crisis)"
# A bare "start" or "end" may be the recording's own.
_ONSET = re.compile(rf"onset|{_SEIZURE}[\s_-]*(?:onset|start|begin|beginning|debut)", re.IGNORECASE)
_OFFSET = re.compile(rf"offset|{_SEIZURE}[\s_-]*(?:offset|end|stop|fin)", re.IGNORECASE)
_WHOLE = re.compile(r"(?:sz|seizure|ictal|crise)(?:[\s_-]*\d+)?", re.IGNORECASE)


def channel_name(name: str, kind: Kind) -> str:
    """``"EEG A’01-Ref"`` becomes ``"A'1"``: letters, digits, ``'``, ``_`` and ``-`` only, 16 of them at most."""
    plain = name.translate(_PRIMES).strip()
    if kind != "meg":
        plain = _LEADING_ZEROS.sub("", _AFTER.sub("", _BEFORE.sub("", plain)).replace(" ", ""))
    return _OTHER.sub("", plain)[:LONGEST_NAME]


def channel_names(names: Iterable[str], kind: Kind) -> tuple[str, ...]:
    """As `channel_name`, for all of a file or a table.

    Raises
    ------
    Rejected
        ``channel-names-ambiguous`` where two become the same, or one becomes empty.
    """
    plain = tuple(channel_name(name, kind) for name in names)
    clashing = len(plain) - len(set(plain))
    if clashing or "" in plain:
        raise Rejected(
            "channel-names-ambiguous",
            rule=f"channels differ in the first {LONGEST_NAME} letters and digits of their names",
            got=f"{clashing} with the name of another, {plain.count('')} without letters or digits",
            action="name every channel once, such as A1, A2, B'1",
        )
    return plain


def seizure_events(marks: Iterable[tuple[str, float, float]], duration: float) -> tuple[Event, ...]:
    """What (label, onset, duration) says of seizures within the recording; all other marks are left behind."""
    events = []
    for label, onset, lasting in marks:
        words = label.rpartition("/")[2].strip()  # BrainVision has "Comment/…"
        whole = bool(_WHOLE.fullmatch(words)) and lasting > 0.0
        if whole or _ONSET.fullmatch(words):
            events.append(Event(label=SEIZURE_ONSET, onset=onset))
        if whole or _OFFSET.fullmatch(words):
            events.append(Event(label=SEIZURE_OFFSET, onset=onset + lasting if whole else onset))
    return tuple(sorted((e for e in events if 0.0 <= e.onset <= duration), key=lambda e: (e.onset, e.label)))
