"""A patient's name in a foreign exception reaches no log and no span."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from vbt.errors import Rejected
from vbt.platform.logs import JsonLines
from vbt.platform.redaction import describe, error_code
from vbt.platform.telemetry import Redacting, SpanFile
from vbt.platform.tracing import span, traceparent

CANARY = "Mustermann^Erika"


def _record(logger: str, message: str, **kwargs: object) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, __file__, 1, message, (), None, **kwargs)  # type: ignore[arg-type]


def _caught() -> BaseException:
    try:
        try:
            int(CANARY)
        except ValueError as cause:
            raise KeyError(CANARY) from cause
    except KeyError as error:
        return error


def test_a_foreign_error_is_told_by_class_and_place() -> None:
    told = describe(_caught())
    assert CANARY not in told
    assert "builtins.KeyError" in told
    assert "builtins.ValueError" in told
    assert "test_redaction.py" in told


def test_our_own_error_keeps_its_words() -> None:
    error = Rejected("too-few", rule="6 directions are needed", got="5", action="send again")
    assert "6 directions are needed; got 5" in describe(error)
    assert error_code(error) == "too-few"


def test_a_log_line_holds_no_word_of_an_exception() -> None:
    error = _caught()
    record = logging.LogRecord("vbt.dicom", 40, __file__, 1, "study.failed", (), (type(error), error, None))
    line = json.loads(JsonLines().format(record))
    assert CANARY not in json.dumps(line)
    assert (line["event"], line["level"]) == ("study.failed", "ERROR")


def test_only_the_place_of_foreign_logs_is_told() -> None:
    line = JsonLines().format(_record("pynetdicom.acse", f"(0010,0010) {CANARY}"))
    assert CANARY not in line
    assert json.loads(line)["event"] == "test_redaction:1"


def test_no_input_can_forge_a_second_line() -> None:
    record = _record("vbt.dicom", "study.failed")
    record.__dict__["vbt.got"] = 'x\n{"event": "forged"}\x1b[2J'
    line = JsonLines().format(record)
    assert line.isprintable()
    assert json.loads(line)["vbt.got"].startswith("x\n")


@pytest.fixture
def tracer(tmp_path: Path) -> tuple[trace.Tracer, Path]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Redacting(SpanFile(tmp_path / "spans.jsonl"))))
    return provider.get_tracer("vbt"), tmp_path / "spans.jsonl"


def test_spans_of_any_library_lose_the_words_of_exceptions(tracer: tuple[trace.Tracer, Path]) -> None:
    with pytest.raises(ValueError), tracer[0].start_as_current_span("read"):
        raise ValueError(CANARY)
    (line,) = tracer[1].read_text().splitlines()
    exported = json.loads(line)
    assert CANARY not in line
    assert exported["events"][0]["attributes"] == {"exception.type": "ValueError"}
    assert exported["status"]["status_code"] == "ERROR"


def test_a_span_continues_the_trace_of_its_cause() -> None:
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    cause = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with span("process", parent=cause) as current:
        assert trace.format_trace_id(current.get_span_context().trace_id) in cause
        assert traceparent().split("-")[1] == cause.split("-")[1]
    assert traceparent() == ""
