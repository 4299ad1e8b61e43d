"""The span of an association is written only for one that stores, so that echoes and probes leave none."""

from __future__ import annotations

import time

from opentelemetry.trace import Span, SpanKind

from vbt.platform.tracing import open_span, traceparent


class AssociationSpan:
    """The span of one association.

    Parameters
    ----------
    name : the association's
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._connected_ns = time.time_ns()
        self._span: Span | None = None
        self.traceparent = ""
        self.stored = 0

    def begin(self) -> None:
        """The first object comes."""
        if self._span is None:
            attributes = {"vbt.association": self._name}
            self._span = open_span(
                "dicom association", started_ns=self._connected_ns, kind=SpanKind.SERVER, attributes=attributes
            )
            self.traceparent = traceparent(self._span)

    def end(self) -> None:
        """The connection is closed; idempotent."""
        if self._span is not None and self._span.is_recording():
            self._span.set_attribute("vbt.instances", self.stored)
            self._span.end()
