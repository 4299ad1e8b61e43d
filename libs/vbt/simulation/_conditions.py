"""Conditions: what is done to a brain, each a recorded, replayable, pure change of its network.

A condition is a frozen dataclass that takes a network and returns another. It says all of itself in JSON, and the
digest of that text names it in a provenance record; `condition_from_json` makes the same condition again.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from vbt.simulation._network import Network

_kinds: dict[str, type] = {}
_Kind = TypeVar("_Kind", bound=type)


def recorded(kind: _Kind) -> _Kind:
    """Class decorator: a frozen dataclass that may stand inside a condition's record."""
    _kinds[kind.__name__] = kind
    return kind


class Condition(abc.ABC):
    """A pure change of a network. Conditions are equal where their records are."""

    @abc.abstractmethod
    def __call__(self, network: Network) -> Network:
        """The network under this condition."""

    def to_json(self) -> str:
        """The whole condition as text, the same for the same condition."""
        return json.dumps(_written(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())


def condition_from_json(text: str | bytes) -> Condition:
    """The condition that `Condition.to_json` wrote.

    Raises
    ------
    ValueError
        where the text is not the record of a condition, or the condition refuses its own numbers.
    """
    try:
        read = _read(json.loads(text))
    except (TypeError, KeyError) as error:
        raise ValueError(f"not the record of a condition: {error}") from error
    if not isinstance(read, Condition):
        raise ValueError("not the record of a condition")
    return read


@recorded
@dataclass(frozen=True, eq=False)
class Composition(Condition):
    """Conditions applied one after another, the first first."""

    conditions: tuple[Condition, ...]

    def __call__(self, network: Network) -> Network:
        for condition in self.conditions:
            network = condition(network)
        return network


def compose(*conditions: Condition) -> Condition:
    """All the conditions as one, applied in the order given; of none, the condition that changes nothing."""
    flat: list[Condition] = []
    for condition in conditions:
        flat.extend(condition.conditions if isinstance(condition, Composition) else (condition,))
    return flat[0] if len(flat) == 1 else Composition(tuple(flat))


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class Resection(Condition):
    """Regions removed by surgery: connections cut both ways, activity no longer reported.

    Parameters
    ----------
    regions : indices, or labels where the network has them
    """

    regions: tuple[int | str, ...]

    def __call__(self, network: Network) -> Network:
        return resect(network, self.regions)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class NodeLesion(Condition):
    """Regions that lost a fraction f of their connections: W_ij (1 − f_i)(1 − f_j). With f = 1 it is a resection."""

    regions: tuple[int | str, ...]
    fraction: float = 1.0

    def __post_init__(self) -> None:
        _within_unit("lesion fraction", np.asarray(self.fraction))

    def __call__(self, network: Network) -> Network:
        if self.fraction == 1.0:
            return resect(network, self.regions)
        spared = np.ones(network.regions)
        spared[region_indices(network, self.regions)] = 1.0 - self.fraction
        return dataclasses.replace(network, weights=network.weights * (spared[:, None] * spared[None, :]))


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeLesion(Condition):
    """Damaged tracts, fewer axons and slower ones: W_ij (1 − δ ℓ_ij) and τ_ij (1 + γ ℓ_ij).

    The delay is linear in the lesioned fraction of a tract as in Mazzara et al. (2024,
    doi:10.1101/2024.07.10.24310150); their exact parametrisation was
    not verified, and the loss of axons beside it is a hypothesis of ours.

    Parameters
    ----------
    fraction : ℓ[target, source] in [0, 1], of each tract's streamlines or length within lesions
    axonal_loss : δ in [0, 1]
    slowing : γ ≥ 0
    """

    fraction: Float[np.ndarray, "region region"]
    axonal_loss: float = 1.0
    slowing: float = 0.0

    def __post_init__(self) -> None:
        _within_unit("lesion fraction", self.fraction)
        _within_unit("axonal loss", np.asarray(self.axonal_loss))
        if not (math.isfinite(self.slowing) and self.slowing >= 0.0):
            raise ValueError(f"slowing must be finite and not negative, got {self.slowing}")

    def __call__(self, network: Network) -> Network:
        _same_regions("lesion fractions", self.fraction, network)
        weights = network.weights * (1.0 - self.axonal_loss * self.fraction)
        if not (self.slowing and self.fraction.any()):
            return dataclasses.replace(network, weights=weights)
        velocity = network.velocity / (1.0 + self.slowing * self.fraction)
        return dataclasses.replace(network, weights=weights, velocity=velocity)


@recorded
@dataclass(frozen=True, kw_only=True, eq=False)
class ConductionVelocity(Condition):
    """Another conduction velocity, m/s: one for all tracts or one per tract, `velocity[target, source]`."""

    velocity: float | Float[np.ndarray, "region region"]

    def __call__(self, network: Network) -> Network:
        if np.ndim(self.velocity):
            _same_regions("velocities", np.asarray(self.velocity), network)
        return dataclasses.replace(network, velocity=self.velocity)


def resect(network: Network, regions: tuple[int | str, ...]) -> Network:
    """The network without some regions: their connections are cut both ways and they are no longer reported."""
    removed = np.zeros(network.regions, dtype=bool)
    removed[region_indices(network, regions)] = True
    weights = np.where(removed[:, None] | removed[None, :], 0.0, network.weights)
    active = (np.ones(network.regions, dtype=bool) if network.active is None else network.active) & ~removed
    return dataclasses.replace(network, weights=weights, active=active)


def region_indices(network: Network, regions: tuple[int | str, ...]) -> Int[np.ndarray, " chosen"]:
    """Indices of regions given by index or label.

    Raises
    ------
    ValueError
        naming the first region that the network does not have.
    """
    labels = network.region_labels
    indices = []
    for region in regions:
        if isinstance(region, str):
            if labels is None:
                raise ValueError(f"network has no region labels, got region {region!r}")
            if region not in labels:
                raise ValueError(f"network must have the region, got {region!r}")
            indices.append(labels.index(region))
        else:
            if not 0 <= region < network.regions:
                raise ValueError(f"region index must be in [0, {network.regions}), got {region}")
            indices.append(int(region))
    return np.array(indices, dtype=int)


def _within_unit(name: str, values: np.ndarray) -> None:
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError(
            f"{name} must be in [0, 1], got {np.ravel(values)[~np.ravel((values >= 0) & (values <= 1))][0]:g}"
        )


def _same_regions(name: str, matrix: np.ndarray, network: Network) -> None:
    if matrix.shape != (network.regions, network.regions):
        raise ValueError(f"{name} must be (region, region) of {network.regions} regions, got {matrix.shape}")


def _written(value: Any) -> Any:
    """A value as JSON: dataclasses name their kind, arrays their type, and infinity is spelled out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _written(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, np.generic):
        return _written(value.item())
    if isinstance(value, float) and math.isinf(value):
        return {"number": "inf" if value > 0 else "-inf"}
    if isinstance(value, tuple | list):
        return [_written(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _written(part) for key, part in value.items()}
    return value


_ARRAY_TYPES = ("float64", "float32", "int64", "bool")


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(part) for part in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        if value["dtype"] not in _ARRAY_TYPES:
            raise KeyError(value["dtype"])
        return np.array(value["array"], dtype=value["dtype"])
    if "number" in value:
        return float(value["number"])
    fields = {key: _read(part) for key, part in value.items() if key != "kind"}
    return _kinds[value["kind"]](**fields)
