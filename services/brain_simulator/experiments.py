"""A network, or many variants of one, is run once per seed; what came of it and how to repeat it are one archive."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from brain_simulator import networks
from vbt.api.simulation.v1 import experiment_pb2 as api
from vbt.connectome import Connectome
from vbt.simulation import Monitor, Network, PowerSpectrum, Simulation, condition_from_json, simulate

Progress = Callable[[float, str], None]
Cancelled = Callable[[], bool]

MOST_RUNS = 4096
MOST_AXES = 4
_MOST_NUMBERS = 50_000_000  # observed, in weights, or under way along tracts
_MOST_SEGMENT = 100_000  # samples under one Hann window
_INTEGRATORS: Mapping[int, Literal["heun", "rk4"]] = {0: "heun", api.INTEGRATOR_HEUN: "heun", api.INTEGRATOR_RK4: "rk4"}
_PRECISIONS: Mapping[int, Literal["single", "double"]] = {
    0: "single",
    api.PRECISION_SINGLE: "single",
    api.PRECISION_DOUBLE: "double",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What distinguishes one run: its seed, what was set in it, and the digests of what it was put under."""

    seed: int
    parameters: Mapping[str, float | list[float]]
    conditions: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(
            {"seed": self.seed, "parameters": dict(self.parameters), "conditions": list(self.conditions)},
            sort_keys=True,
        )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is going to run, found in order.

    Parameters
    ----------
    members : the networks, one per run
    monitors : each with its name
    """

    request: Message
    protocol: api.Protocol
    members: tuple[Network, ...]
    runs: tuple[Run, ...]
    monitors: tuple[tuple[str, Monitor], ...]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What came of an experiment."""

    experiment: Experiment
    simulation: Simulation

    def to_npz(self) -> bytes:
        """The archive that `SimulationResult.result` describes, the same bytes for the same numbers."""
        first = self.experiment.members[0]
        arrays: dict[str, Any] = {
            "seeds": np.array([run.seed for run in self.experiment.runs], dtype=np.int64),
            "runs": np.array([run.to_json() for run in self.experiment.runs]),
            "region_labels": np.array(first.labels),
            "variables": np.array(first.mass.variables),
            "final_state": self.simulation.final_state,
            "request": np.array(written(self.experiment.request)),
            "manifest": np.array(self.simulation.manifest.to_json()),
        }
        for index, ((name, monitor), seen) in enumerate(
            zip(self.experiment.monitors, self.simulation.observations, strict=True)
        ):
            prefix = f"observation_{index}"
            arrays |= {
                f"{prefix}_name": np.array(name),
                f"{prefix}_time": seen.time,
                f"{prefix}_values": seen.values,
                f"{prefix}_labels": np.array(seen.labels),
                f"{prefix}_unit": np.array(seen.unit),
            }
            if isinstance(monitor, PowerSpectrum):
                arrays[f"{prefix}_frequencies"] = monitor.frequencies
        return archived(arrays)


def simulation_of(request: api.SimulateRequest, connectome: Connectome) -> Experiment:
    """One network, once per seed.

    Raises
    ------
    Rejected : ``simulation-refused``
    """
    network = networks.network_of(request.network, connectome)
    seeds = networks.seeds_of(request.seeds)
    runs = [(network, Run(seed=seed, parameters={}, conditions=())) for seed in seeds]
    return _experiment(request, request.protocol, runs)


def sweep_of(request: api.SweepRequest, connectome: Connectome) -> Experiment:
    """All variants of one network: sets outermost, then axes, conditions, and seeds innermost.

    Raises
    ------
    Rejected : ``simulation-refused``
    """
    _check_sweep(request)
    base = networks.network_of(request.network, connectome)
    seeds = networks.seeds_of(request.seeds)
    runs: list[tuple[Network, Run]] = []
    for point in _points(request):
        varied = networks.with_parameters(base, point)
        told = {part.name: list(part.values) if len(part.values) > 1 else part.values[0] for part in point}
        for chosen in request.condition_sets or [api.ConditionSet()]:
            network = networks.under(varied, chosen.conditions)
            digests = tuple(condition_from_json(part.record_json).digest() for part in chosen.conditions)
            runs += [(network, Run(seed=seed, parameters=told, conditions=digests)) for seed in seeds]
    return _experiment(request, request.protocol, runs)


def run(experiment: Experiment, progress: Progress, cancelled: Cancelled) -> Simulated:
    """Simulate it.

    Raises
    ------
    Rejected : ``simulation-refused``, before anything runs
    Diverged : an `Unsound`
    SimulationCancelled : where ``cancelled`` says so
    """
    protocol, count = experiment.protocol, len(experiment.runs)
    what = f"{protocol.transient_s + protocol.duration_s:g} s of {count} run{'s' if count > 1 else ''}"
    begun = False

    def tell(fraction: float) -> None:
        nonlocal begun
        begun = True
        progress(fraction, f"simulating {what}")

    progress(0.0, f"preparing {what}")
    try:
        simulation = simulate(
            experiment.members,
            [one.seed for one in experiment.runs],
            duration=protocol.duration_s,
            transient=protocol.transient_s,
            monitors=[monitor for _, monitor in experiment.monitors],
            dt=protocol.dt_ms,
            integrator=_INTEGRATORS[protocol.integrator],
            precision=_PRECISIONS[protocol.precision],
            progress=tell,
            cancelled=cancelled,
        )
    except ValueError as error:
        if begun:  # no longer about the arguments
            raise
        with networks.refusing():
            raise ValueError(str(error)) from error
    return Simulated(experiment=experiment, simulation=simulation)


def written(request: Message) -> str:
    """A request as JSON, the same text for the same request."""
    return json.dumps(MessageToDict(request, preserving_proto_field_name=True), sort_keys=True)


def archived(arrays: Mapping[str, Any]) -> bytes:
    """An ``.npz`` without pickles."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _experiment(request: Message, protocol: api.Protocol, runs: Sequence[tuple[Network, Run]]) -> Experiment:
    if len(runs) > MOST_RUNS:
        raise networks.refused(f"at most {MOST_RUNS} runs in one call", f"{len(runs)} runs")
    for kind, known in ((protocol.integrator, _INTEGRATORS), (protocol.precision, _PRECISIONS)):
        if kind not in known:
            raise networks.refused("integrator and precision are among those declared", str(kind))
    members = tuple(network for network, _ in runs)
    monitors = networks.monitors_of(protocol)
    networks.check_timing(members[0], protocol)
    _check_size(members, monitors, protocol)
    return Experiment(
        request=request, protocol=protocol, members=members, runs=tuple(one for _, one in runs), monitors=monitors
    )


def _check_sweep(request: api.SweepRequest) -> None:
    if len(request.axes) > MOST_AXES:
        raise networks.refused(f"at most {MOST_AXES} axes", f"{len(request.axes)} axes")
    names = [axis.name for axis in request.axes]
    for axis in request.axes:
        if not axis.values:
            raise networks.refused("an axis has at least one value", f"none for {axis.name!r}")
        if names.count(axis.name) > 1:
            raise networks.refused("each axis is of another quantity", f"{axis.name!r} twice")
    count = math.prod(
        [max(1, len(part)) for part in (request.parameter_sets, request.condition_sets, request.seeds)]
        + [len(axis.values) for axis in request.axes]
    )
    if count > MOST_RUNS:
        raise networks.refused(f"at most {MOST_RUNS} runs in one call", f"{count} runs")


def _points(request: api.SweepRequest) -> Iterator[list[api.ParameterValue]]:
    """What is set in each variant, the last axis innermost."""
    for chosen in request.parameter_sets or [api.ParameterSet()]:
        for values in itertools.product(*(axis.values for axis in request.axes)):
            on_grid = [
                api.ParameterValue(name=axis.name, values=[value])
                for axis, value in zip(request.axes, values, strict=True)
            ]
            yield [*chosen.parameters, *on_grid]


def _check_size(members: Sequence[Network], monitors: Sequence[tuple[str, Monitor]], protocol: api.Protocol) -> None:
    """Refuse what would not fit into the memory of a service that others use too."""
    first = members[0]
    channels = len(first.mass.channels)
    longest = max(float(network.delays[network.is_tract].max(initial=0.0)) for network in members)
    numbers = {
        "weights of all runs together": len(members) * channels * first.regions**2,
        f"signals under way for up to {longest:g} ms": channels * first.regions * longest / protocol.dt_ms,
    }
    for name, monitor in monitors:
        samples = protocol.duration_s / monitor.period
        if isinstance(monitor, PowerSpectrum):
            window = monitor.segment / monitor.sampling_interval
            if window > _MOST_SEGMENT:
                raise networks.refused(f"a segment holds at most {_MOST_SEGMENT} samples", f"{window:.0f}")
        width = len(monitor.labels(first.labels)) * (len(first.mass.variables) if name == "trajectory" else 1)
        numbers[f"samples of {name}"] = len(members) * samples * width
    for what, count in numbers.items():
        if count > _MOST_NUMBERS:
            raise networks.refused(
                f"{what} are at most {_MOST_NUMBERS} numbers", f"{count:.3g}", "ask for less in one call"
            )
