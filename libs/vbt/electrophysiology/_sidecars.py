"""The tables that BIDS keeps beside a recording: electrodes, channels, events, and the frame of the coordinates."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vbt.electrophysiology._names import channel_name, channel_names
from vbt.electrophysiology._recording import Kind
from vbt.errors import Rejected

_LARGEST_TABLE = 5_000_000
_MM_PER = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_SCANNER = "scanras"


@dataclass(frozen=True, kw_only=True)
class Channels:
    """What ``channels.tsv`` says of each channel, by its plain name."""

    kinds: dict[str, str]
    bad: frozenset[str]


def read_electrodes(path: Path, kind: Kind) -> dict[str, Float[np.ndarray, "3"]]:
    """Position of every contact by its plain name: mm in scanner RAS+, NaN where the table has none.

    Millimetres are assumed where no ``coordsystem.json`` is beside the table.

    Raises
    ------
    Rejected
        ``electrodes-unreadable``, ``electrode-frame-unknown``, ``electrode-coordinates-implausible`` or
        ``channel-names-ambiguous``
    """
    rows = _rows(path, "electrodes-unreadable", ("name", "x", "y", "z"))
    scale = _scale(path, kind)
    names = channel_names((row["name"] for row in rows), kind)
    places = np.array([[_number(row[axis]) for axis in "xyz"] for row in rows]).reshape(-1, 3) * scale
    known = places[np.isfinite(places).all(axis=1)]
    spread = float(np.linalg.norm(np.minimum(np.ptp(known, axis=0), 1e6))) if len(known) else 0.0
    if not (len(known) and spread <= 400.0 and np.abs(known).max() <= 1000.0 and (spread >= 3.0 or len(known) == 1)):
        raise Rejected(
            "electrode-coordinates-implausible",
            rule="electrodes have coordinates, in mm (or as coordsystem.json says), 3 to 400 mm apart in all",
            got=f"{len(known)} with coordinates, {spread:.3g} mm apart",
            action="check the table and the unit in coordsystem.json",
        )
    return dict(zip(names, places, strict=True))


def read_channels(recording: Path, kind: Kind) -> Channels | None:
    """The table beside the recording; None where there is none."""
    path = _beside(recording, "channels.tsv")
    if path is None:
        return None
    rows = _rows(path, "channels-unreadable", ("name", "type"))
    names = [channel_name(row["name"], kind) for row in rows]
    bad = {name for name, row in zip(names, rows, strict=True) if (row.get("status") or "").lower() == "bad"}
    kinds = {name: row["type"].upper() for name, row in zip(names, rows, strict=True)}
    return Channels(kinds=kinds, bad=frozenset(bad))


def read_events(recording: Path) -> tuple[tuple[str, float, float], ...]:
    """(label, onset, duration) of the table beside the recording, none where there is none."""
    path = _beside(recording, "events.tsv")
    if path is None:
        return ()
    marks = []
    for row in _rows(path, "events-unreadable", ("onset",)):
        onset, duration = _number(row["onset"]), _number(row.get("duration") or "0")
        label = row.get("trial_type") or row.get("value") or ""
        if math.isfinite(onset):
            marks.append((label, onset, duration if math.isfinite(duration) else 0.0))
    return tuple(marks)


def read_power_line(recording: Path) -> float:
    """Hz from the JSON beside the recording, 0 where it does not say."""
    path = recording.with_suffix(".json")
    value = _object(path).get("PowerLineFrequency") if path.is_file() else None
    return float(value) if isinstance(value, int | float) and 40.0 <= value <= 70.0 else 0.0


def _beside(recording: Path, ending: str) -> Path | None:
    """``sub-01_task-x_ieeg.edf`` has ``sub-01_task-x_channels.tsv``."""
    stem = recording.stem.rpartition("_")[0]
    path = recording.with_name(f"{stem}_{ending}")
    return path if stem and path.is_file() else None


def _scale(electrodes: Path, kind: Kind) -> float:
    """mm per unit of the electrodes' coordinates, which must be the T1's own."""
    named = re.search(r"_space-([A-Za-z0-9]+)", electrodes.name)
    frame, unit = (named[1] if named else _SCANNER), "mm"
    path = _coordinate_system(electrodes)
    if path is not None:
        prefix = "iEEG" if kind == "seeg" else kind.upper()
        content = _object(path)
        frame = str(content.get(f"{prefix}CoordinateSystem", frame))
        unit = str(content.get(f"{prefix}CoordinateUnits", unit))
    if frame.lower() != _SCANNER or unit not in _MM_PER:
        known = frame.lower() == _SCANNER
        raise Rejected(
            "electrode-frame-unknown",
            rule="electrodes are given in the scanner coordinates of the patient's T1 (ScanRAS), in mm, cm or m",
            got="another unit" if known else "another coordinate system",
            action="transform the electrodes to the T1 that was sent and say ScanRAS in coordsystem.json",
        )
    return _MM_PER[unit]


def _coordinate_system(electrodes: Path) -> Path | None:
    own = _beside(electrodes, "coordsystem.json")
    if own is not None:
        return own
    others = sorted(electrodes.parent.glob("*coordsystem.json"))
    return others[0] if len(others) == 1 else None


def _object(path: Path) -> dict[str, Any]:
    if path.stat().st_size <= _LARGEST_TABLE:
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            return content
    raise Rejected(
        "sidecar-unreadable",
        rule="a JSON file beside a recording holds one JSON object",
        got="something else",
        action="correct the file or leave it out",
    )


def _rows(path: Path, code: str, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a table with tabs and a header."""
    problem = f"no file of {_LARGEST_TABLE} bytes or fewer"
    if path.is_file() and path.stat().st_size <= _LARGEST_TABLE:
        try:
            text = path.read_text(encoding="utf-8-sig")
            table = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
        except (ValueError, csv.Error):
            table, problem = [], "no text with tabs"
        header = [cell.strip().lower() for cell in table[0]] if table else []
        lines = [line for line in table[1:] if any(cell.strip() for cell in line)]
        missing = [name for name in needed if name not in header]
        if table and not missing and lines and all(len(line) == len(header) for line in lines):
            return [dict(zip(header, (cell.strip() for cell in line), strict=True)) for line in lines]
        if table:
            problem = "columns missing: " + ", ".join(missing) if missing else "no rows, or rows of other lengths"
    raise Rejected(
        code,
        rule=f"a table has tabs between its columns and a first line with {', '.join(needed)}",
        got=problem,
        action="correct the table, as BIDS describes it",
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
