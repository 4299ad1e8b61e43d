"""An audit entry becomes a leaf: canonical JSON that says its own place in the log and when it got there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import rfc8785

from vbt.errors import Rejected

MAX_ENTRY_BYTES = 256 * 1024
_GIVEN_BY_SEQUENCER = frozenset({"seq", "sequenced_at"})
# What every reader of the log relies on; an entry about no case has the case_id null.
_REQUIRED = frozenset({"event_id", "at", "case_id", "action", "outcome", "actor"})


def canonical_entry(fields: dict[str, Any]) -> bytes:
    """RFC 8785 bytes of one audit entry; raises `Rejected` for values that JSON cannot hold exactly."""
    try:
        return rfc8785.dumps(fields)
    except rfc8785.CanonicalizationError as error:
        raise _unfit("every value has one JSON form (no NaN, no integer above 2⁵³)", "one that has none") from error


def sequenced_entry(entry: bytes, *, seq: int, at: datetime) -> bytes:
    """The leaf bytes: the writer's entry plus `seq` (from 0) and `sequenced_at` (the sequencer's clock).

    Raises `Rejected` when `entry` is not a canonical JSON object with at least ``event_id``, ``at``, ``case_id``,
    ``action``, ``outcome`` and ``actor``, or already has a place.
    """
    fields = parse_entry(entry)
    if not fields.keys() >= _REQUIRED or not isinstance(fields["action"], str):
        raise _unfit(f"an entry has the keys {', '.join(sorted(_REQUIRED))}", "an entry that lacks one")
    if _GIVEN_BY_SEQUENCER & fields.keys():
        raise _unfit("the sequencer gives seq and sequenced_at", "an entry that brings its own")
    place = {"seq": seq, "sequenced_at": timestamp(at)}
    leaf = canonical_entry({**fields, **place})
    # Without its place the leaf is the entry again, if that was canonical; saves most of a second serialisation.
    unplaced = leaf.replace(b"," + canonical_entry(place)[1:-1], b"", 1)
    if unplaced != entry and canonical_entry(fields) != entry:
        raise _unfit("an entry is RFC 8785 canonical JSON", "another form")
    return leaf


def parse_entry(entry: bytes) -> dict[str, Any]:
    """The fields of an entry; raises `Rejected` when the bytes are not a JSON object with an ``event_id``."""
    if len(entry) > MAX_ENTRY_BYTES:
        raise _unfit(f"an entry has at most {MAX_ENTRY_BYTES} bytes", f"{len(entry)} bytes")
    try:
        fields = json.loads(entry)
    except (ValueError, RecursionError) as error:
        raise _unfit("an entry is JSON", "something else") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("event_id"), str):
        raise _unfit("an entry is a JSON object with an event_id", "something else")
    return fields


def timestamp(at: datetime) -> str:
    """RFC 3339 UTC with six decimals: of fixed width, so that text order is time order."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _unfit(rule: str, got: str) -> Rejected:
    return Rejected("audit-entry-unfit", rule=rule, got=got, action="write the entry through the audit interface")
