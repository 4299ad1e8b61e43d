"""Consent is asked for at every gate: the newest word on the study decides, the site's default where there is none."""

from __future__ import annotations

import time
from typing import Literal

import sqlalchemy as sa

from vbt.errors import Rejected
from vbt.platform.audit import ConsentDecision
from vbt.platform.state import case, consent

Status = Literal["permit", "deny"]


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
    reference : where the consent is kept, e.g. ``"Consent/4711"``; not the patient's name or number
    """
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
