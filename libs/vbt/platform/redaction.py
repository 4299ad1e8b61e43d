"""What may be said about an error: where it happened, never the message of an exception that is not ours.

Messages of foreign exceptions quote their input (pydicom quotes the patient's name), so only class names and places in
the code leave the process. A ``TwinError`` holds no patient data by its contract and keeps its message.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath

from vbt.errors import TwinError


def error_code(error: BaseException) -> str:
    """The stable code of a ``TwinError``, the class name of anything else."""
    return error.code if isinstance(error, TwinError) else type(error).__qualname__


def describe(error: BaseException) -> str:
    """Class, frames as ``file:line function``, and the message only where it is ours; with the chain of causes."""
    lines = []
    link: BaseException | None = error
    while link is not None:
        lines.append(_headline(link))
        frames = traceback.extract_tb(link.__traceback__)
        lines.extend(f"  {_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(lines)


def _headline(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"{name}: {error}" if isinstance(error, TwinError) else name


def _short(filename: str) -> str:
    return "/".join(PurePath(filename).parts[-3:])
