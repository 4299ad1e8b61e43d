"""Numbers in tables: each with its interval, or with the reason why there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import CondPageBreak, Flowable, Paragraph, Spacer, Table

from report_writer.layout import NAVY, RULE, TEXT_WIDTH, marked_up, styles
from vbt.clinical import findings as clinical
from vbt.clinical.digits import printed, unit_text
from vbt.clinical.findings import Quantity, Row

ROWS = 15
"""Rows of a ranked table that are printed; the attached CSV holds all."""


def quantity_table(heading: str, quantities: Sequence[Quantity], *, sound: bool) -> Table:
    """Value, unit and credible interval of each quantity; the reason where there is no value."""
    style = styles()
    level = f"{100 * quantities[0].level:.0f} % interval"
    rows: list[list[Flowable]] = [
        [
            Paragraph(heading, style["head"]),
            Paragraph("Value", style["head-number"]),
            Paragraph("Unit", style["head"]),
            Paragraph(level, style["head-number"]),
        ]
    ]
    spans: list[tuple[Any, ...]] = []
    for row, quantity in enumerate(quantities, start=1):
        numbers = printed(quantity)
        if numbers.value is None or not sound:
            reason = quantity.withheld or "the model fit did not pass its own checks"
            rows.append([cell(quantity.label), cell(f"withheld: {reason}"), cell(""), cell("")])
            spans.append(("SPAN", (1, row), (3, row)))
            continue
        interval = (
            "" if numbers.low is None or numbers.high is None else f"{digits(numbers.low)} to {digits(numbers.high)}"
        )
        value = Paragraph(f"<b>{digits(numbers.value)}</b>", style["number"])
        unit = unit_text(quantity.unit)
        rows.append([cell(quantity.label), value, cell(unit), Paragraph(interval, style["number"])])
    return grid(rows, (0.5, 0.14, 0.12, 0.24), header=True, extra=spans)


def ranked_table(table: clinical.Table) -> Iterator[Flowable]:
    """The first rows, a column per quantity with value and interval, and below it why numbers are missing."""
    style = styles()
    # Unlike the smaller tables it may go on overleaf.
    yield CondPageBreak(110)
    yield Paragraph(marked_up(table.label), ParagraphStyle("ranked", parent=style["section"], keepWithNext=0))
    shown = table.rows[:ROWS]
    if not shown:
        yield Paragraph("None.", style["body"])
        return
    reasons = list(dict.fromkeys(q.withheld for row in shown for q in row.quantities if q.withheld is not None))
    flagged = any(row.flag for row in table.rows)
    head = [Paragraph(marked_up(table.heading), style["head"])]
    head += [Paragraph(marked_up(_column(quantity)), style["head-number"]) for quantity in shown[0].quantities]
    head += [Paragraph("Note", style["head"])] if flagged else []
    body = [
        [
            cell(row.label),
            *(Paragraph(_figures(quantity, reasons), style["number"]) for quantity in row.quantities),
            *([cell(row.flag)] if flagged else []),
        ]
        for row in shown
    ]
    first, last = 0.22, 0.17 if flagged else 0.0
    width = (1.0 - first - last) / max(1, len(shown[0].quantities))
    shares = [first, *[width] * len(shown[0].quantities), *([last] if flagged else [])]
    yield grid([head, *body], shares, header=True)
    yield Spacer(1, 3)
    yield Paragraph(marked_up(_below(table, shown)), style["caption"])
    for number, reason in enumerate(reasons, start=1):
        yield Paragraph(marked_up(f"({number}) withheld: {reason}"), style["caption"])


def table_csv(table: clinical.Table) -> bytes:
    """All rows, a line per number, in full precision."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["row", "note", "code", "quantity", "unit", "value", "low", "high", "level", "withheld"])
    for row in table.rows:
        for q in row.quantities:
            numbers = ["" if number is None else repr(number) for number in (q.value, q.low, q.high)]
            writer.writerow([row.label, row.flag, q.code, q.label, q.unit, *numbers, q.level, q.withheld or ""])
    return target.getvalue().encode()


def _column(quantity: Quantity) -> str:
    unit = unit_text(quantity.unit)
    return f"{quantity.label} ({unit})" if unit else quantity.label


def _figures(quantity: Quantity, reasons: Sequence[str]) -> str:
    numbers = printed(quantity)
    if numbers.value is None:
        return f"withheld ({reasons.index(quantity.withheld or '') + 1})"
    text = f"<b>{digits(numbers.value)}</b>"
    if numbers.low is not None and numbers.high is not None:
        text += f"<br/>{digits(numbers.low)} to {digits(numbers.high)}"
    return text


def _below(table: clinical.Table, shown: Sequence[Row]) -> str:
    level = shown[0].quantities[0].level if shown[0].quantities else 0.90
    quantities = [quantity for row in table.rows for quantity in row.quantities]
    reported = sum(quantity.withheld is None for quantity in quantities)
    text = f"Value and, below it, the {100 * level:.0f} % interval; {reported} of {len(quantities)} numbers reported."
    if len(table.rows) > len(shown):
        text += f" The first {len(shown)} of {len(table.rows)} rows; all are in {table.code}.csv beside this report."
    return text


def grid(
    rows: list[list[Flowable]], shares: Sequence[float], *, header: bool = False, extra: Sequence[tuple[Any, ...]] = ()
) -> Table:
    table = Table(rows, colWidths=[TEXT_WIDTH * share for share in shares], repeatRows=1 if header else 0)
    look: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
    ]
    if header:
        look.append(("BACKGROUND", (0, 0), (-1, 0), NAVY))
    table.setStyle([*look, *extra])
    return table


def cell(text: str) -> Paragraph:
    return Paragraph(marked_up(text), styles()["cell"])


def digits(number: Decimal) -> str:
    return f"{number:f}".replace("-", "−")
