"""De-identification: every attribute is kept for a stated reason or does not leave.

The same key gives the same replacement UIDs, pseudonym and date shift for every object of a patient, so references
within a study and intervals between studies survive. Pixel values are not touched. Derived data of a person stays
identifiable in principle; this removes the identity the headers state.
"""

from __future__ import annotations

import hmac
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from typing import Any

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

from vbt.dicom._csa import gradients_only
from vbt.dicom._instance import UNPARSABLE
from vbt.dicom._profile import (
    CSA_IMAGE_HEADER,
    METHOD_CODES,
    METHOD_TEXT,
    NEVER_SHIFTED,
    SAFE_BINARY,
    SAFE_PRIVATE,
    SAFE_TEXT,
    Action,
    basic_profile,
    is_registered_uid,
    standard_code_meanings,
)
from vbt.errors import Rejected

_MAXIMUM_DEPTH = 32
_DUMMY = "ANONYMIZED"
_TEXT_VRS = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE", "UR", "AS"}
_BINARY_VRS = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
_NUMBER_VRS = {"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL", "UV", "SV", "AT"}
_SAFE_PRIVATE_VRS = _NUMBER_VRS | {"CS"}
_CODE_STRING = re.compile(r"[A-Za-z0-9_ .+/-]{0,16}")
_CODE_KEYWORDS = {"CodeValue", "LongCodeValue", "URNCodeValue", "CodeMeaning", "CodingSchemeDesignator"}
_STRICTEST = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.REPLACE,
    "U": Action.REPLACE_UID,
    "Z/D": Action.REPLACE,
    "X/Z": Action.EMPTY,
    "X/D": Action.REPLACE,
    "X/Z/D": Action.REPLACE,
    "X/Z/U*": Action.CLEAN_SEQUENCE,
}


def deidentify(dataset: Dataset, key: bytes) -> Dataset:
    """A copy of `dataset` without the patient's identity; see `deidentify_with_evidence`."""
    return deidentify_with_evidence(dataset, key)[0]


def deidentify_with_evidence(dataset: Dataset, key: bytes) -> tuple[Dataset, dict[str, int]]:
    """De-identify one object.

    Parameters
    ----------
    dataset : as read by pydicom, with its file meta information; it is not changed
    key : at least 32 secret bytes; one key per research export keeps its studies linkable, another key does not

    Returns
    -------
    the new object (zeroed preamble, new file meta information), and how many attributes met each `Action`

    Raises
    ------
    Rejected : `burned-in-annotation` where the pixels themselves are said to identify, `malformed-dicom` where
        sequences nest deeper than 32
    """
    if len(key) < 32:
        raise ValueError(f"the de-identification key must be at least 32 bytes, got {len(key)}")
    if dataset.get("BurnedInAnnotation") == "YES":
        raise Rejected(
            "burned-in-annotation",
            rule="pixels that identify the patient cannot be de-identified",
            got="an image with burned-in annotation",
            action="send the original images without annotation",
        )
    with config.disable_value_validation():
        worker = _Deidentifier(dataset, key)
        cleaned = worker.clean(dataset, depth=0)
        _mark(cleaned)
        return _as_file(dataset, cleaned), dict(worker.evidence)


class _Deidentifier:
    """One pass over one object; holds the keyed replacements and counts what was done."""

    def __init__(self, dataset: Dataset, key: bytes) -> None:
        self._key = key
        patient = f"{dataset.get('PatientID') or ''}\0{dataset.get('IssuerOfPatientID') or ''}"
        self._pseudonym = "VBT-" + self._digest("patient", patient).hex()[:16].upper()
        self._shift = timedelta(days=-365 - int.from_bytes(self._digest("dates", patient)[:4], "big") % 3650)
        self.evidence: Counter[str] = Counter()

    def clean(self, dataset: Dataset, depth: int) -> Dataset:
        if depth > _MAXIMUM_DEPTH:
            raise Rejected(
                "malformed-dicom",
                rule=f"sequences may nest {_MAXIMUM_DEPTH} deep",
                got="deeper nesting",
                action="export the image again",
            )
        cleaned = Dataset()
        for tag in sorted(dataset.keys()):
            if self._goes_unread(dataset, tag):
                self.evidence[Action.REMOVE] += 1
                continue
            try:
                element = dataset[tag]
                action = self._action(dataset, element)
                kept = self._apply(action, dataset, element, depth)
            except UNPARSABLE:
                action, kept = Action.REMOVE, None
            self.evidence[action] += 1
            if kept is not None:
                cleaned.add(kept)
                if tag.is_private:
                    block = BaseTag((tag.group << 16) | (tag.element >> 8))
                    cleaned.add(DataElement(block, "LO", str(dataset[block].value).strip()))
        return cleaned

    def _goes_unread(self, dataset: Dataset, tag: BaseTag) -> bool:
        """Removed whatever it holds, so it need not even be decoded: most of a vendor's header."""
        if tag.is_private:
            return not tag.is_private_creator and not _safe_private(dataset, tag)
        listed = basic_profile().get(int(tag))
        return listed is not None and listed[1] == "X" and not _is_temporal(int(tag))

    def _action(self, dataset: Dataset, element: DataElement) -> Action:
        tag = element.tag
        if tag.is_private:
            return self._private_action(dataset, element)
        # Curves, overlays and group lengths: overlays may draw the patient's name.
        if 0x5000 <= tag.group <= 0x50FF or 0x6000 <= tag.group <= 0x60FF or tag.element == 0:
            return Action.REMOVE
        listed = basic_profile().get(int(tag))
        if listed is None:
            return self._unlisted_action(element)
        keyword, action = listed
        if element.VR in ("DA", "DT", "TM") and keyword not in NEVER_SHIFTED:
            return Action.SHIFT_DATE
        return _STRICTEST[action]

    def _unlisted_action(self, element: DataElement) -> Action:
        """Default deny: only what cannot name a person, or is known safe, stays."""
        keyword, vr = element.keyword, element.VR
        if not keyword or not dictionary_has_tag(element.tag):
            return Action.REMOVE
        if vr == "SQ":
            return Action.CLEAN_SEQUENCE
        if vr in ("DA", "DT", "TM"):
            return Action.SHIFT_DATE
        if vr == "UI":
            return Action.KEEP if all(is_registered_uid(str(u)) for u in _values(element)) else Action.REPLACE_UID
        if keyword in _CODE_KEYWORDS:
            return Action.REPLACE
        if vr in _TEXT_VRS:
            return Action.KEEP if keyword in SAFE_TEXT else Action.REMOVE
        if vr in _BINARY_VRS:
            return Action.KEEP if keyword in SAFE_BINARY else Action.REMOVE
        if vr == "CS":
            return Action.KEEP if all(_CODE_STRING.fullmatch(str(v)) for v in _values(element)) else Action.REMOVE
        return Action.KEEP if vr in _NUMBER_VRS else Action.REMOVE

    def _private_action(self, dataset: Dataset, element: DataElement) -> Action:
        tag = element.tag
        if tag.is_private_creator:
            # Creators come back with the elements that are kept.
            return Action.REMOVE
        creator = _safe_private(dataset, tag)
        if creator is None:
            return Action.REMOVE
        if (tag.group, creator, tag.element & 0xFF) == CSA_IMAGE_HEADER:
            return Action.REDUCE_CSA
        safe = element.VR in _SAFE_PRIVATE_VRS and (
            element.VR != "CS" or all(_CODE_STRING.fullmatch(str(v)) for v in _values(element))
        )
        return Action.KEEP_PRIVATE if safe else Action.REMOVE

    def _apply(self, action: Action, dataset: Dataset, element: DataElement, depth: int) -> DataElement | None:
        if action in (Action.KEEP, Action.KEEP_PRIVATE):
            return element
        if action is Action.REMOVE:
            return None
        if action is Action.CLEAN_SEQUENCE:
            items = [self.clean(item, depth + 1) for item in element.value or ()]
            return DataElement(element.tag, "SQ", Sequence(items))
        if action is Action.REDUCE_CSA:
            reduced = gradients_only(element.value) if isinstance(element.value, bytes) else b""
            return DataElement(element.tag, "OB", reduced + b"\0" * (len(reduced) % 2)) if reduced else None
        return DataElement(element.tag, element.VR, self._replacement(action, dataset, element))

    def _replacement(self, action: Action, dataset: Dataset, element: DataElement) -> Any:
        if action is Action.EMPTY:
            return [] if element.VR == "SQ" else None
        if action is Action.REPLACE_UID:
            uids = [self._uid(str(uid)) for uid in _values(element)]
            return uids if len(uids) > 1 else (uids[0] if uids else "")
        if action is Action.SHIFT_DATE:
            moved = [self._shifted(str(value), element.VR) for value in _values(element)]
            return moved if len(moved) > 1 else (moved[0] if moved else "")
        if element.keyword in _CODE_KEYWORDS:
            return _official_code(dataset)[element.keyword]
        if element.keyword in ("PatientID", "PatientName"):
            return self._pseudonym
        if not _values(element):
            # A dummy where nothing was would state a fact: an empty contrast agent would become one that was given.
            return [] if element.VR == "SQ" else None
        return self._uid(str(element.value)) if element.VR == "UI" else _dummy(element)

    def _uid(self, uid: str) -> str:
        if not uid or is_registered_uid(uid):
            return uid
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}"

    def _shifted(self, text: str, vr: str) -> str:
        """The date moved by whole days; the time of day stays, so that order within a study does."""
        if vr == "TM":
            return text if re.fullmatch(r"[0-9:]{2,8}(\.[0-9]{1,6})?", text.strip()) else ""
        digits = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})(\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?)", text.strip())
        if digits is None:
            return ""
        try:
            moved = date(int(digits[1]), int(digits[2]), int(digits[3])) + self._shift
        except (ValueError, OverflowError):
            return ""
        return moved.strftime("%Y%m%d").rjust(8, "0") + digits[4]

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{value}".encode(), "sha256")


def _safe_private(dataset: Dataset, tag: BaseTag) -> str | None:
    """The creator of a private element on the allow-list, None for any other."""
    safe = [(creator, elements) for (group, creator), elements in SAFE_PRIVATE.items() if group == tag.group]
    if not safe:
        return None
    reserved = dataset.get((tag.group, tag.element >> 8))
    named = str(reserved.value).strip().upper() if reserved is not None else ""
    return next((creator for creator, elements in safe if creator == named and tag.element & 0xFF in elements), None)


@cache
def _is_temporal(tag: int) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) in ("DA", "DT", "TM")


def _values(element: DataElement) -> list[Any]:
    if element.value is None or element.value == "":
        return []
    return list(element.value) if isinstance(element.value, MultiValue | list) else [element.value]


def _dummy(element: DataElement) -> Any:
    if element.VR == "SQ":
        return []
    if element.VR in _NUMBER_VRS:
        return "0" if element.VR in ("DS", "IS") else 0
    return b"" if element.VR in _BINARY_VRS else _DUMMY


def _official_code(dataset: Dataset) -> Mapping[str, str]:
    """The code with its official meaning where the standard knows it, a stand-in where a site made it up."""
    scheme = str(dataset.get("CodingSchemeDesignator") or "")
    value = str(dataset.get("CodeValue") or dataset.get("LongCodeValue") or dataset.get("URNCodeValue") or "")
    meaning = standard_code_meanings().get((scheme, value))
    if meaning is None:
        scheme, value, meaning = "99VBT", "0", _DUMMY
    return {
        "CodingSchemeDesignator": scheme,
        "CodeMeaning": meaning,
        "CodeValue": value,
        "LongCodeValue": value,
        "URNCodeValue": value,
    }


def _mark(dataset: Dataset) -> None:
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD_TEXT
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    items = []
    for value, meaning in METHOD_CODES:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items


def _as_file(source: Dataset, cleaned: Dataset) -> Dataset:
    meta = FileMetaDataset()
    syntax = getattr(source, "file_meta", {}).get("TransferSyntaxUID") or ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = cleaned.get("SOPClassUID")
    meta.MediaStorageSOPInstanceUID = cleaned.get("SOPInstanceUID")
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    result = FileDataset("", cleaned, preamble=b"\0" * 128, file_meta=meta)
    result.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian, cleaned.get("SpecificCharacterSet"))
    return result
