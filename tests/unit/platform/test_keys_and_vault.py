"""Site keys, and the vault that they lock."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from vbt.errors import Rejected
from vbt.platform import audit, state
from vbt.platform.audit import AuditEntry
from vbt.platform.identity import Vault
from vbt.platform.keys import SiteKeys
from vbt.platform.software import Software
from vbt.platform.state import reading

WHO = {"name": "Mustermann^Erika", "patient_id": "4711"}


def _entry(software: Software, case_id: str = "c", action: str = "identity.opened") -> AuditEntry:
    return AuditEntry(
        event_id=audit.entry_id(case_id, action),
        case_id=case_id,
        revision=1,
        action=action,
        outcome="success",
        actor="report_writer",
        software=software,
    )


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first, second = SiteKeys(tmp_path / "keys"), SiteKeys(tmp_path / "keys")
    assert first.pseudonym("1.2.3") == second.pseudonym("1.2.3")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SiteKeys(tmp_path)
    (tmp_path / "vault.key").chmod(0o644)
    with pytest.raises(PermissionError, match="0600"):
        SiteKeys(tmp_path)


def test_sites_give_one_uid_different_pseudonyms(tmp_path: Path) -> None:
    one, other = SiteKeys(tmp_path / "one"), SiteKeys(tmp_path / "other")
    assert one.pseudonym("1.2.3") != other.pseudonym("1.2.3")
    assert len(one.pseudonym("1.2.3")) == 64


def test_the_vault_opens_with_an_audit_entry(engine: sa.Engine, tmp_path: Path, software: Software) -> None:
    vault = Vault(SiteKeys(tmp_path))
    with engine.begin() as connection:
        vault.seal(connection, "c", WHO)
    with engine.begin() as connection:
        assert vault.open(connection, "c", _entry(software)) == WHO
    with reading(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(state.audit_outbox)).scalar() == 1
        sealed = bytes(connection.execute(sa.select(state.identity.c.sealed)).scalar_one())
    assert b"Mustermann" not in sealed


def test_sealing_again_replaces(engine: sa.Engine, tmp_path: Path, software: Software) -> None:
    vault = Vault(SiteKeys(tmp_path))
    with engine.begin() as connection:
        vault.seal(connection, "c", WHO)
        vault.seal(connection, "c", {"name": "other"})
        assert vault.open(connection, "c", _entry(software)) == {"name": "other"}


def test_an_erased_key_leaves_nothing_to_open(engine: sa.Engine, tmp_path: Path, software: Software) -> None:
    vault = Vault(SiteKeys(tmp_path))
    with engine.begin() as connection:
        vault.seal(connection, "c", WHO)
        vault.erase(connection, "c", _entry(software, action="identity.erased"))
    with engine.begin() as connection, pytest.raises(Rejected, match="no identity"):
        vault.open(connection, "c", _entry(software))


def test_sealed_bytes_cannot_be_moved_to_another_case(engine: sa.Engine, tmp_path: Path, software: Software) -> None:
    vault = Vault(SiteKeys(tmp_path))
    with engine.begin() as connection:
        vault.seal(connection, "c", WHO)
        for table in (state.identity, state.case_key):
            connection.execute(sa.update(table).values(case_id="d"))
        with pytest.raises(InvalidTag):
            vault.open(connection, "d", _entry(software, "d"))


def test_another_sites_key_opens_nothing(engine: sa.Engine, tmp_path: Path, software: Software) -> None:
    with engine.begin() as connection:
        Vault(SiteKeys(tmp_path / "one")).seal(connection, "c", WHO)
        with pytest.raises(InvalidUnwrap):
            Vault(SiteKeys(tmp_path / "other")).open(connection, "c", _entry(software))


def test_the_entry_must_speak_of_the_case(engine: sa.Engine, tmp_path: Path, software: Software) -> None:
    vault = Vault(SiteKeys(tmp_path))
    with engine.begin() as connection:
        vault.seal(connection, "c", WHO)
        with pytest.raises(ValueError, match="another case"):
            vault.open(connection, "c", _entry(software, "d"))
