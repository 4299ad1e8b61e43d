"""Receives studies from the PACS and turns each into de-identified volumes."""

from __future__ import annotations

import grpc

from dicom_ingest.attachment import Attacher
from dicom_ingest.handlers import StudyReader
from dicom_ingest.intake import Intake
from dicom_ingest.receiver import Receiver, ReceiverSettings
from dicom_ingest.servicer import DicomServicer
from dicom_ingest.settings import IngestSettings
from dicom_ingest.upload import Uploads
from vbt.api.dicom.v1.dicom_pb2_grpc import add_DicomServiceServicer_to_server
from vbt.api.event.v1.event_pb2 import StudyIngested, StudyReceived
from vbt.platform.events import STUDY_RECEIVED
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, line_step, run
from vbt.platform.software import this_software
from vbt.platform.steps import Steps

NAME = "dicom_ingest"


class Port:
    """The storage port as a worker of the service: open while the service works, closed first when it drains."""

    def __init__(self, receiver: Receiver, intake: Intake) -> None:
        self._receiver = receiver
        self._intake = intake
        self._open = False

    @property
    def number(self) -> int:
        """The TCP port, once open."""
        return self._receiver.port

    @property
    def alive(self) -> bool:
        """Whether the port is open."""
        return self._open

    def start(self) -> None:
        """Take up what a crash left between disk and database, then open the port."""
        self._intake.recover(self._receiver.spool)
        self._receiver.start()
        self._open = True

    def drain(self) -> None:
        """Close the port; senders find out at once and keep what was not acknowledged."""
        if self._open:
            self._open = False
            self._receiver.stop()

    def stop(self, grace: float) -> bool:  # noqa: ARG002  closing takes no time; what was acknowledged is safe
        """Close the port."""
        self.drain()
        return True


def build(runtime: Runtime, settings: IngestSettings) -> Service:
    """The service on an open runtime."""
    chosen = settings.dicom
    intake = Intake(
        runtime.engine,
        this_software(NAME),
        protocol=chosen.protocol,
        quiet_seconds=chosen.quiet_seconds,
        idle_seconds=chosen.idle_seconds,
        open_associations=lambda: receiver.open_associations(),
    )
    receiver = Receiver(
        ReceiverSettings(
            spool=settings.spool_directory,
            site_key=bytes.fromhex(runtime.keys.pseudonym("spool")),
            ae_title=chosen.ae_title,
            host=chosen.host,
            port=chosen.port,
            allowed_calling_ae_titles=chosen.calling_ae_titles,
            maximum_associations=chosen.maximum_associations,
            reserve_bytes=chosen.minimum_free_bytes,
        ),
        intake.stored,
        intake.quarantined,
    )

    attacher = Attacher(
        engine=runtime.engine,
        objects=runtime.objects,
        policy=runtime.policy,
        pseudonym=runtime.keys.pseudonym,
        software=this_software(NAME),
        actor=NAME,
        operator="gRPC",
    )
    uploads = Uploads(settings.spool_directory / ".uploads")

    def add_servicer(steps: Steps[StudyReceived, StudyIngested], server: grpc.Server) -> None:
        servicer = DicomServicer(steps, receiver.spool, intake, attacher, uploads)
        add_DicomServiceServicer_to_server(servicer, server)

    step = line_step(
        runtime,
        settings,
        name=NAME,
        takes=STUDY_RECEIVED,
        handler=StudyReader(
            objects=runtime.objects,
            vault=runtime.vault,
            deidentification_key=bytes.fromhex(runtime.keys.pseudonym("deidentification")),
            pseudonym=runtime.keys.pseudonym,
        ),
        gives=StudyIngested,
        add_servicer=add_servicer,
    )
    return Service(name=NAME, add_servicer=step.add_servicer, workers=[Port(receiver, intake), intake, *step.workers])


def main() -> None:
    """Run the service; what `vbt-dicom-ingest` calls."""
    run(NAME, "Receives studies from the PACS and turns each into de-identified volumes.", IngestSettings, build)


if __name__ == "__main__":
    main()
