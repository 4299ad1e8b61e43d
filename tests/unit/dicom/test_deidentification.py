"""De-identification leaves nothing that names the patient, and says how: every attribute of Table E.1-1 is tried."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from vbt.dicom import deidentify, deidentify_with_evidence
from vbt.dicom._csa import _element, csa_values, gradients_only
from vbt.dicom._profile import NEVER_SHIFTED, basic_profile
from vbt.errors import Rejected
from vbt.synthetic import CANARIES
from vbt.synthetic._identity import add_identity

KEY = b"a key of at least thirty-two bytes"
STUDY, SERIES, INSTANCE = "1.2.840.99.1", "1.2.840.99.2", "1.2.840.99.3"
# What a value of each VR looks like when someone planted it, and how it is found again.
PLANTED = {
    "PN": "Canary^Tweety", "LO": "canary seed", "SH": "canary seed", "LT": "canary seed", "ST": "canary seed",
    "UT": "canary seed", "UC": "canary seed", "AE": "CANARYAE", "AS": "099Y", "CS": "CANARY_CODE",
    "UI": "1.2.3.77777.1", "DA": "20210907", "DT": "20210907131211.77", "TM": "131211.77", "IS": "77777",
    "DS": "77777.5", "UR": "http://canary.example/seed", "OB": b"canary seed!", "OW": b"canary seed!",
    "UN": b"canary seed!", "US": 57777, "SS": 27777, "UL": 77777, "SL": 77777, "FL": 77777.5, "FD": 77777.5,
}  # fmt: skip


def _image() -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", INSTANCE
    meta.SourceApplicationEntityTitle = "CANARYAE"
    image = FileDataset("", Dataset(), preamble=b"canary".ljust(128, b"!"), file_meta=meta)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, INSTANCE
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, SERIES
    image.PatientID, image.Modality = "P1", "MR"
    image.Rows = image.Columns = 2
    image.BitsAllocated, image.PixelRepresentation = 16, 0
    image.PixelData = bytes(range(8))
    return image


def _bytes(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _plantable() -> Iterator[tuple[int, str, str, str]]:
    for tag, (keyword, action) in sorted(basic_profile().items()):
        if dictionary_has_tag(tag):
            yield tag, keyword, dictionary_VR(tag).split(" or ")[0], action


def test_table_covers_the_basic_profile() -> None:
    assert len(basic_profile()) > 640
    assert {action for _, action in basic_profile().values()} == {
        "X", "Z", "D", "U", "Z/D", "X/Z", "X/D", "X/Z/D", "X/Z/U*",
    }  # fmt: skip


@pytest.mark.parametrize("nested", [False, True], ids=["top level", "nested"])
def test_no_attribute_of_the_table_keeps_its_value(nested: bool) -> None:
    checked = 0
    for tag, keyword, vr, action in _plantable():
        if vr == "SQ" or vr not in PLANTED:
            continue
        image = _image()
        target = image
        if nested:
            target = Dataset()
            image.DimensionOrganizationSequence = [target]
        target[tag] = DataElement(tag, vr, PLANTED[vr])
        result = deidentify(image, KEY)
        cleaned = result.DimensionOrganizationSequence[0] if nested else result
        kept = cleaned.get(tag)
        if vr == "TM" and keyword not in NEVER_SHIFTED:
            # Times of day stay: dates move by whole days.
            continue
        assert kept is None or kept.value != PLANTED[vr], keyword
        if action == "X" and vr not in ("DA", "DT"):
            assert kept is None, keyword
        checked += 1
    assert checked > 450


def test_sequences_of_the_table_keep_no_text() -> None:
    for tag, keyword, vr, _ in _plantable():
        if vr == "SQ":
            image = _image()
            item = Dataset()
            item.PatientName, item.TextValue, item.ReferencedSOPInstanceUID = (
                "Canary^Tweety",
                "canary seed",
                "1.2.3.777",
            )
            image[tag] = DataElement(tag, "SQ", [item])
            content = _bytes(deidentify(image, KEY))
            assert b"anary" not in content, keyword
            assert b"1.2.3.777" not in content, keyword


def test_unlisted_text_is_removed_by_default() -> None:
    image = _image()
    image.EvaluatorName = "Canary^Tweety"
    image.PulseSequenceName = "canary sequence"
    image.LUTExplanation = "canary lut"
    image.add_new(0x00291234, "LO", "canary private")
    image.add_new(0x60003000, "OW", b"canary overlay")
    image.add_new(0x60020010, "US", 2)
    image.add_new(0x00080000, "UL", 12)
    cleaned = deidentify(image, KEY)
    content = _bytes(cleaned)
    assert not {0x60003000, 0x60020010, 0x00080000} & set(cleaned.keys())
    assert b"anary" not in content
    assert b"CANARYAE" not in content


def test_text_hidden_in_a_code_string_or_number_is_removed() -> None:
    image = _image()
    image.add_new(0x00180022, "CS", "Canary^Tweety, call 555")
    image.add_new(0x00189004, "CS", "PRODUCT")
    cleaned = deidentify(image, KEY)
    assert "ScanOptions" not in cleaned
    assert cleaned.ContentQualification == "PRODUCT"


def test_synthetic_patient_leaves_no_canary() -> None:
    image = _image()
    add_identity(image)
    image.StudyDate = dict(CANARIES)["StudyDate"]
    content = _bytes(deidentify(image, KEY))
    found = [keyword for keyword, value in CANARIES if value.encode() in content]
    assert not found
    assert len(CANARIES) >= 40


def test_uids_change_consistently_across_the_study() -> None:
    first, second = _image(), _image()
    second.SOPInstanceUID = "1.2.840.99.4"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = first.SOPClassUID, INSTANCE
    second.ReferencedImageSequence = [reference]
    one, other = deidentify(first, KEY), deidentify(second, KEY)
    assert one.StudyInstanceUID == other.StudyInstanceUID != STUDY
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert other.ReferencedImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    assert one.SOPInstanceUID.startswith("2.25.")
    assert len(one.SOPInstanceUID) <= 64
    assert one.SOPClassUID == first.SOPClassUID


def test_another_key_gives_another_identity() -> None:
    one, other = deidentify(_image(), KEY), deidentify(_image(), KEY[::-1])
    assert one.StudyInstanceUID != other.StudyInstanceUID
    assert one.PatientID != other.PatientID


def test_intervals_between_studies_survive() -> None:
    first, later = _image(), _image()
    first.StudyDate, first.AcquisitionDateTime = "20210907", "20210907131211.77"
    later.StudyDate = "20220101"
    one, other = deidentify(first, KEY), deidentify(later, KEY)
    days = datetime.strptime(other.StudyDate, "%Y%m%d") - datetime.strptime(one.StudyDate, "%Y%m%d")
    assert days.days == 116
    assert one.StudyDate != "20210907"
    assert one.AcquisitionDateTime == one.StudyDate + "131211.77"


def test_birth_date_is_emptied_not_shifted() -> None:
    image = _image()
    image.PatientBirthDate = "19630417"
    assert deidentify(image, KEY).PatientBirthDate in ("", None)


def test_marks_say_what_was_done() -> None:
    cleaned, evidence = deidentify_with_evidence(_image(), KEY)
    assert cleaned.PatientIdentityRemoved == "YES"
    codes = [(code.CodeValue, code.CodingSchemeDesignator) for code in cleaned.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM"), ("113105", "DCM"), ("113107", "DCM"), ("113111", "DCM")]
    assert cleaned.LongitudinalTemporalInformationModified == "MODIFIED"
    assert _bytes(cleaned)[:128] == bytes(128)
    assert evidence["uid-replaced"] == 3
    assert all(isinstance(count, int) for count in evidence.values())


def test_pixels_and_the_original_are_untouched() -> None:
    image = _image()
    before = _bytes(image)
    cleaned = deidentify(image, KEY)
    assert cleaned.PixelData == bytes(range(8))
    assert _bytes(image) == before


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_other_encodings_keep_pixels_and_geometry(syntax: UID, tmp_path: Path) -> None:
    image = _image()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsStored, image.HighBit, image.PixelPaddingValue = 16, 15, 7
    image.ImagePositionPatient = [1.5, -2.25, 3.125]
    image.PatientComments = "canary"
    image.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    read = dcmread(tmp_path / "plain.dcm")
    if syntax.is_compressed:
        read.compress(syntax, generate_instance_uid=False)
    read.file_meta.TransferSyntaxUID = syntax
    read.save_as(tmp_path / "other.dcm", implicit_vr=syntax.is_implicit_VR, little_endian=True)
    deidentify(dcmread(tmp_path / "other.dcm"), KEY).save_as(tmp_path / "clean.dcm", enforce_file_format=True)
    clean = dcmread(tmp_path / "clean.dcm")
    assert clean.file_meta.TransferSyntaxUID == syntax
    assert clean.pixel_array.tobytes() == bytes(range(8))
    assert (clean.ImagePositionPatient, clean.PixelPaddingValue) == ([1.5, -2.25, 3.125], 7)
    assert "PatientComments" not in clean


def test_only_listed_private_elements_stay() -> None:
    image = _image()
    image.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    image.add_new(0x0019100C, "IS", "2000")
    image.add_new(0x0019100E, "FD", [0.5, 0.5, 0.70710678])
    image.add_new(0x00191008, "CS", "CANARY")
    image.add_new(0x00190011, "LO", "SOMEONE ELSE")
    image.add_new(0x0019110C, "IS", "77777")
    cleaned = deidentify(image, KEY)
    assert cleaned[0x0019100C].value == 2000
    assert cleaned[0x0019100E].value == [0.5, 0.5, 0.70710678]
    assert cleaned[0x00190010].value == "SIEMENS MR HEADER"
    assert 0x00191008 not in cleaned
    assert 0x00190011 not in cleaned
    assert 0x0019110C not in cleaned


def _csa() -> bytes:
    elements = (
        ("PatientName", "LO", ("Canary^Tweety",)), ("B_value", "IS", ("2000",)),
        ("DiffusionGradientDirection", "FD", ("0.46892950", "-0.83393121", "0.29097027")),
        ("SliceNormalVector", "FD", ("1.00000000", "0.00000000", "0.00000000")),
        ("NumberOfImagesInMosaic", "US", ("48",)), ("ASCCONV", "LT", ("tReferenceImage canary",)),
    )  # fmt: skip
    head = b"SV10\x04\x03\x02\x01" + len(elements).to_bytes(4, "little") + b"M\0\0\0"
    return head + b"".join(_element(*element) for element in elements)


def test_csa_header_keeps_gradients_and_nothing_else() -> None:
    reduced = gradients_only(_csa())
    assert b"anary" not in reduced
    assert csa_values(reduced) == csa_values(_csa())
    with warnings.catch_warnings():
        # nibabel calls its DICOM readers experimental on import
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader
    tags = csareader.read(reduced)["tags"]
    assert set(tags) == {"B_value", "DiffusionGradientDirection", "SliceNormalVector", "NumberOfImagesInMosaic"}
    assert tags["DiffusionGradientDirection"]["items"] == [0.4689295, -0.83393121, 0.29097027]


@pytest.mark.parametrize("broken", [b"", b"SV10", b"SV10\x04\x03\x02\x01\xff\xff\xff\xffM\0\0\0", _csa()[:200]])
def test_broken_csa_header_is_dropped(broken: bytes) -> None:
    assert gradients_only(broken) == b""


def test_local_code_meanings_do_not_pass() -> None:
    image = _image()
    local, standard = Dataset(), Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "X1", "99LOCAL", "as ordered by Dr Canary"
    standard.CodeValue, standard.CodingSchemeDesignator = "113100", "DCM"
    standard.CodeMeaning = "Canary meaning under a standard code"
    image.AnatomicRegionSequence = [local, standard]
    items = deidentify(image, KEY).AnatomicRegionSequence
    assert (items[0].CodeValue, items[0].CodingSchemeDesignator) == ("0", "99VBT")
    assert items[1].CodeValue == "113100"
    assert items[1].CodeMeaning == "Basic Application Confidentiality Profile"
    assert b"anary" not in _bytes(deidentify(image, KEY))


def test_burned_in_annotation_is_refused() -> None:
    image = _image()
    image.BurnedInAnnotation = "YES"
    with pytest.raises(Rejected) as caught:
        deidentify(image, KEY)
    assert caught.value.code == "burned-in-annotation"


def test_short_key_is_refused() -> None:
    with pytest.raises(ValueError):
        deidentify(_image(), b"short")


def test_result_reads_back(tmp_path: Path) -> None:
    deidentify(_image(), KEY).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert dcmread(tmp_path / "x.dcm").PatientIdentityRemoved == "YES"
