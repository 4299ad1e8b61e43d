"""Whose report it is and how this hospital names things: identifiers, never demographics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from vbt.fhir._encoding import Json
from vbt.fhir._terminology import DICOM_UID, IDENTIFIER_TYPE, concept

_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")


class PatientIdentityLike(Protocol):
    """What FHIR needs of the identity in a DICOM header; empty strings where the header has none."""

    @property
    def patient_id(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def accession_number(self) -> str: ...
    @property
    def study_instance_uid(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Site:
    """How this hospital names patients and orders in its EHR.

    Parameters
    ----------
    namespace : URI under which the suite's own identifiers and codes live
    patient_system : identifier system of medical record numbers; when empty, a DICOM issuer that is an OID or a URI is
        taken, and otherwise patients are named by value and assigner only and never searched for
    accession_system : identifier system of accession numbers
    """

    namespace: str = "https://vbt.example/fhir"
    patient_system: str = ""
    accession_system: str = ""


def patient_reference(identity: PatientIdentityLike, site: Site) -> Json:
    """A logical reference: the suite never creates a patient and never guesses one.

    Without a record number it is a display only: a report for nobody, which `deliver` sends to no EHR.
    """
    if not identity.patient_id:
        return {"type": "Patient", "display": "patient not given"}
    identifier: Json = {"use": "usual", "type": concept(IDENTIFIER_TYPE, "MR")}
    system = site.patient_system or _issuer_system(identity.issuer)
    if system:
        identifier["system"] = system
    identifier["value"] = identity.patient_id
    if identity.issuer and not system:
        identifier["assigner"] = {"display": identity.issuer}
    return {"type": "Patient", "identifier": identifier}


def order_reference(identity: PatientIdentityLike, site: Site) -> Json | None:
    """A logical reference to the order by accession number, or None when the study came without one."""
    identifier = accession_identifier(identity, site)
    return {"type": "ServiceRequest", "identifier": identifier} if identifier else None


def accession_identifier(identity: PatientIdentityLike, site: Site) -> Json | None:
    """The accession number as FHIR Identifier, or None."""
    if not identity.accession_number:
        return None
    identifier: Json = {"type": concept(IDENTIFIER_TYPE, "ACSN")}
    if site.accession_system:
        identifier["system"] = site.accession_system
    return {**identifier, "value": identity.accession_number}


def study_identifier(identity: PatientIdentityLike) -> Json | None:
    """The DICOM study as FHIR Identifier (R4 ImagingStudy, note on identifiers), or None without a study UID."""
    if not identity.study_instance_uid:
        return None
    return {"system": DICOM_UID, "value": f"urn:oid:{identity.study_instance_uid}"}


def _issuer_system(issuer: str) -> str:
    if _OID.fullmatch(issuer):
        return f"urn:oid:{issuer}"
    return issuer if re.match(r"(urn:|https?://)\S+$", issuer) else ""
