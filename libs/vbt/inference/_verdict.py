"""The gate's figures of one calibration, for whoever reports them: event, ledger, report, and ArviZ's file format."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vbt.inference import _gate
from vbt.inference._calibration import Calibration
from vbt.inference._gate import FitDiagnostics, Novelty, ParameterDiagnostics, SamplerDiagnostics, limits_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One figure that the gate held to a limit."""

    code: str
    label: str
    value: float
    limit: str
    passed: bool


def gate_checks(calibration: Calibration) -> tuple[GateCheck, ...]:
    """The worst figure of each kind, of parameters that are held to the same limits, with its limit."""
    main = tuple(p for p in calibration.parameters if not p.nuisance)
    nuisances = tuple(p for p in calibration.parameters if p.nuisance)
    found = [
        *_parameter_checks(main, "", ""),
        *_parameter_checks(nuisances, "nuisance-", " of nuisance parameters"),
        *(_sampler_checks(calibration.sampler) if calibration.sampler else ()),
    ]
    for value in _stated(calibration):
        found += _fit_checks(value) if isinstance(value, FitDiagnostics) else _novelty_checks(value)
    low, high = _gate.PREDICTIVE_LIMITS
    for check in calibration.checks:
        kind, what = ("residual", "Residual check") if check.plug_in else ("predictive", "Posterior predictive")
        label, code = f"{what} p of {check.name}", f"{kind}-{check.name.lower().replace(' ', '-')}"
        found.append(_check(code, label, check.p_value, f"{low:g} to {high:g}", not check.missed))
    return tuple(found)


def gate_report(calibration: Calibration) -> dict[str, Any]:
    """Verdict, reasons and every figure behind them, as plain JSON: not finite numbers are None."""
    return {
        "verdict": calibration.verdict,
        "reasons": list(calibration.reasons),
        "warnings": list(calibration.warnings),
        "parameters": [
            {**_plain(p), "converged": p.converged, "identifiable": p.identifiable} for p in calibration.parameters
        ],
        "sampler": _plain(calibration.sampler) if calibration.sampler else None,
        **{_key(value): _plain(value) for value in _stated(calibration)},
        "predictive": [{**_plain(check), "missed": check.missed} for check in calibration.checks],
        "checks": [_plain(check) for check in gate_checks(calibration)],
    }


def inference_data(calibration: Calibration) -> bytes:
    """The draws as an ArviZ ``InferenceData`` file (NetCDF), the same bytes for the same calibration.

    Group ``posterior`` with one variable per parameter, region-wise ones with the region labels as coordinate; the
    gate's figures and the priors are attributes, as JSON.
    """
    regions = list(calibration.region_labels)
    dims: dict[str, list[str]] = {}
    for name, draws in calibration.draws.items():
        if draws.ndim == 3:
            dims[name] = ["region" if draws.shape[2] == len(regions) else f"{name}_index"]
    data = arviz.from_dict(
        posterior={name: np.asarray(draws) for name, draws in calibration.draws.items()},
        coords={"region": regions} if ["region"] in dims.values() else {},
        dims=dims,
    )
    attributes = {"verdict": gate_report(calibration), "priors": _plain(dict(calibration.priors))}
    # ArviZ stamps the moment and its version into the file; what is stored must depend on the calibration alone.
    data.posterior.attrs.clear()
    data.attrs.clear()
    data.posterior.attrs.update({k: json.dumps(v, sort_keys=True, allow_nan=False) for k, v in attributes.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posterior.nc"
        data.to_netcdf(str(path), engine="h5netcdf")
        return path.read_bytes()


def _parameter_checks(parameters: tuple[ParameterDiagnostics, ...], prefix: str, suffix: str) -> list[GateCheck]:
    if not parameters:
        return []
    r_hat, ess, mcse = limits_of(parameters[0])
    worst = _worst([p.r_hat for p in parameters], max)
    smallest = _worst([min(p.ess_bulk, p.ess_tail) for p in parameters], min)
    error = _worst([p.mcse for p in parameters], max)
    checks = [
        _check(f"{prefix}r-hat", f"Largest R-hat{suffix}", worst, f"≤ {r_hat}", worst <= r_hat),
        _check(f"{prefix}ess", f"Fewest independent draws{suffix}", smallest, f"≥ {ess:.0f}", smallest >= ess),
    ]
    if math.isfinite(error):
        label = f"Largest Monte Carlo error of a mean, in standard deviations{suffix}"
        checks.append(_check(f"{prefix}mcse", label, error, f"≤ {mcse}", error <= mcse))
    return checks


def _sampler_checks(sampler: SamplerDiagnostics) -> list[GateCheck]:
    allowed, share = _gate.DIVERGENCE_LIMIT, sampler.divergences / sampler.draws
    return [
        _check("divergences", "Divergent transitions, fraction", share, f"≤ {allowed}", share <= allowed),
        _check("e-bfmi", "E-BFMI", sampler.e_bfmi, f"≥ {_gate.E_BFMI_LIMIT}", sampler.e_bfmi >= _gate.E_BFMI_LIMIT),
        _check(
            "tree-depth",
            "Trajectories at the largest tree, fraction",
            sampler.saturated,
            f"< {_gate.SATURATION_LIMIT}",
            sampler.saturated < _gate.SATURATION_LIMIT,
        ),
    ]


def _fit_checks(fit: FitDiagnostics) -> list[GateCheck]:
    agreeing = _check(
        "starts",
        f"Searches from scattered starts that ended alike, of {fit.starts}",
        float(fit.starts_agreeing),
        f"≥ {_gate.STARTS_LIMIT}",
        fit.starts_agreeing >= _gate.STARTS_LIMIT,
    )
    if math.isnan(fit.chi_square):
        return [agreeing]
    label = f"{fit.label[0].upper()}{fit.label[1:]}" if " " in fit.label else fit.label
    return [_check("chi-square", label, fit.chi_square, f"≤ {_gate.CHI_SQUARE_LIMIT}", fit.explained), agreeing]


def _novelty_checks(novelty: Novelty) -> list[GateCheck]:
    limit, apart = _gate.NOVELTY_LIMIT, novelty.disagreement_limit
    label = "Training simulations nearer to their centre than the recording, fraction"
    spread = "Largest difference between trained networks, in standard deviations"
    return [
        _check("novelty", label, novelty.quantile, f"≤ {limit}", novelty.quantile <= limit),
        _check("disagreement", spread, novelty.disagreement, f"≤ {apart:.2f}", novelty.disagreement <= apart),
    ]


def _check(code: str, label: str, value: float, limit: str, passed: bool) -> GateCheck:
    return GateCheck(code=code, label=label, value=float(value), limit=limit, passed=bool(passed))


def _worst(values: list[float], of: Any) -> float:
    """NaN where any is."""
    return float("nan") if any(math.isnan(value) for value in values) else float(of(values))


def _stated(calibration: Calibration) -> list[FitDiagnostics | Novelty]:
    """What a model's own calibration adds to the gate."""
    values = [getattr(calibration, field.name) for field in dataclasses.fields(calibration)]
    return [value for value in values if isinstance(value, (FitDiagnostics, Novelty))]


def _key(value: FitDiagnostics | Novelty) -> str:
    return "fit" if isinstance(value, FitDiagnostics) else "novelty"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
