"""What is trimmed can never come again, and what can still come finds itself settled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from vbt.platform import retention, state
from vbt.platform.bus import Subscription
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.events import Message
from vbt.platform.outbox import Relay, publish_message
from vbt.platform.retention import Retention
from vbt.platform.state import open_state, reading

DAY = 86400.0


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return SqliteBus(open_state(f"sqlite:///{tmp_path / 'vbt.db'}"), partitions=1)


def message(value: str) -> Message:
    return Message(topic="t", key="key", headers={}, value=value.encode())


def read(subscription: Subscription) -> list[str]:
    found = []
    while (record := subscription.poll(0)) is not None:
        found.append(record.message.value.decode())
        assert subscription.commit(record)
    return found


def age(bus: SqliteBus, days: float) -> None:
    """Everything that is there becomes older."""
    with bus.engine.begin() as connection:
        for table, column in (
            (state.bus_log, "at"),
            (state.inbox, "at"),
            (state.outbox, "created_at"),
            (state.outbox, "sent_at"),
        ):
            connection.execute(sa.update(table).values({column: table.c[column] - days * DAY}))


def count(bus: SqliteBus, table: sa.Table) -> int:
    with reading(bus.engine) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_a_message_stays_until_every_group_has_read_it(bus: SqliteBus) -> None:
    quick, slow = bus.subscribe("quick", ["t"]), bus.subscribe("slow", ["t"])
    bus.send(message("one"), message("two"))
    assert read(quick) == ["one", "two"]
    age(bus, 40)
    assert Retention(days=30).trim(bus.engine, bus)["bus_log"] == 0
    record = slow.poll(0)
    assert record is not None
    slow.commit(record)
    assert Retention(days=30).trim(bus.engine, bus)["bus_log"] == 1
    assert read(slow) == ["two"]


def test_a_message_that_is_not_old_stays(bus: SqliteBus) -> None:
    bus.send(message("old"))
    age(bus, 40)
    bus.send(message("new"))
    reader = bus.subscribe("g", ["t"])
    read(reader)
    assert Retention(days=30).trim(bus.engine, bus)["bus_log"] == 1
    assert read(bus.subscribe("later", ["t"])) == ["new"]


@pytest.mark.parametrize("rows", [3, 1000, 2500])
def test_readers_go_on_where_everything_was_trimmed(bus: SqliteBus, rows: int) -> None:
    reader = bus.subscribe("g", ["t"])
    bus.send(*(message(str(number)) for number in range(rows)))
    with bus.engine.begin() as connection:
        connection.execute(sa.update(state.bus_offset).values(next_offset=rows))
    age(bus, 40)
    assert Retention(days=30).trim(bus.engine, bus)["bus_log"] == rows
    assert count(bus, state.bus_log) == 0
    bus.send(message("next"))
    assert read(reader) == ["next"]
    assert read(bus.subscribe("new", ["t"])) == ["next"]
    assert read(reader) == []


def test_what_was_sent_goes_and_what_waits_to_be_sent_stays(bus: SqliteBus) -> None:
    with bus.engine.begin() as connection:
        for number in range(3):
            publish_message(connection, message(str(number)))
        connection.execute(sa.update(state.outbox).where(state.outbox.c.id < 3).values(sent_at=time.time()))
    age(bus, 40)
    assert Retention(days=30).trim(bus.engine, bus)["outbox"] == 2
    assert count(bus, state.outbox) == 1


@pytest.mark.parametrize(
    ("what", "days", "forgotten"),
    [
        ("nothing else", 50, 0),
        ("nothing else", 70, 1),
        ("a message that is not read", 70, 0),
        ("a message that is not sent", 70, 0),
        ("a dead letter", 70, 0),
    ],
)
def test_what_was_settled_is_remembered_while_it_can_come_again(
    bus: SqliteBus, what: str, days: float, forgotten: int
) -> None:
    if what == "a message that is not read":
        bus.subscribe("g", ["t"])
        bus.send(message("unread"))
    with bus.engine.begin() as connection:
        connection.execute(sa.insert(state.inbox).values(group="g", ce_id="e", at=time.time()))
        if what == "a message that is not sent":
            publish_message(connection, message("unsent"))
            connection.execute(sa.update(state.outbox).values(created_at=time.time() - 1))
        if what == "a dead letter":
            letter: dict[str, Any] = {
                "group": "h",
                "topic": "t",
                "ce_id": "e",
                "case_id": "c",
                "code": "x",
                "cause": "",
            }
            connection.execute(
                sa.insert(state.dead_letter).values(**letter, attempts=1, headers="{}", value=b"", at=0.0)
            )
    age(bus, days)
    assert Retention(days=30).trim(bus.engine, bus)["inbox"] == forgotten


def test_batches_leave_nothing_over(bus: SqliteBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    with bus.engine.begin() as connection:
        for number in range(5):
            connection.execute(sa.insert(state.inbox).values(group="g", ce_id=str(number), at=0.0))
    assert Retention(days=30).trim(bus.engine, bus)["inbox"] == 5


def test_the_relay_keeps_to_the_retention(bus: SqliteBus) -> None:
    with bus.engine.begin() as connection:
        connection.execute(sa.insert(state.inbox).values(group="g", ce_id="e", at=0.0))
    relay = Relay(bus.engine, bus, interval=0.01, retention=Retention(days=30), trim_seconds=0.05)
    relay.start()
    deadline = time.monotonic() + 10
    while count(bus, state.inbox) and time.monotonic() < deadline:
        time.sleep(0.02)
    relay.stop()
    assert count(bus, state.inbox) == 0


class _BrokerOfItsOwn:
    """A bus that trims its topics by itself, as Kafka does."""

    def send(self, *messages: Message) -> None:
        raise NotImplementedError

    def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        raise NotImplementedError

    def trim(self, before: float) -> int:
        del before
        return 0

    def close(self) -> None:
        """Nothing is open."""


def test_tables_of_any_database_are_trimmed(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        publish_message(connection, message("sent"))
        publish_message(connection, message("unsent"))
        connection.execute(sa.update(state.outbox).where(state.outbox.c.id == 1).values(sent_at=0.0))
        connection.execute(sa.insert(state.inbox).values(group="g", ce_id="e", at=0.0))
    removed = Retention(days=30).trim(engine, _BrokerOfItsOwn())
    assert removed == {"bus_log": 0, "outbox": 1, "inbox": 1}
