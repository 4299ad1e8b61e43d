"""Who the study is about and who ordered it: what the sealed vault keeps and the returned objects need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from pydicom import Dataset


@dataclass(frozen=True, slots=True, repr=False)
class PatientKey:
    """Compares patients across files of a study without keeping their identifiers in memory."""

    digest: bytes

    @classmethod
    def of(cls, dataset: Dataset) -> PatientKey:
        parts = (str(dataset.get("PatientID") or ""), str(dataset.get("IssuerOfPatientID") or ""))
        return cls(hashlib.sha256("\0".join(parts).encode()).digest())


@dataclass(frozen=True, slots=True, repr=False)
class PatientIdentity:
    """The identity attributes of a study, as text in DICOM form. It has no repr: it is never printed or logged."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str
    accession_number: str
    study_instance_uid: str
    study_id: str
    study_date: str
    study_time: str
    referring_physician: str
    specific_character_set: str

    def to_dict(self) -> dict[str, str]:
        """For the vault: seal it before it is stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, str]) -> PatientIdentity:
        return cls(**{field.name: values.get(field.name, "") for field in fields(cls)})


def patient_identity(dataset: Dataset) -> PatientIdentity:
    """Take the identity from any instance of the study; absent attributes become empty text."""

    def text(keyword: str) -> str:
        return str(dataset.get(keyword) or "")

    return PatientIdentity(
        patient_id=text("PatientID"),
        issuer=text("IssuerOfPatientID"),
        name=text("PatientName"),
        birth_date=text("PatientBirthDate"),
        sex=text("PatientSex"),
        accession_number=text("AccessionNumber"),
        study_instance_uid=text("StudyInstanceUID"),
        study_id=text("StudyID"),
        study_date=text("StudyDate"),
        study_time=text("StudyTime"),
        referring_physician=text("ReferringPhysicianName"),
        # The values above are decoded text; objects that carry them are written in UTF-8.
        specific_character_set="ISO_IR 192",
    )
