"""One fault of a Bundle: where, which rule, and what is wrong, without repeating the value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Issue:
    """A fault found by `validate`.

    Parameters
    ----------
    path : element, e.g. ``"Bundle.entry[3].resource.status"``
    rule : identifier of the rule: an R4 invariant (``"obs-6"``), or the name of a check (``"binding"``)
    message : what is wrong; never holds a value of the resource, so that it may be logged
    """

    path: str
    rule: str
    message: str
