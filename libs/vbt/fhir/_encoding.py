"""Bundles as JSON text that is the same bytes every time and keeps the trailing zeros of decimals."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

Json = dict[str, Any]


def to_json(resource: Json) -> bytes:
    """UTF-8 JSON of a resource, keys in the order they were built, decimals digit for digit.

    `json.dumps` knows no Decimal and floats lose trailing zeros, which are significant in FHIR (R4, 2.24.0.1).
    """
    return _text(resource).encode()


def from_json(text: str | bytes) -> Json:
    """The inverse of `to_json`: decimals come back as `Decimal`."""
    found: Json = json.loads(text, parse_float=Decimal)
    return found


def _text(node: Any) -> str:
    if isinstance(node, dict):
        return (
            "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_text(value)}" for key, value in node.items()) + "}"
        )
    if isinstance(node, list | tuple):
        return "[" + ",".join(map(_text, node)) + "]"
    if isinstance(node, Decimal):
        if not node.is_finite():
            raise ValueError("JSON has no infinities and no NaN")
        return format(node, "f")
    return json.dumps(node, ensure_ascii=False, allow_nan=False)
