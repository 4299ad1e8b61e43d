"""The Virtual Brain's connectivity zips, and telling them from our own archives."""

from __future__ import annotations

import bz2
import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from vbt.connectome._connectome import Connectome
from vbt.errors import Rejected

_MOST_BYTES = 512 * 1024 * 1024  # unpacked, per member
_WORDS = {
    "weights": ("weights",),
    "tract_lengths": ("tract_lengths", "tracts"),
    "centres": ("centres", "centers"),
    "cortical": ("cortical",),
}
_TRUE, _FALSE = {"1", "true"}, {"0", "false"}


def read_connectome(content: bytes) -> Connectome:
    """A connectome from the bytes of our ``connectome.npz`` or of a TVB connectivity zip.

    Raises
    ------
    Rejected
        where they are neither, or break a rule of `Connectome`.
    """
    with _opened(content) as archive:
        ours = "weights.npy" in archive.namelist()
        if ours and sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
            raise _refuse("an unpacked connectome takes at most 512 MiB", "more")
    if not ours:
        return read_tvb_connectivity(content)
    try:
        return Connectome.from_npz(content)
    except (KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise _refuse("a connectome archive holds the arrays of a connectome", type(error).__name__) from error


def read_tvb_connectivity(source: Path | bytes) -> Connectome:
    """The connectome in a connectivity zip of The Virtual Brain, ``weights[target, source]`` as TVB has it too.

    ``weights``, ``tract_lengths`` (mm) and ``centres`` (label, x, y, z in mm) are ``.txt`` or ``.txt.bz2``, at the top
    or in one folder; where ``cortical`` is missing all regions count as cortex. TVB lets a region drive itself without
    delay; a `Connectome` does not: such weights and lengths are left out, and ``normalisation`` says how many.

    Parameters
    ----------
    source : the file, or its bytes

    Raises
    ------
    Rejected
        where a file is missing or not readable, or the connectome breaks a rule.
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    with _opened(content) as archive:
        labels, centres = _centres(_text(archive, "centres"))
        weights = _matrix("weights", _text(archive, "weights"), len(labels))
        lengths = _matrix("tract_lengths", _text(archive, "tract_lengths"), len(labels))
        cortical = _member(archive, "cortical")
        is_cortical = np.ones(len(labels), bool) if cortical is None else _flags(_read(archive, cortical), len(labels))
    selves = int(np.count_nonzero(np.diag(weights)))
    np.fill_diagonal(weights, 0.0)
    np.fill_diagonal(lengths, 0.0)
    return Connectome(
        weights=weights,
        tract_lengths=lengths,
        region_labels=labels,
        centres=centres,
        is_cortical=is_cortical,
        parcellation=f"tvb-{len(labels)}",
        normalisation="as in the TVB file" + (f"; {selves} self-connections left out" if selves else ""),
    )


def _opened(content: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise _refuse("a connectome comes as connectome.npz or as a TVB connectivity zip", "another file") from error


def _member(archive: zipfile.ZipFile, what: str) -> zipfile.ZipInfo | None:
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename)
        stem = path.name.lower().removesuffix(".bz2")
        # A Mac leaves a second, binary file of the same name in a folder of its own.
        if "__MACOSX" not in path.parts and stem in {f"{word}.txt" for word in _WORDS[what]}:
            return entry
    return None


def _text(archive: zipfile.ZipFile, what: str) -> str:
    entry = _member(archive, what)
    if entry is None:
        raise _refuse("a TVB connectivity zip has weights.txt, tract_lengths.txt and centres.txt", f"no {what}.txt")
    return _read(archive, entry)


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    try:
        with archive.open(entry) as file:
            if entry.filename.lower().endswith(".bz2"):
                with bz2.open(file) as unpacked:
                    raw = unpacked.read(_MOST_BYTES + 1)
            else:
                raw = file.read(_MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, UnicodeDecodeError) as error:
        raise _refuse("the files of a connectivity zip are whole and are text", type(error).__name__) from error
    if len(raw) > _MOST_BYTES:
        raise _refuse("an unpacked connectome takes at most 512 MiB", "more")
    return text.replace(",", " ")


def _matrix(name: str, text: str, regions: int) -> Float[np.ndarray, "region region"]:
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(rows) != regions or any(len(row) != regions for row in rows):
        shape = f"{len(rows)} rows of {sorted({len(row) for row in rows})[:3]} numbers"
        raise _refuse(f"{name} is square over the {regions} regions of centres", shape)
    return _numbers(name, rows)


def _centres(text: str) -> tuple[tuple[str, ...], Float[np.ndarray, "region 3"]]:
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    # Some files have further columns behind the three coordinates.
    if not rows or any(len(row) < 4 for row in rows):
        raise _refuse("a line of centres is a label without blanks and x, y, z", "a shorter line, or no line")
    return tuple(row[0] for row in rows), _numbers("centres", [row[1:4] for row in rows])


def _flags(text: str, regions: int) -> np.ndarray:
    words = text.lower().split()
    values = [_yes(word) for word in words]
    if len(values) != regions or None in values:
        raise _refuse(f"cortical has a 0 or a 1 for each of {regions} regions", f"{len(values)} entries or other words")
    return np.array(values, dtype=bool)


def _yes(word: str) -> bool | None:
    """Whether a word says yes; None where it says neither yes nor no."""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    try:
        return {0.0: False, 1.0: True}.get(float(word))
    except ValueError:
        return None


def _numbers(name: str, rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array(rows, dtype=float)
    except ValueError as error:
        raise _refuse(f"{name} holds numbers", "something else") from error


def _refuse(rule: str, got: str) -> Rejected:
    return Rejected("connectome-malformed", rule=rule, got=got, action="correct the file, or export it again")
