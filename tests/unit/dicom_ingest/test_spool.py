"""A data set that ends before it is whole is told from a whole one, wherever the cut went."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_ingest.spool import Malformed, Spool

MR = "1.2.840.10008.5.1.4.1.1.4"


def image(syntax: str) -> FileDataset:
    """An MR image with values of every kind of length, its sequences with and without one."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MR, "1.2.3.9.1"
    made = FileDataset("", Dataset(), preamble=bytes(128), file_meta=meta)
    made.SOPClassUID, made.SOPInstanceUID = MR, "1.2.3.9.1"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = "1.2.3", "1.2.3.1", "MR"
    made.ReferencedImageSequence = [nested("1.2.3.9.2"), nested("1.2.3.9.3")]
    made.SourceImageSequence = [nested("1.2.3.9.4")]
    made["SourceImageSequence"].is_undefined_length = True
    for item in made.SourceImageSequence:
        item.is_undefined_length_sequence_item = True
    block = made.private_block(0x2005, "PRIVATE", create=True)
    block.add_new(0x01, "OB", b"\x01\x02\x03\x04")
    block.add_new(0x02, "UN", b"\xfe\xff\x00\xe0\x04\x00\x00\x00")
    made.Rows = made.Columns = 8
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 0, 1
    made.PhotometricInterpretation, made.NumberOfFrames = "MONOCHROME2", 2
    pixels = np.random.default_rng(0).integers(0, 4096, (2, 8, 8), dtype="<u2")
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OW"
    return made


def nested(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MR, uid
    inner = Dataset()
    inner.CodeValue = "T-A0100"
    item.PurposeOfReferenceCodeSequence = [inner]
    return item


def plain(syntax: str) -> bytes:
    return body(image(syntax))


def encapsulated() -> bytes:
    made = image(ExplicitVRLittleEndian)
    made.compress(RLELossless, generate_instance_uid=False)
    return body(made)


def with_padding_element() -> bytes:
    made = image(ExplicitVRLittleEndian)
    made.DataSetTrailingPadding = bytes(6)
    return body(made)


def body(made: FileDataset) -> bytes:
    """The data set alone, as an association carries it."""
    file = BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    content = file.getvalue()
    return content[144 + int.from_bytes(content[140:144], "little") :]


WAYS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "explicit": (ExplicitVRLittleEndian, lambda: plain(ExplicitVRLittleEndian)),
    "implicit": (ImplicitVRLittleEndian, lambda: plain(ImplicitVRLittleEndian)),
    "encapsulated": (RLELossless, encapsulated),
}


@pytest.fixture
def accepts(tmp_path: Path) -> Callable[[str, bytes], bool]:
    """Whether the spool takes a data set for a whole one."""
    spool = Spool(tmp_path, b"s" * 32, reserve_bytes=0)

    def judge(syntax: str, data: bytes) -> bool:
        with spool.begin(MR, "1.2.3.9.1", syntax) as arrival:
            arrival.write(data)
            try:
                return arrival.identifiers().sop_instance_uid == "1.2.3.9.1"
            except Malformed:
                return False

    return judge


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_at_any_byte_is_seen_and_the_whole_is_taken(accepts: Callable[[str, bytes], bool], way: str) -> None:
    syntax, encode = WAYS[way]
    whole = encode()
    assert accepts(syntax, whole)
    taken = [length for length in range(len(whole)) if accepts(syntax, whole[:length])]
    assert taken == []


@pytest.mark.parametrize("way", WAYS)
def test_zeros_behind_the_pixels_are_padding(accepts: Callable[[str, bytes], bool], way: str) -> None:
    syntax, encode = WAYS[way]
    for zeros in (1, 2, 7, 8, 9, 512):
        assert accepts(syntax, encode() + bytes(zeros))
    assert not accepts(syntax, encode() + b"\0\0\0\x01")


def test_elements_behind_the_pixels_are_part_of_the_whole(accepts: Callable[[str, bytes], bool]) -> None:
    whole, image_alone = with_padding_element(), len(plain(ExplicitVRLittleEndian))
    assert accepts(ExplicitVRLittleEndian, whole)
    cuts = range(image_alone + 1, len(whole))
    assert [cut for cut in cuts if accepts(ExplicitVRLittleEndian, whole[:cut])] == []


def test_an_object_that_is_no_image_needs_no_pixels(tmp_path: Path) -> None:
    spool = Spool(tmp_path, b"s" * 32, reserve_bytes=0)
    made = image(ExplicitVRLittleEndian)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(made, keyword)
    raw_data = "1.2.840.10008.5.1.4.1.1.66"
    with spool.begin(raw_data, "1.2.3.9.1", ExplicitVRLittleEndian) as arrival:
        arrival.write(body(made))
        assert arrival.identifiers().study_instance_uid == "1.2.3"


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_syntaxes_that_no_association_takes_are_not_taken(accepts: Callable[[str, bytes], bool], syntax: str) -> None:
    assert not accepts(syntax, plain(ExplicitVRLittleEndian))


def test_only_its_owner_may_look_into_the_spool(tmp_path: Path) -> None:
    Spool(tmp_path / "spool", b"s" * 32)
    folders = [tmp_path / "spool", *(path for path in (tmp_path / "spool").iterdir() if path.is_dir())]
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}
