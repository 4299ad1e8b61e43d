"""The gRPC face of ingest: studies from callers without a DICOM sender, over the same durable path."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Literal

import grpc
from pydicom.filereader import read_partial

from dicom_ingest.attachment import Attacher
from dicom_ingest.intake import Intake
from dicom_ingest.receiver import QuarantinedObject, ReceivedInstance
from dicom_ingest.spool import Arrival, Conflict, Malformed, Spool
from dicom_ingest.upload import Uploads, failed_checks
from vbt.api.dicom.v1 import dicom_pb2 as api
from vbt.api.dicom.v1 import dicom_pb2_grpc
from vbt.api.event.v1.event_pb2 import StudyIngested, StudyReceived
from vbt.dicom import UNPARSABLE
from vbt.errors import NotYet
from vbt.platform.steps import Steps
from vbt.platform.tracing import traceparent

Fate = Literal["stored", "duplicate", "quarantined"]


class DicomServicer(dicom_pb2_grpc.DicomServiceServicer):
    def __init__(
        self,
        steps: Steps[StudyReceived, StudyIngested],
        spool: Spool,
        intake: Intake,
        attacher: Attacher,
        uploads: Uploads,
    ) -> None:
        self._steps = steps
        self._spool = spool
        self._intake = intake
        self._attacher = attacher
        self._uploads = uploads

    def SubmitInstances(
        self, request_iterator: Iterator[api.SubmitInstancesRequest], context: grpc.ServicerContext
    ) -> api.SubmitInstancesResponse:
        association = uuid.uuid4().hex
        fates: list[Fate] = []
        arrival: Arrival | None = None
        try:
            for request in request_iterator:
                if arrival is None:
                    arrival = self._begin(request.chunk)
                else:
                    arrival.write(request.chunk)
                if request.last:
                    fates.append(self._keep(arrival, association))
                    arrival = None
        finally:
            if arrival is not None:
                arrival.discard()
        return api.SubmitInstancesResponse(
            stored=fates.count("stored"),
            duplicates=fates.count("duplicate"),
            quarantined=fates.count("quarantined"),
        )

    def AttachRecordings(
        self, request_iterator: Iterator[api.AttachRecordingsRequest], context: grpc.ServicerContext
    ) -> api.AttachRecordingsResponse:
        asked, contents = self._uploads.receive(request_iterator)
        attached = self._attacher.attach(asked.case_id, contents, asked.protocol or None)
        return api.AttachRecordingsResponse(
            case_id=attached.case_id,
            revision=attached.revision,
            protocol=attached.protocol,
            changed=attached.changed,
            checks=failed_checks(contents),
        )

    def GetStudy(self, request: api.GetStudyRequest, context: grpc.ServicerContext) -> api.GetStudyResponse:
        step, result = self._steps.get(request.case_id)
        return api.GetStudyResponse(step=step, result=result)

    def ListStudies(self, request: api.ListStudiesRequest, context: grpc.ServicerContext) -> api.ListStudiesResponse:
        return api.ListStudiesResponse(steps=self._steps.list(request.limit))

    def WatchStudy(
        self, request: api.WatchStudyRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchStudyResponse]:
        for step in self._steps.watch(request.case_id, context):
            yield api.WatchStudyResponse(step=step)

    def CancelStudy(self, request: api.CancelStudyRequest, context: grpc.ServicerContext) -> api.CancelStudyResponse:
        return api.CancelStudyResponse(accepted=self._steps.cancel(request.case_id))

    def _begin(self, first: bytes) -> Arrival:
        """Open a file for an object whose first piece came, under our own file head, so that it has the same bytes as
        the same object over C-STORE."""
        if not self._spool.has_room():
            raise NotYet(
                "spool-full",
                rule="received images need free disk space",
                got="less than the site keeps in reserve",
                action="send the study again when space was freed",
            )
        content = io.BytesIO(first)
        try:
            meta = read_partial(content, stop_when=lambda *_: True).file_meta
            arrival = self._spool.begin(
                str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
            )
        except UNPARSABLE:
            # Not DICOM: it goes to quarantine as it came, under a head that names nothing.
            content.seek(0)
            arrival = self._spool.begin("", "", "")
        arrival.write(content.read())
        return arrival

    def _keep(self, arrival: Arrival, association: str) -> Fate:
        with arrival:
            try:
                kept = self._spool.keep(arrival, arrival.identifiers())
            except Malformed:
                path, sha256, size = self._spool.quarantine(arrival)
                self._intake.quarantined(QuarantinedObject("malformed", sha256, path, association, size))
                return "quarantined"
        if isinstance(kept, Conflict):
            self._intake.quarantined(
                QuarantinedObject(
                    "conflicting-duplicate", kept.sha256, kept.path, association, kept.size, kept.study_key
                )
            )
            return "quarantined"
        spooled, duplicate = kept
        self._intake.stored(
            ReceivedInstance(
                sop_key=spooled.sop_key,
                study_key=spooled.study_key,
                series_key=spooled.series_key,
                sha256=spooled.sha256,
                path=spooled.path,
                association=association,
                size=spooled.size,
                duplicate=duplicate,
                traceparent=traceparent(),
            )
        )
        return "duplicate" if duplicate else "stored"
