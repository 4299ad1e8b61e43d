"""Simulation-based calibration: does a posterior hold the truth as often as it says, over truths drawn from its prior?

Data are simulated at parameters drawn from the prior and fitted; the rank of the truth among the posterior's draws is
then uniform, for every parameter, whatever the data say (Talts et al. 2018, arXiv:1804.06788). A gate that refuses a
fit by what it sees of the data keeps this: refusals are counted, and the ranks of the rest are still uniform.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from vbt.errors import TwinError
from vbt.inference._ecdf_band import outside_band

LEVEL = 0.95  # of the whole result: every parameter's band is at 1 − 0.05 / parameters
INTERVALS = (0.5, 0.9)
FEWEST = 10  # fits below which no figure is given
FEWEST_TO_PASS = 100  # with fewer the band is so wide that uniform ranks say little


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """One truth drawn from a model's prior, by parameter name, and the recording that it gives."""

    truth: Mapping[str, float]
    recording: Any


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A fit that the gate did not let through, by reason."""

    reasons: tuple[str, ...]


class SbcModel(Protocol):
    """An engine with its prior, small enough to be fitted many times.

    ``fit`` gives the draws of every parameter named, ``(chain, draw)`` or ``(draw,)``, or says why it refuses; a
    `TwinError` that it raises is a refusal too.
    """

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> tuple[str, ...]: ...

    def draw(self, rng: np.random.Generator) -> Simulated: ...

    def fit(self, recording: Any, *, rng_seed: int) -> Mapping[str, np.ndarray] | Refused: ...


@dataclass(frozen=True, kw_only=True)
class SbcParameter:
    """One parameter over the replicates that were fitted.

    Parameters
    ----------
    truth, mean, sd : of every replicate: what made the recording, and the posterior's mean and standard deviation
    ranks : draws below the truth, of ``SbcResult.thin`` draws
    inside : per interval level how many posterior intervals held the truth
    """

    name: str
    truth: Float[np.ndarray, " replicate"]
    mean: Float[np.ndarray, " replicate"]
    sd: Float[np.ndarray, " replicate"]
    ranks: Int[np.ndarray, " replicate"]
    inside: Mapping[float, int]

    @property
    def z(self) -> Float[np.ndarray, " replicate"]:
        """(mean − truth) / sd; spread 1 about 0 where the posterior is right and normal."""
        return np.asarray((self.mean - self.truth) / self.sd)

    @property
    def shrinkage(self) -> float:
        """Median over replicates of 1 − posterior variance / variance of the truths."""
        return float(np.median(1.0 - self.sd**2 / self.truth.var(ddof=1)))

    @property
    def r(self) -> float:
        """Pearson correlation of posterior means with truths."""
        return float(np.corrcoef(self.truth, self.mean)[0, 1])

    def coverage(self, level: float) -> tuple[float, float, float]:
        """Fraction of intervals that held the truth, and its 95 % Clopper-Pearson interval."""
        found = scipy.stats.binomtest(self.inside[level], len(self.ranks)).proportion_ci(0.95, method="exact")
        return self.inside[level] / len(self.ranks), float(found.low), float(found.high)


@dataclass(frozen=True, kw_only=True)
class SbcResult:
    """What simulation-based calibration of one model found.

    Parameters
    ----------
    thin : draws that a truth was ranked among
    refusals : per reason's first words how many of ``replicates`` the gate refused for it, one fit for one or more
    fitted : replicates that gave draws
    level : of the simultaneous band of every single parameter, so that `LEVEL` holds for all together
    """

    model: str
    replicates: int
    rng_seed: int
    thin: int
    fitted: int
    refusals: Mapping[str, int]
    parameters: tuple[SbcParameter, ...]

    @property
    def fewest(self) -> int:
        """Fits below which no figure is given; it takes `FEWEST_TO_PASS` to pass."""
        return FEWEST

    @property
    def refused(self) -> int:
        """Replicates that the gate did not let through."""
        return self.replicates - self.fitted

    @property
    def level(self) -> float:
        return 1.0 - (1.0 - LEVEL) / len(self.parameters)

    def uniform(self, parameter: SbcParameter) -> bool:
        """Whether the ranks' distribution function stays in its simultaneous band."""
        return not outside_band(parameter.ranks, self.thin, self.level).any()

    @property
    def outcome(self) -> Literal["passed", "failed", "too few to tell"]:
        """Whether the ranks of every parameter are uniform. Few fits can fail, but not pass."""
        if self.fitted >= FEWEST and not all(self.uniform(parameter) for parameter in self.parameters):
            return "failed"
        return "passed" if self.fitted >= FEWEST_TO_PASS else "too few to tell"

    @property
    def passed(self) -> bool:
        """Ranks of every parameter are uniform, and enough were fitted to tell."""
        return self.outcome == "passed"

    @property
    def sentence(self) -> str:
        """Counts and outcome, for a reader."""
        return (
            f"Simulation-based calibration of {self.model}: {self.replicates} replicates, {self.fitted} fitted, "
            f"{self.refused} refused by the gate; {self.outcome}."
        )

    def to_json(self) -> str:
        """Every replicate's figures, and the summary that a reader asks for first."""
        return json.dumps(
            {
                "model": self.model,
                "replicates": self.replicates,
                "rng_seed": self.rng_seed,
                "thin": self.thin,
                "fitted": self.fitted,
                "refused": self.refused,
                "outcome": self.outcome,
                "refusals": dict(self.refusals),
                "passed": self.passed,
                "band_level": self.level,
                "parameters": [self._summary(parameter) for parameter in self.parameters],
            },
            sort_keys=True,
            allow_nan=False,
            indent=1,
        )

    def _summary(self, parameter: SbcParameter) -> dict[str, Any]:
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(parameter).items()}
        plain["inside"] = {f"{level:g}": count for level, count in parameter.inside.items()}
        if self.fitted < FEWEST:
            return plain
        coverage = {f"{level:g}": parameter.coverage(level) for level in parameter.inside}
        return {
            **plain,
            "uniform": self.uniform(parameter),
            "coverage": {level: [round(value, 4) for value in found] for level, found in coverage.items()},
            "shrinkage": round(parameter.shrinkage, 4),
            "r": round(parameter.r, 4),
            "z_mean": round(float(parameter.z.mean()), 4),
            "z_sd": round(float(parameter.z.std()), 4),
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> SbcResult:
        raw = json.loads(text)
        return cls(
            model=raw["model"],
            replicates=raw["replicates"],
            rng_seed=raw["rng_seed"],
            thin=raw["thin"],
            fitted=raw["fitted"],
            refusals=raw["refusals"],
            parameters=tuple(
                SbcParameter(
                    name=p["name"],
                    truth=np.array(p["truth"]),
                    mean=np.array(p["mean"]),
                    sd=np.array(p["sd"]),
                    ranks=np.array(p["ranks"], dtype=int),
                    inside={float(level): count for level, count in p["inside"].items()},
                )
                for p in raw["parameters"]
            ),
        )


def sbc(
    model: SbcModel,
    replicates: int,
    *,
    rng_seed: int,
    progress: Callable[[str, float], None] | None = None,
    thin: int = 99,
) -> SbcResult:
    """Fit recordings of ``replicates`` truths from the prior and rank each truth among ``thin`` of its draws.

    Draws are taken evenly along the chains, so that those of a sampler are nearly independent; ask for no more than
    its effective sample size. The same seed gives the same result, and the first replicates of a longer run are those
    of a shorter one.
    """
    if replicates < 1 or thin < 1:
        raise ValueError("replicates and thin must be at least 1")
    columns: dict[str, list[tuple[float, float, float, int, dict[float, bool]]]] = {n: [] for n in model.parameters}
    refusals: Counter[str] = Counter()
    for replicate in range(replicates):
        rng = np.random.default_rng([rng_seed, replicate])
        simulated = model.draw(rng)
        found = _fit(model, simulated.recording, int(rng.integers(2**31)))
        if isinstance(found, Refused):
            refusals.update({_kind(reason) for reason in found.reasons} or {"unnamed"})
        else:
            for name, column in columns.items():
                column.append(_ranked(float(simulated.truth[name]), np.asarray(found[name]), thin, rng))
        if progress is not None:
            fitted = len(next(iter(columns.values())))
            progress(f"{fitted} fitted, {replicate + 1 - fitted} refused", (replicate + 1) / replicates)
    return SbcResult(
        model=model.name,
        replicates=replicates,
        rng_seed=rng_seed,
        thin=thin,
        fitted=len(next(iter(columns.values()))),
        refusals=dict(sorted(refusals.items())),
        parameters=tuple(_parameter(name, column) for name, column in columns.items()),
    )


def _fit(model: SbcModel, recording: Any, rng_seed: int) -> Mapping[str, np.ndarray] | Refused:
    try:
        return model.fit(recording, rng_seed=rng_seed)
    except TwinError as refusal:
        return Refused(reasons=(refusal.code,))


def _kind(reason: str) -> str:
    """A reason up to its colon or limit with n for every figure, so that one cause is one reason."""
    first = re.split(r":|, limit", reason, maxsplit=1)[0]
    return re.sub(r"(?<!\w)\d[\d.,]*%?(?!\w)", "n", re.sub(r"\[[^\]]*\]", "", first)).strip()


def _ranked(
    truth: float, draws: np.ndarray, thin: int, rng: np.random.Generator
) -> tuple[float, float, float, int, dict[float, bool]]:
    every = draws.reshape(-1)
    if every.size < thin:
        raise ValueError(f"a truth is ranked among {thin} draws, the fit gave {every.size}")
    kept = every[np.linspace(0, every.size - 1, thin).round().astype(int)]
    below, ties = int((kept < truth).sum()), int((kept == truth).sum())
    inside = {}
    for level in INTERVALS:
        low, high = np.quantile(every, [0.5 * (1.0 - level), 0.5 * (1.0 + level)])
        inside[level] = bool(low <= truth <= high)
    return truth, float(every.mean()), float(every.std()), below + int(rng.integers(ties + 1)), inside


def _parameter(name: str, column: list[tuple[float, float, float, int, dict[float, bool]]]) -> SbcParameter:
    truth, mean, sd, ranks, inside = zip(*column, strict=True) if column else ((), (), (), (), ())
    return SbcParameter(
        name=name,
        truth=np.array(truth),
        mean=np.array(mean),
        sd=np.array(sd),
        ranks=np.array(ranks, dtype=int),
        inside={level: sum(held[level] for held in inside) for level in INTERVALS},
    )
