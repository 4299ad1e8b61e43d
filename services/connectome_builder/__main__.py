"""Turns de-identified volumes into structural connectomes and regional BOLD."""

from __future__ import annotations

import grpc

from connectome_builder.handlers import ConnectomeBuilder
from connectome_builder.servicer import ConnectomeServicer
from connectome_builder.settings import BuilderSettings
from vbt.api.connectome.v1.connectome_pb2_grpc import add_ConnectomeServiceServicer_to_server
from vbt.api.event.v1.event_pb2 import ConnectomeBuilt, StudyIngested
from vbt.connectome import BuildSettings
from vbt.platform.events import RECORDING_ATTACHED, STUDY_INGESTED
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, line_step, run
from vbt.platform.steps import Steps

NAME = "connectome_builder"


def build(runtime: Runtime, settings: BuilderSettings) -> Service:
    """The service on an open runtime."""
    return line_step(
        runtime,
        settings,
        name=NAME,
        takes=STUDY_INGESTED,
        also_takes=[RECORDING_ATTACHED],
        handler=ConnectomeBuilder(
            objects=runtime.objects, build=BuildSettings(), rng_seed=settings.connectome.rng_seed
        ),
        gives=ConnectomeBuilt,
        add_servicer=_add_servicer,
    )


def main() -> None:
    """Run the service; what `vbt-connectome-builder` calls."""
    run(NAME, "Turns de-identified volumes into structural connectomes and regional BOLD.", BuilderSettings, build)


def _add_servicer(steps: Steps[StudyIngested, ConnectomeBuilt], server: grpc.Server) -> None:
    add_ConnectomeServiceServicer_to_server(ConnectomeServicer(steps), server)


if __name__ == "__main__":
    main()
