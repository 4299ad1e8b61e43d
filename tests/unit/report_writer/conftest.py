"""A made-up case as the line would hand it to the report writer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from vbt.clinical._pictures import Marginal, connectome_picture, posterior_picture
from vbt.clinical._resting_state_pictures import fit_picture, scenario_picture
from vbt.clinical.application import Picture
from vbt.clinical.findings import Check, Quantity, Scenario, TwinFindings
from vbt.fhir import CaseContext, ImagingSeries, Receipt, Software, Source


@dataclass(frozen=True)
class MadeUpIdentity:
    patient_id: str = "VBT-000417"
    issuer: str = "1.2.276.0.76.3.1.999"
    name: str = "Müller-Łukasiewicz^Zoë^Ángela^Dr.=山田^花子"
    birth_date: str = "19810407"
    sex: str = "F"
    accession_number: str = "ACC-2026-1188"
    study_instance_uid: str = "1.2.826.0.1.3680043.8.498.20261122"
    study_date: str = "20261119"


REGIONS = 83
HEMISPHERES = ["L"] * 41 + ["R"] * 41 + ["B"]


@pytest.fixture(scope="session")
def identity() -> MadeUpIdentity:
    return MadeUpIdentity()


@pytest.fixture(scope="session")
def case(identity: MadeUpIdentity) -> CaseContext:
    return CaseContext(
        case_id="9c1f47d2-7a53-4a0e-8d0e-5f6a1b2c3d4e",
        revision=2,
        identity=identity,
        software=Software(name="virtual-brain-twin", version="0.1.0", digest="5e" * 32),
        issued=datetime(2026, 11, 22, 14, 5, 9, tzinfo=UTC),
        sources=[
            Source("diffusion.nii.gz", "8e21" * 16),
            Source("t1.nii.gz", "b0c4" * 16),
            Source("fmri.nii.gz", "11d9" * 16),
            Source("connectome.npz", "e77a" * 16),
            Source("posterior.npz", "0f3c" * 16),
        ],
        receipts=[
            Receipt(event_id="0198f1b2-61aa-7c3e-9a00-2f4be1a0c001", leaf_hash="a1" * 32, sequence=4410),
            Receipt(event_id="0198f1b2-61aa-7c3e-9a00-2f4be1a0c002", leaf_hash="b2" * 32, sequence=4418),
            Receipt(event_id="0198f1b2-61aa-7c3e-9a00-2f4be1a0c003", leaf_hash="c3" * 32),
        ],
        series=[ImagingSeries(series_instance_uid="1.2.826.0.1.3680043.8.498.1", modality="MR", instances=4160)],
    )


@pytest.fixture(scope="session")
def findings() -> TwinFindings:
    def change(code: str, label: str, unit: str, value: float, low: float, high: float) -> Quantity:
        return Quantity(code=code, label=label, unit=unit, value=value, low=low, high=high)

    return TwinFindings(
        application="resting_state",
        context_of_use="Does a model of this patient's brain explain the resting-state connectivity that was measured?",
        verdict="sound",
        conclusion=(
            "The twin explains the measured resting-state connectivity (r = 0.61 on held-out data) better than the "
            "structural connectome alone (r = 0.38). Global coupling lies inside the range seen in synthetic healthy "
            "controls; the conduction velocity could not be identified from these data."
        ),
        parameters=(
            Quantity(
                code="global-coupling",
                label="Global coupling g",
                unit="1",
                value=0.8312,
                low=0.7561,
                high=0.8994,
                r_hat=1.0021,
                ess=1873.2,
            ),
            Quantity(
                code="homotopic-weight",
                label="Homotopic connection weight h",
                unit="1",
                value=0.1204,
                low=0.0871,
                high=0.1533,
                r_hat=1.0008,
                ess=2210.0,
            ),
            Quantity(
                code="connectome-exponent",
                label="Connectome exponent p",
                unit="1",
                value=0.4410,
                low=0.3722,
                high=0.5098,
                r_hat=1.0032,
                ess=1544.0,
            ),
            Quantity(
                code="noise",
                label="Neural noise amplitude",
                unit="/s",
                value=0.02101,
                low=0.01954,
                high=0.02247,
                r_hat=1.001,
                ess=2011.0,
            ),
            Quantity(
                code="velocity",
                label="Conduction velocity",
                unit="m/s",
                withheld="not identifiable from these data (posterior equals prior)",
                r_hat=1.001,
                ess=2900.0,
            ),
        ),
        scenarios=(
            Scenario(
                code="left-temporal-resection",
                label="Resection of the left anterior temporal lobe",
                description="All connections of four left temporal regions are removed; the other parameters stay.",
                endpoints=(
                    change("mean-fc", "Change of mean connectivity", "%", -6.42, -8.17, -4.61),
                    change("homotopic-fc", "Change of homotopic connectivity", "%", -11.3, -15.9, -6.8),
                ),
            ),
            Scenario(
                code="callosotomy",
                label="Section of the corpus callosum",
                description="All connections between the hemispheres are removed.",
                endpoints=(
                    change("mean-fc", "Change of mean connectivity", "%", -31.9, -36.4, -27.2),
                    change("homotopic-fc", "Change of homotopic connectivity", "%", -78.1, -84.0, -71.5),
                ),
            ),
            Scenario(
                code="coupling-up",
                label="Global coupling raised by 5 %",
                description="A stand-in for a drug that raises excitability.",
                endpoints=(
                    change("mean-fc", "Change of mean connectivity", "%", 14.2, 9.9, 19.1),
                    Quantity(
                        code="homotopic-fc",
                        label="Change of homotopic connectivity",
                        unit="%",
                        withheld="outside the range the model was calibrated on",
                    ),
                ),
            ),
        ),
        quality=(
            Check(code="directions", label="Diffusion gradient directions", value=64, limit="≥ 30", passed=True),
            Check(code="snr", label="Diffusion signal-to-noise ratio (b = 0)", value=21.37, limit="≥ 12", passed=True),
            Check(
                code="streamlines", label="Streamlines that reach two regions", value=0.7312, limit="≥ 0.5", passed=True
            ),
            Check(code="motion", label="Mean framewise displacement (mm)", value=0.1834, limit="≤ 0.5", passed=True),
            Check(code="r-hat", label="Largest R-hat", value=1.0032, limit="≤ 1.01", passed=True),
            Check(code="fit", label="Held-out r minus r of the baseline", value=0.231, limit="> 0", passed=True),
            Check(code="duration", label="Resting-state recording (min)", value=6.0, limit="≥ 8", passed=False),
        ),
        methods=(
            "Diffusion MRI was denoised, corrected and fitted with constrained spherical deconvolution; probabilistic "
            "streamlines give the weights between 83 Desikan-Killiany regions.",
            "A linear network model x ∝ (I − gW)⁻¹ was fitted to the measured functional connectivity with NUTS, four "
            "chains of 1000 draws.",
            "Values are posterior medians with equal-tailed 90 % credible intervals.",
        ),
        limits=(
            "The model describes zero-lag correlations of slow BOLD fluctuations only.",
            "Streamline counts are not axon counts; long tracts are under-represented.",
            "Scenarios change the model, not the patient: no trial has tested their predictions.",
        ),
        evidence="Simulation and recovery on synthetic patients with known parameters. No clinical validation.",
    )


@pytest.fixture(scope="session")
def pictures(findings: TwinFindings) -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(REGIONS, 3))
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    weights = np.exp(-2.2 * distance + 0.8 * rng.normal(size=distance.shape))
    weights = (weights + weights.T) / 2 * (distance < 3.2)
    np.fill_diagonal(weights, 0)
    empirical = np.tanh(np.exp(-distance) + 0.12 * rng.normal(size=distance.shape))
    empirical = (empirical + empirical.T) / 2
    model = np.tanh(np.exp(-1.1 * distance))
    grid = np.linspace(-1, 2, 200)
    marginals = [
        Marginal(
            quantity=quantity,
            draws=rng.normal(
                quantity.value or 0.5, 0.3 * abs(quantity.high - quantity.low) if quantity.value else 0.4, 4000
            ),
            prior_grid=grid,
            prior_density=np.exp(-((grid - 0.4) ** 2)),
        )
        for quantity in findings.parameters
    ]
    return {
        "connectome": connectome_picture(weights, hemispheres=HEMISPHERES, unit="streamlines per mm²"),
        "fit": fit_picture(empirical, model, correlation=0.61, baseline_correlation=0.38, hemispheres=HEMISPHERES),
        "posterior": posterior_picture(marginals),
        "scenarios": scenario_picture(
            findings.scenarios,
            0.4 * (model - empirical),
            changed_by=findings.scenarios[0].label,
            hemispheres=HEMISPHERES,
        ),
    }


@pytest.fixture(scope="session")
def figures(pictures: dict[str, bytes]) -> list[Picture]:
    return [
        Picture(
            name="findings.png",
            section="findings",
            caption="Posterior (blue) over the prior (dashed), with median and interval.",
            png=pictures["posterior"],
        ),
        Picture(
            name="scenarios.png",
            section="scenarios",
            caption="Endpoints with 90 % intervals, and where connectivity changes.",
            png=pictures["scenarios"],
        ),
        Picture(name="fit.png", section="fit", caption="Measured against modelled connectivity.", png=pictures["fit"]),
        Picture(name="input.png", section="input", caption="Weights between regions.", png=pictures["connectome"]),
    ]
