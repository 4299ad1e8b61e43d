"""A connectome and the patient's recordings become a posterior, or a refusal with its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin_inference.time_left import TimeLeft
from vbt.api.event.v1 import event_pb2
from vbt.clinical.application import Recordings
from vbt.clinical.applications import application_of, require_recordings
from vbt.connectome import Connectome
from vbt.errors import Rejected, Unsound
from vbt.inference import Calibration, gate_checks
from vbt.platform import events, wire
from vbt.platform.checkpoints import StepCheckpoint, step_checkpoint
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext


@dataclass(frozen=True, kw_only=True)
class TwinCalibrator:
    """Handler of `ConnectomeBuilt`: the application that the protocol names calibrates the twin.

    Parameters
    ----------
    rng_seed : seeds the chains
    """

    objects: Objects
    rng_seed: int

    def __call__(self, event: Event, context: StageContext) -> Effects:
        built = wire.decode(event, event_pb2.ConnectomeBuilt)
        checkpoint = step_checkpoint(self.objects, context, str(self.rng_seed))
        try:
            calibration = self._calibrate(built, checkpoint, context)
        except (Rejected, Unsound):
            # Refused or cancelled: nobody goes on from here.
            checkpoint.remove()
            raise
        message = self._message(event, built, calibration)
        given = [built.connectome, *wire.recorded(built).values()]
        return wire.gives(
            context,
            message,
            topic=events.TWIN_CALIBRATED,
            action="twin.calibrated",
            summary=_summary(calibration),
            inputs=given,
            outputs=[message.posterior, message.manifest],
            figures={
                "application": built.protocol,
                "verdict": calibration.verdict,
                "reasons": list(calibration.reasons),
                "rng_seed": self.rng_seed,
                "gate": _gate(calibration),
            },
            afterwards=[checkpoint.remove],
        )

    def _calibrate(
        self, built: event_pb2.ConnectomeBuilt, checkpoint: StepCheckpoint, context: StageContext
    ) -> Calibration:
        application = application_of(built.protocol)
        recordings = Recordings.of(wire.recordings(built, self.objects))
        require_recordings(application, recordings)
        calibration: Calibration = application.calibrate(
            Connectome.from_npz(self.objects.get(wire.from_wire(built.connectome))),
            recordings,
            rng_seed=self.rng_seed,
            progress=TimeLeft(context.progress),
            checkpoint=checkpoint,
        )
        return calibration

    def _message(
        self, event: Event, built: event_pb2.ConnectomeBuilt, calibration: Calibration
    ) -> event_pb2.TwinCalibrated:
        posterior = self.objects.put(calibration.to_npz(), "application/x-npz", "posterior.npz")
        manifest = self.objects.put(calibration.manifest.to_json().encode(), "application/json", "sampling.json")
        return event_pb2.TwinCalibrated(
            case_id=event.subject,
            revision=event.revision,
            protocol=built.protocol,
            connectome=built.connectome,
            posterior=wire.to_wire(posterior),
            manifest=wire.to_wire(manifest),
            verdict=event_pb2.VERDICT_SOUND if calibration.sound else event_pb2.VERDICT_UNSOUND,
            reasons=calibration.reasons,
            quality=built.quality,
            methods=built.methods,
            pictures=built.pictures,
            labels=built.labels if built.HasField("labels") else None,
            recordings=built.recordings,
        )


def _gate(calibration: Calibration) -> dict[str, float]:
    """What the gate looked at, in numbers; how much the recording says of the parameter that it says least about."""
    figures = {check.code: check.value for check in gate_checks(calibration)}
    figures["least-shrinkage"] = min(p.shrinkage for p in calibration.parameters if not p.nuisance)
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _summary(calibration: Calibration) -> str:
    if not calibration.sound:
        return "unsound: " + "; ".join(calibration.reasons)
    chains, draws = next(iter(calibration.draws.values())).shape[:2]
    return f"{len(calibration.draws)} parameters, {chains * draws} draws, sound"
