"""The gRPC face of the report writer: one step on its own."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from vbt.api.event.v1.event_pb2 import ReportDelivered, ScenariosSimulated
from vbt.api.report.v1 import report_pb2 as api
from vbt.api.report.v1 import report_pb2_grpc
from vbt.platform.steps import Steps


class ReportServicer(report_pb2_grpc.ReportServiceServicer):
    def __init__(self, steps: Steps[ScenariosSimulated, ReportDelivered]) -> None:
        self._steps = steps

    def SubmitReport(self, request: api.SubmitReportRequest, context: grpc.ServicerContext) -> api.SubmitReportResponse:
        return api.SubmitReportResponse(case_id=self._steps.submit(request.request_id, request.input))

    def GetReport(self, request: api.GetReportRequest, context: grpc.ServicerContext) -> api.GetReportResponse:
        step, result = self._steps.get(request.case_id)
        return api.GetReportResponse(step=step, result=result)

    def ListReports(self, request: api.ListReportsRequest, context: grpc.ServicerContext) -> api.ListReportsResponse:
        return api.ListReportsResponse(steps=self._steps.list(request.limit))

    def WatchReport(
        self, request: api.WatchReportRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchReportResponse]:
        for step in self._steps.watch(request.case_id, context):
            yield api.WatchReportResponse(step=step)

    def CancelReport(self, request: api.CancelReportRequest, context: grpc.ServicerContext) -> api.CancelReportResponse:
        return api.CancelReportResponse(accepted=self._steps.cancel(request.case_id))
