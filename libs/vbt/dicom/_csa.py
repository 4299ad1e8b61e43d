"""Siemens CSA headers: reading named elements, and writing a header that keeps only the harmless ones.

The layout is Siemens' private binary, versions CSA1 and CSA2 ("SV10"); nibabel's reader is the reference for it.
"""

from __future__ import annotations

import struct

# What a volume and its gradients need; everything else in a CSA header (patient text, ASCCONV) is dropped.
GRADIENT_ELEMENTS = (
    "B_value", "DiffusionDirectionality", "DiffusionGradientDirection", "B_matrix", "NumberOfImagesInMosaic",
    "SliceNormalVector",
)  # fmt: skip
_ITEMS_PER_ELEMENT = 6
_MAX_ELEMENTS, _MAX_ITEMS = 1024, 4096


def csa_values(header: bytes) -> dict[str, tuple[str, ...]]:
    """The gradient and mosaic elements of a CSA image header as text values; empty where it does not parse."""
    return {name: items for name, (_, items) in _kept(header).items()}


def gradients_only(header: bytes) -> bytes:
    """A valid CSA2 header with nothing but `GRADIENT_ELEMENTS` in it; empty where there are none."""
    kept = _kept(header)
    if not kept:
        return b""
    head = b"SV10\x04\x03\x02\x01" + struct.pack("<II", len(kept), 77)
    return head + b"".join(_element(name, vr, items) for name, (vr, items) in kept.items())


def _kept(header: bytes) -> dict[str, tuple[str, tuple[str, ...]]]:
    try:
        elements = _parse(header)
    except (struct.error, ValueError):
        return {}
    return {name: elements[name] for name in GRADIENT_ELEMENTS if elements.get(name, ("", ()))[1]}


def _parse(header: bytes) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every element as (VR, non-empty items)."""
    second = header[:4] == b"SV10"
    at = 8 if second else 0
    (count,) = struct.unpack_from("<I", header, at)
    if not 0 < count <= _MAX_ELEMENTS:
        raise ValueError("element count")
    at += 8
    elements: dict[str, tuple[str, tuple[str, ...]]] = {}
    first_number = 0
    for _ in range(count):
        name, _, vr, _, number, _ = struct.unpack_from("<64si4siii", header, at)
        at += 84
        if not 0 <= number <= _MAX_ITEMS:
            raise ValueError("item count")
        first_number = first_number or number
        items = []
        for _ in range(number):
            csa1_length, csa2_length = struct.unpack_from("<2i", header, at)
            at += 16
            # CSA1 states every item length too long by the item count of the first element.
            length = csa2_length if second else csa1_length - first_number
            if length < 0 or at + length > len(header):
                raise ValueError("item length")
            items.append(_text(header[at : at + length]))
            at += -(-length // 4) * 4
        elements[_text(name)] = (_text(vr), tuple(item for item in items if item))
    return elements


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("latin-1").strip()


def _element(name: str, vr: str, items: tuple[str, ...]) -> bytes:
    number = max(_ITEMS_PER_ELEMENT, len(items))
    out = [name.encode("ascii").ljust(64, b"\0"), struct.pack("<i", len(items)), vr.encode("ascii").ljust(4, b"\0"),
           struct.pack("<iii", 0, number, 77)]  # fmt: skip
    for item in items + ("",) * (number - len(items)):
        text = item.encode("ascii") + b"\0" if item else b""
        out.append(struct.pack("<4i", len(text), len(text), 77, len(text)))
        out.append(text.ljust(-(-len(text) // 4) * 4, b"\0"))
    return b"".join(out)
