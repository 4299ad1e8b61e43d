"""A small case with everything in it: a number, a withheld number, a scenario, quality checks, a second revision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from vbt.clinical.findings import Check, Quantity, Scenario, TwinFindings
from vbt.fhir import CaseContext, ImagingSeries, Json, Receipt, Site, Software, Source, report_bundle

PDF = b"%PDF-1.4 made up"


@dataclass(frozen=True)
class MadeUpIdentity:
    patient_id: str = "VBT-000417"
    issuer: str = "1.2.276.0.76.3.1.999"
    accession_number: str = "ACC-1188"
    study_instance_uid: str = "1.2.826.0.1.3680043.8.498.20261122"


@pytest.fixture(scope="session")
def case() -> CaseContext:
    return CaseContext(
        case_id="9c1f47d2-7a53-4a0e-8d0e-5f6a1b2c3d4e",
        revision=2,
        identity=MadeUpIdentity(),
        software=Software(name="virtual-brain-twin", version="0.1.0", digest="5e" * 32),
        issued=datetime(2026, 11, 22, 14, 5, 9, tzinfo=UTC),
        studied_at=datetime(2026, 11, 19, 8, 0, tzinfo=UTC),
        sources=[Source("diffusion.nii.gz", "8e" * 32), Source("posterior.npz", "0f" * 32)],
        receipts=[Receipt(event_id="event-1", leaf_hash="a1" * 32, sequence=4410), Receipt(event_id="event-2")],
        series=[ImagingSeries(series_instance_uid="1.2.826.0.1.3680043.8.498.1", modality="MR", instances=4160)],
        site=Site(accession_system="https://hospital.example/accession"),
    )


@pytest.fixture(scope="session")
def findings() -> TwinFindings:
    return TwinFindings(
        application="resting_state",
        context_of_use="Does a model explain the measured connectivity?",
        verdict="sound",
        conclusion="The twin explains the measured connectivity <better> than the connectome alone & no more.",
        parameters=(
            Quantity(
                code="coupling", label="Coupling", unit="1", value=0.8, low=0.75, high=0.9, r_hat=1.0021, ess=873.2
            ),
            Quantity(code="velocity", label="Velocity", unit="m/s", withheld="not identifiable", r_hat=1.2, ess=4.0),
        ),
        scenarios=(
            Scenario(
                code="resection",
                label="Resection",
                description="Four regions are removed.",
                endpoints=(Quantity(code="fc", label="Mean connectivity", unit="%", value=-6.4, low=-8.2, high=-4.6),),
            ),
        ),
        quality=(
            Check(code="snr", label="Signal to noise", value=21.37, limit="≥ 12", passed=True),
            Check(code="duration", label="Recording (min)", value=6.0, limit="≥ 8", passed=False),
        ),
    )


@pytest.fixture(scope="session")
def pdf() -> bytes:
    return PDF


@pytest.fixture
def bundle(findings: TwinFindings, case: CaseContext) -> Json:
    """A fresh Bundle that a test may break."""
    return report_bundle(findings, PDF, case)
