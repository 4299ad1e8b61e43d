"""What a site chooses for reports."""

from __future__ import annotations

from pydantic import Field, SecretStr

from vbt.platform.settings import Section, Settings


class FhirSettings(Section):
    """The EHR that takes the reports.

    Parameters
    ----------
    base_url : FHIR R4 endpoint; empty: reports are kept as artifacts only
    bearer_token : sent with every request where the endpoint wants one
    namespace : URI under which the suite's own identifiers and codes live
    patient_system, accession_system : identifier systems of record numbers and of accession numbers
    timeout_seconds : for one request
    """

    base_url: str = ""
    bearer_token: SecretStr = SecretStr("")
    namespace: str = "https://vbt.example/fhir"
    patient_system: str = ""
    accession_system: str = ""
    timeout_seconds: float = Field(default=30.0, gt=0)


class PacsSettings(Section):
    """The PACS that takes the report as a DICOM object; no host: none is sent."""

    host: str = ""
    port: int = Field(default=104, ge=1, le=65535)
    ae_title: str = Field(default="PACS", min_length=1, max_length=16)
    calling_ae_title: str = Field(default="VBT", min_length=1, max_length=16)


class ReportSettings(Settings):
    fhir: FhirSettings = FhirSettings()
    pacs: PacsSettings = PacsSettings()
