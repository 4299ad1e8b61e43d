"""How long a calibration still takes, told beside what it is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LEAST_SECONDS = 5.0
_LEAST_FRACTION = 0.01


class TimeLeft:
    """Passes progress on with the time left at the pace since the beginning, once there is enough to go by.

    A calibration that goes on from a checkpoint begins at the fraction where it was: the pace counts from there.
    """

    def __init__(self, tell: Callable[[str, float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._lock = threading.Lock()
        self._begun: tuple[str, float, float] | None = None

    def __call__(self, message: str, fraction: float) -> None:
        now = self._clock()
        # A new kind of work has a new pace; what is counted within it stands behind a comma.
        phase = message.partition(",")[0]
        with self._lock:
            if self._begun is None or self._begun[0] != phase:
                self._begun = (phase, now, fraction)
            _, then, at = self._begun
        seconds, done = now - then, fraction - at
        if seconds >= _LEAST_SECONDS and done >= _LEAST_FRACTION and fraction < 1.0:
            message = f"{message}, about {_duration(seconds / done * (1.0 - fraction))} left"
        self._tell(message, fraction)


def _duration(seconds: float) -> str:
    if seconds < 90.0:
        return f"{max(seconds, 1.0):.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"
