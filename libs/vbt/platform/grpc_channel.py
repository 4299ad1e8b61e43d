"""How our own clients call: with a deadline on every call, and with the trace that they are part of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as RichStatus

from vbt.platform.tracing import traceparent


def open_channel(
    address: str,
    *,
    deadline: float = 60.0,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> grpc.Channel:
    """A channel to ``address``; plain text unless ``ca`` is given.

    Parameters
    ----------
    deadline : seconds, for calls that set no timeout of their own
    ca : the certificate of whoever signed the server's
    certificate, key : the client's own, where the server asks for them
    """
    if ca is None:
        channel = grpc.insecure_channel(address)
    else:
        credentials = grpc.ssl_channel_credentials(
            ca.read_bytes(), key.read_bytes() if key else None, certificate.read_bytes() if certificate else None
        )
        channel = grpc.secure_channel(address, credentials)
    return grpc.intercept_channel(channel, _Caller(deadline))


def error_info(error: grpc.RpcError) -> ErrorInfo | None:
    """The code, rule and action with which one of our services refused; None where the error is not ours."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in RichStatus.FromString(value).details:
                facts = ErrorInfo()
                if detail.Unpack(facts):
                    return facts
    return None


class _Details(NamedTuple):
    method: str
    timeout: float
    metadata: tuple[tuple[str, str | bytes], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _CallDetails(_Details, grpc.ClientCallDetails):  # type: ignore[misc]
    """The details of a call with a deadline and a trace."""


class _Caller(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._completed(details), request)

    intercept_unary_stream = intercept_unary_unary
    intercept_stream_unary = intercept_unary_unary
    intercept_stream_stream = intercept_unary_unary

    def _completed(self, details: Any) -> _CallDetails:
        trace = traceparent()
        metadata = tuple(details.metadata or ()) + ((("traceparent", trace),) if trace else ())
        timeout = self._deadline if details.timeout is None else details.timeout
        return _CallDetails(
            details.method,
            timeout,
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
