"""The report as a DICOM object in the PACS, beside the images it was made from."""

from __future__ import annotations

from pynetdicom import AE
from pynetdicom.sop_class import EncapsulatedPDFStorage  # type: ignore[attr-defined]

from report_writer.settings import PacsSettings
from vbt.dicom import PatientIdentity, encapsulated_report
from vbt.errors import NotYet, Rejected
from vbt.fhir import CaseContext
from vbt.platform.dicom_association import associate

_TITLE = "Virtual Brain Twin report, research use only"
_SUCCESS, _FAILED_FOR_NOW = 0x0000, 0xA7
_TIMEOUT = 30.0


def send_report(pdf: bytes, case: CaseContext, identity: PatientIdentity, settings: PacsSettings) -> int:
    """Store the PDF in the configured PACS; the number of objects it acknowledged, 0 where none is configured.

    Sending it twice sends the same object, with the same UIDs.

    Raises
    ------
    NotYet : the PACS is out of reach or out of resources
    Rejected : the PACS refuses the object
    """
    if not settings.host:
        return 0
    report = encapsulated_report(
        pdf,
        identity,
        result_id=case.key,
        title=_TITLE,
        created=case.issued,
        sources=[],
        software_version=case.software.version,
    )
    entity = AE(settings.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT
    entity.add_requested_context(EncapsulatedPDFStorage)
    association = associate(entity, (settings.host, settings.port), ae_title=settings.ae_title)
    if not association.is_established:
        raise _not_ready("no association")
    try:
        status = association.send_c_store(report).get("Status")
    finally:
        association.release()
    if status is None or status >> 8 == _FAILED_FOR_NOW:
        raise _not_ready("no answer" if status is None else f"status {status:04X}")
    if status != _SUCCESS and status >> 12 != 0xB:
        raise Rejected(
            "pacs-refused-report",
            rule="the PACS must store the report",
            got=f"status {status:04X}",
            action="let the PACS store Encapsulated PDF objects of this suite, then replay the dead letter",
        )
    return 1


def _not_ready(got: str) -> NotYet:
    return NotYet(
        "pacs-not-ready", rule="the PACS must take the report", got=got, action="the report is sent again later"
    )
