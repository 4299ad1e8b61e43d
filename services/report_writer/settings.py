"""What a site chooses for reports."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from vbt.platform.settings import Section, Settings


class FhirSettings(Section):
    """The EHR that takes the reports.

    Parameters
    ----------
    base_url : FHIR R4 endpoint; empty: reports are kept as artifacts only
    allow_http : plain http to another machine; on this one it is always allowed
    bearer_token : sent with every request where the endpoint wants a fixed one
    token_url, client_id, key_id, scope, private_key : SMART Backend Services, where the endpoint wants tokens that
        expire; the key is the path of a PEM file
    namespace : URI under which the suite's own identifiers and codes live
    patient_system, accession_system : identifier systems of record numbers and of accession numbers
    timeout_seconds : for one request
    """

    base_url: str = ""
    allow_http: bool = False
    bearer_token: SecretStr = SecretStr("")
    token_url: str = ""
    client_id: str = ""
    key_id: str = ""
    scope: str = "system/*.cs"
    private_key: Path | None = None
    namespace: str = "https://vbt.example/fhir"
    patient_system: str = ""
    accession_system: str = ""
    timeout_seconds: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _one_way_to_authorise(self) -> Self:
        if self.token_url and not (self.client_id and self.key_id and self.private_key):
            raise ValueError("token_url needs client_id, key_id and private_key")
        if self.token_url and self.bearer_token.get_secret_value():
            raise ValueError("token_url and bearer_token exclude each other")
        return self


class PacsSettings(Section):
    """The PACS that takes the report as a DICOM object; no host: none is sent."""

    host: str = ""
    port: int = Field(default=104, ge=1, le=65535)
    ae_title: str = Field(default="PACS", min_length=1, max_length=16)
    calling_ae_title: str = Field(default="VBT", min_length=1, max_length=16)


class ReportSettings(Settings):
    fhir: FhirSettings = FhirSettings()
    pacs: PacsSettings = PacsSettings()
