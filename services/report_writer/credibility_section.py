"""What the report may be used for and what evidence stands behind it, category by category, "none" included."""

from __future__ import annotations

from collections.abc import Iterator

from reportlab.platypus import Flowable, Paragraph, Spacer

from report_writer.layout import marked_up, styles
from report_writer.tables import cell, grid
from vbt.clinical.credibility import Credibility, calibration_of
from vbt.inference import SbcResult


def credibility_section(entry: Credibility) -> Iterator[Flowable]:
    """Question, risk and readiness; the eight categories of evidence; calibration; what is known to be wrong."""
    style = styles()
    yield Paragraph("Credibility of this use", style["section"])
    facts = [
        ("Question of interest", entry.question_of_interest),
        ("Context of use", entry.context_of_use),
        (
            "Risk of the model",
            f"{entry.model_risk} (influence on the decision {entry.model_influence}, consequence of a wrong one "
            f"{entry.decision_consequence})",
        ),
        ("Technology readiness level", f"{entry.readiness} of 9"),
        ("Learned, not simulated", entry.learned or "nothing"),
    ]
    yield grid([[cell(name), cell(text)] for name, text in facts], (0.24, 0.76))
    yield Spacer(1, 6)
    head = [Paragraph(name, style["head"]) for name in ("Category of evidence", "Status", "What exists")]
    rows = [[cell(e.category), cell(e.status), cell(e.summary)] for e in entry.evidence]
    yield grid([head, *rows], (0.24, 0.1, 0.66), header=True)
    if entry.calibrated:
        yield Paragraph("Simulation-based calibration", style["subsection"])
        yield _calibrations(entry)
    if entry.anomalies:
        yield Paragraph("Known anomalies", style["subsection"])
    for text in entry.anomalies:
        yield Paragraph(marked_up(text), style["bullet"], bulletText="•")


def _calibrations(entry: Credibility) -> Flowable:
    """Of each model behind the numbers: how often it was tried on recordings of known parameters, and what came out."""
    head = [Paragraph(name, styles()["head"]) for name in ("Model", "Replicates", "Fitted", "Refused", "Ranks")]
    rows = []
    for model in entry.calibrated:
        result = calibration_of(model)
        counts = ("", "", "") if result is None else (result.replicates, result.fitted, result.refused)
        rows.append([cell(model.replace("_", " ")), *(cell(str(count)) for count in counts), cell(ranks_text(result))])
    return grid([head, *rows], (0.24, 0.12, 0.1, 0.1, 0.44), header=True)


def ranks_text(result: SbcResult | None) -> str:
    """Whether the ranks of known parameters among posterior draws are uniform, and which are not."""
    if result is None:
        return "no result is kept for this version"
    if result.fitted < result.fewest:
        return "too few fitted to tell"
    uneven = [parameter.name for parameter in result.parameters if not result.uniform(parameter)]
    if uneven:
        return f"not uniform: {', '.join(uneven)} (of {len(result.parameters)} parameters)"
    told = f"uniform for all {len(result.parameters)} parameters"
    return told if result.passed else f"{told} so far, but too few fitted to tell"
