"""What could not be done now waits in a topic of its own, so that it delays nobody behind it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vbt.platform.events import Message

DELAYS = (5.0, 60.0, 600.0)

_NOT_BEFORE = "x-not-before"
_ATTEMPTS = "x-attempts"
_ERROR = "x-error"


def retry_topic(topic: str, group: str, delay: float) -> str:
    """The topic where ``group`` keeps what it will read again after ``delay`` seconds."""
    return f"{topic}.{group}.retry.{_label(delay)}"


def retry_group(group: str, delay: float) -> str:
    """The bus group that reads the retry topics of one delay; on its own, so no lane's rebalance disturbs another."""
    return f"{group}.retry.{_label(delay)}"


def retry_topics(topics: Sequence[str], group: str, delays: Sequence[float] = DELAYS) -> list[str]:
    """All retry topics of a group."""
    return [retry_topic(topic, group, delay) for topic in topics for delay in delays]


def original_topic(topic: str, group: str) -> str:
    """The topic on which a message came first, given the one where it is now."""
    return topic.split(f".{group}.retry.", 1)[0]


def postponed(message: Message, group: str, delays: Sequence[float], code: str) -> Message | None:
    """The message for its next attempt, or None after the last one. Only the error's code travels, never its text."""
    attempts = attempts_of(message)
    if attempts >= len(delays):
        return None
    delay = delays[attempts]
    headers = {
        **message.headers,
        _ATTEMPTS: str(attempts + 1),
        _NOT_BEFORE: f"{time.time() + delay:.3f}",
        _ERROR: code,
    }
    topic = retry_topic(original_topic(message.topic, group), group, delay)
    return Message(topic=topic, key=message.key, headers=headers, value=message.value)


def afresh(message: Message) -> Message:
    """The message without any trace of attempts."""
    kept = {name: text for name, text in message.headers.items() if name not in (_NOT_BEFORE, _ATTEMPTS, _ERROR)}
    return Message(topic=message.topic, key=message.key, headers=kept, value=message.value)


def attempts_of(message: Message) -> int:
    """How often the message was tried before."""
    text = message.headers.get(_ATTEMPTS, "0")
    return int(text) if text.isdecimal() else 0


def seconds_until_due(message: Message) -> float:
    """How long the message has to wait still; 0 when it is due."""
    try:
        return max(0.0, float(message.headers.get(_NOT_BEFORE, "0")) - time.time())
    except ValueError:
        return 0.0


def _label(delay: float) -> str:
    if delay < 1:
        return f"{round(delay * 1000)}ms"
    return f"{delay:g}s" if delay < 60 else f"{delay / 60:g}m"
