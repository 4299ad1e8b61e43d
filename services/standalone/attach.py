"""`vbt attach`: recordings that are no DICOM images come to a case from the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from dicom_ingest.attachment import INGEST, Attached, Attacher
from dicom_ingest.recordings import Content, read
from dicom_ingest.recordings import Files as Files
from standalone.suite import Ports, SuiteSettings
from vbt.clinical.applications import NAMES
from vbt.errors import Rejected
from vbt.platform.erasure import operator
from vbt.platform.keys import SiteKeys
from vbt.platform.policy import ConsentPolicy
from vbt.platform.runtime import open_objects
from vbt.platform.software import this_software


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
    contents = list(read(files))
    attacher = Attacher(
        engine=engine,
        objects=open_objects(settings),
        policy=ConsentPolicy(settings.policy.consent_default),
        pseudonym=SiteKeys(settings.keys_directory).pseudonym,
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
