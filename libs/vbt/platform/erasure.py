"""Erasing a case destroys who the patient was, the images and everything derived from them; the trail keeps digests.

The identity's key goes first, in one transaction with its entry and with a new revision of the case, so that whatever
still works on the case takes no effect. Files and rows follow; a second run finishes what a crash left.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from vbt.errors import NotYet
from vbt.platform import cases, state
from vbt.platform.audit import AuditEntry, entries, record
from vbt.platform.cases import FINISHED, Case, Status
from vbt.platform.checkpoints import remove_checkpoints
from vbt.platform.identity import Vault
from vbt.platform.objects import Objects
from vbt.platform.software import Software
from vbt.platform.state import reading


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What was destroyed; ``images_missing`` were not in the spool, for example since an erasure that broke off."""

    case_id: str
    images: int
    images_missing: int
    artifacts: int
    shared_artifacts: int


@dataclass(frozen=True, kw_only=True)
class Eraser:
    """Erases cases of one site.

    Parameters
    ----------
    spool : the folder of received files, with ``quarantine`` in it
    reports : the folder of reports that were written out, a folder for each case
    actor, operator : for the trail: the command, and who gave it
    """

    engine: sa.Engine
    vault: Vault
    objects: Objects
    spool: Path
    reports: Path
    software: Software
    actor: str
    operator: str

    def erase(self, case_id: str) -> Erased:
        """Erase one case that has ended.

        Raises
        ------
        Rejected : ``case-unknown``
        NotYet : ``case-not-ended``; ``spool-unreachable``, or the artifacts are out of reach; ``checkpoints-left``;
            ``state-still-read``
        """
        if not self.spool.is_dir():
            raise _no_spool()
        with self.engine.begin() as connection:
            connection.execute(sa.select(state.case.c.case_id).where(state.case.c.case_id == case_id).with_for_update())
            case = cases.read_case(connection, case_id)
            # A case that stopped may still be told of in a report, whose writing would outlive the erasure.
            if case.status not in FINISHED or Status.RUNNING in {stage.status for stage in case.stages}:
                raise _not_ended()
            self._destroy_identity(connection, case)
        with reading(self.engine) as connection:
            files = [*self._images(connection, case), *self._kept_aside(_aside(connection, case))]
            mine, shared = _artifacts(connection, case_id)
        images = _unlink(files)
        if (written := self.reports / case_id).exists():
            shutil.rmtree(written)
        artifacts = sum(self.objects.remove(sha256) for sha256 in mine)
        remove_checkpoints(self.objects, case_id)
        with self.engine.begin() as connection:
            # Of the study, images may have come since the first look: no row goes without its file.
            late = _unlink(self._forget(connection, case))
            detail = {"images": images + late, "artifacts": artifacts}
            record(connection, self._entry(case, "case.erased", detail))
        self._wipe()
        return Erased(
            case_id=case_id,
            images=images + late,
            images_missing=len(files) - images,
            artifacts=artifacts,
            shared_artifacts=len(shared),
        )

    def _destroy_identity(self, connection: sa.Connection, case: Case) -> None:
        if case.status is not Status.ERASED:
            cases.new_revision(connection, case.case_id)
            cases.set_status(connection, case.case_id, Status.ERASED)
        self.vault.erase(connection, case.case_id, self._entry(case, "identity.erased", {}))

    def _images(self, connection: sa.Connection, case: Case) -> list[Path]:
        """The files of the study, under the spool as it is reached from here."""
        here = sa.select(state.instance.c.path).where(state.instance.c.study_key == case.study_key)
        return [self._here(path) for path in connection.execute(here).scalars()]

    def _here(self, stored: str) -> Path:
        path = Path(stored)
        return self.spool / path.parent.name / path.name

    def _kept_aside(self, digests: Set[str]) -> Iterator[Path]:
        """The files in quarantine that have these contents; their names are random."""
        if digests:
            for path in (self.spool / "quarantine").glob("*.dcm"):
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() in digests:
                        yield path

    def _forget(self, connection: sa.Connection, case: Case) -> list[Path]:
        """Delete the rows about the study, and empty its events: their places in the log stay, because readers count.

        Returns
        -------
        the files of the images whose rows went
        """
        images = sa.delete(state.instance).where(state.instance.c.study_key == case.study_key)
        files = [self._here(path) for path in connection.execute(images.returning(state.instance.c.path)).scalars()]
        for table, here in (
            (state.receiving, state.receiving.c.study_key == case.study_key),
            (state.stage, state.stage.c.case_id == case.case_id),
            (state.recording, state.recording.c.case_id == case.case_id),
            (state.identity, state.identity.c.case_id == case.case_id),
            (state.case_key, state.case_key.c.case_id == case.case_id),
        ):
            connection.execute(sa.delete(table).where(here))
        for table, here in (
            (state.outbox, state.outbox.c.key == case.case_id),
            (state.bus_log, state.bus_log.c.key == case.case_id),
            (state.dead_letter, state.dead_letter.c.case_id == case.case_id),
        ):
            connection.execute(sa.update(table).where(here).values(value=b""))
        return files

    def _wipe(self) -> None:
        """Leave nothing of the rows in SQLite's log file; ``secure_delete`` has overwritten them in the database."""
        if self.engine.dialect.name != "sqlite":
            return
        with self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if raw is None:
                return
            (is_busy, *_) = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise _still_read()

    def _entry(self, case: Case, action: str, detail: Mapping[str, object]) -> AuditEntry:
        return AuditEntry(
            event_id=str(uuid.uuid4()),  # an act of its own, also when the same case is erased again
            case_id=case.case_id,
            revision=case.revision,
            action=action,
            outcome="success",
            actor=self.actor,
            purpose="PATRQT",
            software=self.software,
            detail={**detail, "operator": self.operator},
        )


def _aside(connection: sa.Connection, case: Case) -> set[str]:
    """Digests of objects that were kept aside, in this very case, or in another where they are known to be its study's.

    Of a malformed object nobody can tell the study: it goes with the case that says so.
    """
    found = {thing["sha256"] for stage in case.stages for thing in stage.detail.get("objects", ())}
    named = sa.select(state.stage.c.detail).where(state.stage.c.detail.contains(case.study_key, autoescape=True))
    for detail in connection.execute(named).scalars():
        things = json.loads(detail).get("objects", ())
        found |= {thing["sha256"] for thing in things if thing.get("study_key") == case.study_key}
    return found


def _artifacts(connection: sa.Connection, case_id: str) -> tuple[set[str], set[str]]:
    """Digests of what was read and written for the case alone, and of what other cases that stand share with it.

    What was computed on demand from the case's artifacts is the case's too, though it is filed under the run's own id.
    """
    inputs: defaultdict[str, set[str]] = defaultdict(set)
    outputs: defaultdict[str, set[str]] = defaultdict(set)
    for content in entries(connection):
        entry = json.loads(content)
        inputs[entry["case_id"]] |= {thing["sha256"] for thing in entry["inputs"]}
        outputs[entry["case_id"]] |= {thing["sha256"] for thing in entry["outputs"]}
    # Asked for afterwards, because a case that began in between would be taken for a run on demand.
    statuses = dict(connection.execute(sa.select(state.case.c.case_id, state.case.c.status)).tuples().all())
    mine = inputs[case_id] | outputs[case_id]
    others: set[str] = set()
    erased: set[str] = set()
    for other in (inputs.keys() & statuses.keys()) - {case_id}:
        (erased if statuses[other] == Status.ERASED else others).update(inputs[other] | outputs[other])
    of_mine, of_erased = mine - others, erased - others
    for run in inputs.keys() - statuses.keys():
        if inputs[run] & of_mine:
            mine |= outputs[run]
        elif not inputs[run] & of_erased:
            others |= outputs[run]
    return mine - others, mine & others


def _unlink(files: Sequence[Path]) -> int:
    """Remove the files for good, also over a loss of power; how many were there."""
    there = [path for path in files if path.exists()]
    for path in there:
        path.unlink()
    for folder in {path.parent for path in there}:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return len(there)


def _not_ended() -> NotYet:
    return NotYet(
        "case-not-ended",
        rule="a case is erased after it ended, so that no work on it is left over",
        got="a case that still runs, or whose end is still being reported",
        action="cancel it with `vbt case cancel` if it runs, wait until no stage is at work, and erase it then",
    )


def _no_spool() -> NotYet:
    return NotYet(
        "spool-unreachable",
        rule="a case is erased where its received files can be reached",
        got="no spool directory here",
        action="run this where the ingest service keeps its files, with the same settings",
    )


def _still_read() -> NotYet:
    return NotYet(
        "state-still-read",
        rule="an erasure overwrites what the database's files still hold",
        got="somebody who reads an older state",
        action="everything else is erased; end long readings of the database and erase the case again",
    )


def operator() -> str:
    """The login of whoever gives a command here; the number of the user where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
