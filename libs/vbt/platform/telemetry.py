"""Where spans go: to an OTLP collector, to a file of JSON lines, or nowhere; their trace ids are valid in any case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import Status

from vbt.platform.settings import TelemetrySettings
from vbt.platform.tracing import PromisedIds

_BARE_CODE = re.compile(r"[\w.\-]+\Z")


class Telemetry:
    """The process's tracer provider; make one per process, before the first span."""

    def __init__(self, service: str, settings: TelemetrySettings) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=PromisedIds())
        if settings.otlp_endpoint:
            exporter = Redacting(OTLPSpanExporter(endpoint=settings.otlp_endpoint))
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        elif settings.spans_path:
            self._provider.add_span_processor(SimpleSpanProcessor(Redacting(SpanFile(settings.spans_path))))
        trace.set_tracer_provider(self._provider)

    def stop(self) -> None:
        """Send what waits to be sent."""
        self._provider.shutdown()


class SpanFile(SpanExporter):
    """Spans as JSON lines at the end of a file, for a machine without a collector."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._file.writelines(f"{span.to_json(indent=None)}\n" for span in spans)
        self._file.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()


class Redacting(SpanExporter):
    """Takes the words of exceptions out of spans that some library recorded them in, and keeps their class."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_redacted(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _redacted(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    if status.description and not _BARE_CODE.match(status.description):
        status = Status(status.status_code)
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_redacted_event(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redacted_event(event: Event) -> Event:
    kept = {name: value for name, value in (event.attributes or {}).items() if name == "exception.type"}
    return Event(event.name, kept if event.name == "exception" else event.attributes, event.timestamp)
