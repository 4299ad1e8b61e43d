"""Equilibria are followed along one parameter; branches, cycles and bifurcations are one archive and one diagram."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np

from brain_simulator import networks
from brain_simulator.experiments import Cancelled, Progress, archived, written
from vbt.api.simulation.v1 import experiment_pb2 as api
from vbt.connectome import Connectome
from vbt.simulation import Network, NeuralMass, ReplayManifest, SimulationCancelled, one_blas_thread, record
from vbt.simulation import bifurcation as bif

MOST_STARTS = 4096
_MOST_STATES = 1000
_STARTS, _NETWORK_STARTS = 256, 32
_MOST_CYCLES = 16


@dataclass(frozen=True, kw_only=True)
class Continued:
    """What came of a continuation."""

    request: api.ContinueRequest
    diagram: bif.Diagram
    cycles: tuple[bif.CycleBranch, ...]
    manifest: ReplayManifest

    def to_npz(self) -> bytes:
        """The archive that `ContinuationResult.result` describes, the same bytes for the same numbers."""
        return archived(
            {
                **_arrays(self.diagram, self.cycles),
                "variables": np.array(self.diagram.system.variables),
                "parameter": np.array(self.diagram.system.parameter.name),
                "parameter_unit": np.array(self.diagram.system.parameter.unit),
                "request": np.array(written(self.request)),
                "manifest": np.array(self.manifest.to_json()),
            }
        )

    def to_png(self) -> bytes:
        """The bifurcation diagram."""
        return bif.bifurcation_diagram(self.diagram, self.cycles)


def system_of(request: api.ContinueRequest, connectome: Connectome | None) -> bif.System:
    """The equations of a request with their free parameter, found in order.

    Raises
    ------
    Rejected : ``simulation-refused``
    """
    low, high = request.lowest, request.highest
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise networks.refused("lowest is below highest, and both are finite", f"{low:g} and {high:g}")
    if request.starts > MOST_STARTS:
        raise networks.refused(f"starts are at most {MOST_STARTS}", str(request.starts))
    if request.delayed and request.cycles:
        raise networks.refused("cycles are followed where tracts act at once", "cycles of a delayed network")
    if connectome is None:
        return _node(request)
    return _network(request, networks.network_of(request.network, connectome), connectome)


@one_blas_thread
def follow(request: api.ContinueRequest, system: bif.System, progress: Progress, cancelled: Cancelled) -> Continued:
    """Follow the equilibria, and the cycles where they were asked for.

    Raises
    ------
    SimulationCancelled : where ``cancelled`` says so
    """
    share = 0.7 if request.cycles else 1.0
    progress(0.0, "looking for equilibria")
    try:
        diagram = bif.follow_equilibria(
            system,
            request.lowest,
            request.highest,
            starts=request.starts or (_NETWORK_STARTS if system.region_size > 1 else _STARTS),
            progress=lambda fraction: progress(share * fraction, "following equilibria"),
            cancelled=cancelled,
        )
        cycles = _cycles(request, diagram, progress, cancelled) if request.cycles else ()
    except CancelledError as error:
        raise SimulationCancelled("cancelled") from error
    return Continued(request=request, diagram=diagram, cycles=cycles, manifest=_manifest(request, diagram, cycles))


def _node(request: api.ContinueRequest) -> bif.System:
    if request.network.conditions or request.region_label or request.delayed:
        raise networks.refused("conditions, a region and delays belong to a network", "no connectome")
    with networks.refusing():
        mass = networks.mass_of(request.network)
        system = bif.node(mass, request.parameter)
        for value in (request.lowest, request.highest):
            _alone(_with(mass, request.parameter, value))
    return system


def _network(request: api.ContinueRequest, network: Network, connectome: Connectome) -> bif.System:
    label = request.region_label
    if label and label not in connectome.region_labels:
        raise networks.refused("region_label is one of the connectome's", repr(label))
    states = network.regions * len(network.mass.variables)
    if states > _MOST_STATES:
        raise networks.refused(f"a network that is continued has at most {_MOST_STATES} state variables", str(states))
    with networks.refusing():
        system = bif.network(
            network,
            request.parameter,
            region=connectome.region_labels.index(label) if label else None,
            delayed=request.delayed,
        )
        for value in (request.lowest, request.highest):
            if request.parameter in ("coupling", "velocity"):
                changed: Any = {request.parameter: value}
            else:
                changed = {"mass": _with(network.mass, request.parameter, value)}
            dataclasses.replace(network, **changed)
    return system


def _with(mass: Any, parameter: str, value: float) -> NeuralMass:
    changed: NeuralMass = mass if parameter == "stimulus" else dataclasses.replace(mass, **{parameter: value})
    return changed


def _alone(mass: NeuralMass) -> Network:
    """A network of one region, which refuses parameters outside their domains."""
    nothing = np.zeros((1, 1))
    return Network(mass=mass, weights=nothing, tract_lengths=nothing, velocity=1.0)


def _cycles(
    request: api.ContinueRequest, diagram: bif.Diagram, progress: Progress, cancelled: Cancelled
) -> tuple[bif.CycleBranch, ...]:
    points = [point for point in diagram.of_kind("hopf") if point.multiplicity == 1][:_MOST_CYCLES]
    families = []
    for index, point in enumerate(points):
        progress(0.7 + 0.3 * index / len(points), f"following cycles of Hopf point {index + 1} of {len(points)}")
        families.append(bif.follow_cycles(diagram.system, point, request.lowest, request.highest, cancelled=cancelled))
    # A family that ends in another Hopf point is the one that begins there.
    return tuple(family for i, family in enumerate(families) if not any(_same(family, f) for f in families[:i]))


def _same(one: bif.CycleBranch, other: bif.CycleBranch) -> bool:
    ends = [(family.parameter[0], family.parameter[-1]) for family in (one, other) if family.cycles]
    if len(ends) < 2 or one.end != "equilibrium" or other.end != "equilibrium":
        return False
    width = 0.02 * max(abs(ends[0][0] - ends[0][1]), 1e-12)
    return bool(abs(ends[0][0] - ends[1][1]) < width and abs(ends[0][1] - ends[1][0]) < width)


def _arrays(diagram: bif.Diagram, cycles: tuple[bif.CycleBranch, ...]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for index, branch in enumerate(diagram.branches):
        for name in ("parameter", "states", "eigenvalues", "observed", "unstable_dimension"):
            arrays[f"branch_{index}_{name}"] = np.asarray(getattr(branch, name))
    for index, family in enumerate(cycles):
        arrays |= {
            f"cycles_{index}_parameter": family.parameter,
            f"cycles_{index}_period": family.period,
            f"cycles_{index}_low": np.array([cycle.observed_low for cycle in family.cycles]),
            f"cycles_{index}_high": np.array([cycle.observed_high for cycle in family.cycles]),
            f"cycles_{index}_stable": family.is_stable,
            f"cycles_{index}_fold_parameter": np.array([cycle.parameter for cycle in family.folds]),
            f"cycles_{index}_fold_period": np.array([cycle.period for cycle in family.folds]),
        }
    points = diagram.bifurcations
    arrays |= {
        "bifurcation_kind": np.array([point.kind for point in points], dtype="U16"),
        "bifurcation_parameter": np.array([point.parameter for point in points], dtype=float),
        "bifurcation_frequency_hz": np.array([_or_nan(point.frequency) for point in points], dtype=float),
        "bifurcation_coefficient": np.array([point.coefficient for point in points], dtype=float),
        "bifurcation_multiplicity": np.array([point.multiplicity for point in points], dtype=int),
        "bifurcation_state": np.array([point.state for point in points], dtype=float).reshape(
            len(points), diagram.system.size
        ),
    }
    return arrays


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _manifest(
    request: api.ContinueRequest, diagram: bif.Diagram, cycles: tuple[bif.CycleBranch, ...]
) -> ReplayManifest:
    system = diagram.system
    told: Mapping[str, Any] = {
        "parameter": request.parameter,
        "lowest": request.lowest,
        "highest": request.highest,
        "starts": request.starts,
        "delayed": request.delayed,
        "cycles": request.cycles,
        "variables": len(system.variables),
    }
    return record(
        "vbt.simulation.bifurcation.follow_equilibria",
        inputs={"request": np.frombuffer(written(request).encode(), dtype=np.uint8)},
        outputs=_arrays(diagram, cycles),
        parameters=told,
        seeds=(),
        dt=None,
        precision="double",
        batch_shape=(),
    )
