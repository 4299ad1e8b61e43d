"""Findings become FHIR R4 resources, and every Bundle is checked before it leaves."""

from vbt.fhir._bundle import report_bundle as report_bundle
from vbt.fhir._bundle import stopped_bundle as stopped_bundle
from vbt.fhir._case import DISCLAIMER as DISCLAIMER
from vbt.fhir._case import CaseContext as CaseContext
from vbt.fhir._case import ImagingSeries as ImagingSeries
from vbt.fhir._case import Receipt as Receipt
from vbt.fhir._case import Software as Software
from vbt.fhir._case import Source as Source
from vbt.fhir._encoding import Json as Json
from vbt.fhir._encoding import from_json as from_json
from vbt.fhir._encoding import to_json as to_json
from vbt.fhir._identity import PatientIdentityLike as PatientIdentityLike
from vbt.fhir._identity import Site as Site
from vbt.fhir._issue import Issue as Issue
from vbt.fhir._validation import validate as validate
