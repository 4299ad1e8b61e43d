"""What a report has beside its text: the pictures that its application draws, tables in full, the posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from report_writer.tables import table_csv
from vbt.api.event.v1.event_pb2 import ScenariosSimulated
from vbt.clinical.application import Picture, Recordings
from vbt.clinical.applications import application_of
from vbt.clinical.findings import TwinFindings
from vbt.connectome import Connectome
from vbt.inference import inference_data
from vbt.platform import wire
from vbt.platform.objects import Objects


class File(NamedTuple):
    """What is kept beside a report."""

    name: str
    media_type: str
    content: bytes


def attachments(simulated: ScenariosSimulated, findings: TwinFindings, objects: Objects) -> Iterator[File]:
    """Every ranked table in full, and the posterior as ArviZ reads it; of an unsound twin nothing."""
    if findings.verdict == "sound":
        for table in findings.tables:
            yield File(f"{table.code}.csv", "text/csv", table_csv(table))
        posterior = objects.get(wire.from_wire(simulated.posterior))
        calibration = application_of(findings.application).calibration.from_npz(posterior)
        yield File("posterior.nc", "application/x-netcdf", inference_data(calibration))


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
