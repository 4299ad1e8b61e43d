"""The code systems a report uses, and the codes in them that it may use."""

from __future__ import annotations

from typing import Any

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
DICOM_UID = "urn:dicom:uid"
DICOM_MODALITY = "http://dicom.nema.org/resources/ontology/DCM"
URI = "urn:ietf:rfc:3986"
DATA_ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
DIAGNOSTIC_SERVICE = "http://terminology.hl7.org/CodeSystem/v2-0074"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
PARTICIPANT_TYPE = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
TASK_CODE = "http://hl7.org/fhir/CodeSystem/task-code"

DISPLAYS: dict[str, dict[str, str]] = {
    LOINC: {"18748-4": "Diagnostic imaging study", "LP29684-5": "Radiology"},
    SNOMED: {"706689003": "Application program software", "12738006": "Brain structure"},
    DICOM_MODALITY: {"MR": "Magnetic Resonance", "EEG": "Electroencephalography"},
    DATA_ABSENT_REASON: {"unknown": "Unknown", "error": "Error", "not-performed": "Not Performed"},
    OBSERVATION_CATEGORY: {"imaging": "Imaging"},
    INTERPRETATION: {"N": "Normal", "A": "Abnormal"},
    DIAGNOSTIC_SERVICE: {"RAD": "Radiology"},
    IDENTIFIER_TYPE: {"MR": "Medical record number", "ACSN": "Accession ID"},
    ACT_REASON: {"HRESCH": "healthcare research"},
    DATA_OPERATION: {"CREATE": "create"},
    PARTICIPANT_TYPE: {"assembler": "Assembler"},
    TASK_CODE: {"fulfill": "Fulfill the focal request"},
}
"""Every external code this package may emit. `validate` refuses any other code of these systems."""


def coding(system: str, code: str) -> dict[str, str]:
    """A coding of a known external code, with its display; ValueError when the code is not in `DISPLAYS`."""
    if code not in DISPLAYS[system]:
        raise ValueError(f"{code} is not among the codes of {system} that a report may use")
    return {"system": system, "code": code, "display": DISPLAYS[system][code]}


def concept(system: str, code: str, text: str | None = None) -> dict[str, Any]:
    """A CodeableConcept of one known external code."""
    found: dict[str, Any] = {"coding": [coding(system, code)]}
    return {**found, "text": text} if text else found
