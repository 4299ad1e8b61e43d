"""Errors are grouped by what the caller does next.

TwinError
├─ Rejected   the input is wrong; retrying cannot help     → INVALID_ARGUMENT, the case stops and says why
├─ NotYet     the input is fine, the world is not ready    → UNAVAILABLE, retry with backoff
└─ Unsound    the science did not hold (diverged, unmixed) → FAILED_PRECONDITION, the case stops, a person decides
"""

from __future__ import annotations


class TwinError(Exception):
    """Why a step could not give its result.

    The message is shown to hospital staff, written to the audit ledger and sent to the EHR: it never holds a value
    that could identify the patient (no names, identifiers, dates, UIDs, file names or free text from the input).

    Parameters
    ----------
    code : stable kebab-case identifier of the rule, e.g. ``"diffusion-too-few-directions"``
    rule : the rule that was broken, as a sentence fragment: ``"diffusion needs at least 6 gradient directions"``
    got : what was found instead: ``"5 directions"``
    action : what the reader does next: ``"send a diffusion series with 6 or more directions"``
    """

    def __init__(self, code: str, *, rule: str, got: str, action: str) -> None:
        super().__init__(f"{rule}; got {got}; {action}")
        self.code = code
        self.rule = rule
        self.got = got
        self.action = action


class Rejected(TwinError):
    """The input is wrong; retrying cannot help."""


class NotYet(TwinError):
    """The input is fine but something outside is not ready; retrying can help."""


class Unsound(TwinError):
    """The computation ran but its result must not be reported as a number; a person decides."""
