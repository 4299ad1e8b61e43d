"""A calibrated twin is tried under interventions, and what it found becomes findings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from vbt.api.event.v1 import event_pb2
from vbt.clinical.application import Application, Recordings, Scenarios
from vbt.clinical.applications import application_of
from vbt.clinical.findings import Check, TwinFindings
from vbt.clinical.second_opinion import Opinion
from vbt.connectome import Connectome
from vbt.inference import Calibration
from vbt.platform import events, wire
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext

_NAMED = 3  # scenarios in the summary


@dataclass(frozen=True, kw_only=True)
class ScenarioSimulator:
    """Handler of `TwinCalibrated`: the application that the protocol names tries its interventions.

    Parameters
    ----------
    rng_seed : seeds the noise; all conditions of a draw share it, so that they can be compared
    duration_seconds : simulated time per draw and condition
    """

    objects: Objects
    rng_seed: int
    duration_seconds: float

    def __call__(self, event: Event, context: StageContext) -> Effects:
        twin = wire.decode(event, event_pb2.TwinCalibrated)
        application = application_of(twin.protocol)
        calibration = application.calibration.from_npz(self.objects.get(wire.from_wire(twin.posterior)))
        sound = twin.verdict == event_pb2.VERDICT_SOUND
        run = self._run(application, twin, calibration, context) if sound else None
        found = application.findings(
            tuple(
                Check(code=c.code, label=c.label, value=c.value, limit=c.limit, passed=c.passed) for c in twin.quality
            ),
            calibration,
            run,
        )
        opinions = [artifact for artifact in twin.second_opinion if artifact.name == "second-opinion.json"]
        for artifact in opinions:
            found = Opinion.from_json(self.objects.get(wire.from_wire(artifact))).joined(found)
        found = dataclasses.replace(
            found, methods=(*twin.methods, *found.methods), conclusion=_review(twin) + found.conclusion
        )
        message = self._message(event, twin, run, found)
        outputs = [message.findings, *([message.scenarios] if run else []), *message.manifests[1:]]
        return wire.gives(
            context,
            message,
            topic=events.SCENARIOS_SIMULATED,
            action="scenarios.simulated",
            summary=_summary(found, simulated=run is not None),
            inputs=[twin.connectome, twin.posterior, *opinions, *wire.recorded(twin).values()],
            outputs=outputs,
            figures={
                "application": twin.protocol,
                "rng_seed": self.rng_seed,
                "duration_seconds": self.duration_seconds,
            },
        )

    def _run(
        self,
        application: Application[Any, Any],
        twin: event_pb2.TwinCalibrated,
        calibration: Calibration,
        context: StageContext,
    ) -> Scenarios:
        run: Scenarios = application.run_scenarios(
            Connectome.from_npz(self.objects.get(wire.from_wire(twin.connectome))),
            Recordings.of(wire.recordings(twin, self.objects)),
            calibration,
            rng_seed=self.rng_seed,
            duration=self.duration_seconds,
            progress=context.progress,
        )
        return run

    def _message(
        self, event: Event, twin: event_pb2.TwinCalibrated, run: Scenarios | None, found: TwinFindings
    ) -> event_pb2.ScenariosSimulated:
        message = event_pb2.ScenariosSimulated(
            case_id=event.subject,
            revision=event.revision,
            protocol=twin.protocol,
            connectome=twin.connectome,
            posterior=twin.posterior,
            findings=wire.to_wire(self.objects.put(found.to_json().encode(), "application/json", "findings.json")),
            manifests=[twin.manifest],
            pictures=twin.pictures,
            labels=twin.labels if twin.HasField("labels") else None,
            recordings=twin.recordings,
        )
        if run is not None:
            scenarios = self.objects.put(run.to_npz(), "application/x-npz", "scenarios.npz")
            manifest = self.objects.put(run.manifest.to_json().encode(), "application/json", "scenarios.json")
            message.scenarios.CopyFrom(wire.to_wire(scenarios))
            message.manifests.append(wire.to_wire(manifest))
        return message


def _review(twin: event_pb2.TwinCalibrated) -> str:
    """What a person must look at before relying on the twin; empty where images and connectome passed all checks."""
    failed = [check.label for check in twin.quality if not check.passed]
    if not failed:
        return ""
    return f"A person must look at images and connectome first; not passed: {'; '.join(failed)}. "


def _summary(found: TwinFindings, *, simulated: bool) -> str:
    if not simulated:
        return "none simulated: the calibration is unsound"
    labels = [scenario.label for scenario in found.scenarios]
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return "; ".join(labels[:_NAMED]) + more
