"""What a request asks for becomes what the library runs; what breaks a rule is refused by name, value and rule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float

from vbt.api.simulation.v1 import experiment_pb2 as api
from vbt.connectome import Connectome
from vbt.errors import Rejected
from vbt.simulation import (
    Bold,
    Condition,
    Monitor,
    Network,
    NeuralMass,
    PowerSpectrum,
    TemporalAverage,
    Trajectory,
    compose,
    condition_from_json,
    neural_mass,
    parameter_table,
)

MOST_MONITORS = 16
_MOST_RECORD = 2 * 1024 * 1024
_NETWORK_WIDE = ("coupling", "velocity")


@contextmanager
def refusing() -> Iterator[None]:
    """What the library refuses as a bad argument becomes `Rejected`, its rule and what it got kept apart."""
    try:
        yield
    except ValueError as error:
        rule, _, got = str(error).partition(", got ")
        raise refused(rule, got or "what breaks it") from error


def refused(rule: str, got: str, action: str = "correct the request") -> Rejected:
    """The refusal of a request."""
    return Rejected("simulation-refused", rule=rule, got=got, action=action)


def network_of(model: api.NetworkModel, connectome: Connectome) -> Network:
    """The network that a request describes, on its connectome.

    Raises
    ------
    Rejected : ``simulation-refused``
    """
    with refusing():
        if model.region_labels and tuple(model.region_labels) != connectome.region_labels:
            raise ValueError("region_labels must be the connectome's, in its order, got others")
        mass = mass_of(model)
        network = Network(
            mass=mass,
            weights=scaled_weights(connectome, model.weight_scaling),
            tract_lengths=connectome.tract_lengths,
            velocity=model.velocity_m_s,
            coupling=model.coupling,
            sigma=_sigma(mass, model.noise),
            instantaneous_below_step=model.instantaneous_below_step,
            region_labels=connectome.region_labels,
        )
    return under(network, model.conditions)


def mass_of(model: api.NetworkModel) -> NeuralMass:
    """The neural mass with the parameters of a request."""
    kind: Any = neural_mass(model.neural_mass)
    known = [row_name for row_name, _ in named_parameters(kind)]
    given: dict[str, Any] = {}
    for parameter in model.parameters:
        if parameter.name not in known:
            raise ValueError(f"{model.neural_mass} has the parameters {', '.join(known)}, got {parameter.name!r}")
        if parameter.name in given:
            raise ValueError(f"a parameter is given once, got {parameter.name!r} twice")
        given[parameter.name] = _value(parameter)
    return kind(**given)  # type: ignore[no-any-return]


def named_parameters(kind: Any) -> list[tuple[str, Any]]:
    """The rows of a neural mass's table, each with the name it is set by."""
    names = [field.name for field in dataclasses.fields(kind) if "parameter" in field.metadata]
    return list(zip(names, parameter_table(kind), strict=True))


def with_parameters(network: Network, parameters: Iterable[api.ParameterValue]) -> Network:
    """The network with other parameters, ``coupling`` and ``velocity`` among them."""
    changes: dict[str, Any] = {}
    with refusing():
        for parameter in parameters:
            if parameter.name in changes:
                raise ValueError(f"a parameter is given once, got {parameter.name!r} twice")
            value = _value(parameter)
            if parameter.name in _NETWORK_WIDE and np.ndim(value):
                raise ValueError(f"{parameter.name} must be one number, got {np.size(value)}")
            changes[parameter.name] = value
        wide = {name: changes.pop(name) for name in _NETWORK_WIDE if name in changes}
        known = [name for name, _ in named_parameters(network.mass)]
        for name in changes:
            if name not in known:
                raise ValueError(f"what is varied must be one of {', '.join((*known, *_NETWORK_WIDE))}, got {name!r}")
        mass: Any = network.mass
        return dataclasses.replace(network, mass=dataclasses.replace(mass, **changes), **wide)


def under(network: Network, conditions: Iterable[api.Condition]) -> Network:
    """The network under conditions, the first first."""
    for condition in conditions:
        with refusing():
            read = _condition(condition)
            try:
                network = read(network)
            # What a record leaves out or spells wrongly shows only when it is used.
            except (TypeError, KeyError, AttributeError, IndexError) as error:
                raise ValueError(f"not the record of a condition, got {type(error).__name__} from it") from error
    return network


def monitors_of(protocol: api.Protocol) -> tuple[tuple[str, Monitor], ...]:
    """The monitors of a request, each with its name."""
    with refusing():
        if not 1 <= len(protocol.monitors) <= MOST_MONITORS:
            raise ValueError(f"monitors must be 1 to {MOST_MONITORS}, got {len(protocol.monitors)}")
        return tuple(_monitor(monitor) for monitor in protocol.monitors)


def check_timing(network: Network, protocol: api.Protocol) -> None:
    """Refuse times that are not numbers, or not positive, before they are divided by."""
    for name, value, least in (
        ("duration_s", protocol.duration_s, "above zero"),
        ("dt_ms", protocol.dt_ms, "above zero"),
        ("transient_s", protocol.transient_s, "not negative"),
    ):
        if not math.isfinite(value) or value < 0.0 or (value == 0.0 and least == "above zero"):
            raise refused(f"{name} must be finite and {least}", f"{value:g}")
    with refusing():
        largest = network.mass.largest_dt * network.mass.milliseconds_per_unit
        if protocol.dt_ms > largest * (1.0 + 1e-9):
            kind = type(network.mass).__name__
            raise ValueError(f"dt must lie in (0, {largest:g}] ms for {kind}, got {protocol.dt_ms:g} ms")


def seeds_of(seeds: Sequence[int]) -> list[int]:
    """One seed per run; the one seed 0 where none is given."""
    wrong = [seed for seed in seeds if seed >= 2**63]
    if wrong:
        raise refused("a seed is below 2^63", str(wrong[0]))
    return list(seeds) or [0]


def scaled_weights(connectome: Connectome, scaling: int) -> Float[np.ndarray, "region region"]:
    """The connectome's weights, divided as asked."""
    weights = connectome.weights.astype(float)
    if scaling in (api.WEIGHT_SCALING_UNSPECIFIED, api.WEIGHT_SCALING_NONE):
        return weights
    if scaling not in (api.WEIGHT_SCALING_LARGEST, api.WEIGHT_SCALING_IN_STRENGTH):
        raise ValueError(f"weight_scaling must be one that is declared, got {scaling}")
    by = float(weights.max() if scaling == api.WEIGHT_SCALING_LARGEST else weights.sum(axis=1).max())
    if by == 0.0:
        raise ValueError("weights that are scaled must not all be zero, got no connection")
    return np.asarray(weights / by)


def _value(parameter: api.ParameterValue) -> float | Float[np.ndarray, " region"]:
    values = np.array(parameter.values, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{parameter.name} must have one finite value, or one per region, got {values.tolist()}")
    return float(values[0]) if len(values) == 1 else values


def _sigma(mass: NeuralMass, noise: Sequence[api.Noise]) -> tuple[float, ...]:
    sigma = dict.fromkeys(mass.variables, 0.0)
    seen: set[str] = set()
    for part in noise:
        if part.variable not in sigma:
            raise ValueError(f"noise belongs on one of {', '.join(sigma)}, got {part.variable!r}")
        if part.variable in seen:
            raise ValueError(f"noise is given once per variable, got {part.variable!r} twice")
        seen.add(part.variable)
        sigma[part.variable] = part.sigma
    return tuple(sigma.values()) if noise else ()


def _condition(condition: api.Condition) -> Condition:
    if len(condition.record_json) > _MOST_RECORD:
        raise ValueError(f"the record of a condition takes at most {_MOST_RECORD} characters, got more")
    try:
        return compose(condition_from_json(condition.record_json))
    except (AttributeError, RecursionError) as error:
        raise ValueError(f"not the record of a condition, got {type(error).__name__} from it") from error


def _monitor(monitor: api.Monitor) -> tuple[str, Monitor]:
    kind = monitor.WhichOneof("kind")
    if kind is None:
        raise ValueError("a monitor must say what it observes, got none")
    settings = getattr(monitor, kind)
    if not (math.isfinite(settings.period_s) and settings.period_s > 0.0):
        raise ValueError(f"{kind}.period_s must be finite and above zero, got {settings.period_s:g}")
    name = kind.replace("_", "-")
    if kind == "temporal_average":
        return name, TemporalAverage(period=settings.period_s)
    if kind == "bold":
        return name, Bold(period=settings.period_s)
    if kind == "trajectory":
        return name, Trajectory(period=settings.period_s)
    return name, _power_spectrum(settings)


def _power_spectrum(settings: api.PowerSpectrum) -> PowerSpectrum:
    for name in ("sampling_interval_s", "segment_s", "highest_hz"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"power_spectrum.{name} must be finite and not negative, got {value:g}")
    return PowerSpectrum(
        period=settings.period_s,
        sampling_interval=settings.sampling_interval_s or 0.004,
        segment=settings.segment_s or 2.0,
        highest=settings.highest_hz or math.inf,
    )
