"""The gRPC face of the connectome builder: one step on its own."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from vbt.api.connectome.v1 import connectome_pb2 as api
from vbt.api.connectome.v1 import connectome_pb2_grpc
from vbt.api.event.v1.event_pb2 import ConnectomeBuilt, StudyIngested
from vbt.platform.steps import Steps


class ConnectomeServicer(connectome_pb2_grpc.ConnectomeServiceServicer):
    def __init__(self, steps: Steps[StudyIngested, ConnectomeBuilt]) -> None:
        self._steps = steps

    def SubmitConnectome(
        self, request: api.SubmitConnectomeRequest, context: grpc.ServicerContext
    ) -> api.SubmitConnectomeResponse:
        return api.SubmitConnectomeResponse(case_id=self._steps.submit(request.request_id, request.input))

    def GetConnectome(
        self, request: api.GetConnectomeRequest, context: grpc.ServicerContext
    ) -> api.GetConnectomeResponse:
        step, result = self._steps.get(request.case_id)
        return api.GetConnectomeResponse(step=step, result=result)

    def ListConnectomes(
        self, request: api.ListConnectomesRequest, context: grpc.ServicerContext
    ) -> api.ListConnectomesResponse:
        return api.ListConnectomesResponse(steps=self._steps.list(request.limit))

    def WatchConnectome(
        self, request: api.WatchConnectomeRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchConnectomeResponse]:
        for step in self._steps.watch(request.case_id, context):
            yield api.WatchConnectomeResponse(step=step)

    def CancelConnectome(
        self, request: api.CancelConnectomeRequest, context: grpc.ServicerContext
    ) -> api.CancelConnectomeResponse:
        return api.CancelConnectomeResponse(accepted=self._steps.cancel(request.case_id))
