"""Findings, or the reason why there are none, become a report: PDF, pictures, FHIR to the EHR, DICOM to the PACS."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from report_writer.delivery import Delivery, Tier, deliver
from report_writer.fhir_endpoint import FhirEndpoint
from report_writer.figures import File, attachments, drawn
from report_writer.pdf import report_pdf, stopped_pdf
from vbt.api.event.v1 import event_pb2
from vbt.clinical.applications import application_of
from vbt.clinical.credibility import credibility
from vbt.clinical.findings import TwinFindings
from vbt.dicom import PatientIdentity
from vbt.errors import NotYet, Rejected, TwinError, Unsound
from vbt.fhir import CaseContext, Json, Receipt, Site, Software, Source, from_json, report_bundle, stopped_bundle
from vbt.platform import audit, events, state, wire
from vbt.platform.audit import Digest
from vbt.platform.cases import Status, read_case, set_status
from vbt.platform.events import Event
from vbt.platform.identity import Vault
from vbt.platform.objects import Objects
from vbt.platform.stage_context import Effects, Parked, StageContext
from vbt.platform.state import reading
from vbt.platform.tracing import traceparent

_TIERS = {
    Tier.TRANSACTION: event_pb2.WRITE_TIER_TRANSACTION,
    Tier.INDIVIDUAL: event_pb2.WRITE_TIER_INDIVIDUAL,
    Tier.DOCUMENT: event_pb2.WRITE_TIER_DOCUMENT,
    Tier.FOUND: event_pb2.WRITE_TIER_FOUND,
    Tier.NOT_TAKEN: event_pb2.WRITE_TIER_NOT_TAKEN,
    Tier.FILE: event_pb2.WRITE_TIER_FILE,
}
_WHERE = {
    Tier.FOUND: "in the EHR already, from an attempt before",
    Tier.NOT_TAKEN: "kept here: the EHR takes neither reports nor documents",
    Tier.FILE: "kept here: no EHR is configured",
}
_LEDGER_PATIENCE = 10.0  # seconds
_NOBODY = PatientIdentity.from_dict({})

SendToPacs = Callable[[bytes, CaseContext, PatientIdentity], int]
OpenEndpoint = Callable[[dict[str, str]], FhirEndpoint | None]


@dataclass(frozen=True, kw_only=True)
class ReportWriter:
    """Handler of `ScenariosSimulated` and of `CaseStopped`.

    Parameters
    ----------
    open_endpoint : the EHR for one delivery, given the headers that join it to the trace; None where none is configured
    sends : where reports go to, of ``"ehr"`` and ``"pacs"``; empty where they are only kept
    send_to_pacs : sends the PDF as a DICOM object and gives the number of objects the PACS stored
    """

    objects: Objects
    vault: Vault
    site: Site
    open_endpoint: OpenEndpoint
    send_to_pacs: SendToPacs
    sends: tuple[str, ...] = ()

    def __call__(self, event: Event, context: StageContext) -> Effects:
        if event.type == events.CASE_STOPPED:
            return self._stopped(event, context)
        simulated = wire.decode(event, event_pb2.ScenariosSimulated)
        findings = TwinFindings.from_json(self.objects.get(wire.from_wire(simulated.findings)))
        inputs = list(_inputs(simulated))
        identity = self._identity(context)
        case = self._case(event, context, identity, inputs)
        context.progress("drawing", 0.1)
        figures = list(drawn(simulated, findings, self.objects))
        # Those of the earlier stages are kept beside the report and not printed.
        pictures = {picture.name: self.objects.get(wire.from_wire(picture)) for picture in simulated.pictures}
        pictures |= {figure.name: figure.png for figure in figures}
        context.progress("typesetting", 0.5)
        stated = credibility(application_of(findings.application).credibility)
        pdf = report_pdf(findings, case=case, identity=identity, figures=figures, credibility=stated)
        context.progress("delivering", 0.7)
        beside = [File(name, "image/png", content) for name, content in sorted(pictures.items())]
        beside += attachments(simulated, findings, self.objects)
        return self._delivered(context, report_bundle(findings, pdf, case), pdf, case, identity, inputs, beside)

    def _stopped(self, event: Event, context: StageContext) -> Effects:
        stop = wire.decode(event, event_pb2.CaseStopped)
        if not self._has_identity(context) or wire.SINGLE_STEP in event.headers:
            # Nobody ordered it, or nobody knows for whom: the reason stands in the case and on the trail.
            return Effects(
                apply=[_end(event)], detail={"summary": f"no report: {stop.code} before the patient was known"}
            )
        identity = self._identity(context)
        case = self._case(event, context, identity, [])
        kind = Unsound if stop.kind == event_pb2.STOP_KIND_UNSOUND else Rejected
        error: TwinError = kind(stop.code, rule=stop.rule, got=stop.got, action=stop.action)
        pdf = stopped_pdf(error, case=case, identity=identity)
        return self._delivered(context, stopped_bundle(error, pdf, case), pdf, case, identity, [], [])

    def _delivered(
        self,
        context: StageContext,
        bundle: Json,
        pdf: bytes,
        case: CaseContext,
        identity: PatientIdentity,
        inputs: Sequence[event_pb2.Artifact],
        beside: Sequence[File],
    ) -> Effects:
        self._say_that_it_is_sent(context, pdf)
        try:
            delivery = self._deliver(bundle, context)
            stored = 0 if identity is _NOBODY else self.send_to_pacs(pdf, case, identity)
        except Rejected as refusal:
            # The report is right and stays wanted: whoever runs the EHR or the PACS changes something and replays it.
            raise Parked(refusal) from None
        kept = [wire.to_wire(self.objects.put(file.content, file.media_type, file.name)) for file in beside]
        message = event_pb2.ReportDelivered(
            case_id=context.event.subject,
            revision=context.event.revision,
            bundle=wire.to_wire(self.objects.put(delivery.sent, "application/fhir+json", "bundle.json")),
            pdf=wire.to_wire(self.objects.put(pdf, "application/pdf", "report.pdf")),
            write_tier=_TIERS[delivery.tier],
            fhir_references=delivery.references,
            dicom_objects_stored=stored,
            pictures=[artifact for artifact in kept if artifact.media_type == "image/png"],
            attachments=[artifact for artifact in kept if artifact.media_type != "image/png"],
        )
        return wire.gives(
            context,
            message,
            topic=events.REPORT_DELIVERED,
            action="report.delivered",
            summary=_summary(delivery, stored),
            inputs=inputs,
            outputs=[message.bundle, message.pdf, *kept],
            figures={
                "tier": delivery.tier.value,
                "fhir_references": list(delivery.references),
                "fhir_found": delivery.found,
                "dicom_objects": stored,
            },
            apply=[_end(context.event)],
        )

    def _say_that_it_is_sent(self, context: StageContext, pdf: bytes) -> None:
        """Put the sending on the trail before it begins: what leaves the house cannot be taken back, whether or not
        late images or a cancellation then keep the rest of this step from taking effect."""
        if wire.SINGLE_STEP in context.event.headers or not self.sends:
            return
        outputs = [Digest(name="report.pdf", sha256=hashlib.sha256(pdf).hexdigest())]
        with context.engine.begin() as connection:
            context.require_wanted(connection)
            audit.record(connection, context.audit("report.sending", outputs=outputs, detail={"to": list(self.sends)}))

    def _deliver(self, bundle: Json, context: StageContext) -> Delivery:
        endpoint = self.open_endpoint({"traceparent": traceparent(), "X-Request-Id": context.event.id})
        if endpoint is None or wire.SINGLE_STEP in context.event.headers:
            return deliver(bundle, None)
        with endpoint:
            return deliver(bundle, endpoint)

    def _has_identity(self, context: StageContext) -> bool:
        sealed = sa.select(state.identity.c.case_id).where(state.identity.c.case_id == context.event.subject)
        with reading(context.engine) as connection:
            return connection.execute(sealed).first() is not None

    def _identity(self, context: StageContext) -> PatientIdentity:
        """Who the patient is; nobody for a report that was asked for as a step on its own."""
        if wire.SINGLE_STEP in context.event.headers:
            return _NOBODY
        with context.engine.begin() as connection:
            # Every opening is an act of its own, also when the same report is tried again.
            opened = context.audit("identity.opened", detail={"for": "report"})
            entry = dataclasses.replace(opened, event_id=str(uuid.uuid4()))
            return PatientIdentity.from_dict(self.vault.open(connection, context.event.subject, entry))

    def _case(
        self, event: Event, context: StageContext, identity: PatientIdentity, inputs: Sequence[event_pb2.Artifact]
    ) -> CaseContext:
        software = context.software
        return CaseContext(
            case_id=event.subject,
            revision=event.revision,
            identity=identity,
            software=Software(name="Virtual Brain Twin", version=software.version, digest=software.digest),
            # The event's time, not now: a report that is written again after a crash is the same report.
            issued=datetime.fromisoformat(event.time),
            sources=[Source(artifact.name, artifact.sha256) for artifact in inputs],
            receipts=list(_receipts(context)),
            site=self.site,
        )


def _inputs(simulated: event_pb2.ScenariosSimulated) -> Iterator[event_pb2.Artifact]:
    yield from (simulated.connectome, *wire.recorded(simulated).values(), simulated.posterior)
    if simulated.HasField("scenarios"):
        yield simulated.scenarios
    yield simulated.findings
    yield from simulated.manifests


def _receipts(context: StageContext) -> Iterator[Receipt]:
    """What the other services did for the case, each with its leaf in the ledger.

    The report's own entries are left out, and what waits to be integrated is waited for, so that a report that is
    written again after a crash is the same report, byte for byte.

    Raises
    ------
    NotYet : the ledger does not integrate entries
    """
    deadline = time.monotonic() + _LEDGER_PATIENCE
    while True:
        with reading(context.engine) as connection:
            waiting = list(_of_others(connection, state.audit_outbox, context))
            leaves = list(_of_others(connection, state.audit_leaf, context))
        if not waiting:
            break
        if time.monotonic() > deadline:
            raise NotYet(
                "ledger-behind",
                rule="a report carries the receipts of what was done for it",
                got=f"{len(waiting)} entries that the ledger has not integrated",
                action="see to it that the audit ledger runs; the report is written again later",
            )
        time.sleep(0.2)
    for row in leaves:
        yield Receipt(event_id=row.event_id, leaf_hash=bytes(row.leaf_hash).hex(), sequence=row.seq)


def _of_others(connection: sa.Connection, table: sa.Table, context: StageContext) -> Iterator[sa.Row[Any]]:
    begun = read_case(connection, context.event.subject).created_at
    order = table.c.seq if "seq" in table.c else table.c.id
    for row in connection.execute(sa.select(table).where(table.c.at >= begun - 1.0).order_by(order)):
        entry = json.loads(row.entry)
        if entry["case_id"] == context.event.subject and entry["actor"] != context.software.name:
            yield row


def _end(event: Event) -> Callable[[sa.Connection], None]:
    def end(connection: sa.Connection) -> None:
        set_status(connection, event.subject, Status.STOPPED if event.type == events.CASE_STOPPED else Status.DONE)

    return end


def _summary(delivery: Delivery, stored: int) -> str:
    where = _WHERE.get(delivery.tier, f"in the EHR ({delivery.tier.value})")
    resources = len(from_json(delivery.sent)["entry"])
    pacs = f"; {stored} DICOM object in the PACS" if stored else ""
    return f"{resources} FHIR resources and PDF, {where}{pacs}"
