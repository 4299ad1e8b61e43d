"""The gRPC face of twin inference: one step on its own."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from vbt.api.event.v1.event_pb2 import ConnectomeBuilt, TwinCalibrated
from vbt.api.inference.v1 import inference_pb2 as api
from vbt.api.inference.v1 import inference_pb2_grpc
from vbt.platform.steps import Steps


class TwinServicer(inference_pb2_grpc.TwinServiceServicer):
    def __init__(self, steps: Steps[ConnectomeBuilt, TwinCalibrated]) -> None:
        self._steps = steps

    def SubmitTwin(self, request: api.SubmitTwinRequest, context: grpc.ServicerContext) -> api.SubmitTwinResponse:
        return api.SubmitTwinResponse(case_id=self._steps.submit(request.request_id, request.input))

    def GetTwin(self, request: api.GetTwinRequest, context: grpc.ServicerContext) -> api.GetTwinResponse:
        step, result = self._steps.get(request.case_id)
        return api.GetTwinResponse(step=step, result=result)

    def ListTwins(self, request: api.ListTwinsRequest, context: grpc.ServicerContext) -> api.ListTwinsResponse:
        return api.ListTwinsResponse(steps=self._steps.list(request.limit))

    def WatchTwin(
        self, request: api.WatchTwinRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchTwinResponse]:
        for step in self._steps.watch(request.case_id, context):
            yield api.WatchTwinResponse(step=step)

    def CancelTwin(self, request: api.CancelTwinRequest, context: grpc.ServicerContext) -> api.CancelTwinResponse:
        return api.CancelTwinResponse(accepted=self._steps.cancel(request.case_id))
