"""Tries interventions on calibrated twins."""

from __future__ import annotations

import grpc

from brain_simulator.handlers import ScenarioSimulator
from brain_simulator.servicer import ScenarioServicer
from brain_simulator.settings import SimulatorSettings
from brain_simulator.simulation_servicer import SimulationServicer
from vbt.api.event.v1.event_pb2 import ScenariosSimulated, TwinCalibrated
from vbt.api.simulation.v1.experiment_pb2_grpc import add_SimulationServiceServicer_to_server
from vbt.api.simulation.v1.simulation_pb2_grpc import add_ScenarioServiceServicer_to_server
from vbt.platform.events import TWIN_CALIBRATED
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, line_step, run
from vbt.platform.software import this_software
from vbt.platform.steps import Steps

NAME = "brain_simulator"


def build(runtime: Runtime, settings: SimulatorSettings) -> Service:
    """The service on an open runtime."""
    on_demand = SimulationServicer(
        runtime.objects,
        runtime.engine,
        runtime.policy,
        this_software(NAME),
        places=settings.simulation.concurrent_runs,
    )

    def add_servicers(steps: Steps[TwinCalibrated, ScenariosSimulated], server: grpc.Server) -> None:
        add_ScenarioServiceServicer_to_server(ScenarioServicer(steps), server)
        add_SimulationServiceServicer_to_server(on_demand, server)

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
        add_servicer=add_servicers,
    )


def main() -> None:
    """Run the service; what `vbt-brain-simulator` calls."""
    run(NAME, "Tries interventions on calibrated twins.", SimulatorSettings, build)


if __name__ == "__main__":
    main()
