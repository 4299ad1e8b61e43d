"""Logs are JSON lines: a constant event name, facts under ``vbt.*``, and no word of a foreign exception."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from opentelemetry import trace

from vbt.platform.events import rfc3339
from vbt.platform.redaction import describe

_log = logging.getLogger("vbt.platform")

# Loggers whose words are about infrastructure. Of all others (pynetdicom prints whole datasets) only the place is told.
_TRUSTED = ("vbt", "kafka", "grpc", "alembic", "opentelemetry")


class JsonLines(logging.Formatter):
    """One line per record; JSON escapes every control character, so no input can forge a second line."""

    def format(self, record: logging.LogRecord) -> str:
        context = trace.get_current_span().get_span_context()
        line: dict[str, Any] = {
            "at": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": _event(record),
        }
        line.update({name: fact for name, fact in record.__dict__.items() if name.startswith("vbt.")})
        if context.is_valid:
            line.update(trace_id=trace.format_trace_id(context.trace_id), span_id=trace.format_span_id(context.span_id))
        if record.exc_info and record.exc_info[1]:
            line["cause"] = describe(record.exc_info[1])
        return json.dumps(line, default=str)


def start_logging(level: str, path: Path | None = None) -> None:
    """Send all logs of the process to stdout, or to the end of a file, errors that nobody caught among them."""
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    handler.addFilter(_worth_it)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def _worth_it(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] == "vbt" or record.levelno >= logging.WARNING


def _event(record: logging.LogRecord) -> str:
    if record.name.split(".")[0] in _TRUSTED:
        return record.getMessage()
    return f"{record.module}:{record.lineno}"


def _uncaught(kind: type[BaseException], error: BaseException | None, _traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    _log.critical("process.uncaught", extra={"vbt.cause": describe(error) if error else kind.__qualname__})
