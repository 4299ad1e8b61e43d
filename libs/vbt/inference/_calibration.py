"""What calibrating a twin to a recording leaves behind, whatever the model: draws, how they were checked, and why."""

from __future__ import annotations

import dataclasses
import io
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pydantic
from jaxtyping import Float, Int

from vbt.inference._gate import ParameterDiagnostics, SamplerDiagnostics
from vbt.inference._gate import PredictiveCheck as PredictiveCheck
from vbt.simulation import ReplayManifest


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Posterior of a model for one patient. Each model adds, in a subclass, what its fit is judged by.

    A field of a subclass is an array, a mapping of names to arrays, or what JSON can hold: dataclasses, tuples,
    mappings, text and numbers, also inside one another.

    Parameters
    ----------
    region_labels : regions used; ``used_regions`` their indices in the connectome
    draws : per parameter ``(chain, draw)``, or ``(chain, draw, region)`` where it has one value per region used
    priors : per parameter the family and its two arguments
    parameters : diagnostics; every number that is reported, and the nuisances
    sampler : None for an amortised posterior, whose draws are independent
    verdict : ``"sound"`` or ``"unsound"``; an unsound calibration is not reported as numbers
    reasons : why it is unsound; ``warnings`` what else to know
    checks : posterior predictive checks
    """

    region_labels: tuple[str, ...]
    used_regions: Int[np.ndarray, " used"]
    draws: Mapping[str, Float[np.ndarray, "chain draw *region"]]
    priors: Mapping[str, tuple[str, float, float]]
    parameters: tuple[ParameterDiagnostics, ...]
    sampler: SamplerDiagnostics | None
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    checks: tuple[PredictiveCheck, ...]
    manifest: ReplayManifest

    @property
    def sound(self) -> bool:
        return self.verdict == "sound"

    def diagnostics(self, name: str) -> ParameterDiagnostics:
        return next(p for p in self.parameters if p.name == name)

    def interval(self, name: str, level: float = 0.90) -> tuple[float, float, float]:
        """Posterior median and equal-tailed interval of a parameter with one value."""
        median, low, high = self.region_intervals(name, level)
        return float(median), float(low), float(high)

    def region_intervals(
        self, name: str, level: float = 0.90
    ) -> tuple[Float[np.ndarray, "*region"], Float[np.ndarray, "*region"], Float[np.ndarray, "*region"]]:
        """The same of a parameter with a value per region."""
        tail = 0.5 * (1.0 - level)
        low, median, high = np.quantile(self.draws[name], [tail, 0.5, 1.0 - tail], axis=(0, 1))
        return median, low, high

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same calibration."""
        arrays: dict[str, np.ndarray] = {}
        plain: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            elif isinstance(value, Mapping) and value and all(isinstance(v, np.ndarray) for v in value.values()):
                arrays |= {f"{field.name}/{key}": array for key, array in value.items()}
            else:
                plain[field.name] = _plain(value)
        buffer = io.BytesIO()
        record = np.array(json.dumps(plain, sort_keys=True))
        np.savez_compressed(buffer, record=record, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Self:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        record: dict[str, Any] = json.loads(str(stored.pop("record")))
        # An earlier version kept the draws in one stack.
        if "draw_names" in record:
            names = record.pop("draw_names")
            stored |= {f"draws/{name}": draws for name, draws in zip(names, stored.pop("draws"), strict=True)}
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {name: _typed(hints[name], value) for name, value in record.items()}
        for name, array in stored.items():
            field, _, key = name.partition("/")
            if key:
                values.setdefault(field, {})[key] = array
            else:
                values[field] = array
        return cls(**values)


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, at any depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    """What JSON kept, as the type that the field declares: tuples, dataclasses, numbers."""
    # A dataclass brings its own configuration, and pydantic takes no other.
    config = None if dataclasses.is_dataclass(hint) else pydantic.ConfigDict(arbitrary_types_allowed=True)
    return pydantic.TypeAdapter(hint, config=config).validate_python(value)
