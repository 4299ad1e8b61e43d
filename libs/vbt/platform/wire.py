"""Between what the platform works with and what travels: artifacts, steps and events as protobuf messages."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import DecodeError, Message

from vbt.api.event.v1 import event_pb2, step_pb2
from vbt.errors import TwinError, Unsound
from vbt.platform import events
from vbt.platform.audit import Digest
from vbt.platform.cases import Case, Stage, Status, set_status
from vbt.platform.events import Event, Undecodable, event_id
from vbt.platform.objects import Artifact, Objects
from vbt.platform.stage_context import Effects, StageContext

SINGLE_STEP = "x-single-step"
"""Header of an event that asks for one step alone: the step gives its result and no further event."""

M = TypeVar("M", bound=Message)

_STATES: Mapping[Status, step_pb2.StepState] = {
    Status.WAITING: step_pb2.STEP_STATE_WAITING,
    Status.RUNNING: step_pb2.STEP_STATE_RUNNING,
    Status.RETRYING: step_pb2.STEP_STATE_WAITING,
    Status.DONE: step_pb2.STEP_STATE_SUCCEEDED,
    Status.STOPPED: step_pb2.STEP_STATE_STOPPED,
    Status.FAILED: step_pb2.STEP_STATE_FAILED,
    Status.SUPERSEDED: step_pb2.STEP_STATE_STOPPED,
    Status.ERASED: step_pb2.STEP_STATE_STOPPED,
}


def to_wire(artifact: Artifact) -> event_pb2.Artifact:
    """The artifact as an event carries it."""
    return event_pb2.Artifact(
        name=artifact.name,
        uri=artifact.uri,
        sha256=artifact.sha256,
        size_bytes=artifact.size,
        media_type=artifact.media_type,
    )


def from_wire(message: event_pb2.Artifact) -> Artifact:
    """The artifact that an event carries."""
    return Artifact(
        name=message.name,
        uri=message.uri,
        sha256=message.sha256,
        size=message.size_bytes,
        media_type=message.media_type,
    )


def recordings(message: Message, objects: Objects) -> dict[str, bytes]:
    """The contents of `recorded`."""
    return {name: objects.get(from_wire(artifact)) for name, artifact in recorded(message).items()}


def recorded(message: Message) -> dict[str, event_pb2.Artifact]:
    """What is recorded of the patient besides the diffusion images, by kind, as a stage's event carries it on."""
    kinds = {kind: name.removeprefix("RECORDING_KIND_").lower() for name, kind in event_pb2.RecordingKind.items()}
    found = {kinds[entry.kind]: entry.content for entry in message.recordings}  # type: ignore[attr-defined]
    for name in ("bold", "labels"):
        if name in message.DESCRIPTOR.fields_by_name and message.HasField(name):
            found[name] = getattr(message, name)
    return found


def digest(message: event_pb2.Artifact) -> Digest:
    """The artifact as the audit trail names it."""
    return Digest(name=message.name, sha256=message.sha256)


def decode(event: Event, kind: type[M]) -> M:
    """The protobuf message in an event.

    Raises
    ------
    Undecodable : the bytes are not this message, or speak of another case than the envelope
    """
    try:
        message = kind.FromString(event.value)
    except DecodeError as error:
        raise Undecodable(f"not a {kind.DESCRIPTOR.full_name}") from error
    if getattr(message, "case_id", event.subject) != event.subject:
        raise Undecodable(f"a {kind.DESCRIPTOR.full_name} of another case than its envelope")
    return message


def gives(
    context: StageContext,
    message: Message,
    *,
    topic: str,
    action: str,
    summary: str,
    inputs: Sequence[event_pb2.Artifact] = (),
    outputs: Sequence[event_pb2.Artifact] = (),
    figures: Mapping[str, Any] | None = None,
    apply: Sequence[Callable[[sa.Connection], None]] = (),
    afterwards: Sequence[Callable[[], object]] = (),
) -> Effects:
    """The effects of a step that succeeded: its result as an event and in its row, and its audit entry.

    A second run gives an event with the same id. A step that was asked for alone publishes nothing and ends its case.

    Parameters
    ----------
    action : for the audit trail, ``"<noun>.<past participle>"``
    summary : what came out, in one phrase for people
    figures : what the trail and the row keep of it; JSON
    """
    event, numbers = context.event, dict(figures or {})
    alone = SINGLE_STEP in event.headers
    content = message.SerializeToString(deterministic=True)
    next_event = Event(
        id=event_id(context.stage, event.subject, event.revision, event.id, context.software.digest),
        source=context.stage,
        type=topic,
        subject=event.subject,
        revision=event.revision,
        value=content,
    )
    entry = context.audit(
        action,
        inputs=[digest(artifact) for artifact in inputs],
        outputs=[digest(artifact) for artifact in outputs],
        detail=numbers,
    )

    def end(connection: sa.Connection) -> None:
        set_status(connection, event.subject, Status.DONE)

    return Effects(
        apply=[*apply, end] if alone else apply,
        events=[] if alone else [(topic, next_event)],
        audit=[entry],
        detail={"summary": summary, "result": base64.b64encode(content).decode(), **numbers},
        afterwards=afterwards,
    )


def message_of(detail: Mapping[str, Any], kind: type[M]) -> M:
    """The result that `gives` put into a step's detail."""
    return kind.FromString(base64.b64decode(detail["result"]))


def result(case: Case, stage: str, kind: type[M]) -> M | None:
    """What a step of a case gave, or None where it has not succeeded."""
    row = next((row for row in case.stages if row.stage == stage and row.status is Status.DONE), None)
    return None if row is None or "result" not in row.detail else message_of(row.detail, kind)


def stopped(event: Event, error: TwinError, stage: str) -> tuple[str, Event]:
    """The event that says why a case ends without numbers."""
    kind = event_pb2.STOP_KIND_UNSOUND if isinstance(error, Unsound) else event_pb2.STOP_KIND_REJECTED
    if error.code.startswith("consent-"):
        kind = event_pb2.STOP_KIND_CONSENT
    if error.code == "cancelled":
        kind = event_pb2.STOP_KIND_CANCELLED
    message = event_pb2.CaseStopped(
        case_id=event.subject,
        revision=event.revision,
        stage=stage,
        kind=kind,
        code=error.code,
        rule=error.rule,
        got=error.got,
        action=error.action,
    )
    return events.CASE_STOPPED, Event(
        id=event_id(stage, event.subject, event.revision, event.id, f"stopped:{error.code}"),
        source=stage,
        type=events.CASE_STOPPED,
        subject=event.subject,
        revision=event.revision,
        headers={SINGLE_STEP: "1"} if SINGLE_STEP in event.headers else {},
        value=message.SerializeToString(deterministic=True),
    )


def step(case: Case, stage: str) -> step_pb2.Step:
    """Where one stage of a case stands."""
    row = next((candidate for candidate in case.stages if candidate.stage == stage), None)
    if row is None:
        now = Status.ERASED if case.status is Status.ERASED else Status.WAITING
        return step_pb2.Step(case_id=case.case_id, revision=case.revision, stage=stage, state=_STATES[now])
    return _step(case, row)


def _step(case: Case, row: Stage) -> step_pb2.Step:
    return step_pb2.Step(
        case_id=case.case_id,
        revision=case.revision,
        stage=row.stage,
        state=_STATES[row.status],
        fraction=row.fraction,
        message=row.message,
        seconds=row.seconds or 0.0,
        peak_memory_bytes=row.peak_rss_bytes or 0,
    )
