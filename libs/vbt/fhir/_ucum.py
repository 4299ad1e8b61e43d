"""UCUM unit syntax (The Unified Code for Units of Measure, c/s form): terms, prefixes, exponents, annotations."""

from __future__ import annotations

import re

_PREFIXES = ("da", "Y", "Z", "E", "P", "T", "G", "M", "k", "h", "d", "c", "m", "u", "n", "p", "f", "a", "z", "y")
_METRIC = frozenset(
    {"m", "s", "g", "rad", "K", "C", "cd", "mol", "sr", "Hz", "N", "Pa", "J", "W", "A", "V", "F", "Ohm", "S", "Wb"}
    | {"Cel", "T", "H", "lm", "lx", "Bq", "Gy", "Sv", "l", "L", "t", "bar", "u", "eV", "kat", "U", "[iU]", "[IU]"}
    | {"cal", "bit", "By", "Bd", "G", "B", "B[SPL]", "B[V]", "Np", "osm", "eq", "m[Hg]", "m[H2O]", "dyn", "erg", "P"}
)
_PLAIN = frozenset(
    {"%", "[ppth]", "[ppm]", "[ppb]", "[pi]", "10*", "10^", "min", "h", "d", "wk", "mo", "a", "deg", "'", "''"}
    | {"[in_i]", "[ft_i]", "[lb_av]", "[oz_av]", "[degF]", "[pH]", "[arb'U]"}
)
_TOKEN = re.compile(
    r"(?P<operator>[./])|(?P<open>\()|(?P<close>\))|(?P<annotation>\{[!-z|~]*\})"
    r"|(?P<unit>(?:10[*^]|(?:\[[^\[\]{}\s]+\]|[A-Za-z%'])+))(?P<exponent>[+-]?\d+)?|(?P<factor>\d+)"
)


def is_ucum(unit: str) -> bool:
    """Whether a case-sensitive UCUM expression is well formed, over the units that physiology and imaging use."""
    depth, operand_next, before = 0, True, "open"
    for kind, text in _tokens(unit):
        # A term may begin with a solidus, as in /s; an annotation stands alone or closes the unit before it.
        leading_solidus = text == "/" and before == "open"
        allowed = {"operator": not operand_next or leading_solidus, "close": not operand_next, "annotation": True}
        if not allowed.get(kind, operand_next) or (kind == "unit" and not _is_unit(text)):
            return False
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            return False
        operand_next, before = kind in ("operator", "open"), kind
    return depth == 0 and not operand_next


def _tokens(unit: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(unit):
        match = _TOKEN.match(unit, position)
        if match is None:
            return []
        kind = next(name for name in ("operator", "open", "close", "annotation", "unit", "factor") if match[name])
        found.append((kind, match[kind]))
        position = match.end()
    return found


def _is_unit(symbol: str) -> bool:
    if symbol in _METRIC or symbol in _PLAIN:
        return True
    return any(symbol.startswith(prefix) and symbol[len(prefix) :] in _METRIC for prefix in _PREFIXES)
