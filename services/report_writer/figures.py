"""Which pictures a report has: those that its application draws from what the stages left."""

from __future__ import annotations

from collections.abc import Iterator

from vbt.api.event.v1.event_pb2 import ScenariosSimulated
from vbt.clinical.application import Picture, Recordings
from vbt.clinical.applications import application_of
from vbt.clinical.findings import TwinFindings
from vbt.connectome import Connectome
from vbt.platform import wire
from vbt.platform.objects import Objects


def drawn(simulated: ScenariosSimulated, findings: TwinFindings, objects: Objects) -> Iterator[Picture]:
    """The application's pictures, each with its place in the PDF; of an unsound twin only what shows the input."""
    application = application_of(findings.application)
    connectome = Connectome.from_npz(objects.get(wire.from_wire(simulated.connectome)))
    calibration = application.calibration.from_npz(objects.get(wire.from_wire(simulated.posterior)))
    run = None
    if simulated.HasField("scenarios"):
        run = application.scenarios.from_npz(objects.get(wire.from_wire(simulated.scenarios)))
    recordings = Recordings.of(wire.recordings(simulated, objects))
    yield from application.pictures(connectome, recordings, calibration, run, findings)
