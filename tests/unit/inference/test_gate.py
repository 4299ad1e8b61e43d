"""One gate holds every engine to the same limits, and its figures can be read back from what it leaves."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vbt.inference import (
    Calibration,
    FitDiagnostics,
    Novelty,
    ParameterDiagnostics,
    PredictiveCheck,
    SamplerDiagnostics,
    gate,
    gate_checks,
    gate_report,
    inference_data,
)
from vbt.inference._gate import diagnose, warnings_of
from vbt.simulation import record

GOOD = ParameterDiagnostics(name="g", r_hat=1.0, ess_bulk=900.0, ess_tail=800.0, shrinkage=0.9, mcse=0.03)
SAMPLER = SamplerDiagnostics(divergences=0, draws=1500, e_bfmi=0.9, saturated=0.0)
FIT = FitDiagnostics(chi_square=1.0, starts_agreeing=4, starts=8)
NEAR = Novelty(distance=3.0, quantile=0.4)
CHECK = PredictiveCheck(name="mean FC", observed=0.2, replicated=0.2, p_value=0.5, decisive=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fitted(Calibration):
    search: FitDiagnostics
    novelty: Novelty


def _calibration() -> _Fitted:
    rng = np.random.default_rng(0)
    draws = {"g": rng.normal(size=(4, 200)), "eta": rng.normal(size=(4, 200, 3))}
    return _Fitted(
        region_labels=("a", "b", "c"),
        used_regions=np.arange(3),
        draws=draws,
        priors={"g": ("normal", 0.0, 1.0)},
        parameters=(GOOD, dataclasses.replace(GOOD, name="n", nuisance=True, mcse=float("nan"))),
        sampler=SAMPLER,
        verdict="sound",
        reasons=(),
        warnings=(),
        checks=(CHECK,),
        manifest=record(
            "test", inputs={}, outputs=draws, parameters={}, seeds=(1,), dt=None, precision="double", batch_shape=(4,)
        ),
        search=dataclasses.replace(FIT, chi_square=float("nan")),
        novelty=NEAR,
    )


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"parameters": (dataclasses.replace(GOOD, r_hat=1.02),)}, "chains disagree"),
        ({"parameters": (dataclasses.replace(GOOD, ess_tail=399.0),)}, "too few independent draws"),
        ({"parameters": (dataclasses.replace(GOOD, mcse=0.06),)}, "Monte Carlo error"),
        ({"sampler": dataclasses.replace(SAMPLER, divergences=2)}, "divergent"),
        ({"sampler": dataclasses.replace(SAMPLER, e_bfmi=0.2)}, "energy"),
        ({"sampler": dataclasses.replace(SAMPLER, e_bfmi=float("nan"))}, "energy"),
        ({"sampler": dataclasses.replace(SAMPLER, saturated=0.01)}, "largest tree"),
        ({"fit": dataclasses.replace(FIT, chi_square=1.06)}, "does not explain"),
        ({"fit": dataclasses.replace(FIT, starts_agreeing=2)}, "searches disagree"),
        ({"novelty": Novelty(distance=9.0, quantile=0.9995)}, "out of distribution"),
        ({"novelty": Novelty(distance=float("nan"), quantile=float("nan"))}, "out of distribution"),
        ({"novelty": Novelty(distance=3.0, quantile=0.4, disagreement=1.1)}, "networks disagree"),
        ({"checks": (dataclasses.replace(CHECK, p_value=0.96),)}, "misses mean FC"),
    ],
)
def test_each_broken_limit_refuses_by_name(broken, reason):
    whole = {"parameters": (GOOD,), "sampler": SAMPLER, "fit": FIT, "novelty": NEAR, "checks": (CHECK,)}

    def passed(parameters, sampler, **rest):
        return gate(parameters, sampler, **rest)

    assert passed(**whole) == ()
    (said,) = passed(**{**whole, **broken})
    assert reason in said


def test_what_fails_in_many_places_is_said_once_with_the_worst():
    many = tuple(dataclasses.replace(GOOD, name=f"eta[{i}]", r_hat=1.02 + 0.01 * i) for i in range(40))
    (said,) = gate(many, SAMPLER)
    assert said == "chains disagree on eta[39]: R-hat 1.410, limit 1.01, and so for 39 parameters more"
    assert len(gate(many[:3], SAMPLER)) == 3


def test_what_has_neither_chains_nor_training_cannot_pass():
    """A mode's curvature or a variational fit is a start."""
    with pytest.raises(ValueError, match="sampler"):
        gate((GOOD,), None)
    assert gate((GOOD,), None, novelty=NEAR) == ()


def test_a_miss_that_is_not_decisive_is_a_warning():
    check = dataclasses.replace(CHECK, decisive=False, p_value=0.99)
    assert gate((GOOD,), SAMPLER, checks=(check,)) == ()
    assert "misses mean FC" in warnings_of(SAMPLER, (check,))[0]


def test_a_fit_statistic_is_reported_under_its_own_name():
    """In the reason for a refusal, in the checks and in what the ledger keeps; mean squares are the default."""
    named = dataclasses.replace(FIT, chi_square=1.2, label="largest residual statistic")
    assert gate((GOOD,), SAMPLER, fit=named)[0].endswith("largest residual statistic 1.20, limit 1.05")
    assert "chi²/N 1.20" in gate((GOOD,), SAMPLER, fit=dataclasses.replace(FIT, chi_square=1.2))[0]
    found = {}
    for fit in (named, FIT):
        calibration = dataclasses.replace(_calibration(), search=fit)
        (check,) = (c for c in gate_checks(calibration) if c.code == "chi-square")
        found[check.label] = check.passed
        assert gate_report(calibration)["fit"]["label"] == fit.label
    assert found == {"Largest residual statistic": False, "chi²/N": True}


def test_a_check_at_one_point_is_no_posterior_predictive_one():
    plug_in = dataclasses.replace(CHECK, name="coherence", plug_in=True)
    checks = {c.code: c.label for c in gate_checks(dataclasses.replace(_calibration(), checks=(CHECK, plug_in)))}
    assert checks["predictive-mean-fc"] == "Posterior predictive p of mean FC"
    assert checks["residual-coherence"] == "Residual check p of coherence"


def test_the_error_of_a_mean_is_that_of_repeated_sampling():
    """Chains with lag-1 correlation .8: the standard error of the mean is sqrt((1+.8)/(1−.8)/n) = 3/√n sd."""
    rng = np.random.default_rng(0)
    chains = np.zeros((4, 2000))
    for draw in range(1, 2000):
        chains[:, draw] = 0.8 * chains[:, draw - 1] + np.sqrt(1 - 0.64) * rng.normal(size=4)
    found = diagnose("g", chains, chains)
    assert found.mcse == pytest.approx(3.0 / np.sqrt(8000), rel=0.25)


def test_figures_are_json_with_every_limit():
    figures = gate_report(_calibration())
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["fit"]["chi_square"] is None
    assert figures["novelty"]["quantile"] == 0.4
    assert figures["parameters"][0]["identifiable"]
    codes = [check["code"] for check in figures["checks"]]
    assert codes == [
        "r-hat", "ess", "mcse", "nuisance-r-hat", "nuisance-ess", "divergences", "e-bfmi", "tree-depth", "starts",
        "novelty", "disagreement", "predictive-mean-fc",
    ]  # fmt: skip
    assert all(check.passed for check in gate_checks(_calibration()))


def test_arviz_reads_the_draws_back(tmp_path):
    import arviz

    content = inference_data(_calibration())
    assert content == inference_data(_calibration())
    (tmp_path / "posterior.nc").write_bytes(content)
    data = arviz.from_netcdf(str(tmp_path / "posterior.nc"))
    np.testing.assert_array_equal(data.posterior["g"].values, _calibration().draws["g"])
    assert data.posterior["eta"].coords["region"].values.tolist() == ["a", "b", "c"]
    assert json.loads(data.posterior.attrs["verdict"])["verdict"] == "sound"
    data.close()
