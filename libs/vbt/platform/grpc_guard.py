"""What stands around every gRPC method: its deadline, its span, and the one table from our errors to gRPC statuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import grpc
import sqlalchemy as sa
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as RichStatus
from opentelemetry.trace import SpanKind

from vbt.errors import NotYet, Rejected, TwinError, Unsound
from vbt.platform.redaction import describe
from vbt.platform.tracing import span

_log = logging.getLogger("vbt.platform")

_HEALTH = "/grpc.health.v1."
_STATUS: tuple[tuple[type[TwinError], grpc.StatusCode], ...] = (
    (Rejected, grpc.StatusCode.INVALID_ARGUMENT),
    (NotYet, grpc.StatusCode.UNAVAILABLE),
    (Unsound, grpc.StatusCode.FAILED_PRECONDITION),
)


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without a deadline, continues the caller's trace and answers errors without quoting them."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or details.method.startswith(_HEALTH):
            return handler
        parent = dict(details.invocation_metadata).get("traceparent", "")
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            method = getattr(handler, kind)
            if method is not None:
                wrap = _guarded_stream if kind.endswith("_stream") else _guarded
                make = getattr(grpc, f"{kind}_rpc_method_handler")
                return make(
                    wrap(method, details.method, parent),
                    request_deserializer=handler.request_deserializer,
                    response_serializer=handler.response_serializer,
                )
        return handler


class _Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


class _AbortStatus(_Status, grpc.Status):  # type: ignore[misc]
    """A status with rich details, as ``ServicerContext.abort_with_status`` wants it."""


def _guarded(method: Callable[[Any, Any], Any], name: str, parent: str) -> Callable[[Any, Any], Any]:
    def answer(request: Any, context: Any) -> Any:
        _require_deadline(context)
        try:
            with span(name, parent=parent, kind=SpanKind.SERVER, attributes={"rpc.system": "grpc"}):
                return method(request, context)
        except Exception as error:  # noqa: BLE001  the boundary of every call
            _refuse(context, error, name)

    return answer


def _guarded_stream(
    method: Callable[[Any, Any], Iterator[Any]], name: str, parent: str
) -> Callable[[Any, Any], Iterator[Any]]:
    def answer(request: Any, context: Any) -> Iterator[Any]:
        _require_deadline(context)
        try:
            with span(name, parent=parent, kind=SpanKind.SERVER, attributes={"rpc.system": "grpc"}):
                yield from method(request, context)
        except Exception as error:  # noqa: BLE001  the boundary of every call
            _refuse(context, error, name)

    return answer


def _require_deadline(context: Any) -> None:
    remaining = context.time_remaining()
    # A call without a deadline shows as one that has centuries left.
    if remaining is None or remaining > 365 * 86400:
        context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, "every call needs a deadline; got none; set a timeout on the call"
        )


def _refuse(context: Any, error: Exception, name: str) -> NoReturn:
    if context.code() is not None:  # the method, or _require_deadline, aborted by itself
        raise error
    for root, code in _STATUS:
        if isinstance(error, root):
            context.abort_with_status(_rich(code, error))
    _log.error("grpc.failed", extra={"vbt.method": name, "vbt.cause": describe(error)})
    if isinstance(error, sa.exc.OperationalError):
        context.abort(grpc.StatusCode.UNAVAILABLE, "the state is out of reach; try again")
    context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}; the service's log names the place")
    raise error


def _rich(code: grpc.StatusCode, error: TwinError) -> _AbortStatus:
    facts = ErrorInfo(
        reason=error.code, domain="vbt", metadata={"rule": error.rule, "got": error.got, "action": error.action}
    )
    packed = AnyMessage()
    packed.Pack(facts)
    status = RichStatus(code=code.value[0], message=str(error), details=[packed])
    return _AbortStatus(code, str(error), (("grpc-status-details-bin", status.SerializeToString()),))
