"""The bus port: messages in order per key, at least once, to every group; two adapters keep the same contract.

A *group* is one reader, however many processes it has. A *partition* is a share of a topic that one process of a
group reads at a time; the key alone chooses it, so the messages of one case keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kafka.partitioner.default import murmur2

from vbt.platform.events import Message


@dataclass(frozen=True, kw_only=True)
class Record:
    """A message at its place in the log."""

    message: Message
    partition: int
    offset: int


class Subscription(Protocol):
    """One member's share of what a group reads. Used from one thread."""

    def poll(self, timeout: float) -> Record | None:
        """The next record, or None when ``timeout`` seconds passed without one."""

    def commit(self, record: Record) -> bool:
        """Never give this record to the group again; False where the partition went to another member meanwhile."""

    def keep_alive(self) -> None:
        """Say that the record in hand is still worked on; call at least every few seconds during a long job."""

    def close(self) -> None:
        """Leave the group; what was polled but not committed goes to another member."""


class Bus(Protocol):
    """Where events travel."""

    def send(self, *messages: Message) -> None:
        """Append the messages in order; they are durable on return.

        Raises
        ------
        NotYet : the bus is out of reach or did not confirm; some of the messages may have been taken
        """

    def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        """Join ``group``; a new group starts at the beginning of each topic."""

    def trim(self, before: float) -> int:
        """Remove messages that came before ``before`` (seconds since the epoch) and that every group read; how many.

        A bus that does this by itself removes none here.
        """

    def close(self) -> None:
        """Close what this process holds open."""


def partition_of(key: str, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives this key."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions
