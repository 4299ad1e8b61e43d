"""Primitive values as R4 writes them in JSON: right JSON type, right format, real dates, decodable base64."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

_PATTERNS = {
    "string": r"[\s\S]*\S[\s\S]*",
    "markdown": r"[\s\S]*\S[\s\S]*",
    "xhtml": r"[\s\S]+",
    "code": r"[^\s]+(\s[^\s]+)*",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "uri": r"\S+",
    "url": r"\S+",
    "canonical": r"\S+",
    "oid": r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+",
    "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "date": r"\d{4}(-\d{2}(-\d{2})?)?",
    "dateTime": r"\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?)?)?",
    "instant": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})",
    "time": r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?",
    "base64Binary": r"[\s0-9a-zA-Z+/=]+",
}
_REGEX = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_INTEGERS = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}


def primitive_fault(kind: str, value: Any) -> str | None:
    """Why `value` is not a primitive of this R4 type, or None."""
    if kind == "boolean":
        return None if isinstance(value, bool) else "must be a JSON boolean"
    if kind == "decimal":
        return _decimal_fault(value)
    if kind in _INTEGERS:
        return _integer_fault(value, _INTEGERS[kind])
    return _text_fault(kind, value)


def _decimal_fault(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return "must be a JSON number"
    if not math.isfinite(value):
        return "must be finite"
    digits = len(Decimal(str(value)).as_tuple().digits)
    return "has more than 18 significant digits" if digits > 18 else None


def _integer_fault(value: Any, least: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return "must be a JSON integer"
    return None if least <= value < 2**31 else "is out of range"


def _text_fault(kind: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a JSON string"
    if len(value) > 1024 * 1024 and kind in ("string", "markdown"):
        return "is longer than 1 MB"
    if not _REGEX[kind].fullmatch(value):
        return f"is not a valid {kind}"
    if _CONTROL.search(value):
        return "has control characters"
    check = _CHECKS.get(kind)
    try:
        if check is not None:
            check(value)
    except (ValueError, binascii.Error):
        return f"is not a real {kind}"
    return None


def _check_moment(value: str) -> None:
    if "T" in value:
        # Python cannot hold a leap second.
        datetime.fromisoformat(re.sub(r"(T\d{2}:\d{2}):60", r"\1:59", value))
    else:
        date.fromisoformat(f"{value}-01-01"[:10] if len(value) == 4 else f"{value}-01"[:10])


_CHECKS: dict[str, Callable[[str], Any]] = {
    "date": _check_moment,
    "dateTime": _check_moment,
    "instant": _check_moment,
    "base64Binary": lambda value: base64.b64decode(re.sub(r"\s", "", value), validate=True),
}
