"""An event says what happened to a case: CloudEvents 1.0 in binary mode, attributes in headers, protobuf as value."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

STUDY_RECEIVED: Final = "vbt.dicom.study-received.v1"
STUDY_INGESTED: Final = "vbt.dicom.study-ingested.v1"
RECORDING_ATTACHED: Final = "vbt.dicom.recording-attached.v1"
CONNECTOME_BUILT: Final = "vbt.connectome.built.v1"
TWIN_CALIBRATED: Final = "vbt.inference.twin-calibrated.v1"
SCENARIOS_SIMULATED: Final = "vbt.simulation.scenarios-simulated.v1"
REPORT_DELIVERED: Final = "vbt.report.delivered.v1"
CASE_STOPPED: Final = "vbt.case.stopped.v1"
AUDIT_RECORDED: Final = "vbt.audit.recorded.v1"

TOPICS: Final = (
    STUDY_RECEIVED,
    STUDY_INGESTED,
    RECORDING_ATTACHED,
    CONNECTOME_BUILT,
    TWIN_CALIBRATED,
    SCENARIOS_SIMULATED,
    REPORT_DELIVERED,
    CASE_STOPPED,
    AUDIT_RECORDED,
)

_EVENT_NAMESPACE = uuid.UUID("5f0e6c3a-4d0b-5a57-9c3e-7662742e6576")
_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_subject", "ce_time")
_OWN = {*_REQUIRED, "ce_specversion", "ce_revision", "traceparent", "content-type"}


class Undecodable(ValueError):
    """What came from the bus is no event of ours, and never will be."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a bus carries: opaque to it but for the topic and the key, which choose the partition."""

    topic: str
    key: str
    headers: Mapping[str, str]
    value: bytes


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a case.

    Parameters
    ----------
    id : the same for the same cause (``event_id``), so that a repetition is recognised
    source : the service that says so, e.g. ``"connectome_builder"``
    type : the topic the event belongs to, e.g. ``CONNECTOME_BUILT``
    subject : case_id, random, never derived from the patient; also the key, so a case's events stay in order
    value : the protobuf message, serialised
    revision : the revision of the case it speaks of (effects of an older one are dropped); 0 speaks of no revision
    time : RFC 3339, UTC
    traceparent : W3C trace context of the cause; empty where there was none
    headers : further headers, carried as they are
    """

    id: str
    source: str
    type: str
    subject: str
    value: bytes
    revision: int = 0
    time: str = field(default_factory=lambda: rfc3339(time.time()))
    traceparent: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def message(self, topic: str | None = None) -> Message:
        """The event as a bus carries it, on its own topic unless told another."""
        headers = {
            **self.headers,
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_source": self.source,
            "ce_type": self.type,
            "ce_subject": self.subject,
            "ce_time": self.time,
            "ce_revision": str(self.revision),
            "content-type": "application/protobuf",
        }
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        return Message(topic=topic or self.type, key=self.subject, headers=headers, value=self.value)

    @classmethod
    def parse(cls, message: Message) -> Event:
        """The event that a message carries.

        Raises
        ------
        Undecodable : an attribute that CloudEvents or fencing needs is missing or malformed
        """
        headers = message.headers
        missing = [name for name in _REQUIRED if not headers.get(name)]
        if missing:
            raise Undecodable(f"the message lacks {', '.join(missing)}")
        revision = headers.get("ce_revision", "0")
        if not revision.isdecimal():
            raise Undecodable("ce_revision is not a whole number")
        return cls(
            id=headers["ce_id"],
            source=headers["ce_source"],
            type=headers["ce_type"],
            subject=headers["ce_subject"],
            time=headers["ce_time"],
            revision=int(revision),
            traceparent=headers.get("traceparent", ""),
            headers={name: text for name, text in headers.items() if name not in _OWN},
            value=message.value,
        )


def event_id(stage: str, case_id: str, revision: int, input_digest: str, software_digest: str) -> str:
    """The id of the event that ``stage`` gives for this input: running the stage again gives the same id."""
    return str(uuid.uuid5(_EVENT_NAMESPACE, "\n".join((stage, case_id, str(revision), input_digest, software_digest))))


def rfc3339(seconds: float) -> str:
    """Seconds since the Unix epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
