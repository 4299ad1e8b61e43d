"""A consumer gives a group's events to a handler, one at a time, without ever letting a long job look like a dead one.

It reads on a few lanes: one for the topics themselves and one for each retry delay. A lane is a thread with a
subscription of its own; it hands the record to a worker thread and keeps the subscription alive meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from vbt.errors import NotYet, TwinError
from vbt.platform.bus import Bus, Record, Subscription
from vbt.platform.events import Event
from vbt.platform.policy import ConsentPolicy
from vbt.platform.redaction import describe
from vbt.platform.retries import DELAYS, retry_group, retry_topic, seconds_until_due
from vbt.platform.settlement import Settlement
from vbt.platform.software import Software, this_software
from vbt.platform.stage_context import Abandoned, Handler

_log = logging.getLogger("vbt.platform")

_BEAT = 0.5
_READ_SECONDS = 1.0
_BACKOFF = 2.0


class Consumer:
    """Reads ``topics`` for ``group`` and settles every event with ``handler``.

    Parameters
    ----------
    handler : computes the effects of an event; it has no transaction open and commits nothing
    stopped : the (topic, event) that tells the world that a stage refused a case
    stage : the name in the stage table; the group's unless told otherwise
    delays : seconds before the second, third, ... attempt; after the last one the event is a dead letter
    """

    def __init__(
        self,
        engine: sa.Engine,
        bus: Bus,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        *,
        stopped: Callable[[Event, TwinError, str], tuple[str, Event]],
        stage: str | None = None,
        software: Software | None = None,
        policy: ConsentPolicy | None = None,
        delays: Sequence[float] = DELAYS,
    ) -> None:
        self.group = group
        self._bus = bus
        self._settlement = Settlement(
            engine=engine,
            group=group,
            stage=stage or group,
            handler=handler,
            stopped=stopped,
            software=software or this_software(group),
            policy=policy or ConsentPolicy(),
            delays=tuple(delays),
        )
        lanes = {group: tuple(topics)}
        for delay in delays:
            lanes[retry_group(group, delay)] = tuple(retry_topic(topic, group, delay) for topic in topics)
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._lanes = [
            threading.Thread(target=self._read, args=lane, name=f"{group}-{number}", daemon=True)
            for number, lane in enumerate(lanes.items())
        ]

    def start(self) -> None:
        """Begin to read."""
        for lane in self._lanes:
            lane.start()

    @property
    def alive(self) -> bool:
        """Whether every lane reads."""
        return all(lane.is_alive() for lane in self._lanes)

    def drain(self) -> None:
        """Take no further record; the job in hand goes on."""
        self._stopping.set()

    def stop(self, grace: float = 20.0) -> bool:
        """Drain; a job that takes longer than ``grace`` seconds is abandoned uncommitted and starts again elsewhere.

        Returns
        -------
        whether everything in hand was finished
        """
        self.drain()
        deadline = time.monotonic() + grace
        for lane in self._lanes:
            if lane.ident is not None:
                lane.join(max(0.0, deadline - time.monotonic()))
        finished = not any(lane.is_alive() for lane in self._lanes)
        self._given_up.set()
        for lane in self._lanes:
            if lane.ident is not None:
                lane.join(2 * _READ_SECONDS)
        return finished

    def _read(self, bus_group: str, topics: tuple[str, ...]) -> None:
        while not self._stopping.is_set():
            try:
                subscription = self._bus.subscribe(bus_group, topics)
                try:
                    self._read_on(subscription)
                finally:
                    # A job that was given up may still be delivering: its record stays ours until the lease runs out.
                    if not self._given_up.is_set():
                        subscription.close()
            except (NotYet, sa.exc.OperationalError) as error:
                # What was in hand is not committed, so the new subscription gets it again.
                _log.warning("bus.waiting", extra={"vbt.group": self.group, "vbt.cause": describe(error)})
                self._stopping.wait(_BACKOFF)

    def _read_on(self, subscription: Subscription) -> None:
        while not self._stopping.is_set():
            record = subscription.poll(_READ_SECONDS)
            if record is None or not self._due(record, subscription):
                continue
            if self._settled(record, subscription):
                subscription.commit(record)
            elif not self._stopping.is_set():
                # Settling ends every record, so this is a defect: stop reading, and let health say so.
                raise RuntimeError(f"a record of {record.message.topic} could not be settled")

    def _due(self, record: Record, subscription: Subscription) -> bool:
        """Wait until the record's time has come; False where the process stops first."""
        while (seconds := seconds_until_due(record.message)) > 0:
            if self._stopping.wait(min(seconds, _BEAT)):
                return False
            subscription.keep_alive()
        return True

    def _settled(self, record: Record, subscription: Subscription) -> bool:
        """Settle the record on a thread of its own while the subscription stays alive."""
        while not self._turn.acquire(timeout=_BEAT):
            if self._stopping.is_set():
                return False
            subscription.keep_alive()
        job = _Job(self._settlement, record, self._given_up.is_set, self._turn.release)
        job.start()
        while not job.wait(_BEAT):
            if self._given_up.is_set():
                return False
            subscription.keep_alive()
        return job.settled


class _Job(threading.Thread):
    """One record on its way through the handler; a daemon, so an abandoned job never holds up the process's end."""

    def __init__(
        self,
        settlement: Settlement,
        record: Record,
        given_up: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(name=f"{settlement.group}-job", daemon=True)
        self._settlement = settlement
        self._record = record
        self._was_given_up = given_up
        self._ended = ended
        self._over = threading.Event()
        self.settled = False

    def run(self) -> None:
        try:
            self._settlement.settle(self._record, self._was_given_up)
            self.settled = True
        except Abandoned:
            _log.info("job.abandoned", extra={"vbt.stage": self._settlement.stage})
        finally:
            self._ended()
            self._over.set()

    def wait(self, seconds: float) -> bool:
        """Whether the job is over."""
        return self._over.wait(seconds)
