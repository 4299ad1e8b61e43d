"""Consent is asked for at every gate: the newest word on the study decides, the site's default where there is none."""

from __future__ import annotations

import re
import time
from typing import Literal

import sqlalchemy as sa

from vbt.errors import Rejected
from vbt.platform.audit import ConsentDecision
from vbt.platform.state import case, consent

Status = Literal["permit", "deny"]

# A FHIR id is at most 64 letters, digits, hyphens and dots. In front of it stands at most the address of a server, with
# no place for a user or a query.
_CONSENT = re.compile(r"(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/)?Consent/[A-Za-z0-9.-]{1,64}")
# A number of a form or of an archive has a digit in it, which a name has not.
_CODE = re.compile(r"(?=.*[0-9])[A-Za-z0-9./-]{1,32}")


class ConsentPolicy:
    """How the site decides.

    Parameters
    ----------
    default : what holds for a study about which no consent was recorded
    """

    def __init__(self, default: Status = "permit") -> None:
        self._default = default

    def decide(self, connection: sa.Connection, case_id: str) -> ConsentDecision:
        """The decision that lets work on the case go on.

        Raises
        ------
        Rejected : ``consent-withdrawn`` where the newest word is no; ``consent-missing`` where the site's default is no
        """
        newest = connection.execute(_newest(case_id)).first()
        if newest is None:
            if self._default == "deny":
                raise Rejected(
                    "consent-missing",
                    rule="this site works only on studies with a recorded consent",
                    got="no consent for this study",
                    action="record the consent and send the study again",
                )
            return ConsentDecision(decision="permit", basis="site-default")
        if newest.status == "deny":
            raise Rejected(
                "consent-withdrawn",
                rule="work on a study needs the patient's consent",
                got="a consent that is refused or withdrawn",
                action="stop; ask the person who ordered the twin",
            )
        return ConsentDecision(decision="permit", basis=newest.reference)


def record_consent(
    connection: sa.Connection,
    *,
    status: Status,
    reference: str,
    study_key: str | None = None,
    case_id: str | None = None,
) -> None:
    """Record the newest word on a study or on one case.

    It waits for a commit on that case that is under way, so an effect commits either before the word or not at all.

    Parameters
    ----------
    reference : where the consent is kept: ``"Consent/4711"``, its URL, or a code like ``"B-12/2026"``; not the
        patient's name or number, because it goes into the ledger for good

    Raises
    ------
    Rejected : ``consent-reference`` where it is neither
    """
    if not (_CONSENT.fullmatch(reference) or _CODE.fullmatch(reference)):
        raise Rejected(
            "consent-reference",
            rule="a consent is named by Consent/<id>, by a URL ending in that, or by a code with a digit of at most 32 "
            "letters, digits, '-', '.' and '/'",
            got="something else, which is not repeated here",
            action="give the number under which the consent is kept, never a name",
        )
    if (study_key is None) == (case_id is None):
        raise ValueError("a consent speaks of either a study_key or a case_id")
    about = case.c.study_key == study_key if case_id is None else case.c.case_id == case_id
    connection.execute(sa.select(case.c.case_id).where(about).with_for_update()).all()
    connection.execute(
        sa.insert(consent).values(
            study_key=study_key, case_id=case_id, status=status, reference=reference, at=time.time()
        )
    )


def _newest(case_id: str) -> sa.Select[tuple[str, str]]:
    study_key = sa.select(case.c.study_key).where(case.c.case_id == case_id).scalar_subquery()
    about = sa.or_(consent.c.case_id == case_id, consent.c.study_key == study_key)
    return sa.select(consent.c.status, consent.c.reference).where(about).order_by(consent.c.id.desc()).limit(1)
