"""Where a long calibration keeps how far it is, so that a kill costs minutes and not the whole of it."""

from __future__ import annotations

from typing import Protocol


class Checkpoint(Protocol):
    """A place for bytes by name, emptied by its owner when the result is safe.

    What was saved belongs to the same input, seed and software: the owner sees to that.
    """

    def load(self, name: str) -> bytes | None:
        """What was saved under a name; None where nothing was."""
        ...

    def save(self, name: str, content: bytes) -> None:
        """Keep content under a name, whole or not at all."""
        ...
