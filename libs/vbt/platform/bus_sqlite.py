"""The bus without a server: a durable log in the same SQLite file as the state.

A member holds a partition's lease only while it has one of its records in hand, so work goes to whoever is free and a
dead member's partitions come back when its leases run out. The log is trimmed from its beginning; the nameless group
holds where it begins.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Sequence

import sqlalchemy as sa

from vbt.errors import NotYet
from vbt.platform import leases
from vbt.platform.bus import Record, Subscription, partition_of
from vbt.platform.events import Message
from vbt.platform.state import bus_lease, bus_log, bus_offset, insert_new, reading, upsert

_PARTITIONS = 4
_LEASE_SECONDS = 15.0
# Members of this process are woken at once; those of other processes look this often.
_LOOK_SECONDS = 1.0
_BEGINNING = ""  # the group that never reads: its offset is where what is left of a partition begins
_TRIMMED_AT_ONCE = 1000  # rows per transaction, so that no writer waits long


class SqliteBus:
    """A durable log in ``bus_log``; every process that opens the same file shares it.

    Parameters
    ----------
    engine : the state, on SQLite
    partitions : how many members of a group can work on one topic at once; the same in every process
    lease_seconds : how long a dead member's partitions stay unread
    """

    def __init__(
        self, engine: sa.Engine, *, partitions: int = _PARTITIONS, lease_seconds: float = _LEASE_SECONDS
    ) -> None:
        if engine.dialect.name != "sqlite":
            raise ValueError(f"SqliteBus needs a state on SQLite, got {engine.dialect.name}")
        self.engine = engine
        self.partitions = partitions
        self.lease_seconds = lease_seconds
        self._news = threading.Condition()
        self._news_count = 0

    def send(self, *messages: Message) -> None:
        """Append the messages in one durable transaction."""
        now = time.time()
        try:
            with self.engine.begin() as connection:
                for message in messages:
                    self._append(connection, message, now)
        except sa.exc.OperationalError as error:
            raise _unreachable() from error
        self._announce()

    def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        """Join ``group``; a new group starts at the beginning of each topic."""
        try:
            # From here on the group counts among those that have to read a message before it goes.
            with self.engine.begin() as connection:
                for topic in topics:
                    for partition in range(self.partitions):
                        row = {"group": group, "topic": topic, "partition": partition, "next_offset": 0}
                        insert_new(connection, bus_offset, row)
        except sa.exc.OperationalError as error:
            raise _unreachable() from error
        return _SqliteSubscription(self, group, tuple(topics))

    def trim(self, before: float) -> int:
        """Remove messages that came before ``before`` and that every group has read; how many."""
        try:
            with reading(self.engine) as connection:
                places = connection.execute(
                    sa.select(bus_log.c.topic, bus_log.c.partition)
                    .group_by(bus_log.c.topic, bus_log.c.partition)
                    .having(sa.func.min(bus_log.c.at) < before)
                ).all()
            return sum(self._trim(place.topic, place.partition, before) for place in places)
        except sa.exc.OperationalError as error:
            raise _unreachable() from error

    def _trim(self, topic: str, partition: int, before: float) -> int:
        removed = 0
        while True:
            with self.engine.begin() as connection:
                batch = _trim_batch(connection, topic, partition, before)
            if not batch:
                return removed
            removed += batch

    def close(self) -> None:
        """Wake whoever waits; the engine belongs to the caller."""
        self._announce()

    def _append(self, connection: sa.Connection, message: Message, now: float) -> None:
        partition = partition_of(message.key, self.partitions)
        here = sa.and_(bus_log.c.topic == message.topic, bus_log.c.partition == partition)
        last = connection.execute(sa.select(sa.func.max(bus_log.c.offset)).where(here)).scalar()
        place = (message.topic, partition)
        following = _begin(connection, [message.topic]).get(place, 0) if last is None else last + 1
        connection.execute(
            sa.insert(bus_log).values(
                topic=message.topic,
                partition=partition,
                offset=following,
                key=message.key,
                headers=json.dumps(dict(message.headers)),
                value=message.value,
                at=now,
            )
        )

    def _announce(self) -> None:
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def _await_news(self, known: int, seconds: float) -> bool:
        with self._news:
            return self._news.wait_for(lambda: self._news_count != known, max(0.0, seconds))


class _SqliteSubscription:
    def __init__(self, bus: SqliteBus, group: str, topics: tuple[str, ...]) -> None:
        self._bus = bus
        self._group = group
        self._topics = topics
        self._owner = uuid.uuid4().hex
        # Partitions in hand: the offset to read next, and when the lease was last renewed.
        self._positions: dict[tuple[str, int], int] = {}
        self._renewed_at = 0.0

    def poll(self, timeout: float) -> Record | None:
        deadline = time.monotonic() + timeout
        while True:
            known = self._bus._news_count
            try:
                record = self._next()
            except sa.exc.OperationalError as error:
                raise _unreachable() from error
            if record is not None:
                return record
            remaining = deadline - time.monotonic()
            if not self._bus._await_news(known, min(remaining, _LOOK_SECONDS)) and remaining <= _LOOK_SECONDS:
                return None

    def commit(self, record: Record) -> bool:
        place = (record.message.topic, record.partition)
        try:
            with self._bus.engine.begin() as connection:
                if place not in self._positions or not leases.holds(connection, self._lease(place), self._owner):
                    self._positions.pop(place, None)
                    return False
                row = {"group": self._group, "topic": place[0], "partition": place[1]}
                upsert(connection, bus_offset, {**row, "next_offset": record.offset + 1})
                if self._positions[place] == record.offset + 1:
                    leases.release(connection, self._lease(place), self._owner)
        except sa.exc.OperationalError as error:
            raise _unreachable() from error
        if self._positions[place] == record.offset + 1:
            del self._positions[place]
        self._bus._announce()
        return True

    def keep_alive(self) -> None:
        if not self._positions or time.monotonic() - self._renewed_at < self._bus.lease_seconds / 3:
            return
        now = time.time()
        try:
            with self._bus.engine.begin() as connection:
                for place in list(self._positions):
                    if not leases.take(connection, self._lease(place), self._owner, now, self._bus.lease_seconds):
                        del self._positions[place]
        except sa.exc.OperationalError as error:
            raise _unreachable() from error
        self._renewed_at = time.monotonic()

    def close(self) -> None:
        with self._bus.engine.begin() as connection:
            for place in self._positions:
                leases.release(connection, self._lease(place), self._owner)
        self._positions.clear()
        self._bus._announce()

    def _next(self) -> Record | None:
        self.keep_alive()
        with reading(self._bus.engine) as connection:
            wanted = self._wanted(connection)
            found = self._oldest(connection, wanted) if wanted else None
        if found is None:
            return None
        place = (found.message.topic, found.partition)
        if place not in self._positions and not self._take(place, found.offset):
            return None
        self._positions[place] = found.offset + 1
        return found

    def _wanted(self, connection: sa.Connection) -> dict[tuple[str, int], int]:
        """The offset to read next in every partition that no other member has in hand."""
        wanted = {(topic, partition): 0 for topic in self._topics for partition in range(self._bus.partitions)}
        wanted.update(self._committed(connection))
        wanted.update(self._positions)
        mine = sa.and_(bus_lease.c.group == self._group, bus_lease.c.topic.in_(self._topics))
        others = sa.and_(mine, bus_lease.c.owner != self._owner, bus_lease.c.expires_at > time.time())
        for taken in connection.execute(sa.select(bus_lease.c.topic, bus_lease.c.partition).where(others)):
            wanted.pop((taken.topic, taken.partition), None)
        return wanted

    def _committed(self, connection: sa.Connection) -> dict[tuple[str, int], int]:
        return _offsets(connection, [self._group, _BEGINNING], self._topics)

    def _oldest(self, connection: sa.Connection, wanted: dict[tuple[str, int], int]) -> Record | None:
        places = (
            sa.and_(bus_log.c.topic == topic, bus_log.c.partition == partition, bus_log.c.offset == offset)
            for (topic, partition), offset in wanted.items()
        )
        row = connection.execute(sa.select(bus_log).where(sa.or_(*places)).order_by(bus_log.c.at).limit(1)).first()
        if row is None:
            return None
        message = Message(topic=row.topic, key=row.key, headers=json.loads(row.headers), value=row.value)
        return Record(message=message, partition=row.partition, offset=row.offset)

    def _take(self, place: tuple[str, int], offset: int) -> bool:
        with self._bus.engine.begin() as connection:
            lease = self._lease(place)
            if not leases.take(connection, lease, self._owner, time.time(), self._bus.lease_seconds):
                return False
            # Another member may have read on between the look and the lease.
            if self._committed(connection).get(place, 0) != offset:
                leases.release(connection, lease, self._owner)
                return False
        self._renewed_at = time.monotonic()
        return True

    def _lease(self, place: tuple[str, int]) -> tuple[str, str, int]:
        return (self._group, *place)


def _trim_batch(connection: sa.Connection, topic: str, partition: int, before: float) -> int:
    """Remove the oldest messages of a partition, up to the first that is young or that some group has not read."""
    here = sa.and_(bus_log.c.topic == topic, bus_log.c.partition == partition)
    readers = sa.and_(bus_offset.c.topic == topic, bus_offset.c.partition == partition)
    limits = (
        sa.select(sa.func.max(bus_log.c.offset) + 1).where(here),
        sa.select(sa.func.min(bus_log.c.offset)).where(here, bus_log.c.at >= before),
        sa.select(sa.func.min(bus_offset.c.next_offset)).where(readers, bus_offset.c.group != _BEGINNING),
        sa.select(sa.func.min(bus_log.c.offset) + _TRIMMED_AT_ONCE).where(here),
    )
    known = [limit for limit in (connection.execute(query).scalar() for query in limits) if limit is not None]
    if not known:
        return 0
    removed = connection.execute(sa.delete(bus_log).where(here, bus_log.c.offset < min(known))).rowcount
    if removed:
        row = {"group": _BEGINNING, "topic": topic, "partition": partition, "next_offset": min(known)}
        upsert(connection, bus_offset, row)
    return removed


def _begin(connection: sa.Connection, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Where what is left of each partition begins, for those that were trimmed."""
    return _offsets(connection, [_BEGINNING], topics)


def _offsets(connection: sa.Connection, groups: Sequence[str], topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """The highest offset that any of the groups has in each partition."""
    rows = connection.execute(
        sa.select(bus_offset.c.topic, bus_offset.c.partition, sa.func.max(bus_offset.c.next_offset).label("following"))
        .where(bus_offset.c.group.in_(groups), bus_offset.c.topic.in_(topics))
        .group_by(bus_offset.c.topic, bus_offset.c.partition)
    )
    return {(row.topic, row.partition): row.following for row in rows}


def _unreachable() -> NotYet:
    return NotYet(
        "bus-unreachable",
        rule="the bus must take and give messages",
        got="no access to its SQLite file",
        action="check the disk and its free space; the step is tried again",
    )
