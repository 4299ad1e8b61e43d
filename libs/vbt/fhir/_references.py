"""References: resolvable inside the Bundle, well formed outside it, and to a resource type that R4 allows there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vbt.fhir._encoding import Json
from vbt.fhir._issue import Issue
from vbt.fhir._structure import Node

_RELATIVE = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")
_ABSOLUTE = re.compile(r"https?://\S+/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")
_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?\S+=\S+")


def reference_issues(node: Node, types_by_url: dict[str, str], contained: dict[str, str]) -> Iterator[Issue]:
    """Faults of one Reference.

    Parameters
    ----------
    node : an element of type Reference
    types_by_url : resource type of every fullUrl in the Bundle
    contained : resource type of every contained resource of the same resource, by id
    """
    content = node.content
    if not {"reference", "identifier", "display", "extension"} & content.keys():
        yield Issue(node.path, "ref-2", "a reference needs a reference, an identifier or a display")
    target = content.get("type")
    if "reference" in content:
        found, fault = _resolve(content, types_by_url, contained)
        if fault:
            yield Issue(f"{node.path}.reference", "reference", fault)
            return
        if target is not None and found is not None and found != target:
            yield Issue(node.path, "reference-type", "type is not the type of the referenced resource")
        target = found or target
    allowed = node.element.targets if node.element else None
    if allowed is not None and target is not None and target not in allowed:
        yield Issue(node.path, "reference-target", "R4 does not allow a reference to this resource type here")


def _resolve(content: Json, types_by_url: dict[str, str], contained: dict[str, str]) -> tuple[str | None, str | None]:
    """Type of the referenced resource where it can be known, and why the reference is wrong where it is."""
    reference: str = content["reference"]
    if reference in types_by_url:
        return types_by_url[reference], None
    if reference.startswith("urn:"):
        return None, "no entry of the Bundle has this fullUrl"
    if reference.startswith("#"):
        found = contained.get(reference[1:])
        return found, None if found or reference == "#" else "no contained resource has this id"
    for form in (_RELATIVE, _ABSOLUTE, _CONDITIONAL):
        match = form.fullmatch(reference)
        if match:
            return match[1], None
    return None, "is neither relative, absolute, conditional, contained nor in the Bundle"
