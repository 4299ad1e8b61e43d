"""Received objects on disk, durable before anyone is told so: write, fsync, link into place, fsync the directory.

Layout under the root: `.tmp/<random>` while an object arrives, `<sop_key[:2]>/<sop_key>.dcm` once it is whole,
`quarantine/<random>.dcm` for what is kept but not used. No name comes from the wire: keys are HMACs of UIDs.
"""

from __future__ import annotations

import hashlib
import hmac
import mmap
import os
import re
import secrets
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
# Deflated and big endian: no association takes them, and a file that comes another way is kept aside.
_NOT_TAKEN = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}
IMPLEMENTATION_CLASS_UID = "2.25.294406230146953486217829498212733741153"
IMPLEMENTATION_VERSION_NAME = "VBT_0_1"


class Malformed(Exception):
    """The data set breaks the encoding rules before its identifying UIDs were found."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The UIDs that place an object; they stay inside the ingest service."""

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Spooled:
    """One whole object on disk. `sha256` is of the file, `size` in bytes."""

    sop_key: str
    study_key: str
    series_key: str
    sha256: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Other bytes under a SOP Instance UID that is already spooled; they went to quarantine."""

    sop_key: str
    study_key: str
    sha256: str
    path: Path
    size: int


class Spool:
    """The directory of received objects, shared by all associations (and processes)."""

    def __init__(self, root: Path, site_key: bytes, reserve_bytes: int = 1 << 30) -> None:
        self.root, self._site_key, self._reserve_bytes = root, site_key, reserve_bytes
        self._tmp, self._quarantine = root / ".tmp", root / "quarantine"
        for directory in (root, self._tmp, self._quarantine, *(root / f"{i:02x}" for i in range(256))):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_directory(root)

    def has_room(self) -> bool:
        """Whether the disk is above its watermark."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize > self._reserve_bytes

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Arrival:
        """Open a file for an object that is about to arrive."""
        path = self._tmp / secrets.token_hex(16)
        return Arrival(path, file_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid))

    def keep(self, arrival: Arrival, identifiers: Identifiers) -> tuple[Spooled, bool] | Conflict:
        """Make a whole object durable; True beside it says these very bytes were here before."""
        sha256, size = arrival.finish()
        sop_key = self.key(identifiers.sop_instance_uid)
        path = self.root / sop_key[:2] / f"{sop_key}.dcm"
        spooled = Spooled(
            sop_key,
            self.key(identifiers.study_instance_uid),
            self.key(identifiers.series_instance_uid),
            sha256,
            path,
            size,
        )
        try:
            # link, not rename: it fails when another association was first, so nothing is ever overwritten.
            os.link(arrival.path, path)
        except FileExistsError:
            if _sha256(path) != sha256:
                return Conflict(sop_key, spooled.study_key, sha256, self._to_quarantine(arrival.path), size)
            duplicate = True
        else:
            duplicate = False
        os.unlink(arrival.path)
        _sync_directory(path.parent)
        return spooled, duplicate

    def quarantine(self, arrival: Arrival) -> tuple[Path, str, int]:
        """Keep a whole but unusable object aside, durably: its path, sha256 and size."""
        sha256, size = arrival.finish()
        return self._to_quarantine(arrival.path), sha256, size

    def sweep(self) -> int:
        """Remove what arrivals left behind when the process died; call at start, before receiving."""
        leftovers = list(self._tmp.iterdir())
        for leftover in leftovers:
            leftover.unlink()
        return len(leftovers)

    def objects(self, known: Container[str] = frozenset()) -> Iterator[Spooled]:
        """Every whole object but those whose sop_key is ``known``; halves that an older version took are left out."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*.dcm")):
            if path.stem in known:
                continue
            try:
                found = identifiers_of(path)
            except Malformed:
                continue
            yield Spooled(
                path.stem,
                self.key(found.study_instance_uid),
                self.key(found.series_instance_uid),
                _sha256(path),
                path,
                path.stat().st_size,
            )

    def key(self, uid: str) -> str:
        """HMAC-SHA256 of a UID under the site key: what the rest of the suite knows it by."""
        return hmac.digest(self._site_key, uid.encode("ascii"), "sha256").hex()

    def _to_quarantine(self, arrived: Path) -> Path:
        path = self._quarantine / f"{secrets.token_hex(16)}.dcm"
        os.rename(arrived, path)
        _sync_directory(self._quarantine)
        return path


class Arrival:
    """One object while its fragments arrive; leaves nothing behind unless it is finished."""

    def __init__(self, path: Path, head: bytes) -> None:
        self.path = path
        self.size = len(head)
        self._digest = hashlib.sha256(head)
        self._file = path.open("xb", buffering=1 << 18)
        self._file.write(head)

    def write(self, fragment: bytes | memoryview) -> None:
        self._file.write(fragment)
        self._digest.update(fragment)
        self.size += len(fragment)

    def identifiers(self) -> Identifiers:
        """The UIDs in the data set received so far. Raises `Malformed`."""
        self._file.flush()
        return identifiers_of(self.path)

    def finish(self) -> tuple[str, int]:
        """Flush to the disk itself; the file's sha256 and size."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest(), self.size

    def discard(self) -> None:
        """Forget the object; also after a failure, when parts of it may be gone already."""
        try:
            self._file.close()
        finally:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Arrival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def is_valid_uid(uid: str) -> bool:
    """Digits and single dots, at most 64 (PS3.5 §9.1); leading zeros are let through because scanners write them."""
    return 0 < len(uid) <= 64 and _UID.fullmatch(uid) is not None


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Zeroed preamble, DICM and file meta information (PS3.10 §7.1): the same for the same three UIDs."""
    elements = (
        b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
        + _short(0x0002, "UI", sop_class_uid)
        + _short(0x0003, "UI", sop_instance_uid)
        + _short(0x0010, "UI", transfer_syntax_uid)
        + _short(0x0012, "UI", IMPLEMENTATION_CLASS_UID)
        + _short(0x0013, "SH", IMPLEMENTATION_VERSION_NAME)
    )
    group_length = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(elements))
    return b"\0" * 128 + b"DICM" + group_length + elements


def identifiers_of(path: Path) -> Identifiers:
    """Find the three UIDs in a spooled file by walking it to its end, without recursion and without reading pixels.

    Raises `Malformed` where the data set ends before it is whole, or a UID is missing or not a UID. A cut between two
    elements leaves a data set that is well formed; it shows by the pixels that an image must have.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        meta_length = struct.unpack_from("<I", content, 140)[0]
        start = 144 + meta_length
        syntax = _meta_value(content, start, b"\x02\x00\x10\x00")
        if syntax in _NOT_TAKEN:
            raise Malformed("a transfer syntax that no association takes")
        found = _walk(content, start, implicit=syntax == _IMPLICIT_VR_LITTLE_ENDIAN)
        sop_class = _meta_value(content, start, b"\x02\x00\x02\x00")
    uids = [found.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace") for tag in _UIDS]
    if not all(map(is_valid_uid, uids)):
        raise Malformed("a UID is missing or not a UID")
    if (_ROWS in found or sop_class in _IMAGES) and not _PIXELS & found.keys():
        raise Malformed("an image has no pixels")
    return Identifiers(*uids)


_UIDS = (0x00080018, 0x0020000D, 0x0020000E)
_ROWS, _PIXELS = 0x00280010, {0x7FE00008, 0x7FE00009, 0x7FE00010}
_WANTED = frozenset({*_UIDS, _ROWS, *_PIXELS})
# Classes that never come without pixels: MR, CT and PET, classic and enhanced.
_IMAGES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{suffix}"
    for suffix in ("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "128", "128.1", "130")
)
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}
_SHORT_VRS = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_LONGEST = 65  # bytes of a value that are read: a UID has no more than 64
_MAXIMUM_DEPTH = 128
_EXPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")
_NOT_ZERO = re.compile(rb"[^\0]")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def _walk(content: mmap.mmap, at: int, *, implicit: bool) -> dict[int, bytes]:
    """The wanted top-level values; nested items are stepped through with a stack of flags, never by recursion.

    Values of defined length, pixels and sequences among them, are jumped over.
    """
    found: dict[int, bytes] = {}
    # One flag per open sequence or item: whether what lies inside is in implicit VR, as inside UN (PS3.5 §6.2.2).
    nested: list[bool] = []
    end = len(content)
    while at + 8 <= end:
        tag, vr, length, value = _element(content, at, implicit=nested[-1] if nested else implicit)
        if not (nested or tag):
            break  # padding, if anything
        if not nested and tag in _WANTED:
            found[tag] = b"" if length == _UNDEFINED else content[value : value + min(length, _LONGEST)]
        at = value
        if length == _UNDEFINED:
            # An undefined length opens a sequence, an item or encapsulated pixels, which a delimiter closes.
            nested.append(vr == b"UN" or (nested[-1] if nested else implicit))
            if len(nested) > _MAXIMUM_DEPTH:
                raise Malformed("sequences within sequences without end")
        elif tag in (_ITEM_END, _SEQUENCE_END):
            if not nested:
                raise Malformed("a delimiter without a sequence")
            nested.pop()
        else:
            at += length
    # Behind the pixels some senders leave zeros; anything else, anywhere else, is a piece of an element.
    padded = at < end and _PIXELS & found.keys() and not _NOT_ZERO.search(content, at)
    if nested or (at != end and not padded):
        raise Malformed("an element runs past its data set")
    return found


def _element(content: mmap.mmap, at: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty where implicit), value length and where the value begins."""
    group, element, vr, length = _EXPLICIT.unpack_from(content, at)
    tag = group << 16 | element
    if not implicit and group != 0xFFFE:
        if vr in _SHORT_VRS:
            return tag, vr, length, at + 8
        if vr in _LONG_VRS:
            if at + 12 > len(content):
                raise Malformed("an element runs past its data set")
            return tag, vr, _LENGTH.unpack_from(content, at + 8)[0], at + 12
        # Some writers fall back to implicit VR inside a sequence; like other readers, we tell it by what is no VR.
        if vr.isalpha() and vr.isupper():
            return tag, vr, length, at + 8
    return tag, b"", _LENGTH.unpack_from(content, at + 4)[0], at + 8


def _meta_value(content: mmap.mmap, end: int, tag: bytes) -> str:
    at = 144
    while at < end:
        if content[at : at + 4] == tag:
            _, _, length, value = _element(content, at, implicit=False)
            return bytes(content[value : value + length]).rstrip(b"\0 ").decode("ascii")
        _, _, length, value = _element(content, at, implicit=False)
        at = value + length
    raise Malformed("no transfer syntax")


def _short(element: int, vr: str, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr.encode(), len(value)) + value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
