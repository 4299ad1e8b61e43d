"""A connectome and the patient's recordings become a posterior, or a refusal with its reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_inference.time_left import TimeLeft
from vbt.api.event.v1 import event_pb2
from vbt.clinical.application import Recordings
from vbt.clinical.applications import application_of, require_recordings
from vbt.clinical.second_opinion import SecondOpinion
from vbt.connectome import Connectome
from vbt.errors import NotYet, Rejected, Unsound
from vbt.inference import Calibration, gate_checks
from vbt.platform import events, stages, wire
from vbt.platform.checkpoints import StepCheckpoint, step_checkpoint
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext
from vbt.platform.state import reading

_FIRST = 0.4  # of the progress, where a second opinion follows
_MEDIA_TYPES = {".json": "application/json", ".npz": "application/x-npz"}


@dataclass(frozen=True, kw_only=True)
class TwinCalibrator:
    """Handler of `ConnectomeBuilt`: the application that the protocol names calibrates the twin.

    Parameters
    ----------
    rng_seed : seeds the chains, and the simulations and networks of a second opinion
    simulations : that a second opinion trains its network on; none: no application is asked for one
    """

    objects: Objects
    rng_seed: int
    simulations: int = 0

    def __call__(self, event: Event, context: StageContext) -> Effects:
        built = wire.decode(event, event_pb2.ConnectomeBuilt)
        asked = [f"second-opinion {self.simulations}"] if self.simulations else []
        checkpoint = step_checkpoint(self.objects, context, str(self.rng_seed), *asked)
        try:
            calibration, opinion = self._calibrate(built, checkpoint, context)
        except (Rejected, Unsound):
            # Refused or cancelled: nobody goes on from here.
            checkpoint.remove()
            raise
        message = self._message(event, built, calibration, opinion)
        given = [built.connectome, *wire.recorded(built).values()]
        return wire.gives(
            context,
            message,
            topic=events.TWIN_CALIBRATED,
            action="twin.calibrated",
            summary=_summary(calibration, opinion),
            inputs=given,
            outputs=[message.posterior, message.manifest, *message.second_opinion],
            figures={
                "application": built.protocol,
                "verdict": calibration.verdict,
                "reasons": list(calibration.reasons),
                "rng_seed": self.rng_seed,
                "gate": _gate(calibration),
                **({"second_opinion": self._asked(opinion, context)} if opinion else {}),
            },
            afterwards=[checkpoint.remove],
        )

    def earlier_networks(self, context: StageContext) -> Iterator[bytes]:
        """Those that this software trained for earlier revisions of the case, the newest first."""
        with reading(context.engine) as connection:
            earlier = stages.done(connection, context.event.subject, context.stage)
        for detail in earlier.values():
            if detail.get("second_opinion", {}).get("software") != context.software.digest:
                continue
            for artifact in wire.message_of(detail, event_pb2.TwinCalibrated).second_opinion:
                if artifact.name == "network.npz":
                    try:
                        yield self.objects.get(wire.from_wire(artifact))
                    except NotYet:
                        continue  # it is trained again

    def _calibrate(
        self, built: event_pb2.ConnectomeBuilt, checkpoint: StepCheckpoint, context: StageContext
    ) -> tuple[Calibration, SecondOpinion | None]:
        application = application_of(built.protocol)
        recordings = Recordings.of(wire.recordings(built, self.objects))
        require_recordings(application, recordings)
        connectome = Connectome.from_npz(self.objects.get(wire.from_wire(built.connectome)))
        again = application.second_opinion if self.simulations else None
        tell = TimeLeft(context.progress)
        calibration: Calibration = application.calibrate(
            connectome,
            recordings,
            rng_seed=self.rng_seed,
            progress=tell if again is None else lambda message, fraction: tell(message, _FIRST * fraction),
            checkpoint=checkpoint,
        )
        if again is None:
            return calibration, None
        opinion = again(
            connectome,
            recordings,
            calibration,
            rng_seed=self.rng_seed,
            simulations=self.simulations,
            networks=self.earlier_networks(context),
            progress=lambda message, fraction: tell(f"second opinion: {message}", _FIRST + (1.0 - _FIRST) * fraction),
            checkpoint=checkpoint,
        )
        return calibration, opinion

    def _asked(self, opinion: SecondOpinion, context: StageContext) -> dict[str, Any]:
        return {
            "simulations": self.simulations,
            "software": context.software.digest,
            "verdict": opinion.opinion.verdict,
            "said": opinion.opinion.conclusion,
            "figures": {check.code: check.value for check in opinion.opinion.quality},
        }

    def _message(
        self, event: Event, built: event_pb2.ConnectomeBuilt, calibration: Calibration, opinion: SecondOpinion | None
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
            second_opinion=[
                wire.to_wire(self.objects.put(content, _MEDIA_TYPES[Path(name).suffix], name))
                for name, content in (opinion.archives() if opinion else {}).items()
            ],
        )


def _gate(calibration: Calibration) -> dict[str, float]:
    """What the gate looked at, in numbers; how much the recording says of the parameter that it says least about."""
    figures = {check.code: check.value for check in gate_checks(calibration)}
    figures["least-shrinkage"] = min(p.shrinkage for p in calibration.parameters if not p.nuisance)
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _summary(calibration: Calibration, opinion: SecondOpinion | None) -> str:
    if not calibration.sound:
        return "unsound: " + "; ".join(calibration.reasons)
    chains, draws = next(iter(calibration.draws.values())).shape[:2]
    second = f"; second opinion {opinion.opinion.verdict}" if opinion else ""
    return f"{len(calibration.draws)} parameters, {chains * draws} draws, sound{second}"
