"""An export carries all that a stranger needs, and says in the log that it happened."""

import json
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa

import vbt_verify
from audit_ledger.bundle import export_bundle, trust_document, write_bundle
from vbt.errors import Rejected
from vbt.ledger import VerifierKey
from vbt.platform.state import audit_leaf


@pytest.fixture
def ledger(engine, open_ledger, forge):
    ledger = open_ledger()
    ledger.start()
    forge.submit(engine, [forge.audit_entry(n) for n in range(40)])
    ledger.drain()
    return ledger


def members(path):
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


@pytest.mark.parametrize("case_id", [None, "case-2"])
def test_an_export_verifies_and_ends_with_its_own_entry(ledger, tmp_path, case_id):
    receipt = ledger.log.receipt("event-7")
    path = tmp_path / "bundle.zip"
    export_bundle(ledger, path, case_id=case_id, receipts=[("report-7", receipt.to_json())])
    result = vbt_verify.Verification(path, anchors=[str(ledger.witness.note)])
    assert result.status == vbt_verify.OK, vbt_verify.headline(result)
    assert result.claims["receipts"].status == vbt_verify.OK
    entries = [json.loads(line) for line in members(path)["entries.jsonl"].splitlines()]
    assert entries[-1]["action"] == "audit.exported"
    assert entries[-1]["seq"] == 41
    assert len(entries) == (42 if case_id is None else 9)
    assert {entry["case_id"] for entry in entries} == {case_id} or case_id is None


def test_a_case_bundle_reveals_nothing_of_other_cases(ledger, tmp_path):
    export_bundle(ledger, tmp_path / "bundle.zip", case_id="case-2")
    content = b"".join(members(tmp_path / "bundle.zip").values())
    assert b"case-2" in content
    assert b"case-3" not in content
    assert b"event-8" not in content


def test_the_same_log_gives_the_same_bytes(ledger, keys, tmp_path):
    written = []
    for name in ("one", "two"):
        write_bundle(
            ledger.engine,
            tmp_path / name,
            size=41,
            log_keys=[keys.log.verifier_key],
            witness_keys=[keys.witness.verifier_key],
            case_id="case-1",
        )
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_a_bundle_brings_its_verifier_and_its_specification(ledger, tmp_path):
    export_bundle(ledger, tmp_path / "bundle.zip")
    found = members(tmp_path / "bundle.zip")
    assert found["verifier.py"] == Path(vbt_verify.__file__).read_bytes()
    readme = found["README.txt"].decode()
    assert vbt_verify.BUNDLE_FORMAT in readme
    assert vbt_verify.RECEIPT_FORMAT in readme
    assert all(claim in readme for claim in vbt_verify.CLAIMS)
    assert len(readme.splitlines()) <= 110, "two pages"


def test_a_bundle_ends_at_a_checkpoint(ledger, keys, tmp_path):
    with pytest.raises(Rejected):
        write_bundle(ledger.engine, tmp_path / "b.zip", size=17, log_keys=[keys.log.verifier_key], witness_keys=[])


def test_the_trust_document_names_every_key(keys):
    document = json.loads(trust_document([keys.log.verifier_key], [keys.witness.verifier_key]))
    assert VerifierKey.parse(document["log_keys"][0]) == keys.log.verifier_key
    assert VerifierKey.parse(document["witness_keys"][0]) == keys.witness.verifier_key


def test_an_export_without_a_witness_is_not_called_verified(engine, open_ledger, forge, tmp_path):
    ledger = open_ledger(witnessed=False)
    forge.submit(engine, [forge.audit_entry(n) for n in range(3)])
    export_bundle(ledger, tmp_path / "bundle.zip")
    result = vbt_verify.Verification(tmp_path / "bundle.zip")
    assert result.status == vbt_verify.UNKNOWN
    assert vbt_verify.headline(result).startswith("NOT PROVEN: nothing altered was found, but no witness is named")


def test_a_superusers_edit_of_the_stored_log_is_named_to_the_row(ledger, forge, tmp_path):
    with ledger.engine.begin() as connection:
        row = audit_leaf.c.seq == 23
        entry = connection.execute(sa.select(audit_leaf.c.entry).where(row)).scalar_one()
        connection.execute(audit_leaf.update().where(row).values(entry=forge.rewritten(entry, outcome="edited")))
    path = tmp_path / "bundle.zip"
    export_bundle(ledger, path)
    result = vbt_verify.Verification(path, mirror=tmp_path / "witness" / "leaf-hashes.bin")
    assert result.status == vbt_verify.FAIL
    assert result.altered == 23
