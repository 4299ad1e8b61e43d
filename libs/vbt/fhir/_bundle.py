"""One transaction Bundle per version of a report: findings in, FHIR R4 (4.0.1) out."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from vbt.clinical.findings import TwinFindings
from vbt.errors import NotYet, Rejected, TwinError, Unsound
from vbt.fhir._case import CaseContext, instant
from vbt.fhir._encoding import Json
from vbt.fhir._observations import UNSOUND, observations
from vbt.fhir._provenance import device, imaging_study, provenance, provenance_tag
from vbt.fhir._report import Outcome, diagnostic_report, document_reference, task


def report_bundle(findings: TwinFindings, pdf: bytes, case: CaseContext) -> Json:
    """The transaction that files a finished twin in the EHR.

    Entries: Device, ImagingStudy, Observations, DiagnosticReport (always preliminary), DocumentReference, Task,
    Provenance. Patient and order are logical references by identifier: they are never created. Every entry is a
    conditional create on a business key of case and revision, so that sending it twice files it once.

    An unsound twin gives the same resources with every value withheld, and a failed Task that says why.

    Parameters
    ----------
    findings : what the twin found
    pdf : the report as PDF, embedded in DiagnosticReport and DocumentReference
    case : identity, software, sources and ledger receipts

    Returns
    -------
    The Bundle as plain JSON values with `Decimal` numbers; `to_json` gives its bytes
    """
    if findings.verdict == "sound":
        outcome = Outcome(report_status="preliminary", task_status="completed", conclusion=findings.conclusion)
    else:
        outcome = Outcome(
            report_status="preliminary",
            task_status="failed",
            conclusion=f"{UNSOUND} {findings.conclusion}",
            reason_code="unsound",
            reason=UNSOUND,
        )
    return _transaction(outcome, pdf, case, findings)


def stopped_bundle(stop: TwinError, pdf: bytes, case: CaseContext) -> Json:
    """The transaction that tells the EHR that a case stopped, and why: the same, without Observations.

    The Task fails with the reason. Task alone would be silence on most charts, which list reports and documents but
    no tasks, so there is a DiagnosticReport too, with status ``cancelled`` ("the report is unavailable because the
    measurement was not started or not completed", R4 4.3), and the one-page PDF that says the same in words.
    """
    if not isinstance(stop, Rejected | NotYet | Unsound):
        raise ValueError("a case stops with Rejected, NotYet or Unsound")
    why = str(stop)
    outcome = Outcome(
        report_status="cancelled",
        task_status="failed",
        conclusion=f"No twin was made and no number is reported: {why}.",
        reason_code=stop.code,
        reason=why,
    )
    return _transaction(outcome, pdf, case, None)


def _transaction(outcome: Outcome, pdf: bytes, case: CaseContext, findings: TwinFindings | None) -> Json:
    entries = _Entries(case)
    agent = entries.add("device", device(case))
    study = entries.add("study", imaging_study(case))
    results: list[Json] = []
    if findings is not None:
        origin = {"device": agent, "study": study}
        results = [entries.add(f"observation/{key}", made) for key, made in observations(findings, case, origin)]
    report = entries.add("report", diagnostic_report(case, outcome, study=study, results=results, pdf=pdf))
    document = entries.add("document", document_reference(case, author=agent, report=report, pdf=pdf))
    done = entries.add("task", task(case, outcome, owner=agent, report=report))
    entries.add("provenance", provenance(case, [report, document, done, *results], agent))
    return {
        "resourceType": "Bundle",
        "meta": case.meta(),
        "identifier": case.identifier("bundle", case.key),
        "type": "transaction",
        "timestamp": instant(case.issued),
        "entry": entries.made,
    }


class _Entries:
    """Collects entries and hands out references that carry both the urn:uuid and the business identifier.

    The identifier keeps a reference meaningful where a server does not take the resource it points at.
    """

    def __init__(self, case: CaseContext) -> None:
        self._case = case
        self.made: list[Json] = []

    def add(self, name: str, resource: Json) -> Json:
        kind = resource["resourceType"]
        full_url = self._case.full_url(name)
        request = {"method": "POST", "url": kind, "ifNoneExist": self._search(resource)}
        self.made.append({"fullUrl": full_url, "resource": resource, "request": request})
        reference: Json = {"reference": full_url, "type": kind}
        return reference | ({"identifier": resource["identifier"][0]} if "identifier" in resource else {})

    def _search(self, resource: Json) -> str:
        if "identifier" in resource:
            return "identifier=" + _token(resource["identifier"][0]["system"], resource["identifier"][0]["value"])
        tag: dict[str, Any] = provenance_tag(self._case)
        return "_tag=" + _token(tag["system"], tag["code"])


def _token(system: str, value: str) -> str:
    return f"{quote(system, safe='')}%7C{quote(value, safe='')}"
