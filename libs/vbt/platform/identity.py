"""The vault: who the patient of a case is, sealed under a key of the case's own, and every opening goes on the trail.

Erasing the case's key shreds the identity for good, also in every copy of the sealed bytes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vbt.errors import Rejected
from vbt.platform import audit
from vbt.platform.audit import AuditEntry
from vbt.platform.keys import SiteKeys
from vbt.platform.state import case_key, identity, insert_new, upsert

_NONCE_BYTES = 12


class Vault:
    """Seals and opens identities with the site's keys."""

    def __init__(self, keys: SiteKeys) -> None:
        self._keys = keys

    def seal(self, connection: sa.Connection, case_id: str, who: Mapping[str, Any]) -> None:
        """Keep ``who`` (JSON) sealed for this case, in place of what was sealed before."""
        key = self._key(connection, case_id)
        if key is None:
            key = AESGCM.generate_key(bit_length=256)
            insert_new(connection, case_key, {"case_id": case_id, "wrapped": self._keys.wrap(key)})
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, json.dumps(dict(who)).encode(), _bound_to(case_id))
        upsert(connection, identity, {"case_id": case_id, "sealed": sealed})

    def open(self, connection: sa.Connection, case_id: str, entry: AuditEntry) -> dict[str, Any]:
        """Who the patient is; ``entry`` says on the trail who wants to know and for what purpose.

        The opening counts only with its entry: use what was returned after the caller's transaction committed.

        Raises
        ------
        Rejected : ``identity-unknown``, nothing was sealed or its key was erased
        """
        if entry.case_id != case_id:
            raise ValueError("the audit entry speaks of another case")
        sealed = connection.execute(sa.select(identity.c.sealed).where(identity.c.case_id == case_id)).scalar()
        key = self._key(connection, case_id)
        if sealed is None or key is None:
            raise Rejected(
                "identity-unknown",
                rule="a case's identity is sealed when its study comes in and until it is erased",
                got="no identity",
                action="send the study again",
            )
        audit.record(connection, entry)
        who: dict[str, Any] = json.loads(
            AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(case_id))
        )
        return who

    def erase(self, connection: sa.Connection, case_id: str, entry: AuditEntry) -> None:
        """Destroy the case's key; nobody opens this identity again."""
        connection.execute(sa.delete(case_key).where(case_key.c.case_id == case_id))
        audit.record(connection, entry)

    def _key(self, connection: sa.Connection, case_id: str) -> bytes | None:
        wrapped = connection.execute(sa.select(case_key.c.wrapped).where(case_key.c.case_id == case_id)).scalar()
        return None if wrapped is None else self._keys.unwrap(wrapped)


def _bound_to(case_id: str) -> bytes:
    """Ties the sealed bytes to their case, so that rows cannot be swapped."""
    return b"vbt-identity-v1\n" + case_id.encode()
