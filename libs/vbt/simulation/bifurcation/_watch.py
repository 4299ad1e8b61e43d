"""A long analysis tells how far it is and stops when it is told to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError


class Watch:
    """Passes on a fraction that never falls, and asks whether to go on.

    Parameters
    ----------
    progress : called with the fraction done, in [0, 1]
    cancelled : asked at every step
    """

    def __init__(self, progress: Callable[[float], None] | None, cancelled: Callable[[], bool] | None) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._told = 0.0

    def told(self, fraction: float) -> None:
        if self._progress is not None and fraction > self._told:
            self._told = min(fraction, 1.0)
            self._progress(self._told)

    def check(self) -> None:
        """Raises `concurrent.futures.CancelledError` where the caller no longer wants the result."""
        if self._cancelled is not None and self._cancelled():
            raise CancelledError
