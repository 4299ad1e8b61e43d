"""`vbt attach`: recordings that are no DICOM images come to a case from the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dicom_ingest import recordings
from dicom_ingest.attachment import INGEST, Attached, Attacher
from dicom_ingest.recordings import Content
from standalone.suite import Ports, SuiteSettings
from vbt.clinical.applications import NAMES
from vbt.errors import Rejected
from vbt.platform.erasure import operator
from vbt.platform.policy import ConsentPolicy
from vbt.platform.runtime import open_objects
from vbt.platform.software import this_software


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a person names on the command line; None where it was not given."""

    seeg: Path | None = None
    eeg: Path | None = None
    meg: Path | None = None
    electrodes: Path | None = None
    lesions: Path | None = None
    resection: Sequence[str] = ()


def attach(
    engine: sa.Engine, settings: SuiteSettings, case_id: str, files: Files, application: str | None
) -> tuple[Attached, list[Content]]:
    """Read and check the files, then attach all of them in one revision, or nothing.

    Raises
    ------
    Rejected : ``protocol-unknown``, ``electrodes-missing``, or as reading and attaching refuse
    """
    if application is not None and application not in NAMES:
        raise Rejected(
            "protocol-unknown",
            rule=f"an application is one of {', '.join(NAMES)}",
            got="another name",
            action="ask for one of these, or leave it to what is attached",
        )
    contents = list(_read(files))
    attacher = Attacher(
        engine=engine,
        objects=open_objects(settings),
        policy=ConsentPolicy(settings.policy.consent_default),
        software=this_software(INGEST),
        actor="vbt attach",
        operator=operator(),
    )
    return attacher.attach(case_id, contents, application), contents


def told(attached: Attached, contents: Sequence[Content], data: Path) -> Iterator[str]:
    """What to tell the person: what was taken, which channels were not, and what happens next."""
    for content in contents:
        yield content.summary
        for check in content.checks:
            if not check.passed:
                yield f"   {check.label.lower()}, left out: {', '.join(check.channels)}"
    if not attached.changed:
        yield f"{attached.case_id}: attached already, nothing to do"
        return
    yield f"{attached.case_id}: revision {attached.revision}, {attached.protocol.replace('_', ' ')}"
    if Ports.of(data) is None:
        yield f"no suite runs on {data}: the twin is built once you start it with `vbt up --data {data}`"
    else:
        yield f"follow it with `vbt case watch {attached.case_id}`"


def _read(files: Files) -> Iterator[Content]:
    if files.seeg is not None:
        if files.electrodes is None:
            raise Rejected(
                "electrodes-missing",
                rule="SEEG comes with the places of its contacts, in the scanner coordinates of the T1",
                got="a recording without them",
                action="give the table with --electrodes",
            )
        yield recordings.seeg(files.seeg, files.electrodes)
    elsewhere = None if files.seeg is not None else files.electrodes
    if files.eeg is not None:
        yield recordings.sensors(files.eeg, "eeg", elsewhere)
    if files.meg is not None:
        yield recordings.sensors(files.meg, "meg", None if files.eeg is not None else elsewhere)
    if files.lesions is not None:
        yield recordings.lesions(files.lesions)
    if files.resection:
        yield recordings.resection(files.resection)
