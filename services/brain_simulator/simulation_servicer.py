"""Simulations on demand: a call is a run, its stream the progress, its end the end of the computation."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np
import sqlalchemy as sa

from brain_simulator import continuations, experiments
from brain_simulator.calls import Calls, Work
from brain_simulator.continuations import Continued
from brain_simulator.experiments import Cancelled, Experiment, Progress, Simulated
from brain_simulator.networks import refused
from vbt.api.event.v1 import event_pb2
from vbt.api.simulation.v1 import experiment_pb2 as api
from vbt.api.simulation.v1 import experiment_pb2_grpc
from vbt.connectome import Connectome, read_connectome
from vbt.errors import NotYet, Rejected, Unsound
from vbt.platform import audit, cases, state, wire
from vbt.platform.audit import AuditEntry, ConsentDecision, Digest, Outcome
from vbt.platform.cases import Status
from vbt.platform.objects import Objects
from vbt.platform.policy import ConsentPolicy
from vbt.platform.software import Software
from vbt.platform.state import reading
from vbt.simulation import SimulationCancelled

Result = TypeVar("Result", api.SimulationResult, api.ContinuationResult)

_RESEARCH = "HRESCH"  # HL7 PurposeOfUse: nobody is treated by it
_MOST_BYTES = 64 * 1024 * 1024
_MOST_BIFURCATIONS = 1000
_KINDS = {
    "fold": api.BIFURCATION_KIND_FOLD,
    "hopf": api.BIFURCATION_KIND_HOPF,
    "branch point": api.BIFURCATION_KIND_BRANCH_POINT,
    "kink": api.BIFURCATION_KIND_KINK,
}


@dataclass(kw_only=True)
class _Trail:
    """What the ledger hears of one call: digests, names of our own and numbers, nothing that the caller wrote."""

    action: str
    case_id: str = field(default_factory=cases.new_case_id)
    begun: float = field(default_factory=time.monotonic)
    inputs: list[Digest] = field(default_factory=list)
    outputs: list[Digest] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)
    patients: tuple[str, ...] = ()  # cases whose consent the run stands on
    consent: ConsentDecision | None = None
    is_recorded: bool = False

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.begun, 3)


class _Put(Protocol):
    """Puts a content into the store."""

    def __call__(self, content: bytes, media_type: str, name: str) -> event_pb2.Artifact: ...


_Finished = Callable[[_Put], Result]
"""What a computation found, still in memory: puts it into the store and gives the answer that names it."""


class SimulationServicer(experiment_pb2_grpc.SimulationServiceServicer):
    """The three verbs.

    Parameters
    ----------
    policy : decides on the consent of the case that a connectome was built for
    places : runs at once; a call beyond them is refused, to be asked again
    """

    def __init__(
        self, objects: Objects, engine: sa.Engine, policy: ConsentPolicy, software: Software, *, places: int
    ) -> None:
        self._objects, self._engine, self._policy, self._software = objects, engine, policy, software
        self._calls = Calls(places)

    def Simulate(self, request: api.SimulateRequest, context: grpc.ServicerContext) -> Iterator[api.SimulateResponse]:
        trail = _Trail(action="network.simulated")

        def work(progress: Progress, cancelled: Cancelled) -> _Finished[api.SimulationResult]:
            connectome = self._connectome(request.network, trail)
            return self._run(experiments.simulation_of(request, connectome), trail, progress, cancelled)

        for answer in self._answers(work, context, trail):
            if isinstance(answer, api.Progress):
                yield api.SimulateResponse(progress=answer)
            else:
                yield api.SimulateResponse(result=answer)

    def Sweep(self, request: api.SweepRequest, context: grpc.ServicerContext) -> Iterator[api.SweepResponse]:
        trail = _Trail(action="network.swept")

        def work(progress: Progress, cancelled: Cancelled) -> _Finished[api.SimulationResult]:
            connectome = self._connectome(request.network, trail)
            return self._run(experiments.sweep_of(request, connectome), trail, progress, cancelled)

        for answer in self._answers(work, context, trail):
            if isinstance(answer, api.Progress):
                yield api.SweepResponse(progress=answer)
            else:
                yield api.SweepResponse(result=answer)

    def Continue(self, request: api.ContinueRequest, context: grpc.ServicerContext) -> Iterator[api.ContinueResponse]:
        trail = _Trail(action="network.continued")

        def work(progress: Progress, cancelled: Cancelled) -> _Finished[api.ContinuationResult]:
            alone = not request.network.HasField("connectome")
            connectome = None if alone else self._connectome(request.network, trail)
            system = continuations.system_of(request, connectome)
            trail.detail |= {"neural_mass": request.network.neural_mass, "state_variables": system.size}
            return self._followed(continuations.follow(request, system, progress, cancelled), trail)

        for answer in self._answers(work, context, trail):
            if isinstance(answer, api.Progress):
                yield api.ContinueResponse(progress=answer)
            else:
                yield api.ContinueResponse(result=answer)

    def _answers(
        self, work: Work[_Finished[Result]], context: grpc.ServicerContext, trail: _Trail
    ) -> Iterator[api.Progress | Result]:
        """Progress, and the result once the trail has it; what was refused or cancelled is on the trail too."""
        try:
            with closing(self._calls.stream(work, context)) as stream:  # type: ignore[type-var]
                for answer in stream:
                    yield answer if isinstance(answer, api.Progress) else self._keep(answer, trail)
        except (Rejected, Unsound) as error:
            self._record(trail, "refused", code=error.code)
            raise
        except (SimulationCancelled, GeneratorExit):
            # Nobody listens any more.
            if not trail.is_recorded:
                self._record(trail, "refused", code="cancelled")

    def _keep(self, finished: _Finished[Result], trail: _Trail) -> Result:
        """Put the result into the store and onto the trail, unless the patient has said no in the meantime.

        The cases stay locked from the question to the commit: a withdrawal or an erasure comes either before, and
        nothing is put, or after, and an erasure finds on the trail what was put, also where the store failed half way.
        """

        def put(content: bytes, media_type: str, name: str) -> event_pb2.Artifact:
            kept = wire.to_wire(self._objects.put(content, media_type, name))
            trail.outputs.append(wire.digest(kept))
            return kept

        with self._engine.begin() as connection:
            locked = sa.select(state.case.c.case_id).where(state.case.c.case_id.in_(trail.patients))
            connection.execute(locked.order_by(state.case.c.case_id).with_for_update(read=True)).all()
            self._permit(connection, trail)
            failure: NotYet | None = None
            try:
                result = finished(put)
            except NotYet as error:
                failure = error
            outcome: Outcome = "failed" if failure else "success"
            audit.record(connection, self._entry(trail, outcome, **({"code": failure.code} if failure else {})))
        trail.is_recorded = True
        if failure:
            raise failure
        return result

    def _connectome(self, model: api.NetworkModel, trail: _Trail) -> Connectome:
        artifact = model.connectome
        if not re.fullmatch("[0-9a-f]{64}", artifact.sha256):
            raise refused("connectome is the reference of an artifact, with its sha256", "no digest of 64 hex digits")
        if artifact.size_bytes > _MOST_BYTES:
            raise refused("a connectome takes at most 64 MiB", f"{artifact.size_bytes} bytes")
        with reading(self._engine) as connection:
            trail.patients = tuple(audit.cases_that_gave(connection, artifact.sha256))
            self._permit(connection, trail)
        content = self._objects.get(wire.from_wire(artifact))
        trail.inputs.append(Digest(name="connectome", sha256=artifact.sha256))
        return read_connectome(content)

    def _permit(self, connection: sa.Connection, trail: _Trail) -> None:
        """Raise `Rejected` where a patient whose connectome this is has withdrawn consent, or had it erased."""
        for case_id in trail.patients:
            trail.consent = self._policy.decide(connection, case_id)
        here = sa.select(state.case.c.status).where(state.case.c.case_id.in_(trail.patients))
        statuses = connection.execute(here).scalars().all()
        # A case that stands may share its connectome with one that was erased.
        if statuses and all(status == Status.ERASED for status in statuses):
            raise Rejected(
                "case-erased",
                rule="a simulation uses the connectome of a case that was not erased",
                got="one of an erased case",
                action="stop; what was kept of the patient is gone",
            )

    def _run(
        self, experiment: Experiment, trail: _Trail, progress: Progress, cancelled: Cancelled
    ) -> _Finished[api.SimulationResult]:
        trail.detail |= {
            "neural_mass": type(experiment.members[0].mass).__name__,
            "regions": experiment.members[0].regions,
            "runs": len(experiment.runs),
            "duration_seconds": experiment.protocol.duration_s,
        }
        simulated = experiments.run(experiment, progress, cancelled)
        progress(1.0, "keeping the result")
        arrays, manifest = simulated.to_npz(), simulated.simulation.manifest.to_json().encode()
        observations = observations_of(simulated)
        return lambda put: api.SimulationResult(
            case_id=trail.case_id,
            result=put(arrays, "application/x-npz", "simulation.npz"),
            manifest=put(manifest, "application/json", "simulation.json"),
            observations=observations,
            seconds=trail.seconds,
        )

    def _followed(self, continued: Continued, trail: _Trail) -> _Finished[api.ContinuationResult]:
        arrays, manifest, diagram = continued.to_npz(), continued.manifest.to_json().encode(), continued.to_png()
        bifurcations, branches = bifurcations_of(continued)[:_MOST_BIFURCATIONS], len(continued.diagram.branches)
        return lambda put: api.ContinuationResult(
            case_id=trail.case_id,
            result=put(arrays, "application/x-npz", "continuation.npz"),
            manifest=put(manifest, "application/json", "continuation.json"),
            diagram=put(diagram, "image/png", "bifurcations.png"),
            bifurcations=bifurcations,
            branches=branches,
            seconds=trail.seconds,
        )

    def _record(self, trail: _Trail, outcome: Outcome, **facts: Any) -> None:
        with self._engine.begin() as connection:
            audit.record(connection, self._entry(trail, outcome, **facts))
        trail.is_recorded = True

    def _entry(self, trail: _Trail, outcome: Outcome, **facts: Any) -> AuditEntry:
        return AuditEntry(
            event_id=audit.entry_id(self._software.name, trail.case_id, trail.action),
            case_id=trail.case_id,
            revision=1,
            action=trail.action,
            outcome=outcome,
            actor=self._software.name,
            software=self._software,
            purpose=_RESEARCH,
            consent=trail.consent,
            inputs=tuple(trail.inputs),
            outputs=tuple(trail.outputs),
            detail={**trail.detail, "seconds": trail.seconds, **facts},
        )


def observations_of(simulated: Simulated) -> list[api.ObservationSummary]:
    """What each monitor saw, without its numbers."""
    summaries = []
    for (name, monitor), seen in zip(simulated.experiment.monitors, simulated.simulation.observations, strict=True):
        runs, samples, channels = seen.values.shape
        summaries.append(
            api.ObservationSummary(
                name=name, unit=seen.unit, runs=runs, samples=samples, channels=channels, period_s=monitor.period
            )
        )
    return summaries


def bifurcations_of(continued: Continued) -> list[api.Bifurcation]:
    """The bifurcations of all branches of equilibria, and where branches of cycles turn around."""
    unit = continued.diagram.system.milliseconds_per_unit
    equilibria = [
        api.Bifurcation(
            kind=_KINDS[point.kind],
            parameter=point.parameter,
            frequency_hz=point.frequency,
            coefficient=None if np.isnan(point.coefficient) else point.coefficient,
            multiplicity=point.multiplicity,
        )
        for point in continued.diagram.bifurcations
    ]
    folds = [
        api.Bifurcation(
            kind=api.BIFURCATION_KIND_FOLD_OF_CYCLES,
            parameter=cycle.parameter,
            frequency_hz=None if unit is None else 1000.0 / (unit * cycle.period),
            multiplicity=1,
        )
        for family in continued.cycles
        for cycle in family.folds
    ]
    return [*equilibria, *folds]
