"""A connectome and a recording become a posterior, or a refusal with its reasons."""

from __future__ import annotations

from dataclasses import dataclass

from vbt.api.event.v1 import event_pb2
from vbt.connectome import Connectome, RegionalBold
from vbt.errors import Rejected
from vbt.inference import RestingStateCalibration, calibrate_resting_state
from vbt.platform import events, wire
from vbt.platform.events import Event
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, StageContext


@dataclass(frozen=True, kw_only=True)
class TwinCalibrator:
    """Handler of `ConnectomeBuilt`.

    Parameters
    ----------
    rng_seed : seeds the chains
    """

    objects: Objects
    rng_seed: int

    def __call__(self, event: Event, context: StageContext) -> Effects:
        built = wire.decode(event, event_pb2.ConnectomeBuilt)
        if not built.HasField("bold"):
            raise Rejected(
                "no-recording",
                rule="a twin is calibrated to a recording of the patient",
                got="a study without usable resting fMRI",
                action="send the study with its resting fMRI series",
            )
        bold = RegionalBold.from_npz(self.objects.get(wire.from_wire(built.bold)))
        calibration = calibrate_resting_state(
            Connectome.from_npz(self.objects.get(wire.from_wire(built.connectome))),
            bold.time_series,
            bold.repetition_time,
            rng_seed=self.rng_seed,
            progress=context.progress,
        )
        message = self._message(event, built, calibration)
        return wire.gives(
            context,
            message,
            topic=events.TWIN_CALIBRATED,
            action="twin.calibrated",
            summary=_summary(calibration),
            inputs=[built.connectome, built.bold],
            outputs=[message.posterior, message.manifest],
            figures={"verdict": calibration.verdict, "reasons": list(calibration.reasons), "rng_seed": self.rng_seed},
        )

    def _message(
        self, event: Event, built: event_pb2.ConnectomeBuilt, calibration: RestingStateCalibration
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
            verdict=event_pb2.VERDICT_SOUND if calibration.verdict == "sound" else event_pb2.VERDICT_UNSOUND,
            reasons=calibration.reasons,
            quality=built.quality,
            methods=built.methods,
            pictures=built.pictures,
        )


def _summary(calibration: RestingStateCalibration) -> str:
    if calibration.verdict != "sound":
        return "unsound: " + "; ".join(calibration.reasons)
    draws = next(iter(calibration.draws.values()))
    return f"{len(calibration.draws)} parameters, {draws.size} draws, sound"
