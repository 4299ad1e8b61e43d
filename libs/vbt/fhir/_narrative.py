"""Narrative XHTML: built from escaped text only, and checked as an EHR that shows it should check it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

from vbt.fhir._encoding import Json

XHTML = "http://www.w3.org/1999/xhtml"

# R4 "2.4.0.1 Narrative": basic formatting of chapters 7-11 and 15 of HTML 4.0, no head, script, form, frame or object.
_TAG_NAMES = (
    "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i "
    "img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var"
)
_ATTRIBUTE_NAMES = (
    "abbr align alt axis border cellpadding cellspacing char charoff cite class colspan headers height href "
    "hreflang id lang longdesc name nowrap rel rowspan rules scope span src start style summary title type valign "
    "value width"
)
_TAGS, _ATTRIBUTES = frozenset(_TAG_NAMES.split()), frozenset(_ATTRIBUTE_NAMES.split())
_UNSAFE_STYLE = re.compile(r"expression|javascript|url\s*\(|@import|behavior|-moz-binding", re.IGNORECASE)
# External content in a narrative leaks to whoever hosts it that somebody reads this report.
_SAFE_LINK = re.compile(r"(#|https?://)[^\s]*$", re.IGNORECASE)
_SAFE_IMAGE = re.compile(r"(#[^\s]*|data:image/(png|gif|jpeg);base64,[A-Za-z0-9+/=]+)$")


def narrative(*paragraphs: str) -> Json:
    """A generated narrative with one paragraph for each text."""
    body = "".join(f"<p>{escape(text)}</p>" for text in paragraphs)
    return {"status": "generated", "div": f'<div xmlns="{XHTML}">{body}</div>'}


def narrative_faults(div: str) -> Iterator[str]:
    """Why a narrative `div` is not well formed, not safe to show, or empty (txt-1, txt-2)."""
    try:
        root = _parse(div)
    except (ParseError, expat.ExpatError, _ForbiddenMarkup) as fault:
        yield f"not well-formed XHTML: {type(fault).__name__}"
        return
    if root.tag != f"{XHTML} div":
        yield "the root element must be div in the XHTML namespace"
    for element in root.iter():
        yield from _element_faults(element)
    has_image = any(element.tag == f"{XHTML} img" for element in root.iter())
    if not has_image and not "".join(root.itertext()).strip():
        yield "txt-2: the narrative has no text"


class _ForbiddenMarkup(Exception):
    """A document type declaration or a processing instruction: entities can expand without bound."""


def _parse(div: str) -> Element:
    parser = expat.ParserCreate(namespace_separator=" ")
    tree: TreeBuilder = TreeBuilder()

    def forbid(*_: object) -> None:
        raise _ForbiddenMarkup

    parser.StartDoctypeDeclHandler = forbid
    parser.EntityDeclHandler = forbid
    parser.ProcessingInstructionHandler = forbid
    parser.StartElementHandler = lambda tag, attributes: tree.start(tag, attributes)
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.Parse(div.encode(), True)
    return tree.close()


def _element_faults(element: Element) -> Iterator[str]:
    namespace, _, tag = element.tag.rpartition(" ")
    if namespace != XHTML or tag not in _TAGS:
        yield f"txt-1: element {tag} is not allowed"
    for name, value in element.attrib.items():
        local = name.rpartition(" ")[2]
        if local not in _ATTRIBUTES:
            yield f"txt-1: attribute {local} is not allowed"
        elif local == "style" and _UNSAFE_STYLE.search(value):
            yield "style may load or run something"
        elif local == "href" and not _SAFE_LINK.match(value):
            yield "href must be a fragment or http(s)"
        elif local == "src" and not _SAFE_IMAGE.match(value):
            yield "src must be a fragment or an embedded image"
