"""What a person decides about a case: that it ends, that consent is given or withdrawn, that it is erased."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from standalone.suite import SuiteSettings
from vbt.errors import NotYet, TwinError
from vbt.platform import audit, cases
from vbt.platform.audit import AuditEntry
from vbt.platform.cases import Case
from vbt.platform.erasure import Erased, Eraser, operator
from vbt.platform.identity import Vault
from vbt.platform.keys import SiteKeys
from vbt.platform.policy import record_consent
from vbt.platform.runtime import open_objects
from vbt.platform.software import this_software


@dataclass(frozen=True)
class Decided:
    """A decision about one case; ``taken`` False where it came too late to change anything."""

    case_id: str
    decision: str
    taken: bool


@dataclass(frozen=True)
class Refused:
    """A case that was not erased, and why; ``exit_code`` 2 where another try can help, otherwise 1."""

    case_id: str
    code: str
    rule: str
    got: str
    action: str
    exit_code: int


def cancel(engine: sa.Engine, case_id: str) -> Decided:
    """Ask the case to stop: the stage at work leaves off within seconds, and no further one begins."""
    with engine.begin() as connection:
        taken = cases.request_cancel(connection, case_id)
        case = cases.read_case(connection, case_id)
        audit.record(
            connection, _entry(case, "vbt case cancel", "case.cancel-requested", "success" if taken else "refused")
        )
    return Decided(case_id, "cancel", taken)


def decide_consent(engine: sa.Engine, case_id: str, status: Literal["permit", "deny"], reference: str) -> Decided:
    """Record the newest word on the study of a case; it holds for all its revisions, at every stage's next step."""
    verb = "grant" if status == "permit" else "withdraw"
    with engine.begin() as connection:
        case = cases.read_case(connection, case_id)
        record_consent(connection, status=status, reference=reference, study_key=case.study_key)
        detail = {"status": status}
        entry = _entry(case, f"vbt consent {verb}", "consent.recorded", "success", purpose="PATRQT", detail=detail)
        audit.record(connection, entry)
    return Decided(case_id, verb, True)


def erase(engine: sa.Engine, settings: SuiteSettings, case_id: str) -> Erased:
    """Destroy a case's identity, images, artifacts and written reports; the ledger keeps its digests."""
    eraser = Eraser(
        engine=engine,
        vault=Vault(SiteKeys(settings.keys_directory)),
        objects=open_objects(settings),
        spool=settings.spool_directory,
        reports=settings.data / "reports",
        software=this_software("standalone"),
        actor="vbt erase",
        operator=operator(),
    )
    return eraser.erase(case_id)


def erase_each(engine: sa.Engine, settings: SuiteSettings, case_ids: Iterable[str]) -> Iterator[Erased | Refused]:
    """Erase one case after the other, and tell of each: one that is refused keeps no other from its erasure."""
    for case_id in case_ids:
        try:
            yield erase(engine, settings, case_id)
        except TwinError as error:
            exit_code = 2 if isinstance(error, NotYet) else 1
            yield Refused(case_id, error.code, error.rule, error.got, error.action, exit_code)


def _entry(
    case: Case,
    actor: str,
    action: str,
    outcome: audit.Outcome,
    *,
    purpose: str = "TREAT",
    detail: Mapping[str, object] | None = None,
) -> AuditEntry:
    return AuditEntry(
        event_id=str(uuid.uuid4()),
        case_id=case.case_id,
        revision=case.revision,
        action=action,
        outcome=outcome,
        actor=actor,
        purpose=purpose,
        software=this_software("standalone"),
        detail={**(detail or {}), "operator": operator()},
    )
