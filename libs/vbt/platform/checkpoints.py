"""How far a long step is, kept beside the artifacts until its effect is committed, so that a kill costs minutes.

A checkpoint is worth only time: where it cannot be kept, read or removed, the step goes on without it. An erasure does
not: to it a checkpoint is patient data, and one that is left over is an erasure that is not done.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import obstore
from obstore.exceptions import BaseError

from vbt.errors import NotYet
from vbt.platform.objects import Objects
from vbt.platform.stage_context import StageContext

_log = logging.getLogger("vbt.platform")

_FOLDER = "checkpoints"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class StepCheckpoint:
    """What one step on one input keeps, by name; it is found again only by the same software on the same input."""

    objects: Objects
    place: str

    def load(self, name: str) -> bytes | None:
        """What was kept under a name, whole; None where nothing was."""
        try:
            content = bytes(obstore.get(self.objects.store, f"{self.place}/{name}").bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            _tell("checkpoint.not-read", error)
            return None
        digest, kept = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return kept if hashlib.sha256(kept).digest() == digest else None

    def save(self, name: str, content: bytes) -> None:
        """Keep content under a name, whole or not at all."""
        try:
            path = f"{self.place}/{name}"
            obstore.put(self.objects.store, path, hashlib.sha256(content).digest() + content)
            self.objects.flush(path)
        except (BaseError, OSError) as error:
            _tell("checkpoint.not-kept", error)

    def remove(self) -> None:
        """Remove all that this step kept; another revision of the case may be at work beside it."""
        _tidy(self.objects, self.place)


def step_checkpoint(objects: Objects, context: StageContext, *given: str) -> StepCheckpoint:
    """The checkpoint of a step on the event it works on; what other inputs of the case left is removed.

    Parameters
    ----------
    given : everything besides event and software that the result depends on, e.g. a seed
    """
    event = context.event
    parts = (context.stage, context.software.digest, str(event.revision), *given)
    told = hashlib.sha256("\0".join(parts).encode() + event.value).hexdigest()
    place = f"{_folder_of(event.subject)}/{event.revision}-{told[:32]}"
    _tidy(objects, _folder_of(event.subject), spared=f"{place}/")
    return StepCheckpoint(objects, place)


def remove_checkpoints(objects: Objects, case_id: str) -> int:
    """Remove all that is kept for a case; how many objects it was.

    Raises
    ------
    NotYet : ``checkpoints-left``; all that could be removed is
    """
    failures: list[Exception] = []
    removed = 0
    try:
        removed = _remove(objects, _kept(objects, _folder_of(case_id)), failures)
    except (BaseError, OSError) as error:
        failures.append(error)
    if failures:
        raise NotYet(
            "checkpoints-left",
            rule="an erasure removes all that long steps kept for the case",
            got="an object store that does not list or does not remove it",
            action="check the object store and erase the case again",
        ) from failures[0]
    return removed


def _folder_of(case_id: str) -> str:
    return f"{_FOLDER}/{case_id}"


def _tidy(objects: Objects, folder: str, *, spared: str = "") -> None:
    """Remove what is kept in a folder, but for what begins so, as far as the store lets us."""
    failures: list[Exception] = []
    try:
        found = _kept(objects, folder)
        _remove(objects, [name for name in found if not (spared and name.startswith(spared))], failures)
    except (BaseError, OSError) as error:
        failures.append(error)
    for failure in failures:
        _tell("checkpoint.not-removed", failure)


def _kept(objects: Objects, folder: str) -> list[str]:
    return [found["path"] for page in obstore.list(objects.store, f"{folder}/") for found in page]


def _remove(objects: Objects, names: Iterable[str], failures: list[Exception]) -> int:
    """Remove each, whatever becomes of the others; how many objects it was."""
    removed = 0
    for name in names:
        try:
            obstore.delete(objects.store, name)
            removed += 1
        except FileNotFoundError:
            continue  # somebody else was faster
        except (BaseError, OSError) as error:
            failures.append(error)
    return removed


def _tell(what: str, error: Exception) -> None:
    _log.warning(what, extra={"vbt.error": type(error).__name__})
