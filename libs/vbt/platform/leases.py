"""A lease lets one process at a time hold a thing; it runs out by itself when its holder dies or freezes."""

from __future__ import annotations

import sqlalchemy as sa

from vbt.platform.state import bus_lease, insert_new


def take(connection: sa.Connection, thing: tuple[str, str, int], owner: str, now: float, seconds: float) -> bool:
    """Take or renew the lease on ``thing`` = (group, topic, partition); False where another holds it."""
    group, topic, partition = thing
    renewed = connection.execute(
        sa.update(bus_lease)
        .where(_is(thing), sa.or_(bus_lease.c.owner == owner, bus_lease.c.expires_at <= now))
        .values(owner=owner, expires_at=now + seconds)
    )
    if renewed.rowcount:
        return True
    row = {"group": group, "topic": topic, "partition": partition, "owner": owner, "expires_at": now + seconds}
    return insert_new(connection, bus_lease, row)


def holds(connection: sa.Connection, thing: tuple[str, str, int], owner: str) -> bool:
    """Whether ``owner`` still has the lease: nobody else took it, expired or not."""
    found = connection.execute(sa.select(bus_lease.c.owner).where(_is(thing)).with_for_update()).scalar()
    return found == owner


def release(connection: sa.Connection, thing: tuple[str, str, int], owner: str) -> None:
    """Give the lease back early."""
    connection.execute(sa.delete(bus_lease).where(_is(thing), bus_lease.c.owner == owner))


def _is(thing: tuple[str, str, int]) -> sa.ColumnElement[bool]:
    group, topic, partition = thing
    return sa.and_(bus_lease.c.group == group, bus_lease.c.topic == topic, bus_lease.c.partition == partition)
