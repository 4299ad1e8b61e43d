"""What the report came from: the study, the software, the inputs by digest, and the ledger entries."""

from __future__ import annotations

from vbt.fhir._case import CaseContext, instant
from vbt.fhir._encoding import Json
from vbt.fhir._identity import accession_identifier, order_reference, study_identifier
from vbt.fhir._terminology import DATA_OPERATION, DICOM_MODALITY, PARTICIPANT_TYPE, SNOMED, coding, concept


def device(case: CaseContext) -> Json:
    """The software as a Device, one for each digest."""
    software = case.software
    return {
        "resourceType": "Device",
        "meta": case.meta(),
        "identifier": [case.identifier("software-digest", software.digest)],
        "status": "active",
        "manufacturer": "Virtual Brain Twin",
        "deviceName": [{"name": software.name, "type": "model-name"}],
        "type": concept(SNOMED, "706689003"),
        "version": [
            {"type": {"text": "software version"}, "value": software.version},
            {"type": {"text": "SHA-256 digest"}, "value": software.digest},
        ],
    }


def imaging_study(case: CaseContext) -> Json:
    """The DICOM study by its UID, with the series that were used."""
    study = study_identifier(case.identity) or case.identifier("study", case.case_id)
    accession = accession_identifier(case.identity, case.site)
    resource: Json = {
        "resourceType": "ImagingStudy",
        "meta": case.meta(),
        "identifier": [study, *([accession] if accession else [])],
        "status": "available",
        "subject": case.patient(),
    }
    if case.studied_at is not None:
        resource["started"] = instant(case.studied_at)
    order = order_reference(case.identity, case.site)
    if order:
        resource["basedOn"] = [order]
    if case.series:
        resource["series"] = [
            {
                "uid": series.series_instance_uid,
                "modality": coding(DICOM_MODALITY, series.modality),
                "numberOfInstances": series.instances,
            }
            for series in case.series
        ]
    return resource


def provenance(case: CaseContext, targets: list[Json], agent: Json) -> Json:
    """Who made the targets from what, with the ledger entries that prove it.

    R4 Provenance has no identifier, so the business key is a tag: every server can search ``_tag``.
    """
    sources = [_entity("source", case.identifier("sha256", source.sha256), source.name) for source in case.sources]
    receipts = [
        _entity("source", identifier, display, "AuditEvent")
        for receipt in case.receipts
        for identifier, display in _receipt(receipt.event_id, receipt.leaf_hash, receipt.sequence, case)
    ]
    resource: Json = {
        "resourceType": "Provenance",
        "meta": case.meta(provenance_tag(case)),
        "target": targets,
        "recorded": instant(case.issued),
        "activity": concept(DATA_OPERATION, "CREATE"),
        "agent": [{"type": concept(PARTICIPANT_TYPE, "assembler"), "who": agent}],
    }
    return resource | ({"entity": sources + receipts} if sources or receipts else {})


def provenance_tag(case: CaseContext) -> Json:
    """The business key of a Provenance."""
    return {"system": case.code_system("report-version"), "code": case.key}


def _receipt(event_id: str, leaf_hash: str | None, sequence: int | None, case: CaseContext) -> list[tuple[Json, str]]:
    entry = "audit ledger entry" if sequence is None else f"audit ledger entry {sequence}"
    named = [(case.identifier("audit-event", event_id), entry)]
    if leaf_hash is not None:
        named.append((case.identifier("audit-leaf-hash", leaf_hash), f"{entry}, leaf hash"))
    return named


def _entity(role: str, identifier: Json, display: str, resource_type: str | None = None) -> Json:
    what: Json = {"type": resource_type} if resource_type else {}
    return {"role": role, "what": {**what, "identifier": identifier, "display": display}}
