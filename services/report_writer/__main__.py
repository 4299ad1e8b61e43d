"""Turns findings into reports and delivers them to the EHR and the PACS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import grpc

from report_writer.backend_token import BackendToken
from report_writer.fhir_endpoint import FhirEndpoint
from report_writer.handlers import ReportWriter
from report_writer.pacs import send_report
from report_writer.servicer import ReportServicer
from report_writer.settings import FhirSettings, ReportSettings
from vbt.api.event.v1.event_pb2 import ReportDelivered, ScenariosSimulated
from vbt.api.report.v1.report_pb2_grpc import add_ReportServiceServicer_to_server
from vbt.fhir import Site
from vbt.platform.events import CASE_STOPPED, SCENARIOS_SIMULATED
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, line_step, run
from vbt.platform.steps import Steps

NAME = "report_writer"


def build(runtime: Runtime, settings: ReportSettings) -> Service:
    """The service on an open runtime."""
    fhir = settings.fhir
    return line_step(
        runtime,
        settings,
        name=NAME,
        takes=SCENARIOS_SIMULATED,
        also_takes=[CASE_STOPPED],
        handler=ReportWriter(
            objects=runtime.objects,
            vault=runtime.vault,
            site=Site(
                namespace=fhir.namespace, patient_system=fhir.patient_system, accession_system=fhir.accession_system
            ),
            open_endpoint=partial(_open_endpoint, fhir, _authorization(fhir)),
            send_to_pacs=partial(send_report, settings=settings.pacs),
            sends=(*(["ehr"] if fhir.base_url else []), *(["pacs"] if settings.pacs.host else [])),
        ),
        gives=ReportDelivered,
        add_servicer=_add_servicer,
    )


def main() -> None:
    """Run the service; what `vbt-report-writer` calls."""
    run(NAME, "Turns findings into reports and delivers them to the EHR and the PACS.", ReportSettings, build)


def _open_endpoint(
    settings: FhirSettings, authorization: Callable[[bool], str] | None, headers: dict[str, str]
) -> FhirEndpoint | None:
    if not settings.base_url:
        return None
    return FhirEndpoint(
        settings.base_url,
        authorization=authorization,
        timeout_seconds=settings.timeout_seconds,
        allow_http=settings.allow_http,
        headers=headers,
    )


def _authorization(settings: FhirSettings) -> Callable[[bool], str] | None:
    """The Authorization header for the EHR: signed assertions, a fixed token, or none."""
    if settings.token_url and settings.private_key:
        return BackendToken(
            settings.token_url,
            client_id=settings.client_id,
            private_key=settings.private_key.read_bytes(),
            key_id=settings.key_id,
            scope=settings.scope,
            timeout_seconds=settings.timeout_seconds,
        )
    token = settings.bearer_token.get_secret_value()
    return (lambda _fresh: f"Bearer {token}") if token else None


def _add_servicer(steps: Steps[ScenariosSimulated, ReportDelivered], server: grpc.Server) -> None:
    add_ReportServiceServicer_to_server(ReportServicer(steps), server)


if __name__ == "__main__":
    main()
