"""The relay: what it does while the bus is away, and when there are several."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from vbt.errors import NotYet
from vbt.platform import state
from vbt.platform.bus import Subscription
from vbt.platform.events import STUDY_INGESTED, Event, Message
from vbt.platform.outbox import Relay, publish
from vbt.platform.state import reading


class MemoryBus:
    """A bus that keeps what it gets, and can be switched off."""

    def __init__(self) -> None:
        self.up = True
        self.sent: list[bytes] = []
        self.attempts = 0
        self.lock = threading.Lock()

    def send(self, *messages: Message) -> None:
        with self.lock:
            self.attempts += 1
            if not self.up:
                raise NotYet("bus-unreachable", rule="r", got="g", action="a")
            self.sent += [message.value for message in messages]

    def subscribe(self, _group: str, _topics: Sequence[str]) -> Subscription:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


def _publish(engine: sa.Engine, *values: bytes) -> None:
    with engine.begin() as connection:
        for value in values:
            publish(connection, Event(id=value.decode(), source="t", type=STUDY_INGESTED, subject="c", value=value))


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_events_wait_for_the_bus_and_keep_their_order(engine: sa.Engine) -> None:
    bus = MemoryBus()
    bus.up = False
    relay = Relay(engine, bus, interval=0.02, backoff=0.1)
    _publish(engine, b"1", b"2")
    relay.start()
    _await(lambda: bus.attempts >= 2)
    _publish(engine, b"3")
    bus.up = True
    _await(lambda: len(bus.sent) == 3)
    relay.stop()
    assert bus.sent == [b"1", b"2", b"3"]


def test_a_rolled_back_transaction_sends_nothing(engine: sa.Engine) -> None:
    bus = MemoryBus()
    relay = Relay(engine, bus, interval=0.02)
    with engine.begin() as connection:
        publish(connection, Event(id="1", source="t", type=STUDY_INGESTED, subject="c", value=b"1"))
        connection.rollback()
    relay.start()
    relay.stop()
    assert bus.sent == []


def test_of_several_relays_one_works(engine: sa.Engine) -> None:
    bus = MemoryBus()
    relays = [Relay(engine, bus, interval=0.01) for _ in range(3)]
    for relay in relays:
        relay.start()
    for number in range(30):
        _publish(engine, b"%d" % number)
    _await(lambda: len(bus.sent) >= 30)
    for relay in relays:
        relay.stop()
    assert bus.sent == [b"%d" % number for number in range(30)]


def test_another_relay_takes_over_from_a_dead_one(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        row = {"group": "relay", "topic": "outbox", "partition": 0, "owner": "dead", "expires_at": time.time() + 0.5}
        connection.execute(sa.insert(state.bus_lease).values(row))
    bus = MemoryBus()
    relay = Relay(engine, bus, interval=0.02)
    _publish(engine, b"1")
    relay.start()
    _await(lambda: bus.sent == [b"1"])
    relay.stop()
    with reading(engine) as connection:
        assert connection.execute(sa.select(state.bus_lease)).all() == []
