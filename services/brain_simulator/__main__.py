"""Tries interventions on calibrated twins."""

from __future__ import annotations

import grpc

from brain_simulator.handlers import ScenarioSimulator
from brain_simulator.servicer import ScenarioServicer
from brain_simulator.settings import SimulatorSettings
from vbt.api.event.v1.event_pb2 import ScenariosSimulated, TwinCalibrated
from vbt.api.simulation.v1.simulation_pb2_grpc import add_ScenarioServiceServicer_to_server
from vbt.platform.events import TWIN_CALIBRATED
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, line_step, run
from vbt.platform.steps import Steps

NAME = "brain_simulator"


def build(runtime: Runtime, settings: SimulatorSettings) -> Service:
    """The service on an open runtime."""
    return line_step(
        runtime,
        settings,
        name=NAME,
        takes=TWIN_CALIBRATED,
        handler=ScenarioSimulator(
            objects=runtime.objects,
            rng_seed=settings.simulation.rng_seed,
            duration_seconds=settings.simulation.duration_seconds,
        ),
        gives=ScenariosSimulated,
        add_servicer=_add_servicer,
    )


def main() -> None:
    """Run the service; what `vbt-brain-simulator` calls."""
    run(NAME, "Tries interventions on calibrated twins.", SimulatorSettings, build)


def _add_servicer(steps: Steps[TwinCalibrated, ScenariosSimulated], server: grpc.Server) -> None:
    add_ScenarioServiceServicer_to_server(ScenarioServicer(steps), server)


if __name__ == "__main__":
    main()
