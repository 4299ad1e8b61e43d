"""What every bus adapter promises, and what a consumer makes of it; the Kafka half needs a broker (kafka.sh)."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from vbt.errors import NotYet, TwinError
from vbt.platform import cases, state
from vbt.platform.bus import Bus, Record, Subscription, partition_of
from vbt.platform.bus_kafka import KafkaBus
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.consumer import Consumer
from vbt.platform.events import CASE_STOPPED, Event, Message
from vbt.platform.outbox import Relay, publish
from vbt.platform.retries import retry_topics
from vbt.platform.settings import KafkaSettings
from vbt.platform.software import Software
from vbt.platform.stage_context import Effects, Handler, StageContext
from vbt.platform.state import open_state, reading

BROKERS = os.environ.get("VBT_KAFKA__BOOTSTRAP_SERVERS", "")
NEEDS_KAFKA = pytest.mark.skipif(not BROKERS, reason="VBT_KAFKA__BOOTSTRAP_SERVERS is unset: no Kafka to test against")

SOFTWARE = Software(name="test", version="0", digest="0" * 64)
DELAYS = (0.3, 0.6)
PARTITIONS = 4


@dataclass
class Desk:
    """A state, a bus of the kind under test, and everything that was started on them."""

    engine: sa.Engine
    kind: str
    topic: str
    group: str
    buses: list[Bus] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    relays: list[Relay] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)

    # How long a member may be silent before its partitions go to another, and how long that takes at most.
    @property
    def silence(self) -> float:
        return 1.0 if self.kind == "sqlite" else 6.0

    @property
    def patience(self) -> float:
        return 10.0 if self.kind == "sqlite" else 30.0

    def bus(self) -> Bus:
        if self.kind == "sqlite":
            bus: Bus = SqliteBus(self.engine, partitions=PARTITIONS, lease_seconds=self.silence)
        else:
            kafka = KafkaBus(KafkaSettings(bootstrap_servers=BROKERS, session_timeout_seconds=self.silence))
            topics = [self.topic, *retry_topics([self.topic], self.group, DELAYS)]
            kafka.ensure_topics([*topics, CASE_STOPPED], partitions=PARTITIONS)
            bus = kafka
        self.buses.append(bus)
        return bus

    def join(self, bus: Bus, group: str | None = None) -> Subscription:
        subscription = bus.subscribe(group or self.group, [self.topic])
        self.subscriptions.append(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        self.subscriptions.remove(subscription)
        subscription.close()

    def next(self, subscription: Subscription) -> Record:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            record = subscription.poll(0.5)
            if record is not None:
                return record
        raise AssertionError("nothing came")

    def message(self, key: str, value: bytes) -> Message:
        return Message(topic=self.topic, key=key, headers={"x-test": "ü"}, value=value)

    def event(self, value: bytes, *, case_id: str = "case", name: str | None = None, revision: int = 0) -> Event:
        return Event(
            id=name or uuid.uuid4().hex, source="t", type=self.topic, subject=case_id, value=value, revision=revision
        )

    def consume(self, bus: Bus, handler: Handler) -> Consumer:
        consumer = Consumer(
            self.engine, bus, self.group, [self.topic], handler, stopped=_stopped, software=SOFTWARE, delays=DELAYS
        )
        self.consumers.append(consumer)
        consumer.start()
        return consumer

    def relay(self, bus: Bus) -> Relay:
        relay = Relay(self.engine, bus, interval=0.02)
        self.relays.append(relay)
        relay.start()
        return relay

    def publish(self, *events: Event) -> None:
        with self.engine.begin() as connection:
            for event in events:
                publish(connection, event)

    def await_that(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.02)

    def dead_letters(self) -> list[sa.Row[tuple[str, str]]]:
        with reading(self.engine) as connection:
            columns = sa.select(state.dead_letter.c.code, state.dead_letter.c.ce_id)
            return list(connection.execute(columns.order_by(state.dead_letter.c.id)))

    def close(self) -> None:
        for consumer in self.consumers:
            consumer.stop(5)
        for relay in self.relays:
            relay.stop()
        for subscription in self.subscriptions:
            subscription.close()
        for bus in self.buses:
            bus.close()
        self.engine.dispose()


def _stopped(event: Event, _error: TwinError, stage: str) -> tuple[str, Event]:
    stop = Event(id=f"stop-{event.id}", source=stage, type=CASE_STOPPED, subject=event.subject, value=b"")
    return CASE_STOPPED, stop


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, NEEDS_KAFKA])])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    name = uuid.uuid4().hex[:12]
    desk = Desk(
        engine=open_state(f"sqlite:///{tmp_path / 'vbt.db'}"),
        kind=request.param,
        topic=f"test.{name}.v1",
        group=f"group-{name}",
    )
    yield desk
    desk.close()


@dataclass
class Seen:
    """A handler that writes down what it was given, and fails on what it is told to."""

    failures: dict[bytes, int] = field(default_factory=dict)
    seconds: float = 0.0
    began: list[bytes] = field(default_factory=list)
    effects: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event, _context: StageContext) -> Effects:
        with self._lock:
            self.began.append(event.value)
            left = self.failures.get(event.value, 0)
            self.failures[event.value] = left - 1
        time.sleep(self.seconds)
        if left > 0:
            raise NotYet("not-yet", rule="r", got="g", action="a")
        return Effects(apply=[lambda _connection: self.effects.append(event.value)])


def test_messages_arrive_as_they_were_sent(desk: Desk) -> None:
    bus = desk.bus()
    sent = desk.message("key", bytes(range(256)))
    bus.send(sent)
    assert desk.next(desk.join(bus)).message == sent


def test_messages_of_one_key_keep_their_order(desk: Desk) -> None:
    bus = desk.bus()
    bus.send(*(desk.message(key, b"%d" % number) for number in range(20) for key in ("a", "b", "c")))
    reader = desk.join(bus)
    came: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for _ in range(60):
        record = desk.next(reader)
        came[record.message.key].append(int(record.message.value))
        assert reader.commit(record)
    assert came == {key: list(range(20)) for key in came}


def test_the_key_alone_chooses_the_partition(desk: Desk) -> None:
    bus = desk.bus()
    keys = [f"case-{number}" for number in range(12)]
    bus.send(*(desk.message(key, b"") for key in keys))
    reader = desk.join(bus)
    for _ in keys:
        record = desk.next(reader)
        assert record.partition == partition_of(record.message.key, PARTITIONS)
        assert reader.commit(record)


def test_every_group_reads_everything(desk: Desk) -> None:
    bus = desk.bus()
    bus.send(*(desk.message("key", b"%d" % number) for number in range(5)))
    for group in (f"{desk.group}-x", f"{desk.group}-y"):
        reader = desk.join(bus, group)
        assert [desk.next(reader).message.value for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_offsets_survive_a_restart(desk: Desk) -> None:
    first = desk.bus()
    first.send(*(desk.message("key", b"%d" % number) for number in range(4)))
    reader = desk.join(first)
    for _ in range(2):
        assert reader.commit(desk.next(reader))
    desk.leave(reader)
    again = desk.join(desk.bus())
    assert [desk.next(again).message.value for _ in range(2)] == [b"2", b"3"]
    assert again.poll(1.0) is None


def test_what_was_not_committed_comes_again(desk: Desk) -> None:
    bus = desk.bus()
    bus.send(desk.message("key", b"1"))
    reader = desk.join(bus)
    assert desk.next(reader).message.value == b"1"
    desk.leave(reader)
    assert desk.next(desk.join(bus)).message.value == b"1"


def test_a_silent_member_loses_its_record_and_its_commit(desk: Desk) -> None:
    if desk.kind == "kafka":
        pytest.skip("kafka-python beats from a thread of its own; only a frozen process is silent")
    bus = desk.bus()
    bus.send(desk.message("key", b"1"))
    frozen, other = desk.join(bus), desk.join(bus)
    record = desk.next(frozen)
    time.sleep(1.5 * desk.silence)
    assert other.commit(desk.next(other))
    assert not frozen.commit(record)
    assert frozen.poll(0.1) is None


def test_a_long_job_keeps_its_record(desk: Desk) -> None:
    bus = desk.bus()
    bus.send(desk.message("key", b"1"))
    worker = desk.join(bus)
    record = desk.next(worker)
    other = bus.subscribe(desk.group, [desk.topic])
    came: list[Record] = []
    over = threading.Event()

    def idle() -> None:
        while not over.is_set():
            found = other.poll(0.2)
            if found is not None:
                came.append(found)
        other.close()

    neighbour = threading.Thread(target=idle)
    if desk.kind == "sqlite":
        neighbour.start()
    deadline = time.monotonic() + 2.5 * desk.silence
    while time.monotonic() < deadline:
        worker.keep_alive()
        time.sleep(0.2)
    assert worker.commit(record)
    over.set()
    neighbour.join() if neighbour.ident else other.close()
    assert came == []
    assert worker.poll(1.0) is None


def test_two_members_never_hold_one_partition(desk: Desk) -> None:
    bus = desk.bus()
    bus.send(*(desk.message(f"key-{number}", b"%d" % number) for number in range(40)))
    held: dict[int, str] = {}
    clashes: list[int] = []
    done: dict[bytes, int] = {}
    lock = threading.Lock()

    def work(name: str) -> None:
        reader = bus.subscribe(desk.group, [desk.topic])
        deadline = time.monotonic() + desk.patience
        while time.monotonic() < deadline and len(done) < 40:
            record = reader.poll(0.2)
            if record is None:
                continue
            with lock:
                if held.setdefault(record.partition, name) != name:
                    clashes.append(record.partition)
            time.sleep(0.01)
            with lock:
                held.pop(record.partition, None)
                done[record.message.value] = done.get(record.message.value, 0) + 1
            reader.commit(record)
        reader.close()

    workers = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert clashes == []
    assert len(done) == 40


def test_an_event_sent_five_times_takes_effect_once(desk: Desk) -> None:
    bus, seen = desk.bus(), Seen()
    desk.relay(bus)
    desk.consume(bus, seen)
    twice = desk.event(b"twice")
    desk.publish(twice, twice, twice, twice, twice, desk.event(b"last"))
    desk.await_that(lambda: b"last" in seen.effects)
    assert seen.effects == [b"twice", b"last"]


def test_not_yet_is_tried_again_and_delays_nobody(desk: Desk) -> None:
    bus, seen = desk.bus(), Seen(failures={b"slow": 2})
    desk.relay(bus)
    desk.consume(bus, seen)
    desk.publish(desk.event(b"slow"), desk.event(b"quick"))
    desk.await_that(lambda: len(seen.effects) == 2)
    assert seen.effects == [b"quick", b"slow"]
    assert seen.began.count(b"slow") == 3
    assert desk.dead_letters() == []


def test_what_never_works_becomes_a_dead_letter(desk: Desk) -> None:
    bus, seen = desk.bus(), Seen(failures={b"never": 99})
    desk.relay(bus)
    desk.consume(bus, seen)
    desk.publish(desk.event(b"never", name="n"), desk.event(b"fine"))
    desk.await_that(lambda: bool(desk.dead_letters()))
    assert desk.dead_letters() == [("not-yet", "n")]
    assert seen.began.count(b"never") == 1 + len(DELAYS)
    assert seen.effects == [b"fine"]


def test_poison_is_buried_at_once(desk: Desk) -> None:
    bus, seen = desk.bus(), Seen()
    desk.relay(bus)
    bus.send(desk.message("case", b"no event at all"), desk.event(b"after").message())
    desk.consume(bus, seen)
    desk.await_that(lambda: seen.effects == [b"after"])
    assert [letter.code for letter in desk.dead_letters()] == ["Undecodable"]


def test_two_consumers_share_the_work_once(desk: Desk) -> None:
    seen = Seen(seconds=0.01)
    for _ in range(2):
        desk.consume(desk.bus(), seen)
    desk.relay(desk.buses[0])
    names = [b"%d" % number for number in range(24)]
    desk.publish(*(desk.event(name, case_id=f"case-{name.decode()}") for name in names))
    desk.await_that(lambda: len(seen.effects) >= len(names))
    time.sleep(0.5)
    assert sorted(seen.effects) == sorted(names)


def test_a_job_longer_than_the_session_runs_once(desk: Desk) -> None:
    bus, seen = desk.bus(), Seen(seconds=2.0 * desk.silence)
    desk.relay(bus)
    for _ in range(2):
        desk.consume(bus, seen)
    desk.publish(desk.event(b"long"))
    desk.await_that(lambda: seen.effects == [b"long"])
    time.sleep(0.5)
    assert seen.began == [b"long"]


def test_a_stage_of_an_older_revision_changes_nothing(desk: Desk) -> None:
    bus = desk.bus()
    desk.relay(bus)
    with desk.engine.begin() as connection:
        case = cases.create_case(connection, study_key="s", protocol="p")
    seen = Seen()

    def late_images(event: Event, context: StageContext) -> Effects:
        effects = seen(event, context)
        if event.revision == 1:
            with desk.engine.begin() as connection:
                cases.new_revision(connection, case.case_id)
        return effects

    desk.consume(bus, late_images)
    desk.publish(desk.event(b"old", case_id=case.case_id, revision=1))
    desk.await_that(lambda: seen.began == [b"old"])
    desk.publish(desk.event(b"new", case_id=case.case_id, revision=2))
    desk.await_that(lambda: bool(seen.effects))
    assert seen.effects == [b"new"]
