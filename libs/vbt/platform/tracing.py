"""One trace per case: spans continue the trace that a message or a call brings, and never quote an exception.

A span that must outlive its process is *promised*: its place in the trace is chosen and stored where it begins, and it
is written with that place where it ends, perhaps by the next process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from vbt.platform.redaction import error_code

_propagator = TraceContextTextMapPropagator()
_promised: ContextVar[SpanContext | None] = ContextVar("promised", default=None)


class PromisedIds(RandomIdGenerator):
    """Random ids, but for a span that keeps a promise: it gets its own."""

    def generate_span_id(self) -> int:
        promised = _promised.get()
        return super().generate_span_id() if promised is None else promised.span_id

    def generate_trace_id(self) -> int:
        promised = _promised.get()
        return super().generate_trace_id() if promised is None else promised.trace_id


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


def open_span(
    name: str, *, started_ns: int, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, AttributeValue]
) -> Span:
    """A root span of something that is no block of code; its owner ends it.

    Parameters
    ----------
    started_ns : when it began, nanoseconds since the epoch
    """
    return trace.get_tracer("vbt").start_span(
        name, context=Context(), kind=kind, attributes=attributes, start_time=started_ns
    )


def promise(parent: str) -> str:
    """A place in the trace, as a traceparent, for a span that `kept_promise` writes later.

    Parameters
    ----------
    parent : the traceparent of the cause; empty begins a new trace
    """
    cause = _span_context(parent)
    ids = RandomIdGenerator()
    context = SpanContext(
        trace_id=cause.trace_id if cause.is_valid else ids.generate_trace_id(),
        span_id=ids.generate_span_id(),
        is_remote=False,
        trace_flags=cause.trace_flags if cause.is_valid else TraceFlags(TraceFlags.SAMPLED),
    )
    return traceparent(trace.NonRecordingSpan(context))


@contextmanager
def kept_promise(
    promised: str,
    name: str,
    *,
    parent: str,
    started: float,
    links: Sequence[str] = (),
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """The promised span around the block that ends it, current inside it.

    A block that fails leaves the promise open: nothing is written, and the next try keeps it.

    Parameters
    ----------
    promised : what `promise` gave for the same ``parent``
    started : when it began, seconds since the epoch
    links : traceparents of what else belongs to it
    """
    token = _promised.set(_span_context(promised))
    try:
        kept = trace.get_tracer("vbt").start_span(
            name,
            context=_context(parent) or Context(),
            attributes=attributes,
            links=[Link(_span_context(link)) for link in links],
            start_time=int(started * 1e9),
        )
    finally:
        _promised.reset(token)
    with trace.use_span(kept, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        yield kept
    kept.end()


def mark_failed(failed: Span, error: BaseException) -> None:
    """Say in the span that it failed and with which code, without the exception's message."""
    failed.set_attribute("error.type", error_code(error))
    failed.set_status(Status(StatusCode.ERROR, error_code(error)))


def traceparent(of: Span | None = None) -> str:
    """A span, or the current one, as a W3C traceparent; empty outside of any span."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, None if of is None else trace.set_span_in_context(of, Context()))
    return carrier.get("traceparent", "")


def _context(parent: str) -> Context | None:
    return _propagator.extract({"traceparent": parent}) if parent else None


def _span_context(written: str) -> SpanContext:
    """What a traceparent says; the invalid context for an empty one."""
    return trace.get_current_span(_propagator.extract({"traceparent": written}, Context())).get_span_context()
