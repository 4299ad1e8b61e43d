"""Which attributes may leave the hospital: PS3.15 Table E.1-1 as data, and what is known safe beside it.

Profile: Basic Application Level Confidentiality (DCM 113100) with Clean Descriptors (113105: descriptors are removed),
Retain Longitudinal Temporal Information with Modified Dates (113107) and Retain Safe Private (113111: diffusion
gradients and what volumes need). The table states the strictest action allowed for each attribute where the standard
offers a choice. An attribute that neither the table nor this module knows to be safe is removed.
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cache
from importlib.resources import files

from pydicom._uid_dict import UID_dictionary
from pydicom.sr.codedict import codes


class Action(StrEnum):
    """What happens to one attribute; also the keys of the evidence."""

    KEEP = "kept"
    REMOVE = "removed"
    EMPTY = "emptied"
    REPLACE = "replaced"
    REPLACE_UID = "uid-replaced"
    SHIFT_DATE = "date-shifted"
    CLEAN_SEQUENCE = "sequence-cleaned"
    KEEP_PRIVATE = "private-kept"
    REDUCE_CSA = "csa-reduced"


METHOD_CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113111", "Retain Safe Private Option"),
)
METHOD_TEXT = "VBT: PS3.15 E.1 basic profile, default deny"

# Text that names equipment types, units or codes, needed to read the images; never filled in by a person.
SAFE_TEXT = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ImagedNucleus", "ResonantNucleus", "RescaleType",
    "SpecificCharacterSet", "SequenceName", "DimensionDescriptionLabel", "WindowCenterWidthExplanation",
    "CodingSchemeVersion", "StackID", "TransmitCoilName", "ReceiveCoilName", "TransmitCoilManufacturerName",
    "ReceiveCoilManufacturerName", "ModalityLUTType", "TimezoneOffsetFromUTC",
})  # fmt: skip
SAFE_BINARY = frozenset({
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "LUTData", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
})  # fmt: skip
# Modified Dates does not reach these: they say who the patient is, not when something happened.
NEVER_SHIFTED = frozenset({
    "PatientBirthDate", "PatientBirthTime", "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
})  # fmt: skip

# (group, private creator in upper case) -> elements within the creator's block.
SAFE_PRIVATE: dict[tuple[int, str], frozenset[int]] = {
    (0x0019, "SIEMENS MR HEADER"): frozenset({0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x27, 0x28, 0x29}),
    (0x0029, "SIEMENS CSA HEADER"): frozenset({0x10}),
    (0x2001, "PHILIPS IMAGING DD 001"): frozenset({0x03, 0x04, 0x18}),
    (0x2005, "PHILIPS MR IMAGING DD 001"): frozenset({0x0D, 0x0E, 0xB0, 0xB1, 0xB2}),
    (0x2005, "PHILIPS MR IMAGING DD 005"): frozenset({0x12, 0x13, 0x14, 0x15}),
    (0x0019, "GEMS_ACQU_01"): frozenset({0xBB, 0xBC, 0xBD}),
    (0x0043, "GEMS_PARM_01"): frozenset({0x39}),
    (0x0065, "IMAGE PRIVATE HEADER"): frozenset({0x09, 0x37}),
}
CSA_IMAGE_HEADER = (0x0029, "SIEMENS CSA HEADER", 0x10)


@cache
def basic_profile() -> dict[int, tuple[str, str]]:
    """Table E.1-1: tag -> (keyword, action as the standard writes it: X, Z, D, U and their alternatives)."""
    table = json.loads(files("vbt.dicom").joinpath("basic_profile.json").read_text("utf-8"))
    return {int(tag, 16): (keyword, action) for tag, (keyword, action) in table["actions"].items()}


@cache
def standard_code_meanings() -> dict[tuple[str, str], str]:
    """(scheme, code) -> official meaning, of every code in pydicom's copy of PS3.16."""
    meanings = {}
    for scheme in codes.schemes():
        for name in getattr(codes, scheme).dir():
            try:
                code = getattr(getattr(codes, scheme), name)
            except (AttributeError, RuntimeError):
                # One name for two codes: pydicom cannot say which, and neither is known safe.
                continue
            meanings[(str(code.scheme_designator), str(code.value))] = str(code.meaning)
    return meanings


def is_registered_uid(uid: str) -> bool:
    """A UID of the standard itself (SOP classes, transfer syntaxes): it names no instance."""
    return uid in UID_dictionary
