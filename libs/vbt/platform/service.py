"""A service is a servicer and its workers; here one becomes a process that explains itself, runs and drains."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from vbt.platform import wire
from vbt.platform.consumer import Consumer
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.server import AddServicers, Worker, serve
from vbt.platform.settings import PREFIX, Settings, read_settings
from vbt.platform.software import this_software
from vbt.platform.stage_context import Handler
from vbt.platform.steps import Steps

SettingsKind = TypeVar("SettingsKind", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What one service brings into the process that runs it."""

    name: str
    add_servicer: AddServicers
    workers: Sequence[Worker]


def line_step(
    runtime: Runtime,
    settings: Settings,
    *,
    name: str,
    takes: str,
    handler: Handler,
    gives: type[Message],
    add_servicer: Callable[[Steps[Any, Any], grpc.Server], None],
    also_takes: Sequence[str] = (),
) -> Service:
    """A service that turns one event into the next, in the line and, over gRPC, on its own.

    Parameters
    ----------
    takes : topic of the events it turns; a step submitted on its own is published there
    gives : the message of the event it gives
    also_takes : further topics that its handler understands
    """
    steps: Steps[Any, Any] = Steps(runtime.engine, this_software(name), takes, gives)
    consumer = Consumer(
        runtime.engine,
        runtime.bus,
        name,
        [takes, *also_takes],
        handler,
        stopped=wire.stopped,
        policy=runtime.policy,
        delays=settings.retry_delays,
    )
    return Service(name=name, add_servicer=partial(add_servicer, steps), workers=[consumer])


def run(name: str, about: str, kind: type[SettingsKind], build: Callable[[Runtime, SettingsKind], Service]) -> None:
    """The whole life of a service's process; with ``--help`` it says which variables set it."""
    parser = argparse.ArgumentParser(
        prog=f"vbt-{name.replace('_', '-')}",
        description=f"{about} It runs until SIGTERM, then finishes what is in hand.",
        epilog="environment:\n" + "\n".join(f"  {variable:<42} {default}" for variable, default in variables(kind)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    settings = read_settings(kind)
    runtime = open_runtime(name, settings)
    try:
        service = build(runtime, settings)
        serve(name, [service.add_servicer], service.workers, runtime.relay, settings.grpc)
    finally:
        runtime.close()


def variables(kind: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, str]]:
    """Every environment variable that sets something in ``kind``, with its default as text."""
    for name, field in kind.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        default: Any = field.get_default(call_default_factory=True)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{variable}__")
        else:
            unset = default in (None, "", (), PydanticUndefined)
            yield variable, "" if unset else f"default: {default}"
