"""`vbt report`: findings as a terminal shows them, and the report's files as a folder."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from standalone.suite import SuiteSettings
from vbt.api.event.v1.event_pb2 import ReportDelivered, ScenariosSimulated
from vbt.clinical import findings as clinical
from vbt.clinical.digits import printed, unit_text
from vbt.clinical.findings import Quantity, TwinFindings
from vbt.errors import NotYet
from vbt.platform import cases, wire
from vbt.platform.runtime import open_objects

_ROWS = 10  # of a ranked table


def findings_of(connection: sa.Connection, settings: SuiteSettings, case_id: str) -> TwinFindings:
    """What the twin of a case found.

    Raises
    ------
    NotYet : the case has no findings, or none yet
    """
    result = wire.result(cases.read_case(connection, case_id), "brain_simulator", ScenariosSimulated)
    if result is None:
        raise _missing("findings")
    return TwinFindings.from_json(open_objects(settings).get(wire.from_wire(result.findings)))


def write_report(connection: sa.Connection, settings: SuiteSettings, case_id: str, folder: Path) -> list[Path]:
    """Write the bundle, the PDF and the pictures of a case to a folder.

    Raises
    ------
    NotYet : the case has no report, or none yet
    """
    result = wire.result(cases.read_case(connection, case_id), "report_writer", ReportDelivered)
    if result is None:
        raise _missing("report")
    objects = open_objects(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    artifacts = [
        result.bundle,
        *([result.pdf] if result.HasField("pdf") else []),
        *result.pictures,
        *result.attachments,
    ]
    written = []
    for artifact in artifacts:
        path = folder / artifact.name
        path.write_bytes(objects.get(wire.from_wire(artifact)))
        written.append(path)
    return written


def findings_table(found: TwinFindings) -> RenderableType:
    """The findings with their intervals; numbers have the digits that the report prints."""
    parts: list[RenderableType] = [Text(found.conclusion), Text()]
    parts.append(_quantities("inferred from the recording", found.parameters))
    parts += [_ranked(table) for table in found.tables]
    parts += [_quantities(scenario.label, scenario.endpoints) for scenario in found.scenarios]
    failed = [check for check in found.quality if not check.passed]
    parts += [Text(f"quality: {check.label} is {check.value:g}, limit {check.limit}", "yellow") for check in failed]
    parts.append(Text("Research use only; preliminary, not signed by a clinician.", "dim"))
    return Group(*parts)


def _quantities(heading: str, quantities: tuple[Quantity, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(heading, min_width=44)
    table.add_column("median", justify="right")
    table.add_column("90 % interval", justify="right")
    table.add_column("unit")
    for quantity in quantities:
        numbers = printed(quantity)
        if quantity.withheld is not None:
            table.add_row(quantity.label, "", "", f"withheld: {quantity.withheld}")
        else:
            interval = "" if numbers.low is None else f"{numbers.low} to {numbers.high}"
            table.add_row(quantity.label, str(numbers.value), interval, "" if quantity.unit == "1" else quantity.unit)
    return table


def _ranked(ranked: clinical.Table) -> Table:
    """The first rows of a ranked table, a column per quantity."""
    table = Table(box=None, pad_edge=False, title=ranked.label, title_justify="left", title_style="bold")
    table.add_column(ranked.heading)
    shown = ranked.rows[:_ROWS]
    for quantity in shown[0].quantities if shown else ():
        unit = unit_text(quantity.unit)
        table.add_column(f"{quantity.label} ({unit})" if unit else quantity.label, justify="right")
    table.add_column("")
    for row in shown:
        table.add_row(row.label, *(_figures(quantity) for quantity in row.quantities), row.flag)
    if len(ranked.rows) > len(shown):
        table.caption = f"{len(ranked.rows) - len(shown)} more in {ranked.code}.csv"
    return table


def _figures(quantity: Quantity) -> str:
    numbers = printed(quantity)
    if numbers.value is None:
        return "withheld"
    return str(numbers.value) if numbers.low is None else f"{numbers.value} [{numbers.low}, {numbers.high}]"


def _missing(what: str) -> NotYet:
    return NotYet(
        f"no-{what}",
        rule=f"a case has {what} when it has come so far",
        got="a case that stopped before, or runs",
        action="look at it with `vbt case show`",
    )
