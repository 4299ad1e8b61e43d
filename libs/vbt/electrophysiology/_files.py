"""EDF, BrainVision and FIF files, opened with suspicion: a file's own word is held against its size first."""

from __future__ import annotations

import configparser
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import mne
import numpy as np
from jaxtyping import Float
from mne._fiff.constants import FIFF
from mne._fiff.open import fiff_open
from mne._fiff.tree import dir_tree_find

from vbt.errors import Rejected

_MOST_VALUES = 100_000_000  # 0.8 GB in memory
_LONGEST_HEADER = 1_000_000
_ANNOTATIONS = (b"EDF Annotations", b"BDF Annotations")  # no channels to MNE-Python
_FIF_FILE_ID = struct.pack(">iii", 100, 31, 20)  # the tag that every FIF file begins with


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A recording's file as MNE-Python has it.

    Parameters
    ----------
    marks : what annotations say: (label, onset, duration) in s
    rates : Hz of every channel, in their order, where the format lets them differ; else empty
    types : MNE-Python's, of every channel
    """

    raw: mne.io.BaseRaw
    marks: tuple[tuple[str, float, float], ...]
    rates: tuple[float, ...]
    types: tuple[str, ...]
    bad: tuple[str, ...]

    def signals(self, picks: list[int]) -> Float[np.ndarray, "time channel"]:
        """V, T or T/m.

        Raises
        ------
        Rejected
            ``recording-too-large`` or ``recording-unreadable``
        """
        _require_values(self.raw.n_times * len(picks))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.ascontiguousarray(self.raw.get_data(picks, verbose="ERROR").T)
        except Exception:  # noqa: BLE001 - MNE-Python's readers raise anything, even a bare Exception
            unreadable("samples that cannot be read")


def open_recording(path: Path) -> Opened:
    """A file in EDF, EDF+C, BDF, BrainVision (the ``.vhdr``) or FIF, known by its content and not by its name.

    Raises
    ------
    Rejected
        ``recording-format-unknown``, ``recording-truncated``, ``recording-too-large``, ``recording-with-gaps``
        or ``recording-unreadable``
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        unreadable("no file that can be opened")
    rates: tuple[float, ...] = ()
    if start[:8] in (b"0       ", b"\xffBIOSEMI"):
        rates = _european_rates(path, start, size)
        reader = mne.io.read_raw_bdf if start[:1] == b"\xff" else mne.io.read_raw_edf
        known: dict[str, Any] = {"stim_channel": False}
    elif b"rain Vision Data Exchange Header" in start or b"rainVision Data Exchange Header" in start:
        reader, known = mne.io.read_raw_brainvision, {"overrides": _brainvision_files(path, size)}
    elif start[:12] == _FIF_FILE_ID:
        _require_whole_fif(path)
        reader, known = mne.io.read_raw_fif, {}
    else:
        raise Rejected(
            "recording-format-unknown",
            rule="a recording is EDF, BDF, BrainVision (the .vhdr file) or FIF",
            got="a file that begins like none of them",
            action="export the recording as EDF+ or BrainVision",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = reader(path, preload=False, verbose="ERROR", **known)
            marks = _marks(raw)
            types, bad = tuple(raw.get_channel_types()), tuple(map(str, raw.info["bads"]))
    except Exception:  # noqa: BLE001 - MNE-Python's readers raise anything, even a bare Exception
        unreadable("a header that contradicts itself or the file")
    _require_beside(path, raw.filenames)
    if rates and len(rates) != len(raw.ch_names):
        unreadable("a header that contradicts itself or the file")
    if not (raw.n_times > 1 and raw.ch_names and np.isfinite(raw.info["sfreq"])):
        unreadable(f"{len(raw.ch_names)} channels with {raw.n_times} samples")
    return Opened(raw=raw, marks=marks, rates=rates, types=types, bad=bad)


def unreadable(got: str) -> NoReturn:
    """Refuse a file that is not what it says."""
    raise Rejected(
        "recording-unreadable",
        rule="a recording is a whole, readable file of its format",
        got=got,
        action="export the recording again and attach the new file",
    ) from None


def _marks(raw: mne.io.BaseRaw) -> tuple[tuple[str, float, float], ...]:
    # Annotations that know the date count from the measurement's beginning, which a cropped file does not begin with.
    notes = raw.annotations
    late = raw.first_time if notes.orig_time is not None else 0.0
    return tuple(
        (str(label), float(onset) - late, float(duration))
        for label, onset, duration in zip(notes.description, notes.onset, notes.duration, strict=True)
    )


def _require_values(values: int) -> None:
    if values > _MOST_VALUES:
        raise Rejected(
            "recording-too-large",
            rule=f"a recording has {_MOST_VALUES} samples over all channels at most",
            got=f"{values}",
            action="cut the recording to some minutes around what matters, or lower its sampling rate",
        )


def _european_rates(path: Path, start: bytes, size: int) -> tuple[float, ...]:
    """Sampling rate of every channel of an EDF or BDF file but those of annotations, whose header fits its size."""
    try:
        declared, records = int(start[184:192]), int(start[236:244])
        duration, channels = float(start[244:252]), int(start[252:256])
    except ValueError:
        unreadable("a header without numbers where numbers belong")
    if not (1 <= channels <= 4096 and declared == 256 * (channels + 1) and records > 0 and 0.0 < duration < 1e6):
        unreadable("a header with impossible numbers")
    if start[192:197] in (b"EDF+D", b"BDF+D"):
        raise Rejected(
            "recording-with-gaps",
            rule="a recording is continuous",
            got="one stored in pieces with gaps between them",
            action="export one continuous piece",
        )
    with path.open("rb") as file:
        header = file.read(declared)
    if len(header) < declared:
        _truncated(declared, size)
    try:
        samples = [int(header[256 + 216 * channels + 8 * c :][:8]) for c in range(channels)]
    except ValueError:
        unreadable("a header without numbers where numbers belong")
    if min(samples) < 1:
        unreadable("a header with impossible numbers")
    width = 3 if start[:1] == b"\xff" else 2
    needed = declared + records * sum(samples) * width
    if size < needed:
        _truncated(needed, size)
    names = [header[256 + 16 * c :][:16].strip() for c in range(channels)]
    return tuple(count / duration for name, count in zip(names, samples, strict=True) if name not in _ANNOTATIONS)


def _truncated(needed: int, size: int) -> NoReturn:
    raise Rejected(
        "recording-truncated",
        rule="a recording's file is as long as its header says",
        got=f"{size} of {needed} bytes",
        action="export or copy the recording again",
    )


def _brainvision_files(path: Path, size: int) -> dict[str, Any]:
    """What MNE-Python shall read instead of what the header names: files that were seen to lie beside it."""
    if size > _LONGEST_HEADER:
        unreadable("a header of over a megabyte")
    # The first line is no setting, and comments follow the settings: so MNE-Python reads it too.
    settings = path.read_bytes().decode("utf-8", errors="replace").partition("\n")[2].partition("[Comment]")[0]
    header = configparser.ConfigParser(interpolation=None)
    try:
        header.read_string(settings)
    except configparser.Error:
        unreadable("a header that contradicts itself or the file")
    infos = "Common Infos" if header.has_section("Common Infos") else "Common infos"
    data = header.get(infos, "DataFile", fallback="")
    if not data:
        unreadable("a header that names no data file")
    if header.get(infos, "DataFormat", fallback="") != "BINARY":
        unreadable("samples in another form than binary")
    marks = header.get(infos, "MarkerFile", fallback="")
    marker = _beside(path, marks) if marks else None
    if marker is not None and marker.suffix not in (".vmrk", ".amrk"):
        unreadable("markers in another format")  # MNE-Python goes by the name to one of its twenty other readers
    if marker is not None and marker.stat().st_size > 10 * _LONGEST_HEADER:
        unreadable("markers of over ten megabytes")
    return {
        "data_fname": str(_beside(path, data)),
        "marker_fname": False if marker is None else str(marker),
        "data_format": "BINARY",
    }


def _beside(path: Path, named: str) -> Path:
    """The plain file that a header names beside itself."""
    name = named.replace("$b", path.stem)
    if len(name.encode()) > 255 or Path(name).name != name or "\\" in name or name in (".", ".."):
        unreadable("a header that names a file in another folder")
    beside = path.absolute().with_name(name)
    if beside.is_symlink() or not beside.is_file():
        unreadable("a header without the file it names beside it")
    return beside


def _require_whole_fif(path: Path) -> None:
    """A part of a split recording names the next part by any path, which MNE-Python would open."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file, tree, _ = fiff_open(path, verbose="ERROR")
            file.close()
            refers = bool(dir_tree_find(tree, FIFF.FIFFB_REF))
    except Exception:  # noqa: BLE001 - MNE-Python's readers raise anything, even a bare Exception
        unreadable("a header that contradicts itself or the file")
    if refers:
        unreadable("one part of a recording that was split over several files")


def _require_beside(path: Path, opened: Sequence[Path | None]) -> None:
    """Whatever a header said: one file was opened, and it lies in the recording's folder."""
    here = path.parent.resolve()
    if len(opened) != 1 or opened[0] is None or opened[0].resolve().parent not in (here, path.resolve().parent):
        unreadable("a header that names a file in another folder")
