"""Notes, checkpoints and cosignatures are readable by, and from, other people's tools."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vbt.errors import Rejected
from vbt.ledger import COSIGNATURE_V1, Checkpoint, Note, NoteSigner, VerifierKey

# The example of golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# A checkpoint of a public Certificate Transparency staging log of 2026, as its witnesses signed it.
CT_LOG = VerifierKey.parse(
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
CT_WITNESS = VerifierKey.parse("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")
CT_NOTE = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
"""  # noqa: E501


@pytest.fixture
def log():
    return NoteSigner("hospital.example/vbt/audit", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture
def witness():
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
    return NoteSigner("witness.example/w1", key, algorithm=COSIGNATURE_V1)


@pytest.fixture
def checkpoint():
    return Checkpoint("hospital.example/vbt/audit", 42, bytes(32))


def test_a_note_signed_by_go_verifies():
    key = VerifierKey.parse(GO_KEY)
    assert Note.parse(GO_NOTE).verify([key]) == (key,)
    assert str(key) == GO_KEY


def test_our_signature_is_byte_for_byte_that_of_go():
    text = Note.parse(GO_NOTE).text
    private_key = Ed25519PrivateKey.from_private_bytes(GO_SEED)
    signer = NoteSigner("PeterNeumann", private_key)
    assert str(Note(text, (signer.sign(text),))) == GO_NOTE


def test_a_public_log_and_its_witness_verify():
    note = Note.parse(CT_NOTE)
    assert note.verify([CT_LOG, CT_WITNESS]) == (CT_LOG, CT_WITNESS)
    assert note.checkpoint.size == 1432088532
    assert note.cosigned_at(CT_WITNESS) == 1779573024
    assert str(note) == CT_NOTE
    assert note.text == str(note.checkpoint)


@pytest.mark.parametrize("key", [CT_LOG, CT_WITNESS])
def test_a_public_note_with_another_size_is_forged(key):
    note = Note.parse(CT_NOTE.replace("1432088532", "1432088533"))
    with pytest.raises(Rejected, match="invalid signature"):
        note.verify([key])


def test_a_cosignature_commits_to_its_time(log, witness, checkpoint):
    text = str(checkpoint)
    cosignature = witness.cosign(text, timestamp=1_790_000_000)
    note = Note(text, (log.sign(text),)).with_signature(cosignature)
    assert Note.parse(str(note)).verify([log.verifier_key, witness.verifier_key])[1] == witness.verifier_key
    earlier = type(cosignature)(cosignature.name, cosignature.key_id, (5).to_bytes(8, "big") + cosignature.blob[8:])
    with pytest.raises(Rejected):
        note.with_signature(earlier).verify([witness.verifier_key])


def test_unknown_signatures_are_ignored(log, witness, checkpoint):
    note = Note(str(checkpoint), (log.sign(str(checkpoint)),))
    assert note.verify([witness.verifier_key]) == ()


def test_a_log_key_does_not_pass_for_a_witness_key(log, checkpoint):
    with pytest.raises(ValueError, match="cosigns"):
        log.cosign(str(checkpoint), timestamp=1)
    as_witness = VerifierKey(log.verifier_key.name, COSIGNATURE_V1, log.verifier_key.public_bytes)
    assert as_witness.key_id != log.verifier_key.key_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n1\n" + "A" * 43 + "=\n",
        "origin\n1\n\n— n AAAA\n",
        "o\n\n— n AAAAAAA=",
        "o\n\n- n AAAAAAA=\n",
        "o\r\n\n— n AAAAAAA=\n",
        "o\n\n— n A!AAAAA=\n",
        "o\n\n" + "— n AAAAAAA=\n" * 65,
    ],
)
def test_what_is_not_a_note_is_refused(text):
    with pytest.raises(Rejected):
        Note.parse(text)


@pytest.mark.parametrize("size", ["042", "-1", "+1", "1e3", "", "١", "9" * 20, "1 "])
def test_sizes_have_one_spelling(size):
    with pytest.raises(Rejected):
        Checkpoint.parse(f"origin\n{size}\n{'A' * 43}=\n")


@pytest.mark.parametrize(
    "text", ["o\n1\nAAAA\n", "o\n1\n", "o\n1\n" + "A" * 43 + "=", "o\n1\n" + "A" * 43 + "=\n\nx\n"]
)
def test_checkpoints_have_an_origin_a_size_and_a_root(text):
    with pytest.raises(Rejected):
        Checkpoint.parse(text)


@pytest.mark.parametrize("text", ["", "a+b", GO_KEY.replace("c74f20a3", "c74f20a4"), GO_KEY[:-4]])
def test_what_is_not_a_verifier_key_is_refused(text):
    with pytest.raises(Rejected):
        VerifierKey.parse(text)
