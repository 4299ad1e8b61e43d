"""The report as an EHR shows it: DiagnosticReport, the same PDF as DocumentReference, and the Task of the order."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from vbt.fhir._case import DISCLAIMER, CaseContext, instant
from vbt.fhir._encoding import Json
from vbt.fhir._identity import order_reference
from vbt.fhir._narrative import narrative
from vbt.fhir._terminology import DIAGNOSTIC_SERVICE, LOINC, TASK_CODE, coding, concept

TITLE = "Virtual Brain Twin report"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the case ended, in words: report and task status, the sentences shown, and why when it did not succeed."""

    report_status: str
    task_status: str
    conclusion: str
    reason_code: str | None = None
    reason: str | None = None


def diagnostic_report(case: CaseContext, outcome: Outcome, *, study: Json, results: Sequence[Json], pdf: bytes) -> Json:
    """The DiagnosticReport; never above preliminary while the intended use is research only."""
    conclusion = f"{DISCLAIMER} {outcome.conclusion}"
    resource: Json = {
        "resourceType": "DiagnosticReport",
        "meta": case.meta(),
        "text": narrative(TITLE, DISCLAIMER, outcome.conclusion),
        "identifier": [case.identifier("report", case.key)],
    }
    order = order_reference(case.identity, case.site)
    if order:
        resource["basedOn"] = [order]
    resource |= {
        "status": outcome.report_status,
        "category": [{"coding": [coding(DIAGNOSTIC_SERVICE, "RAD"), coding(LOINC, "LP29684-5")]}],
        "code": concept(LOINC, "18748-4", TITLE),
        "subject": case.patient(),
    }
    if case.studied_at is not None:
        resource["effectiveDateTime"] = instant(case.studied_at)
    resource["issued"] = instant(case.issued)
    if results:
        resource["result"] = list(results)
    return resource | {
        "imagingStudy": [study],
        "conclusion": conclusion,
        "presentedForm": [_attachment(case, pdf)],
    }


def document_reference(case: CaseContext, *, author: Json, report: Json, pdf: bytes) -> Json:
    """The same PDF for EHRs that only file documents; a later revision replaces the earlier document."""
    resource: Json = {
        "resourceType": "DocumentReference",
        "meta": case.meta(),
        "masterIdentifier": case.identifier("document", case.key),
        "identifier": [case.identifier("document", case.key)],
        "status": "current",
        "docStatus": "preliminary",
        "type": concept(LOINC, "18748-4", TITLE),
        "category": [concept(LOINC, "LP29684-5")],
        "subject": case.patient(),
        "date": instant(case.issued),
        "author": [author],
    }
    if case.revision > 1:
        replaced = case.identifier("document", f"{case.case_id}.{case.revision - 1}")
        target = {"type": "DocumentReference", "identifier": replaced}
        resource["relatesTo"] = [{"code": "replaces", "target": target}]
    return resource | {
        "description": f"{TITLE} (research use only, preliminary)",
        "securityLabel": [{"coding": case.meta()["security"]}],
        "content": [{"attachment": _attachment(case, pdf)}],
        "context": {"related": [report]},
    }


def task(case: CaseContext, outcome: Outcome, *, owner: Json, report: Json) -> Json:
    """The Task that lets the EHR see what became of the order, failure included."""
    resource: Json = {
        "resourceType": "Task",
        "meta": case.meta(),
        "text": narrative(f"{TITLE}: {outcome.task_status}", *([outcome.reason] if outcome.reason else [])),
        "identifier": [case.identifier("task", case.key)],
    }
    order = order_reference(case.identity, case.site)
    if order:
        resource["basedOn"] = [order]
    resource["status"] = outcome.task_status
    if outcome.reason_code is not None and outcome.reason is not None:
        reason: Json = {"coding": [{"system": case.code_system("stop-reason"), "code": outcome.reason_code}]}
        resource["statusReason"] = reason | {"text": outcome.reason}
    resource |= {"intent": "order", "code": concept(TASK_CODE, "fulfill")}
    if order:
        resource["focus"] = order
    return resource | {
        "for": case.patient(),
        "authoredOn": instant(case.issued),
        "lastModified": instant(case.issued),
        "owner": owner,
        "output": [{"type": {"text": TITLE}, "valueReference": report}],
    }


def _attachment(case: CaseContext, pdf: bytes) -> Json:
    return {
        "contentType": "application/pdf",
        "language": "en",
        "data": base64.b64encode(pdf).decode(),
        "size": len(pdf),
        # FHIR R4 fixes SHA-1 for Attachment.hash; integrity rests on the SHA-256 in the ledger, not on this.
        "hash": base64.b64encode(hashlib.sha1(pdf, usedforsecurity=False).digest()).decode(),
        "title": TITLE,
        "creation": instant(case.issued),
    }
