"""The few DIMSE messages a storage receiver speaks, parsed from P-DATA fragments as they arrive.

PS3.7 §9.3 (messages) and PS3.8 §9.3.5 (P-DATA-TF).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
P_DATA_TF = 0x04
_RESPONSE = 0x8000
_NO_DATA_SET = 0x0101
_MAXIMUM_COMMAND_BYTES = 64 * 1024


class ProtocolError(Exception):
    """The peer broke the protocol; the association is aborted."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """One presentation data value."""

    context_id: int
    is_command: bool
    is_last: bool
    value: memoryview


@dataclass(frozen=True, slots=True)
class Command:
    """The fields of a request that a storage receiver needs."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def fragments(pdu: memoryview) -> Iterator[Fragment]:
    """The presentation data values in the body of one P-DATA-TF PDU."""
    at = 0
    while at < len(pdu):
        if at + 6 > len(pdu):
            raise ProtocolError("cut presentation data value")
        (length,) = struct.unpack_from(">I", pdu, at)
        if length < 2 or at + 4 + length > len(pdu):
            raise ProtocolError("presentation data value of impossible length")
        control = pdu[at + 5]
        yield Fragment(pdu[at + 4], bool(control & 1), bool(control & 2), pdu[at + 6 : at + 4 + length])
        at += 4 + length


class CommandBuffer:
    """Collects the fragments of one command set."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, fragment: Fragment) -> Command | None:
        """The whole command once its last fragment is in."""
        self._bytes += fragment.value
        if len(self._bytes) > _MAXIMUM_COMMAND_BYTES:
            raise ProtocolError("command set too long")
        if not fragment.is_last:
            return None
        content, self._bytes = bytes(self._bytes), bytearray()
        return _command(content)


def response(command: Command, context_id: int, status: int) -> bytes:
    """A complete P-DATA-TF PDU that answers `command`."""
    elements = _element(0x0002, _uid(command.sop_class_uid)) if command.sop_class_uid else b""
    elements += _element(0x0100, struct.pack("<H", command.field | _RESPONSE))
    elements += _element(0x0120, struct.pack("<H", command.message_id))
    elements += _element(0x0800, struct.pack("<H", _NO_DATA_SET))
    elements += _element(0x0900, struct.pack("<H", status))
    if command.sop_instance_uid:
        elements += _element(0x1000, _uid(command.sop_instance_uid))
    message = _element(0x0000, struct.pack("<I", len(elements))) + elements
    value = struct.pack(">IBB", len(message) + 2, context_id, 0x03) + message
    return struct.pack(">BBI", P_DATA_TF, 0, len(value)) + value


def _command(content: bytes) -> Command:
    values: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(content):
        group, element, length = struct.unpack_from("<HHI", content, at)
        if group != 0 or at + 8 + length > len(content):
            raise ProtocolError("malformed command set")
        values[element] = content[at + 8 : at + 8 + length]
        at += 8 + length
    return Command(
        field=_number(values, 0x0100),
        message_id=_number(values, 0x0110) if 0x0110 in values else 0,
        sop_class_uid=_text(values.get(0x0002, b"")),
        sop_instance_uid=_text(values.get(0x1000, b"")),
        has_data_set=_number(values, 0x0800) != _NO_DATA_SET,
    )


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise ProtocolError("command set without a required field")
    return int(struct.unpack("<H", value)[0])


def _text(value: bytes) -> str:
    # latin-1 keeps every byte, so a hostile UID comes back to its sender unchanged and fails the UID check.
    return value.rstrip(b"\0 ").decode("latin-1")


def _uid(uid: str) -> bytes:
    value = uid.encode("latin-1")
    return value + b"\0" * (len(value) % 2)


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value
