"""What the scripts of all peers share: the problem in, processor seconds per simulated second out, as one JSON line.

Every script runs in its own environment, pinned to one core by the caller, so this file needs NumPy only. Time is
processor time of the process, all threads together: on one core that is wall time with everybody else taken out.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Problem:
    """One row's task; weights are [target, source] divided by their maximum, lengths mm, velocity mm/ms, dt ms."""

    weights: Any
    lengths: Any
    model: str  # "MPR" or "JR"
    configuration: str
    velocity: float
    dt: float
    nsig: float  # The Virtual Brain's: half the variance per unit of time, on r and V or on y4
    couplings: Any
    seconds: float

    @property
    def regions(self) -> int:
        return len(self.weights)

    @property
    def delays(self) -> Any:
        """Steps, rounded to nearest."""
        return np.floor(self.lengths / self.velocity / self.dt + 0.5).astype(int)


def problem() -> Problem:
    request = json.loads(sys.argv[1])
    connectome = np.load(request.pop("connectome"))
    couplings = np.array(request.pop("couplings"))
    return Problem(weights=connectome["weights"], lengths=connectome["lengths"], couplings=couplings, **request)


def by_repeating(run: Callable[[], float], asked: Problem, *, repeats: int = 2) -> None:
    """A compiled run of fixed length: the first call compiles, the fastest later one counts."""
    first, _ = _timed(run)
    later = [_timed(run) for _ in range(repeats)]
    best = min(seconds for seconds, _ in later)
    report(rate=asked.seconds * len(asked.couplings) / best, compile_seconds=first - best, mean=later[-1][1])


def by_slope(run: Callable[[float], float], asked: Problem) -> None:
    """A run that sets up anew on every call: the steady rate is the slope from a third of the time to all of it."""
    warm, _ = _timed(lambda: run(asked.seconds / 3))
    short, _ = _timed(lambda: run(asked.seconds / 3))
    long, mean = _timed(lambda: run(asked.seconds))
    each = 1.5 * (long - short) / asked.seconds
    report(
        rate=len(asked.couplings) / each,
        compile_seconds=warm - each * asked.seconds / 3,
        mean=mean,
        seconds_before_every_run=max(0.0, round(short - each * asked.seconds / 3, 2)),
    )


def report(*, rate: float, compile_seconds: float, mean: float, **more: Any) -> None:
    """Simulated seconds per processor second, all sets together, and what shows a broken peer: the mean observable."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"rate": rate, "compile_seconds": max(0.0, compile_seconds), "mean": mean, "peak_gib": peak}
    print(json.dumps(found | more))


def _timed(run: Callable[[], float]) -> tuple[float, float]:
    started = time.process_time()
    mean = float(run())
    return time.process_time() - started, mean
