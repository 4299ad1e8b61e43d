"""The findings as a clinical report in PDF: the same bytes for the same input."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any, Protocol

from reportlab.lib.utils import ImageReader
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    Image,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from report_writer.credibility_section import credibility_section
from report_writer.layout import (
    AMBER,
    BOTTOM,
    GREEN,
    MARGIN,
    NAVY,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    RED,
    RULE,
    STATUS,
    TEXT_WIDTH,
    TINT,
    TOP,
    WARM,
    MarkedCanvas,
    marked_up,
    printable,
    styles,
)
from report_writer.tables import cell, digits, grid, quantity_table, ranked_table
from vbt.clinical.application import Picture
from vbt.clinical.credibility import Credibility
from vbt.clinical.digits import significant
from vbt.clinical.findings import Check, Quantity, TwinFindings
from vbt.errors import TwinError
from vbt.fhir import CaseContext, PatientIdentityLike

TITLE = "Virtual Brain Twin report"
NO_RESULT = "The model fit did not pass its own checks. No number of the twin is reported."


class PrintedIdentity(PatientIdentityLike, Protocol):
    """What the patient block prints, as DICOM text."""

    @property
    def name(self) -> str: ...
    @property
    def birth_date(self) -> str: ...
    @property
    def sex(self) -> str: ...
    @property
    def study_date(self) -> str: ...


def report_pdf(
    findings: TwinFindings,
    *,
    case: CaseContext,
    identity: PrintedIdentity,
    figures: Sequence[Picture] = (),
    credibility: Credibility | None = None,
) -> bytes:
    """The report of a finished twin.

    Numbers have the digits that `vbt.clinical.digits.printed` gives them, so PDF and FHIR agree. The report of an
    unsound twin has no number of the twin, no scenario, and of the figures only those of the input.
    """
    sound = findings.verdict == "sound"
    story: list[Flowable] = [*_heading(findings.context_of_use, case, identity)]
    story += _conclusion(findings.conclusion, sound=sound)
    story += _parameters(findings, sound=sound)
    if sound:
        for table in findings.tables:
            story += ranked_table(table)
        story += _figures(figures, "findings", height=240)
        story += _scenarios(findings, figures)
    story += (
        _brain("Connectome and fit", ("fit", "input"), figures) if sound else _brain("Connectome", ("input",), figures)
    )
    story += _quality(findings.quality)
    story += _sentences("Methods", findings.methods)
    story += _sentences("Limits", findings.limits)
    story += _sentences("Evidence for this context of use", (findings.evidence,))
    story += credibility_section(credibility) if credibility else ()
    story += _provenance(case)
    return _render(story, case, identity)


def stopped_pdf(stop: TwinError, *, case: CaseContext, identity: PrintedIdentity) -> bytes:
    """The one page for a case that stopped: the rule, what was found instead, and what to do next. No numbers."""
    story: list[Flowable] = [*_heading("", case, identity)]
    story += [_box("No twin was made and no number is reported.", RED)]
    story += [Paragraph("Why the case stopped", styles()["section"])]
    rows = [["Rule", stop.rule], ["Found", stop.got], ["What to do next", stop.action], ["Code", stop.code]]
    story += [grid([[cell(name), cell(text)] for name, text in rows], (0.2, 0.8))]
    story += _provenance(case)
    return _render(story, case, identity)


def _render(story: list[Flowable], case: CaseContext, identity: PrintedIdentity) -> bytes:
    target = io.BytesIO()
    document = BaseDocTemplate(
        target, pagesize=(PAGE_WIDTH, PAGE_HEIGHT), title=TITLE, author="Virtual Brain Twin", lang="en", invariant=1
    )
    frame = Frame(MARGIN, BOTTOM, TEXT_WIDTH, PAGE_HEIGHT - TOP - BOTTOM + 6, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate(frames=[frame]))

    # A page that was pulled out of the report must still say whose it is.
    parts = (person_name(identity.name.split("=")[0]), identity.patient_id, dicom_date(identity.birth_date))
    whose = printable(" · ".join(part for part in parts if part))

    def canvas(*args: Any, **kwargs: Any) -> MarkedCanvas:
        footer = f"case {case.case_id} · revision {case.revision} · {case.software.name} {case.software.version}"
        return MarkedCanvas(*args, running_title=whose, footer=footer, **kwargs)

    document.build(story, canvasmaker=canvas)
    return target.getvalue()


def _heading(context_of_use: str, case: CaseContext, identity: PrintedIdentity) -> Iterator[Flowable]:
    style = styles()
    status = Table([[Paragraph(STATUS, style["status"])]], colWidths=[58 * 2.83465])
    status.setStyle(
        [
            ("BOX", (0, 0), (-1, -1), 1, AMBER),
            ("BACKGROUND", (0, 0), (-1, -1), WARM),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ]
    )
    title = [Paragraph(TITLE, style["title"])]
    if context_of_use:
        title.append(Paragraph(marked_up(context_of_use), style["subtitle"]))
    head = Table([[title, status]], colWidths=[TEXT_WIDTH - 60 * 2.83465, 60 * 2.83465])
    head.setStyle(
        [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, -1), 0), ("RIGHTPADDING", (1, 0), (1, -1), 0)]
    )
    yield head
    yield Spacer(1, 6)
    yield _patient_block(case, identity)
    yield Spacer(1, 8)


def _patient_block(case: CaseContext, identity: PrintedIdentity) -> Table:
    patient_id = f"{identity.patient_id} ({identity.issuer})" if identity.issuer else identity.patient_id
    fields = (
        (
            ("Patient", person_name(identity.name)),
            ("Patient ID", patient_id),
            ("Born", dicom_date(identity.birth_date)),
            ("Sex", identity.sex),
        ),
        (
            ("Order (accession)", identity.accession_number),
            ("Study of", dicom_date(identity.study_date)),
            ("Report issued (UTC)", case.issued.astimezone(UTC).strftime("%Y-%m-%d %H:%M")),
            ("Case, revision", f"{case.case_id[:13]}, {case.revision}"),
        ),
    )
    rows = [[_field(label, value) for label, value in row] for row in fields]
    table = Table(rows, colWidths=[TEXT_WIDTH * share for share in (0.34, 0.26, 0.21, 0.19)])
    table.setStyle(
        [
            ("BACKGROUND", (0, 0), (-1, -1), TINT),
            ("BOX", (0, 0), (-1, -1), 0.5, RULE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
    )
    return table


def _field(label: str, value: str) -> list[Flowable]:
    return [Paragraph(label, styles()["label"]), Paragraph(marked_up(value) or "not given", styles()["value"])]


def _conclusion(conclusion: str, *, sound: bool) -> Iterator[Flowable]:
    if not sound:
        yield _box(NO_RESULT, RED, heading="No result")
        yield Spacer(1, 6)
    yield _box(conclusion, NAVY, heading="Conclusion")


def _box(text: str, colour: Any, heading: str = "") -> Table:
    content = [Paragraph(heading, styles()["subsection"])] if heading else []
    table = Table(
        [[[*content, Paragraph(marked_up(text), styles()["conclusion"])]]], colWidths=[TEXT_WIDTH], splitInRow=1
    )
    table.setStyle(
        [
            ("LINEBEFORE", (0, 0), (0, -1), 3, colour),
            ("BACKGROUND", (0, 0), (-1, -1), TINT),
            ("LEFTPADDING", (0, 0), (-1, -1), 10),
            ("TOPPADDING", (0, 0), (-1, -1), 4),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 8),
        ]
    )
    return table


def _parameters(findings: TwinFindings, *, sound: bool) -> Iterator[Flowable]:
    if findings.parameters:
        yield Paragraph("Findings", styles()["section"])
        if sound:
            said = _said("Inferred from the recording", findings.parameters, findings)
            yield Paragraph(marked_up(said), styles()["lead"])
            yield _kept(Spacer(1, 3))
        yield quantity_table("Finding", findings.parameters, sound=sound)


def _said(what: str, quantities: Sequence[Quantity], findings: TwinFindings) -> str:
    """In front of a section's numbers: what was inferred, what was not identifiable, and what evidence exists."""
    missing = list(dict.fromkeys(q.label for q in quantities if q.withheld is not None))
    reported = sum(q.withheld is None for q in quantities)
    text = f"{what}: {reported} of {len(quantities)} numbers, each with its {100 * findings.level:.0f} % interval. "
    text += f"Withheld: {'; '.join(missing)}. " if missing else ""
    return f"{text}Evidence: {findings.evidence}"


def _scenarios(findings: TwinFindings, figures: Sequence[Picture]) -> Iterator[Flowable]:
    if not findings.scenarios:
        return
    style = styles()
    yield Paragraph("Scenarios tried on the twin", style["section"])
    lead = "Each scenario is compared with the same twin left alone, over the draws of the posterior."
    endpoints = [endpoint for scenario in findings.scenarios for endpoint in scenario.endpoints]
    yield Paragraph(marked_up(f"{lead} {_said('Predicted by the model', endpoints, findings)}"), style["lead"])
    for scenario in findings.scenarios:
        yield Paragraph(marked_up(scenario.label), style["subsection"])
        yield Paragraph(marked_up(scenario.description), style["lead"])
        yield _kept(Spacer(1, 3))
        if scenario.endpoints:
            yield quantity_table("Endpoint", scenario.endpoints, sound=True)
    yield from _figures(figures, "scenarios", height=260)


def _brain(heading: str, sections: Sequence[str], figures: Sequence[Picture]) -> Iterator[Flowable]:
    if any(figure.section in sections for figure in figures):
        yield Paragraph(heading, styles()["section"])
        for section in sections:
            yield from _figures(figures, section, height=240)


def _figures(figures: Sequence[Picture], section: str, *, height: float) -> Iterator[Flowable]:
    for figure in figures:
        if figure.section == section:
            width, tall = ImageReader(io.BytesIO(figure.png)).getSize()
            scale = min(TEXT_WIDTH / width, height / tall)
            image = Image(io.BytesIO(figure.png), width=width * scale, height=tall * scale)
            caption = Paragraph(marked_up(figure.caption), styles()["caption"])
            yield from (_kept(Spacer(1, 6)), _kept(image), caption)


def _quality(checks: Sequence[Check]) -> Iterator[Flowable]:
    if not checks:
        return
    style = styles()
    rows: list[list[Flowable]] = [[Paragraph(name, style["head"]) for name in ("Check", "Value", "Limit", "Result")]]
    for check in checks:
        colour, word = (GREEN, "✓ pass") if check.passed else (RED, "✗ FAIL")
        result = Paragraph(f'<font color="{colour.hexval().replace("0x", "#")}"><b>{word}</b></font>', style["cell"])
        rows.append([cell(check.label), cell(digits(significant(check.value))), cell(check.limit), result])
    yield Paragraph("Quality", style["section"])
    yield grid(rows, (0.48, 0.16, 0.22, 0.14), header=True)


def _sentences(heading: str, sentences: Sequence[str]) -> Iterator[Flowable]:
    if sentences:
        yield Paragraph(heading, styles()["section"])
        for text in sentences:
            yield Paragraph(marked_up(text), styles()["bullet"], bulletText="•")


def _kept(flowable: Flowable) -> Flowable:
    """The same flowable, on the same page as the next."""
    flowable.keepWithNext = True
    return flowable


def _provenance(case: CaseContext) -> Iterator[Flowable]:
    style = styles()
    rows = [["Software", f"{case.software.name} {case.software.version}", case.software.digest[:24]]]
    rows += [["Input", source.name, source.sha256[:24]] for source in case.sources]
    for receipt in case.receipts:
        number = "not yet numbered" if receipt.sequence is None else f"entry {receipt.sequence}"
        rows.append(["Audit ledger", f"{number}, event {receipt.event_id[:8]}…", (receipt.leaf_hash or "")[:24]])
    head = [Paragraph(name, style["head"]) for name in ("What", "Name", "SHA-256 (first 24 digits)")]
    body: list[list[Flowable]] = [
        [cell(what), cell(name), Paragraph(digest, style["mono"])] for what, name, digest in rows
    ]
    yield Paragraph("Provenance", style["section"])
    yield grid([head, *body], (0.15, 0.5, 0.35), header=True)
    yield Spacer(1, 4)
    yield Paragraph(
        "How to verify: ask for the audit bundle of this case and run "
        '<font name="VBT-Mono" size="7.4">vbt-verify BUNDLE.zip --report THIS.pdf</font>. It needs no network and '
        "trusts nothing of this software: it recomputes the digests and proves that the ledger holds each entry.",
        style["body"],
    )


def person_name(name: str) -> str:
    """DICOM PN as it is read: "Family, Given Middle", and the ideographic form behind it when there is one."""
    groups = [group for group in name.split("=")[:2] if group.strip("^ ")]
    return " / ".join(_one_name(group) for group in groups)


def _one_name(group: str) -> str:
    family, given, middle, prefix, suffix = ([part.strip() for part in group.split("^")] + [""] * 5)[:5]
    rest = " ".join(part for part in (prefix, given, middle, suffix) if part)
    return f"{family}, {rest}" if rest and family else family or rest


def dicom_date(date: str) -> str:
    """DICOM DA as ISO 8601; anything else unchanged."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date
