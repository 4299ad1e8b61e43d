"""The bus of many machines: Apache Kafka behind the same port as the SQLite log."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from vbt.errors import NotYet
from vbt.platform.bus import Record, Subscription
from vbt.platform.events import Message
from vbt.platform.settings import KafkaSettings

_CONNECT_MS = 10_000
_DELIVERY_MS = 30_000
_CLOSE_MS = 5_000


class KafkaBus:
    """Events on Kafka: acknowledged by all in-sync replicas, committed by hand, one record in hand at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._connection = _connection(settings)
        self._session_ms = round(settings.session_timeout_seconds * 1000)
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None

    def send(self, *messages: Message) -> None:
        """Send the messages and wait until all replicas have them."""
        with self._lock:
            try:
                futures = [self._send(message) for message in messages]
                for future in futures:
                    future.get(_DELIVERY_MS / 1000)
            except KafkaError as error:
                self._drop_producer()
                raise _unreachable() from error

    def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        """Join ``group``; a new group starts at the beginning of each topic."""
        try:
            consumer = KafkaConsumer(
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=1,
                session_timeout_ms=self._session_ms,
                heartbeat_interval_ms=min(3_000, self._session_ms // 4),
                allow_auto_create_topics=False,
                metadata_max_age_ms=30_000,
                bootstrap_timeout_ms=_CONNECT_MS,
                **self._connection,
            )
        except KafkaError as error:
            raise _unreachable() from error
        return _KafkaSubscription(consumer, topics)

    def trim(self, before: float) -> int:  # noqa: ARG002  the brokers keep to the retention of their topics
        """None: the brokers do it."""
        return 0

    def close(self) -> None:
        """Send what waits and close."""
        with self._lock:
            self._drop_producer()

    def ensure_topics(self, topics: Sequence[str], *, partitions: int = 4, replication: int = -1) -> None:
        """Create the topics that are missing; for compose and tests, a hospital's cluster declares its own.

        Parameters
        ----------
        replication : -1 takes the broker's default
        """
        admin = KafkaAdminClient(bootstrap_timeout_ms=_CONNECT_MS, **self._connection)
        try:
            missing = sorted(set(topics) - set(admin.list_topics()))
            if missing:
                wanted = {topic: {"num_partitions": partitions, "replication_factor": replication} for topic in missing}
                admin.create_topics(wanted, wait_for_metadata=True)
        except KafkaError as error:
            raise _unreachable() from error
        finally:
            admin.close()

    def _send(self, message: Message) -> Any:
        if self._producer is None:
            self._producer = KafkaProducer(
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                max_block_ms=_CONNECT_MS,
                bootstrap_timeout_ms=_CONNECT_MS,
                request_timeout_ms=_CONNECT_MS,
                delivery_timeout_ms=_DELIVERY_MS,
                **self._connection,
            )
        headers = [(name, text.encode()) for name, text in message.headers.items()]
        return self._producer.send(message.topic, value=message.value, key=message.key.encode(), headers=headers)

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=_CLOSE_MS / 1000)
            self._producer = None


class _KafkaSubscription(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: KafkaConsumer, topics: Sequence[str]) -> None:
        self._consumer = consumer
        # Read while another record was in hand, because a rebalance brought a partition that was not yet paused.
        self._waiting: deque[Record] = deque()
        # Partitions that were taken away since their record was given out; they may have come back.
        self._moved: set[TopicPartition] = set()
        consumer.subscribe(topics=list(topics), listener=self)

    def poll(self, timeout: float) -> Record | None:
        if self._waiting:
            return self._waiting.popleft()
        try:
            self._consumer.resume(*self._consumer.paused())
            return self._read(timeout)
        except KafkaError as error:
            raise _unreachable() from error

    def commit(self, record: Record) -> bool:
        place = TopicPartition(record.message.topic, record.partition)
        following = record.offset + 1
        try:
            if place not in self._consumer.assignment():
                return False
            if place in self._moved:
                self._moved.discard(place)
                if (self._consumer.committed(place) or 0) >= following:
                    return False  # whoever had the partition meanwhile was faster
            self._consumer.commit({place: OffsetAndMetadata(following, "", -1)})
            if self._consumer.position(place) < following:
                self._consumer.seek(place, following)
        except KafkaError as error:
            raise _unreachable() from error
        return True

    def keep_alive(self) -> None:
        try:
            self._consumer.pause(*self._consumer.assignment())
            record = self._read(0)
        except KafkaError as error:
            raise _unreachable() from error
        if record is not None:
            self._waiting.append(record)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Forget what this member may no longer give out."""
        self._moved |= set(revoked)
        self._waiting = deque(
            record
            for record in self._waiting
            if TopicPartition(record.message.topic, record.partition) not in self._moved
        )

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Nothing to prepare: reading goes on where the group committed last."""

    def _read(self, timeout: float) -> Record | None:
        for records in self._consumer.poll(timeout_ms=round(timeout * 1000), max_records=1).values():
            for record in records:
                self._moved.discard(TopicPartition(record.topic, record.partition))
                return _record(record)
        return None


def _record(record: Any) -> Record:
    message = Message(
        topic=record.topic,
        key=(record.key or b"").decode(errors="replace"),
        headers={name: value.decode(errors="replace") for name, value in record.headers or ()},
        value=record.value or b"",
    )
    return Record(message=message, partition=record.partition, offset=record.offset)


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    password = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    return {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "ssl_cafile": str(settings.ssl_cafile) if settings.ssl_cafile else None,
        "ssl_certfile": str(settings.ssl_certfile) if settings.ssl_certfile else None,
        "ssl_keyfile": str(settings.ssl_keyfile) if settings.ssl_keyfile else None,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password,
    }


def _unreachable() -> NotYet:
    return NotYet(
        "bus-unreachable",
        rule="the bus must take and give messages",
        got="no confirmation from Kafka",
        action="check the brokers and that all topics exist; the step is tried again",
    )
