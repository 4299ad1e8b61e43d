"""What every resource of one report needs to know about the case, and how its resources are named."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vbt.fhir._encoding import Json
from vbt.fhir._identity import PatientIdentityLike, Site, patient_reference
from vbt.fhir._terminology import ACT_REASON, coding

RESEARCH_USE_ONLY = "research-use-only"
DISCLAIMER = "For research use only. Not for diagnosis or treatment decisions. Preliminary: not signed by a clinician."

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Names our resources without a registered OID: uuid5 under a fixed random namespace.
_NAMESPACE = uuid.UUID("6f0c1b52-58c5-4f8e-9f5b-9f1a1c7f2d10")


@dataclass(frozen=True, kw_only=True)
class Software:
    """The software that made the report: name, version, and SHA-256 of the image or of the installed files."""

    name: str
    version: str
    digest: str

    def __post_init__(self) -> None:
        _require_sha256(self.digest, "software digest")


@dataclass(frozen=True)
class Source:
    """An artifact the report was made from, by name and SHA-256."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        _require_sha256(self.sha256, self.name)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Where the audit ledger holds a step of this case: event id, leaf hash (hex) and leaf number once sequenced."""

    event_id: str
    leaf_hash: str | None = None
    sequence: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImagingSeries:
    """A DICOM series that was really used: series instance UID, modality code, number of instances."""

    series_instance_uid: str
    modality: str
    instances: int


@dataclass(frozen=True, kw_only=True)
class CaseContext:
    """Everything around the findings that the resources of one report share.

    Parameters
    ----------
    case_id, revision : business key; a new revision replaces the documents of the one before
    identity : patient, order and study identifiers from the DICOM header
    software, sources, receipts : provenance
    issued : when this version was made, timezone-aware
    studied_at : when the images were taken, timezone-aware; None when not known with its time zone
    series : the series used
    site : how the hospital names things
    """

    case_id: str
    revision: int
    identity: PatientIdentityLike
    software: Software
    issued: datetime
    sources: Sequence[Source] = ()
    receipts: Sequence[Receipt] = ()
    studied_at: datetime | None = None
    series: Sequence[ImagingSeries] = ()
    site: Site = field(default_factory=Site)

    def __post_init__(self) -> None:
        if self.revision < 1:
            raise ValueError(f"revision counts from 1, got {self.revision}")
        instant(self.issued)

    @property
    def key(self) -> str:
        """Business key of this version of the report."""
        return f"{self.case_id}.{self.revision}"

    def code_system(self, name: str) -> str:
        return f"{self.site.namespace}/CodeSystem/{name}"

    def identifier(self, kind: str, value: str) -> Json:
        return {"system": f"{self.site.namespace}/identifier/{kind}", "value": value}

    def own_concept(self, system: str, code: str, text: str) -> Json:
        """A CodeableConcept of one of the suite's own codes."""
        return {"coding": [{"system": self.code_system(system), "code": code, "display": text}], "text": text}

    def full_url(self, resource: str) -> str:
        """The same urn:uuid for the same resource of the same version, every time."""
        return f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{self.key}/{resource}')}"

    def patient(self) -> Json:
        return patient_reference(self.identity, self.site)

    def meta(self, *tags: Json) -> Json:
        """Research use only, on every resource: as purpose-of-use label and as our own tag."""
        intended_use = {
            "system": self.code_system("intended-use"),
            "code": RESEARCH_USE_ONLY,
            "display": "Research use only",
        }
        return {"security": [coding(ACT_REASON, "HRESCH")], "tag": [intended_use, *tags]}


def instant(moment: datetime) -> str:
    """FHIR instant in UTC, to the second."""
    if moment.tzinfo is None:
        raise ValueError("a FHIR instant needs a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _require_sha256(digest: str, what: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"{what} must be 64 lower-case hexadecimal digits")
