"""Where a long calibration keeps how far it is, so that a kill costs minutes and not the whole of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


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


@dataclass(frozen=True)
class Within:
    """A part of a checkpoint, under names of its own."""

    checkpoint: Checkpoint
    prefix: str

    def load(self, name: str) -> bytes | None:
        return self.checkpoint.load(self.prefix + name)

    def save(self, name: str, content: bytes) -> None:
        self.checkpoint.save(self.prefix + name, content)


def load_arrays(checkpoint: Checkpoint | None, name: str) -> dict[str, np.ndarray] | None:
    """Arrays as `save_arrays` left them; None where nothing was saved, or nothing can be."""
    content = None if checkpoint is None else checkpoint.load(name)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def save_arrays(checkpoint: Checkpoint | None, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays under a name, bit for bit; nothing where there is no place to keep them."""
    if checkpoint is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
        checkpoint.save(name, buffer.getvalue())
