"""What only the SQLite bus has to take care of: members that reach for the same partition."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.events import Message
from vbt.platform.state import open_state


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return SqliteBus(open_state(f"sqlite:///{tmp_path / 'vbt.db'}"))


def _message(key: str, value: bytes = b"") -> Message:
    return Message(topic="t", key=key, headers={}, value=value)


def test_a_partition_in_hand_does_not_hide_the_others(bus: SqliteBus) -> None:
    bus.send(*(_message(f"key-{number}") for number in range(12)))
    one, other = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    first, second = one.poll(0), other.poll(0)
    assert first is not None
    assert second is not None
    assert first.partition != second.partition


def test_a_member_that_reaches_too_late_takes_nothing_again(bus: SqliteBus) -> None:
    bus.send(_message("key"))
    slow, quick = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    connections: list[sa.Connection] = []

    def between_look_and_lease(connection: sa.Connection) -> None:
        connections.append(connection)
        if len(connections) == 2:  # the first one looked, this one is about to take the lease
            record = quick.poll(0)
            assert record is not None
            assert quick.commit(record)

    sa.event.listen(bus.engine, "engine_connect", between_look_and_lease)
    assert slow.poll(0) is None
    assert len(connections) > 2


def test_a_state_that_is_not_sqlite_is_no_bus() -> None:
    with pytest.raises(ValueError, match="needs a state on SQLite"):
        SqliteBus(sa.create_engine("postgresql+psycopg://nobody@nowhere/none"))
