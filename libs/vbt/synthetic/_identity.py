"""An invented person whose every identifying value is planted in the files, so that a leak can be searched for."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sequence import Sequence as Items

# Keyword and value of everything about the person, the staff, the hospital and the scanner that must stay behind.
CANARIES: tuple[tuple[str, str], ...] = (
    ("PatientName", "Quillfeather^Ottilie^Zebulina"),
    ("PatientID", "QF-7305518-X"),
    ("IssuerOfPatientID", "Wobbleton General Registry"),
    ("PatientBirthDate", "19630417"),
    ("PatientBirthTime", "042317"),
    ("PatientBirthName", "Snorrebakken^Ottilie"),
    ("OtherPatientNames", "Tilly^Featherquill"),
    ("OtherPatientID", "ALT-99417-QF"),
    ("PatientMotherBirthName", "Grumblewick^Hortensia"),
    ("PatientAddress", "17 Marzipan Close, Upper Wobbleton"),
    ("PatientTelephoneNumbers", "+44 1632 960417"),
    ("MilitaryRank", "Flight Lieutenant Ret."),
    ("Occupation", "Beekeeper-Quill"),
    ("EthnicGroup", "Faroese-Basque"),
    ("PatientComments", "Prefers to be called Tilly; niece Wilhelmina drives her"),
    ("AdditionalPatientHistory", "Fell at the Marzipan bakery in 2019"),
    ("CountryOfResidence", "Ruritania"),
    ("RegionOfResidence", "Wobbleshire"),
    ("PatientReligiousPreference", "Zoroastrian"),
    ("InstitutionName", "Wobbleton General Hospital"),
    ("InstitutionAddress", "1 Scalpel Road, Wobbleton"),
    ("InstitutionalDepartmentName", "Neuroradiology Cellar"),
    ("ReferringPhysicianName", "Hackenbush^Hugo"),
    ("ReferringPhysicianAddress", "3 Placebo Lane, Wobbleton"),
    ("ReferringPhysicianTelephoneNumbers", "+44 1632 960233"),
    ("PhysiciansOfRecord", "Strabismus^Sigismund"),
    ("PerformingPhysicianName", "Frankenfurter^Fritz"),
    ("NameOfPhysiciansReadingStudy", "Umlautova^Ulrike"),
    ("OperatorsName", "Knobtwiddler^Kasimir"),
    ("RequestingPhysician", "Quackenbos^Quentin"),
    ("ScheduledPerformingPhysicianName", "Pillbottle^Penelope"),
    ("AccessionNumber", "ACC7781234"),
    ("StudyID", "STU40917"),
    ("AdmissionID", "ADM-55120-Q"),
    ("StudyDescription", "Brain for Mrs Quillfeather, query twin"),
    ("RequestedProcedureDescription", "MR head Quillfeather O."),
    ("RequestedProcedureID", "RQP-31337"),
    ("ScheduledProcedureStepID", "SPS-42424"),
    ("PerformedProcedureStepID", "PPS-70707"),
    ("ProtocolName", "Twin_Hackenbush_special"),
    ("ImageComments", "Repeat of Quillfeather after she moved"),
    ("StationName", "MRCELLAR7"),
    ("DeviceSerialNumber", "SN-90210-WOB"),
    ("StudyDate", "20260213"),
    ("PrivateText", "Spoke to Mrs Quillfeather's daughter on the phone"),
)

_VALUES = dict(CANARIES)
_PLAIN = tuple(
    keyword
    for keyword in _VALUES
    if keyword
    not in {
        "OtherPatientID",
        "RequestedProcedureDescription",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "PrivateText",
        "StudyDate",
    }
)
_PRIVATE_GROUP, _PRIVATE_CREATOR = 0x0099, "WOBBLETON NOTES"


def add_identity(dataset: Dataset) -> None:
    """Plant every canary: in its own attribute, or nested where its attribute lives in a sequence."""
    for keyword in _PLAIN:
        setattr(dataset, keyword, _VALUES[keyword])
    dataset.PatientSex = "F"
    dataset.PatientAge = "062Y"
    dataset.PatientWeight = 61.0
    other = Dataset()
    other.PatientID = _VALUES["OtherPatientID"]
    other.TypeOfPatientID = "TEXT"
    dataset.OtherPatientIDsSequence = Items([other])
    dataset.RequestAttributesSequence = Items([_request()])
    dataset.ReferringPhysicianIdentificationSequence = Items([_physician()])
    block = dataset.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", _VALUES["PrivateText"])
    nested = Dataset()
    nested.PatientName = _VALUES["PatientName"]
    nested.PatientID = _VALUES["PatientID"]
    block.add_new(0x02, "SQ", Items([nested]))


def _request() -> Dataset:
    request = Dataset()
    request.AccessionNumber = _VALUES["AccessionNumber"]
    request.RequestedProcedureDescription = _VALUES["RequestedProcedureDescription"]
    request.RequestedProcedureID = _VALUES["RequestedProcedureID"]
    request.ScheduledProcedureStepID = _VALUES["ScheduledProcedureStepID"]
    request.ScheduledProcedureStepDescription = _VALUES["StudyDescription"]
    return request


def _physician() -> Dataset:
    code = Dataset()
    code.CodeValue = "HHB-001"
    code.CodingSchemeDesignator = "99WOB"
    code.CodeMeaning = "Dr Hugo Hackenbush"
    physician = Dataset()
    physician.PersonIdentificationCodeSequence = Items([code])
    physician.PersonAddress = _VALUES["ReferringPhysicianAddress"]
    physician.PersonTelephoneNumbers = [_VALUES["ReferringPhysicianTelephoneNumbers"]]
    physician.InstitutionName = _VALUES["InstitutionName"]
    return physician
