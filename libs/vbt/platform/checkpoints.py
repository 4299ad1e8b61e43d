"""How far a long step is, kept beside the artifacts until its effect is committed, so that a kill costs minutes.

A checkpoint is worth only time: where it cannot be kept, read or removed, the step goes on without it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import obstore
from obstore.exceptions import BaseError

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
        _remove(self.objects, list(_kept(self.objects, self.place)))


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
    _remove(objects, [name for name in _kept(objects, _folder_of(event.subject)) if not name.startswith(f"{place}/")])
    return StepCheckpoint(objects, place)


def remove_checkpoints(objects: Objects, case_id: str) -> int:
    """Remove all that is kept for a case; how many objects it was."""
    return _remove(objects, list(_kept(objects, _folder_of(case_id))))


def _folder_of(case_id: str) -> str:
    return f"{_FOLDER}/{case_id}"


def _kept(objects: Objects, folder: str) -> Iterator[str]:
    try:
        for page in obstore.list(objects.store, f"{folder}/"):
            yield from (found["path"] for found in page)
    except (BaseError, OSError) as error:
        _tell("checkpoint.not-found", error)


def _remove(objects: Objects, names: list[str]) -> int:
    try:
        for name in names:
            obstore.delete(objects.store, name)
    except (BaseError, OSError) as error:
        _tell("checkpoint.not-removed", error)
    return len(names)


def _tell(what: str, error: Exception) -> None:
    _log.warning(what, extra={"vbt.error": type(error).__name__})
