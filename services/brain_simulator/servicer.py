"""The gRPC face of the brain simulator: one step on its own."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from vbt.api.event.v1.event_pb2 import ScenariosSimulated, TwinCalibrated
from vbt.api.simulation.v1 import simulation_pb2 as api
from vbt.api.simulation.v1 import simulation_pb2_grpc
from vbt.platform.steps import Steps


class ScenarioServicer(simulation_pb2_grpc.ScenarioServiceServicer):
    def __init__(self, steps: Steps[TwinCalibrated, ScenariosSimulated]) -> None:
        self._steps = steps

    def SubmitScenario(
        self, request: api.SubmitScenarioRequest, context: grpc.ServicerContext
    ) -> api.SubmitScenarioResponse:
        return api.SubmitScenarioResponse(case_id=self._steps.submit(request.request_id, request.input))

    def GetScenario(self, request: api.GetScenarioRequest, context: grpc.ServicerContext) -> api.GetScenarioResponse:
        step, result = self._steps.get(request.case_id)
        return api.GetScenarioResponse(step=step, result=result)

    def ListScenarios(
        self, request: api.ListScenariosRequest, context: grpc.ServicerContext
    ) -> api.ListScenariosResponse:
        return api.ListScenariosResponse(steps=self._steps.list(request.limit))

    def WatchScenario(
        self, request: api.WatchScenarioRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchScenarioResponse]:
        for step in self._steps.watch(request.case_id, context):
            yield api.WatchScenarioResponse(step=step)

    def CancelScenario(
        self, request: api.CancelScenarioRequest, context: grpc.ServicerContext
    ) -> api.CancelScenarioResponse:
        return api.CancelScenarioResponse(accepted=self._steps.cancel(request.case_id))
