"""Calibrates twins to their patients' recordings."""

from __future__ import annotations

import grpc

from twin_inference.handlers import TwinCalibrator
from twin_inference.servicer import TwinServicer
from twin_inference.settings import InferenceSettings
from vbt.api.event.v1.event_pb2 import ConnectomeBuilt, TwinCalibrated
from vbt.api.inference.v1.inference_pb2_grpc import add_TwinServiceServicer_to_server
from vbt.platform.events import CONNECTOME_BUILT
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, line_step, run
from vbt.platform.steps import Steps

NAME = "twin_inference"


def build(runtime: Runtime, settings: InferenceSettings) -> Service:
    """The service on an open runtime."""
    return line_step(
        runtime,
        settings,
        name=NAME,
        takes=CONNECTOME_BUILT,
        handler=TwinCalibrator(
            objects=runtime.objects,
            rng_seed=settings.inference.rng_seed,
            simulations=settings.inference.second_opinion_simulations if settings.inference.second_opinion else 0,
        ),
        gives=TwinCalibrated,
        add_servicer=_add_servicer,
    )


def main() -> None:
    """Run the service; what `vbt-twin-inference` calls."""
    run(NAME, "Calibrates twins to their patients' recordings.", InferenceSettings, build)


def _add_servicer(steps: Steps[ConnectomeBuilt, TwinCalibrated], server: grpc.Server) -> None:
    add_TwinServiceServicer_to_server(TwinServicer(steps), server)


if __name__ == "__main__":
    main()
