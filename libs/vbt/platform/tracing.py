"""One trace per case: spans continue the trace that a message or a call brings, and never quote an exception."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from vbt.platform.redaction import error_code

_propagator = TraceContextTextMapPropagator()


@contextmanager
def span(
    name: str,
    *,
    parent: str = "",
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """A span around the block, current inside it.

    Parameters
    ----------
    parent : the traceparent of the cause; empty takes the current span
    """
    tracer = trace.get_tracer("vbt")
    with tracer.start_as_current_span(
        name,
        context=_context(parent),
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            mark_failed(current, error)
            raise


def mark_failed(failed: Span, error: BaseException) -> None:
    """Say in the span that it failed and with which code, without the exception's message."""
    failed.set_attribute("error.type", error_code(error))
    failed.set_status(Status(StatusCode.ERROR, error_code(error)))


def traceparent() -> str:
    """The current span as a W3C traceparent; empty outside of any span."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", "")


def _context(parent: str) -> Context | None:
    return _propagator.extract({"traceparent": parent}) if parent else None
