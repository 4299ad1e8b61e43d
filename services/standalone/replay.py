"""`vbt replay`: the numeric steps of a case once more, from the same inputs, and how the two results compare."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from google.protobuf.message import Message
from opentelemetry.trace import INVALID_SPAN
from rich.console import Console
from rich.table import Table

from brain_simulator.handlers import ScenarioSimulator
from connectome_builder.handlers import ConnectomeBuilder
from standalone.progress import stage_bars
from standalone.show import TITLES
from standalone.suite import SuiteSettings
from twin_inference.handlers import TwinCalibrator
from vbt.api.event.v1.event_pb2 import (
    Artifact,
    ConnectomeBuilt,
    Recording,
    ScenariosSimulated,
    StudyIngested,
    TwinCalibrated,
)
from vbt.clinical.applications import application_of
from vbt.clinical.findings import Quantity, TwinFindings
from vbt.clinical.second_opinion import Opinion
from vbt.connectome import BuildSettings, Connectome
from vbt.errors import TwinError
from vbt.inference import moved
from vbt.platform import cases, wire
from vbt.platform.audit import ConsentDecision
from vbt.platform.cases import Case
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.runtime import open_objects
from vbt.platform.software import this_software
from vbt.platform.stage_context import Handler, StageContext
from vbt.platform.state import reading
from vbt.simulation import ReplayManifest

Verdict = Literal["bit-identical", "statistically equal", "different", "cannot"]

_EXIT: dict[Verdict, int] = {"bit-identical": 0, "statistically equal": 0, "different": 1, "cannot": 2}
_LEAST_CORRELATION = 0.99
_SAME = 1e-6  # of a number without an interval: what another machine's rounding may change


@dataclass(frozen=True)
class Answer:
    """How one step's replay compares with what was reported, and why."""

    stage: str
    verdict: Verdict
    why: str

    @property
    def exit_code(self) -> int:
        return _EXIT[self.verdict]


@dataclass(frozen=True)
class _Step:
    stage: str
    source: str
    takes: type[Message]
    gives: type[Message]
    handler: Callable[[Objects, dict[str, Any]], Handler]
    compare: Callable[[Any, Any, Objects, Objects], str]


def replay_case(engine: sa.Engine, settings: SuiteSettings, case_id: str, console: Console) -> list[Answer]:
    """Run every numeric step of a case again, each from its own recorded input."""
    with reading(engine) as connection:
        case = cases.read_case(connection, case_id)
    objects = open_objects(settings)
    answers = []
    with stage_bars(console) as bars:
        for step in _STEPS:
            task = bars.add_task(TITLES[step.stage], total=1.0, says="")

            def show(message: str, fraction: float, task: Any = task) -> None:
                bars.update(task, completed=fraction, says=message)

            answer = _replay(engine, case, step, objects, show)
            bars.update(task, completed=1.0, says=answer.verdict)
            bars.stop_task(task)
            answers.append(answer)
    return answers


def answer_table(answers: list[Answer]) -> Table:
    """One line per step."""
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "replay", "why"):
        table.add_column(heading)
    for answer in answers:
        table.add_row(TITLES[answer.stage], answer.verdict, answer.why)
    return table


def _replay(engine: sa.Engine, case: Case, step: _Step, objects: Objects, show: Callable[[str, float], None]) -> Answer:
    given = wire.result(case, step.source, step.takes)
    recorded = wire.result(case, step.stage, step.gives)
    if given is None or recorded is None:
        return Answer(step.stage, "cannot", "the case has no result of this step")
    figures = next(stage.detail for stage in case.stages if stage.stage == step.stage)
    with tempfile.TemporaryDirectory(prefix="vbt-replay-") as directory:
        scratch = Objects(Path(directory).as_uri())
        try:
            for artifact in _artifacts(given):
                scratch.put(objects.get(wire.from_wire(artifact)), artifact.media_type, artifact.name)
            again = _run(engine, case, step, scratch, given, figures, show)
        except TwinError as error:
            return Answer(step.stage, "cannot", str(error))
        return _answer(step, recorded, again, objects, scratch)


def _run(
    engine: sa.Engine,
    case: Case,
    step: _Step,
    scratch: Objects,
    given: Message,
    figures: dict[str, Any],
    show: Callable[[str, float], None],
) -> Message:
    event = Event(
        id="replay",
        source="vbt replay",
        type="replay",
        subject=case.case_id,
        revision=case.revision,
        value=given.SerializeToString(deterministic=True),
    )
    consent = ConsentDecision(decision="permit", basis="replay")
    context = _Replay(
        engine=engine,
        event=event,
        group=step.stage,
        stage=step.stage,
        software=this_software(step.stage),
        consent=consent,
        span=INVALID_SPAN,
        given_up=lambda: False,
        permit=lambda _connection: consent,
        show=show,
    )
    effects = step.handler(scratch, figures)(event, context)
    return wire.message_of(effects.detail, step.gives)


@dataclass(kw_only=True)
class _Replay(StageContext):
    """A context that shows progress here and writes nothing."""

    show: Callable[[str, float], None]

    def progress(self, message: str, fraction: float) -> None:
        self.show(message, fraction)


def _answer(step: _Step, recorded: Message, again: Message, objects: Objects, scratch: Objects) -> Answer:
    before = {artifact.name: artifact.sha256 for artifact in _artifacts(recorded)}
    after = {artifact.name: artifact.sha256 for artifact in _artifacts(again)}
    differing = sorted(name for name in before | after if before.get(name) != after.get(name))
    if not differing:
        return Answer(step.stage, "bit-identical", f"{len(before)} artifacts with the same SHA-256")
    cause = _environment(recorded, again, objects, scratch)
    found = step.compare(recorded, again, objects, scratch)
    verdict: Verdict = "different" if found else "statistically equal"
    why = f"first difference in {differing[0]}" + (f"; {found}" if found else "") + (f"; {cause}" if cause else "")
    return Answer(step.stage, verdict, why)


def _artifacts(message: Message) -> Iterator[Artifact]:
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.message_type is Artifact.DESCRIPTOR:
            yield from values
        elif field.message_type is Recording.DESCRIPTOR:
            yield from (entry.content for entry in values)


def _environment(recorded: Message, again: Message, objects: Objects, scratch: Objects) -> str:
    """What differs between the machine that reported and this one, as the manifests say."""
    names = {artifact.name: artifact for artifact in _artifacts(recorded)}
    differing: set[str] = set()
    for artifact in _artifacts(again):
        if artifact.name in ("sampling.json", "scenarios.json") and artifact.name in names:
            old = ReplayManifest.from_json(objects.get(wire.from_wire(names[artifact.name])))
            new = ReplayManifest.from_json(scratch.get(wire.from_wire(artifact)))
            watched = (
                "xla_flags",
                "jax_version",
                "jaxlib_version",
                "llvmlite_version",
                "device_kind",
                "precision",
                "batch_shape",
            )
            differing |= {name for name in watched if getattr(old, name) != getattr(new, name)}
    return f"the runs differ in {', '.join(sorted(differing))}" if differing else ""


def _compare_connectomes(recorded: ConnectomeBuilt, again: ConnectomeBuilt, objects: Objects, scratch: Objects) -> str:
    old = Connectome.from_npz(objects.get(wire.from_wire(recorded.connectome)))
    new = Connectome.from_npz(scratch.get(wire.from_wire(again.connectome)))
    edges = np.triu_indices(len(old.weights), k=1)
    r = float(np.corrcoef(old.weights[edges], new.weights[edges])[0, 1])
    return "" if r >= _LEAST_CORRELATION else f"the weights correlate with r = {r:.3f}"


def _compare_posteriors(recorded: TwinCalibrated, again: TwinCalibrated, objects: Objects, scratch: Objects) -> str:
    kind = application_of(recorded.protocol).calibration
    old = kind.from_npz(objects.get(wire.from_wire(recorded.posterior)))
    new = kind.from_npz(scratch.get(wire.from_wire(again.posterior)))
    return moved(old, new) or _compare_opinions(recorded, again, objects, scratch)


def _compare_opinions(recorded: TwinCalibrated, again: TwinCalibrated, objects: Objects, scratch: Objects) -> str:
    """Of second opinions, which a network trained on another machine may give slightly otherwise."""
    found = []
    for message, place in ((recorded, objects), (again, scratch)):
        archives = {a.name: a for a in message.second_opinion}
        said = archives.get("second-opinion.json")
        found.append(None if said is None else Opinion.from_json(place.get(wire.from_wire(said))))
    before, after = found
    if before is None or after is None:
        return "" if before is after else "a second opinion was asked for in one run only"
    if before.verdict != after.verdict:
        return f"the second opinion {before.verdict} in one run and {after.verdict} in the other"
    return _left({q.code: q for q in before.parameters}, {q.code: q for q in after.parameters})


def _compare_findings(
    recorded: ScenariosSimulated, again: ScenariosSimulated, objects: Objects, scratch: Objects
) -> str:
    old = TwinFindings.from_json(objects.get(wire.from_wire(recorded.findings)))
    new = TwinFindings.from_json(scratch.get(wire.from_wire(again.findings)))
    before, after = _numbers(old), _numbers(new)
    return "a ranking or a scenario changed" if before.keys() != after.keys() else _left(before, after)


def _left(before: dict[str, Quantity], after: dict[str, Quantity]) -> str:
    """The first number that is not what it was: out of its interval or, where it has none, another number."""
    for code, was in before.items():
        now = after[code]
        if was.value is None or now.value is None:
            if was.value is not now.value:
                return f"{code} is reported in one run only"
        elif was.low is None or was.high is None:
            if not math.isclose(was.value, now.value, rel_tol=_SAME, abs_tol=_SAME):
                return f"{code} changed from {was.value:.6g} to {now.value:.6g}"
        elif not was.low <= now.value <= was.high:
            return f"{code} left its interval"
    return ""


def _numbers(found: TwinFindings) -> dict[str, Quantity]:
    """Every endpoint, and every number of a table by what its row is about: ranks may change places."""
    scenarios = {f"{s.code}.{q.code}": q for s in found.scenarios for q in s.endpoints}
    tables = {f"{t.label}, {r.label}, {q.label}": q for t in found.tables for r in t.rows for q in r.quantities}
    return scenarios | tables


_STEPS = (
    _Step(
        "connectome_builder",
        "dicom_ingest",
        StudyIngested,
        ConnectomeBuilt,
        lambda objects, figures: ConnectomeBuilder(
            objects=objects, build=BuildSettings(), rng_seed=int(figures["rng_seed"])
        ),
        _compare_connectomes,
    ),
    _Step(
        "twin_inference",
        "connectome_builder",
        ConnectomeBuilt,
        TwinCalibrated,
        lambda objects, figures: TwinCalibrator(
            objects=objects,
            rng_seed=int(figures["rng_seed"]),
            simulations=int(figures.get("second_opinion", {}).get("simulations", 0)),
        ),
        _compare_posteriors,
    ),
    _Step(
        "brain_simulator",
        "twin_inference",
        TwinCalibrated,
        ScenariosSimulated,
        lambda objects, figures: ScenarioSimulator(
            objects=objects,
            rng_seed=int(figures["rng_seed"]),
            duration_seconds=float(figures["duration_seconds"]),
        ),
        _compare_findings,
    ),
)
