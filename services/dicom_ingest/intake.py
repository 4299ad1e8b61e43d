"""Received images become rows, a quiet study becomes a case, and late images its next revision."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_ingest import reception
from dicom_ingest.receiver import NotRecorded, QuarantinedObject, ReceivedInstance
from dicom_ingest.reception import Reception
from dicom_ingest.spool import Spool
from vbt.api.event.v1 import event_pb2
from vbt.errors import Rejected
from vbt.platform import audit, cases, events, stages, state, wire
from vbt.platform.audit import AuditEntry, Digest, entry_id
from vbt.platform.cases import Case, Status
from vbt.platform.events import Event, event_id
from vbt.platform.outbox import publish
from vbt.platform.software import Software
from vbt.platform.state import insert_new, reading
from vbt.platform.tracing import span, traceparent

_log = logging.getLogger("vbt.dicom_ingest")

STAGE = "receive"
_BEAT = 0.5
_RECOVERED = "recovered"  # in place of the association's name, which died with its process

_QUARANTINE = {
    "malformed": "an object is a complete DICOM data set that names its study, series and instance",
    "sop-instance-mismatch": "an object is the instance that its sender announced",
    "conflicting-duplicate": "an instance that was received before is sent again with the same bytes",
}


@dataclass(frozen=True)
class _Quiet:
    """A study that has images no case knows of, and got none for the quiet time."""

    study_key: str
    instances: int
    first: float
    last: float


@dataclass(frozen=True)
class _Sender:
    """The association that sent a study's last image, and when; a name of nobody where that was before our start."""

    association: str = ""
    sent_at: float = 0.0


class Intake:
    """Keeps the rows of what the receiver stored, and a thread that closes quiet studies.

    Parameters
    ----------
    protocol : which twin is built from a study
    quiet_seconds : a study is complete when no image of it came for so long, and its association is closed for so long
    idle_seconds : or when no image of it came for so long, although its association is open; at least the quiet time
    open_associations : names of those that may still send; a study waits for the one that sent its last image
    """

    def __init__(
        self,
        engine: sa.Engine,
        software: Software,
        *,
        protocol: str,
        quiet_seconds: float,
        idle_seconds: float,
        open_associations: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._engine = engine
        self._software = software
        self._protocol = protocol
        self._quiet_seconds = quiet_seconds
        self._idle_seconds = max(idle_seconds, quiet_seconds)
        self._open_associations = open_associations
        # Studies with images that no case knows of, each with who sent its last one. Kept here because an image that
        # was received before leaves no trace in the state.
        self._open = dict.fromkeys(_studies(engine), _Sender())
        # When the association that sent a study's last image was last seen open; for the closing thread alone.
        self._sent_until: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicom-intake", daemon=True)

    def stored(self, instance: ReceivedInstance) -> None:
        """Commit the row of an instance; idempotent.

        Raises
        ------
        NotRecorded : the database is away; the sender is told to come back
        """
        row = {
            "sop_key": instance.sop_key,
            "study_key": instance.study_key,
            "series_key": instance.series_key,
            "sha256": instance.sha256,
            "path": str(instance.path),
            "received_at": time.time(),
            "association": instance.association,
        }
        try:
            with self._engine.begin() as connection:
                insert_new(connection, state.instance, row)
                reception.note_image(connection, instance.study_key, instance.traceparent)
        except sa.exc.OperationalError as error:
            raise NotRecorded from error
        with self._lock:
            self._open[instance.study_key] = _Sender(instance.association, time.time())

    def recover(self, spool: Spool) -> int:
        """Give rows to whole objects that have none, because the process died between disk and database; their number.

        Their sender was not told Success and may send them again, or may have given up: either way nothing is lost.
        """
        with reading(self._engine) as connection:
            known = set(connection.execute(sa.select(state.instance.c.sop_key)).scalars())
        found = list(spool.objects(known))
        for thing in found:
            self.stored(
                ReceivedInstance(
                    sop_key=thing.sop_key,
                    study_key=thing.study_key,
                    series_key=thing.series_key,
                    sha256=thing.sha256,
                    path=thing.path,
                    association=_RECOVERED,
                    size=thing.size,
                )
            )
        if found:
            _log.warning("spool.recovered", extra={"vbt.instances": len(found)})
        return len(found)

    def quarantined(self, thing: QuarantinedObject) -> None:
        """Say why an object is kept aside: as a stopped case, one per association, with an entry on the trail.

        Raises
        ------
        NotRecorded : the database is away; the sender is told to come back
        """
        try:
            self._set_aside(thing)
        except sa.exc.OperationalError as error:
            raise NotRecorded from error

    def _set_aside(self, thing: QuarantinedObject) -> None:
        key = f"association:{thing.association}"
        with self._engine.begin() as connection:
            case = cases.case_of_study(connection, key) or cases.create_case(
                connection, study_key=key, protocol="quarantine", status=Status.STOPPED
            )
            known = [other for stage in case.stages for other in stage.detail.get("objects", ())]
            error = _refusal(thing.reason, len(known) + 1)
            kept = {
                "code": thing.reason,
                "sha256": thing.sha256,
                "bytes": thing.size,
                "study_key": thing.study_key,  # by which an erasure of the study finds it
            }
            detail = {
                "code": error.code,
                "rule": error.rule,
                "got": error.got,
                "action": error.action,
                "objects": [*known, kept],
            }
            stages.finish(
                connection, case.case_id, case.revision, STAGE, Status.STOPPED, detail=detail, message=str(error)
            )
            audit.record(
                connection,
                self._entry(case, "object.quarantined", thing.sha256, outcome="refused", detail={"code": thing.reason}),
            )
            if not known:
                cause = Event(id=key, source=STAGE, type=STAGE, subject=case.case_id, revision=case.revision, value=b"")
                topic, stop = wire.stopped(cause, error, STAGE)
                publish(connection, stop, topic)

    def start(self) -> None:
        """Begin to close quiet studies."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether quiet studies are being closed."""
        return self._thread.is_alive()

    def drain(self) -> None:
        """Close no further study."""
        self._stopping.set()

    def stop(self, grace: float) -> bool:
        """Stop closing studies; what is open is closed after the next start."""
        self.drain()
        if self.alive:
            self._thread.join(grace)
        return not self.alive

    def _run(self) -> None:
        while not self._stopping.wait(_BEAT):
            try:
                self.close_quiet_studies()
            except sa.exc.OperationalError as error:
                _log.warning("study.waiting", extra={"vbt.error": type(error).__name__})

    def close_quiet_studies(self) -> None:
        """Turn every study that is complete by now into a case, or into the next revision of its case."""
        with self._lock:
            candidates = dict(self._open)
        sending = self._open_associations()
        now = time.time()
        for study_key, sender in candidates.items():
            since, patience = sender.sent_at, self._idle_seconds
            if sender.association in sending:
                self._sent_until[study_key] = now
            else:
                # A sender that lost its association comes back with a new one: it gets the quiet time from the loss on.
                since, patience = max(since, self._sent_until.get(study_key, 0.0)), self._quiet_seconds
            if now - since < patience:
                continue
            with reading(self._engine) as connection:
                quiet = _quiet(connection, study_key)
            if now - quiet.last >= patience:
                self._close_one(study_key, sender, patience)

    def _close_one(self, study_key: str, sender: _Sender, patience: float) -> None:
        with self._lock:
            self._open.pop(study_key, None)
        self._sent_until.pop(study_key, None)
        resent = bool(sender.association)
        try:
            with reading(self._engine) as connection:
                coming = reception.reception(connection, study_key)
                if coming is None and not _news(connection, study_key, resent=resent):
                    return
            with coming.ending() if coming else span("receive study") as current:
                with self._engine.begin() as connection:
                    # Counted here and not before: an image that came meanwhile belongs to this revision.
                    quiet = _quiet(connection, study_key)
                    revision = self._close(connection, quiet, coming, patience, resent=resent)
                current.set_attribute("vbt.revision", revision)
        except BaseException:
            with self._lock:
                self._open.setdefault(study_key, sender)
            raise

    def _close(
        self, connection: sa.Connection, quiet: _Quiet, coming: Reception | None, patience: float, *, resent: bool
    ) -> int:
        """Make the case or its next revision and give its number, or 0 where nothing is new.

        A stopped study that is sent again starts anew.
        """
        revised = _news(connection, quiet.study_key, resent=resent)
        if coming is not None:
            reception.end(connection, coming, revised=revised)
        if not revised:
            return 0
        known = cases.case_of_study(connection, quiet.study_key)
        if known is None:
            case = cases.create_case(connection, study_key=quiet.study_key, protocol=self._protocol)
        else:
            cases.new_revision(connection, known.case_id)
            case = cases.read_case(connection, known.case_id)
        detail = {
            "instances": quiet.instances,
            "summary": f"{quiet.instances} images, no more for {patience:g} s",
        }
        stages.begin(connection, case.case_id, case.revision, STAGE)
        stages.finish(
            connection,
            case.case_id,
            case.revision,
            STAGE,
            Status.DONE,
            seconds=quiet.last - quiet.first,
            detail=detail,
        )
        audit.record(connection, self._received(connection, case, quiet))
        publish(connection, self._event(case, quiet))
        return case.revision

    def _received(self, connection: sa.Connection, case: Case, quiet: _Quiet) -> AuditEntry:
        here = sa.select(state.instance.c.sha256, state.instance.c.association).where(
            state.instance.c.study_key == quiet.study_key
        )
        rows = connection.execute(here.order_by(state.instance.c.sha256)).all()
        digests = [row.sha256 for row in rows]
        return self._entry(
            case,
            "study.received",
            str(case.revision),
            # One digest stands for all: SHA-256 over the sorted hexadecimal digests of the files, a line each.
            outputs=(Digest(name="instances", sha256=hashlib.sha256("\n".join(digests).encode()).hexdigest()),),
            detail={"instances": quiet.instances, "associations": sorted({row.association for row in rows})},
        )

    def _entry(
        self,
        case: Case,
        action: str,
        act: str,
        *,
        outcome: audit.Outcome = "success",
        outputs: tuple[Digest, ...] = (),
        detail: dict[str, object] | None = None,
    ) -> AuditEntry:
        return AuditEntry(
            event_id=entry_id(self._software.name, case.case_id, action, act),
            case_id=case.case_id,
            revision=case.revision,
            action=action,
            outcome=outcome,
            actor=self._software.name,
            software=self._software,
            outputs=outputs,
            detail=detail or {},
        )

    def _event(self, case: Case, quiet: _Quiet) -> Event:
        message = event_pb2.StudyReceived(
            case_id=case.case_id, revision=case.revision, protocol=case.protocol, instance_count=quiet.instances
        )
        return Event(
            id=event_id(STAGE, case.case_id, case.revision, str(quiet.instances), self._software.digest),
            source=STAGE,
            type=events.STUDY_RECEIVED,
            subject=case.case_id,
            revision=case.revision,
            traceparent=traceparent(),
            value=message.SerializeToString(deterministic=True),
        )


def _studies(engine: sa.Engine) -> set[str]:
    """Studies with images that no case knows of: those of all studies at the start, which closing sorts out."""
    with reading(engine) as connection:
        return set(connection.execute(sa.select(state.instance.c.study_key).distinct()).scalars())


def _quiet(connection: sa.Connection, study_key: str) -> _Quiet:
    """What came of a study; nothing, and long ago, where it was erased meanwhile."""
    received_at = state.instance.c.received_at
    first, last = (sa.func.coalesce(edge(received_at), 0.0) for edge in (sa.func.min, sa.func.max))
    row = connection.execute(
        sa.select(sa.func.count(), first, last).where(state.instance.c.study_key == study_key)
    ).one()
    return _Quiet(study_key, *row)


def _news(connection: sa.Connection, study_key: str, *, resent: bool) -> bool:
    """Whether closing makes a revision: there are images no revision knows of, or a stopped study was sent again."""
    instances = _quiet(connection, study_key).instances
    if not instances:
        return False
    known = cases.case_of_study(connection, study_key)
    if known is None or (resent and known.status is Status.STOPPED):
        return True
    return _closed_with(known) != instances


def _closed_with(case: Case) -> int:
    """How many images the newest revision of a case was closed with."""
    return next((int(stage.detail.get("instances", 0)) for stage in case.stages if stage.stage == STAGE), 0)


def _refusal(code: str, aside: int) -> Rejected:
    return Rejected(
        code,
        rule=_QUARANTINE[code],
        got=f"{aside} object(s) of one association that are not",
        action="have the sender check its copy and send the study again; what came is kept in quarantine",
    )
