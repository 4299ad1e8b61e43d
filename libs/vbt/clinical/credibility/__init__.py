"""What a number of each application may be used for, what could go wrong if it were wrong, and what evidence exists.

One TOML file per context of use, after ASME V&V 40 and FDA's guidance on the credibility of computational modelling and
simulation (17 November 2023), whose eight categories of evidence are all named, with "none" where there is none.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from dataclasses import dataclass
from typing import Any

from vbt.inference import SbcResult

CATEGORIES = (
    "code verification",
    "model calibration",
    "bench test validation",
    "in vivo validation",
    "population-based validation",
    "emergent model behaviour",
    "model plausibility",
    "calculation verification and uncertainty quantification",
)
STATUSES = ("none", "partial", "adequate")
LEVELS = ("low", "medium", "high")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What exists in one category: ``status`` of `STATUSES`, a summary, and where it can be seen."""

    category: str
    status: str
    summary: str
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Credibility:
    """One context of use.

    Parameters
    ----------
    model_influence : how much the model weighs in the decision; ``decision_consequence`` what a wrong one costs; both
        and ``model_risk``, which they make up, of `LEVELS`
    readiness : technology readiness level, 1 to 9
    learned : what is computed by a trained network and not by mechanistic simulation, or ""
    calibrated : models of `SBC_MODELS` whose posterior the numbers come from; `calibration_of` has what was kept
    anomalies, limits : sentences
    """

    name: str
    title: str
    question_of_interest: str
    context_of_use: str
    model_influence: str
    decision_consequence: str
    model_risk: str
    readiness: int
    learned: str
    calibrated: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    anomalies: tuple[str, ...]
    limits: tuple[str, ...]

    def __post_init__(self) -> None:
        found = tuple(evidence.category for evidence in self.evidence)
        if found != CATEGORIES:
            raise ValueError(f"{self.name}: evidence must name each category once, in order, got {found}")
        for evidence in self.evidence:
            if evidence.status not in STATUSES or not evidence.summary:
                raise ValueError(f"{self.name}: {evidence.category} needs a summary and a status of {STATUSES}")
            if evidence.status != "none" and not evidence.where:
                raise ValueError(f"{self.name}: {evidence.category} must say where its evidence is")
        levels = (self.model_influence, self.decision_consequence, self.model_risk)
        if any(level not in LEVELS for level in levels):
            raise ValueError(f"{self.name}: influence, consequence and risk are of {LEVELS}, got {levels}")
        influence, consequence, risk = (LEVELS.index(level) for level in levels)
        if not min(influence, consequence) <= risk <= max(influence, consequence):
            raise ValueError(f"{self.name}: the risk {self.model_risk} lies outside influence and consequence")
        if not 1 <= self.readiness <= 9:
            raise ValueError(f"{self.name}: readiness is 1 to 9, got {self.readiness}")

    @property
    def calibrations(self) -> tuple[str, ...]:
        """What simulation-based calibration found of each model in ``calibrated``, with its counts, in one sentence."""
        kept = [(model, calibration_of(model)) for model in self.calibrated]
        return tuple(
            result.sentence if result else f"Simulation-based calibration of {model}: no result is kept."
            for model, result in kept
        )

    @property
    def sentence(self) -> str:
        """What evidence exists, in one sentence for a report."""
        by_status = {s: [e.category for e in self.evidence if e.status == s] for s in STATUSES}
        parts = [f"{status}: {', '.join(names)}" for status, names in reversed(by_status.items()) if names]
        return f"Evidence ({'; '.join(parts)}). Technology readiness level {self.readiness} of 9."


def credibility(name: str) -> Credibility:
    """The entry of an application.

    Raises
    ------
    ValueError : where there is none of this name, or it breaks a rule
    """
    file = importlib.resources.files(__package__) / f"{name}.toml"
    if name not in names():
        raise ValueError(f"credibility knows {', '.join(names())}, got {name!r}")
    raw: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    evidence = tuple(Evidence(**entry) for entry in raw.pop("evidence"))
    lists = {key: tuple(raw.pop(key)) for key in ("calibrated", "anomalies", "limits")}
    return Credibility(**{**raw, **lists, "name": name, "evidence": evidence})


def names() -> tuple[str, ...]:
    """All contexts of use."""
    files = importlib.resources.files(__package__).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def calibration_of(model: str) -> SbcResult | None:
    """The kept result of ``vbt calibrate --model``; None where it was never run for this version."""
    file = importlib.resources.files(__package__) / "calibration" / f"{model}.json"
    return SbcResult.from_json(file.read_bytes()) if file.is_file() else None
