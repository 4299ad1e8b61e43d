"""The R4 element definitions, read out of the R4B models of fhir.resources and narrowed to R4.

fhir.resources has no R4, and its models enforce neither required bindings nor reference targets, but they carry both
as field metadata. R4 and R4B agree on the resources of a report except where `_R4_TARGETS` says otherwise.
"""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass

from fhir.resources.R4B import get_fhir_model_class

RESOURCE_TYPES = frozenset(
    {
        "Bundle",
        "Device",
        "DiagnosticReport",
        "DocumentReference",
        "ImagingStudy",
        "Observation",
        "Patient",
        "Provenance",
        "ServiceRequest",
        "Task",
    }
)
"""Resource types that may be in a report Bundle."""

# The models shorten long code lists to four codes and a "+"; these are the whole R4 value sets.
_CODES = {
    ("Observation", "status"): "registered preliminary final amended corrected cancelled entered-in-error unknown",
    ("DiagnosticReport", "status"): "registered partial preliminary final amended corrected appended cancelled "
    "entered-in-error unknown",
    ("Task", "status"): "draft requested received accepted rejected ready cancelled in-progress on-hold failed "
    "completed entered-in-error",
    ("ServiceRequest", "status"): "draft active on-hold revoked completed entered-in-error unknown",
    ("ServiceRequest", "intent"): "proposal plan directive order original-order reflex-order filler-order "
    "instance-order option",
    ("Quantity", "comparator"): "< <= >= >",
    ("DeviceUdiCarrier", "entryType"): "barcode rfid manual card self-reported unknown",
}
_R4_TARGETS = {
    ("Observation", "subject"): "Patient Group Device Location",
    ("DiagnosticReport", "subject"): "Patient Group Device Location",
}
# Data types that came after R4: an element of such a type is not R4.
_AFTER_R4 = frozenset({"CodeableReference", "RatioRange"})


@dataclass(frozen=True)
class Element:
    """What R4 says about one element of a type.

    Parameters
    ----------
    type : FHIR type name, "Resource" for any resource
    primitive : whether the type is a primitive
    many, required : cardinality
    codes : required binding of a `code`, or None
    targets : allowed resource types of a Reference, or None for any
    choice : name of the choice ("value" of value[x]) that the element belongs to, or None
    choice_required : whether one element of that choice must be there
    """

    type: str
    primitive: bool
    many: bool
    required: bool
    codes: frozenset[str] | None
    targets: frozenset[str] | None
    choice: str | None
    choice_required: bool


@dataclass(frozen=True)
class Choice:
    """The elements of a choice, e.g. of value[x], of which at most one may be there."""

    name: str
    elements: frozenset[str]
    required: bool


@functools.cache
def required_elements(type_name: str) -> frozenset[str]:
    """JSON names of the elements that every instance of a type has."""
    return frozenset(name for name, element in elements(type_name).items() if element.required)


@functools.cache
def choices(type_name: str) -> tuple[Choice, ...]:
    """The choices of a type."""
    known = elements(type_name)
    return tuple(
        Choice(
            name=choice,
            elements=frozenset(name for name, element in known.items() if element.choice == choice),
            required=any(element.choice_required for element in known.values() if element.choice == choice),
        )
        for choice in sorted({element.choice for element in known.values() if element.choice})
    )


@functools.cache
def elements(type_name: str) -> dict[str, Element]:
    """The elements of a resource or complex data type by JSON name."""
    found: dict[str, Element] = {}
    for name, field in get_fhir_model_class(type_name).model_fields.items():
        extra = field.json_schema_extra
        facts: dict[str, typing.Any] = dict(extra) if isinstance(extra, dict) else {}
        element_type, many = _type(field.annotation)
        if name == "fhir_comments" or name.endswith("__ext") or element_type in _AFTER_R4:
            continue
        json_name = field.alias or name
        choice = facts.get("one_of_many")
        found[json_name] = Element(
            type=element_type,
            primitive=element_type[0].islower(),
            many=many,
            required=field.is_required() or bool(facts.get("element_required")),
            codes=_codes(type_name, json_name, element_type, facts),
            targets=_targets(type_name, json_name, element_type, facts),
            choice=choice,
            choice_required=bool(facts.get("one_of_many_required")),
        )
    return found


def _codes(type_name: str, name: str, element_type: str, facts: dict[str, typing.Any]) -> frozenset[str] | None:
    if (type_name, name) in _CODES:
        return frozenset(_CODES[type_name, name].split())
    listed = facts.get("enum_values")
    if element_type != "code" or not listed or "+" in listed:
        return None
    return frozenset(listed)


def _targets(type_name: str, name: str, element_type: str, facts: dict[str, typing.Any]) -> frozenset[str] | None:
    if (type_name, name) in _R4_TARGETS:
        return frozenset(_R4_TARGETS[type_name, name].split())
    listed = facts.get("enum_reference_types")
    if element_type != "Reference" or not listed or "Resource" in listed:
        return None
    return frozenset(listed)


def _type(annotation: typing.Any) -> tuple[str, bool]:
    """FHIR type name and whether the element repeats, from a pydantic annotation."""
    if typing.get_origin(annotation) is typing.Annotated:
        # Primitives are Annotated[python type, …, marker]; the marker's class has the FHIR name.
        marker = typing.get_args(annotation)[-1]
        name = (marker if isinstance(marker, type) else type(marker)).__name__
        return name[0].lower() + name[1:], False
    inner = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
    if inner:
        name, many = _type(inner[0])
        return name, many or typing.get_origin(annotation) is list
    if annotation is bool:
        return "boolean", False
    return annotation.__name__.removesuffix("Type"), False
