"""Computations that callers wait for: a few at once, off the server's threads, ended when their caller leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from brain_simulator.experiments import Cancelled, Progress
from vbt.api.simulation.v1.experiment_pb2 import Progress as ProgressMessage
from vbt.errors import NotYet

Result = TypeVar("Result")
Work = Callable[[Progress, Cancelled], Result]

_BEAT = 0.2  # s between two looks at whether the caller is still there
_BETWEEN = 1.0  # s between two messages


class Caller(Protocol):
    """Who waits; a ``grpc.ServicerContext``."""

    def is_active(self) -> bool:
        """False when the call was cancelled or its deadline is over."""


class Calls:
    """Runs the computations of calls.

    Parameters
    ----------
    places : how many at once
    """

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    def stream(self, work: Work[Result], caller: Caller) -> Iterator[ProgressMessage | Result]:
        """Progress at most once a second, then what the work gives; closing it stops the work and waits for its end.

        Raises
        ------
        NotYet : ``simulator-busy``
        """
        if not self._places.acquire(blocking=False):
            raise NotYet(
                "simulator-busy",
                rule="there is a place for a simulation",
                got="all of them taken",
                action="ask again when another simulation has ended",
            )
        computation = _Computation(work, caller, self._places.release)
        try:
            computation.start()
            told = computation.latest
            yield told
            while not computation.ended(_BETWEEN):
                if computation.latest is not told:
                    told = computation.latest
                    yield told
            yield computation.result()
        finally:
            computation.stop()


class _Computation(threading.Thread, Generic[Result]):
    def __init__(self, work: Work[Result], caller: Caller, release: Callable[[], None]) -> None:
        super().__init__(name="simulation", daemon=True)
        self._work, self._caller, self._release = work, caller, release
        self._left = threading.Event()
        self._given: list[Result] = []
        self._error: BaseException | None = None
        self.latest = ProgressMessage(fraction=0.0, message="reading the request")

    def run(self) -> None:
        try:
            self._given.append(self._work(self._tell, self._unwanted))
        except BaseException as error:  # noqa: BLE001  raised again where the caller waits
            self._error = error
        finally:
            self._release()

    def ended(self, within: float) -> bool:
        """Whether it ends within some seconds; it is told at once when the caller leaves."""
        until = time.monotonic() + within
        while self.is_alive() and time.monotonic() < until:
            if not self._caller.is_active():
                self._left.set()
            self.join(_BEAT)
        return not self.is_alive()

    def result(self) -> Result:
        if self._error is not None:
            raise self._error
        return self._given[0]

    def stop(self) -> None:
        self._left.set()
        if self.ident is None:
            self._release()
        else:
            self.join()

    def _tell(self, fraction: float, message: str) -> None:
        if (fraction, message) != (self.latest.fraction, self.latest.message):
            self.latest = ProgressMessage(fraction=max(fraction, self.latest.fraction), message=message)

    def _unwanted(self) -> bool:
        return self._left.is_set() or not self._caller.is_active()
