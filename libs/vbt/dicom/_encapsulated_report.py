"""The report as an Encapsulated PDF object that a PACS files with the study it came from (PS3.3 A.45.1)."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from vbt.dicom._identity import PatientIdentity
from vbt.dicom._study import Series

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_IMPLEMENTATION_CLASS_UID = "2.25.294406230146953486217829498212733741153"


@dataclass(frozen=True, slots=True, repr=False)
class ObjectReference:
    """An object that the report was made from."""

    sop_class_uid: str
    sop_instance_uid: str


def references(*series: Series) -> tuple[ObjectReference, ...]:
    """References to every instance of the series."""
    return tuple(ObjectReference(i.sop_class_uid, i.sop_instance_uid) for s in series for i in s.instances)


def encapsulated_report(
    pdf: bytes,
    identity: PatientIdentity,
    *,
    result_id: str,
    title: str,
    created: datetime,
    sources: Iterable[ObjectReference],
    software_version: str,
) -> Dataset:
    """Wrap a PDF for the PACS; the same arguments give the same bytes.

    Parameters
    ----------
    pdf : the document
    identity : of the patient and study it belongs to, from the sealed vault
    result_id : names this result; its UIDs are derived from it, so sending it twice sends one object
    title : shown in the PACS's list; it must not name the patient
    created : when the report was made
    sources : the images behind it
    software_version : of this suite

    Raises
    ------
    ValueError : `pdf` is not a PDF, or `title` is longer than 1024 characters (VR ST)
    """
    if not pdf.startswith(b"%PDF-"):
        raise ValueError("the document must be a PDF")
    if not 0 < len(title) <= 1024:
        raise ValueError(f"the title must have 1 to 1024 characters, got {len(title)}")
    dataset = Dataset()
    _patient_and_study(dataset, identity)
    _series_and_equipment(dataset, result_id, software_version)
    _document(dataset, pdf, title, created, sources)
    dataset.SOPClassUID = ENCAPSULATED_PDF
    dataset.SOPInstanceUID = _uid(result_id, "instance")
    return _as_file(dataset)


def _patient_and_study(dataset: Dataset, identity: PatientIdentity) -> None:
    dataset.SpecificCharacterSet = identity.specific_character_set
    dataset.PatientName = identity.name
    dataset.PatientID = identity.patient_id
    if identity.issuer:
        dataset.IssuerOfPatientID = identity.issuer
    dataset.PatientBirthDate = identity.birth_date
    dataset.PatientSex = identity.sex
    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.StudyDate = identity.study_date
    dataset.StudyTime = identity.study_time
    dataset.ReferringPhysicianName = identity.referring_physician
    dataset.StudyID = identity.study_id
    dataset.AccessionNumber = identity.accession_number


def _series_and_equipment(dataset: Dataset, result_id: str, software_version: str) -> None:
    dataset.Modality = "DOC"
    dataset.SeriesInstanceUID = _uid(result_id, "series")
    dataset.SeriesNumber = 9901
    dataset.SeriesDescription = "Virtual brain twin (research use)"
    dataset.Manufacturer = "Virtual Brain Twin"
    dataset.ManufacturerModelName = "VBT"
    dataset.DeviceSerialNumber = "none"
    dataset.SoftwareVersions = software_version
    dataset.ConversionType = "WSD"


def _document(dataset: Dataset, pdf: bytes, title: str, created: datetime, sources: Iterable[ObjectReference]) -> None:
    dataset.InstanceNumber = 1
    dataset.ContentDate = created.strftime("%Y%m%d")
    dataset.ContentTime = created.strftime("%H%M%S")
    dataset.AcquisitionDateTime = ""
    # The report's pages carry the patient's name.
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.DocumentTitle = title
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator = "18748-4", "LN"
    concept.CodeMeaning = "Diagnostic Imaging Report"
    dataset.ConceptNameCodeSequence = [concept]
    dataset.VerificationFlag = "UNVERIFIED"
    items = []
    for source in sources:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
        items.append(item)
    if items:
        dataset.SourceInstanceSequence = items
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    dataset.EncapsulatedDocumentLength = len(pdf)


def _as_file(dataset: Dataset) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_CLASS_UID)
    return FileDataset("", dataset, preamble=b"\0" * 128, file_meta=meta)


def _uid(result_id: str, purpose: str) -> str:
    digest = hashlib.sha256(f"vbt\0{purpose}\0{result_id}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
