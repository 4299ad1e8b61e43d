"""A Bundle's shape: known elements, cardinalities, choices, JSON types, formats and required bindings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vbt.fhir._definitions import RESOURCE_TYPES, Element, choices, elements, required_elements
from vbt.fhir._encoding import Json
from vbt.fhir._issue import Issue
from vbt.fhir._primitives import primitive_fault


@dataclass(frozen=True)
class Node:
    """One complex element or resource of a Bundle: path, FHIR type, content, and the definition it stands in."""

    path: str
    type: str
    content: Json
    element: Element | None


def shape_issues(bundle: Any) -> list[Issue]:
    """Every fault of shape in a Bundle."""
    return list(_resource("Bundle", bundle, expected="Bundle"))


def nodes(path: str, type_name: str, content: Json, element: Element | None = None) -> Iterator[Node]:
    """All complex elements of a well-shaped resource, outermost first."""
    yield Node(path, type_name, content, element)
    known = elements(type_name)
    for name, value in content.items():
        inner = known.get(name)
        if inner is None or inner.primitive:
            continue
        for where, item in _items(f"{path}.{name}", value):
            inner_type = item["resourceType"] if inner.type == "Resource" else inner.type
            yield from nodes(where, inner_type, item, inner)


def _resource(path: str, value: Any, expected: str | None = None) -> Iterator[Issue]:
    if not isinstance(value, dict):
        yield Issue(path, "type", "must be a JSON object")
        return
    kind = value.get("resourceType")
    if not isinstance(kind, str) or kind not in RESOURCE_TYPES or (expected is not None and kind != expected):
        yield Issue(f"{path}.resourceType", "resource-type", "is not a resource type of a report Bundle")
        return
    yield from _complex(path, kind, {name: item for name, item in value.items() if name != "resourceType"})


def _complex(path: str, type_name: str, content: Any) -> Iterator[Issue]:
    if not isinstance(content, dict):
        yield Issue(path, "type", "must be a JSON object")
        return
    if not content:
        yield Issue(path, "ele-1", "must have a value or children")
    known = elements(type_name)
    for name, value in content.items():
        if name.startswith("_") and name[1:] in known:
            yield from _primitive_extension(f"{path}.{name}", known[name[1:]], value)
        elif name not in known:
            yield Issue(f"{path}.{name}", "unknown-element", f"{type_name} has no such element in R4")
        else:
            yield from _element(f"{path}.{name}", known[name], value)
    yield from _cardinalities(path, type_name, content)


def _cardinalities(path: str, type_name: str, content: Json) -> Iterator[Issue]:
    present = {name.removeprefix("_") for name in content}
    for name in sorted(required_elements(type_name) - present):
        yield Issue(f"{path}.{name}", "cardinality", "is required")
    for choice in choices(type_name):
        chosen = len(choice.elements & present)
        if chosen > 1:
            yield Issue(f"{path}.{choice.name}[x]", "choice", "only one type of value is allowed")
        elif chosen == 0 and choice.required:
            yield Issue(f"{path}.{choice.name}[x]", "cardinality", "is required")


def _element(path: str, element: Element, value: Any) -> Iterator[Issue]:
    if element.many != isinstance(value, list):
        yield Issue(path, "type", "must be a JSON array" if element.many else "must not be a JSON array")
        return
    if value == []:
        yield Issue(path, "empty-array", "an array must not be empty")
    for where, item in _items(path, value):
        if element.primitive:
            yield from _primitive(where, element, item)
        elif element.type == "Resource":
            yield from _resource(where, item)
        else:
            yield from _complex(where, element.type, item)


def _primitive(path: str, element: Element, value: Any) -> Iterator[Issue]:
    fault = primitive_fault(element.type, value)
    if fault:
        yield Issue(path, "primitive", fault)
    elif element.codes is not None and value not in element.codes:
        yield Issue(path, "binding", "is not in the required value set")


def _primitive_extension(path: str, element: Element, value: Any) -> Iterator[Issue]:
    if not element.primitive:
        yield Issue(path, "unknown-element", "only primitives have an underscore form")
        return
    for where, item in _items(path, value):
        if item is not None or not element.many:
            yield from _complex(where, "Element", item)


def _items(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, list):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return [(path, value)]
