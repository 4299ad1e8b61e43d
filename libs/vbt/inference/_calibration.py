"""What calibrating a twin to a recording leaves behind: draws, how they were checked, and how well the model fits."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vbt.inference._gate import ParameterDiagnostics, SamplerDiagnostics
from vbt.simulation import ReplayManifest


@dataclass(frozen=True, kw_only=True)
class PredictiveCheck:
    """One statistic of the recording against recordings that the fitted model would give.

    ``p_value`` is the fraction of replicated recordings with a larger value; near 0 or 1 the model misses it.
    """

    name: str
    observed: float
    replicated: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Posterior of the resting-state linear network for one patient.

    Parameters
    ----------
    region_labels : regions used; ``used_regions`` their indices in the connectome
    draws : per parameter ``(chain, draw)``; band powers are ``c[0]``, ``c[1]``, …
    priors : per parameter the family and its two arguments
    parameters, sampler : diagnostics; ``parameters`` holds every entry of ``draws`` that is reported or nuisance
    verdict : ``"sound"`` or ``"unsound"``; an unsound calibration is not reported as numbers
    reasons : why it is unsound; ``warnings`` what else to know
    empirical_fc, fitted_fc : correlation within .01 to .1 Hz, measured and at the posterior median
    fit : Pearson r of the two over region pairs
    baselines : the same r for trivial predictors that know no dynamics
    noise_ceiling : median r between the fitted FC and recordings of this length that the model itself would give
    checks : posterior predictive checks
    split_half_z : difference of logit g between the halves of the recording in standard errors; NaN where too short
    bold_sd : percent; standard deviation within the bands of the median region
    band_edges : Hz; ``band_counts`` Fourier bins per band
    """

    region_labels: tuple[str, ...]
    used_regions: Int[np.ndarray, " used"]
    repetition_time: float
    draws: Mapping[str, Float[np.ndarray, "chain draw"]]
    priors: Mapping[str, tuple[str, float, float]]
    parameters: tuple[ParameterDiagnostics, ...]
    sampler: SamplerDiagnostics
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    empirical_fc: Float[np.ndarray, "used used"]
    fitted_fc: Float[np.ndarray, "used used"]
    fit: float
    baselines: Mapping[str, float]
    noise_ceiling: float
    checks: tuple[PredictiveCheck, ...]
    split_half_z: float
    bold_sd: float
    band_edges: tuple[float, ...]
    band_counts: tuple[int, ...]
    manifest: ReplayManifest

    @property
    def sound(self) -> bool:
        return self.verdict == "sound"

    def diagnostics(self, name: str) -> ParameterDiagnostics:
        return next(p for p in self.parameters if p.name == name)

    def interval(self, name: str, level: float = 0.90) -> tuple[float, float, float]:
        """Posterior median and equal-tailed interval."""
        tail = 0.5 * (1.0 - level)
        low, median, high = np.quantile(self.draws[name], [tail, 0.5, 1.0 - tail])
        return float(median), float(low), float(high)

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same calibration."""
        buffer = io.BytesIO()
        names = list(self.draws)
        np.savez_compressed(
            buffer,
            used_regions=self.used_regions,
            draws=np.stack([self.draws[name] for name in names]),
            empirical_fc=self.empirical_fc,
            fitted_fc=self.fitted_fc,
            record=np.array(json.dumps(self._record(names), sort_keys=True)),
        )
        return buffer.getvalue()

    def _record(self, names: list[str]) -> dict[str, object]:
        arrays = {"used_regions", "draws", "empirical_fc", "fitted_fc"}
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in arrays}
        plain["parameters"] = [dataclasses.asdict(p) for p in self.parameters]
        plain["sampler"] = dataclasses.asdict(self.sampler)
        plain["checks"] = [dataclasses.asdict(c) for c in self.checks]
        plain["manifest"] = dataclasses.asdict(self.manifest)
        return {**plain, "draw_names": names}

    @classmethod
    def from_npz(cls, content: bytes) -> Calibration:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            record = json.loads(str(archive["record"]))
            names = record.pop("draw_names")
            draws = dict(zip(names, archive["draws"], strict=True))
            arrays = {name: archive[name] for name in ("used_regions", "empirical_fc", "fitted_fc")}
        tuples = ("region_labels", "reasons", "warnings", "band_edges", "band_counts")
        return cls(
            **{
                **record,
                **arrays,
                **{name: tuple(record[name]) for name in tuples},
                "draws": draws,
                "priors": {name: (prior[0], prior[1], prior[2]) for name, prior in record["priors"].items()},
                "parameters": tuple(ParameterDiagnostics(**p) for p in record["parameters"]),
                "sampler": SamplerDiagnostics(**record["sampler"]),
                "checks": tuple(PredictiveCheck(**c) for c in record["checks"]),
                "manifest": ReplayManifest.from_json(json.dumps(record["manifest"])),
            }
        )
