"""The ledger's private keys live in files that only their owner can read."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vbt.ledger import ED25519, NoteSigner


def open_signer(path: Path, name: str, *, algorithm: int = ED25519) -> NoteSigner:
    """The Ed25519 key in a PEM file (PKCS #8, mode 0600), made there if the file does not exist.

    Parameters
    ----------
    name : the log's origin, or the witness's name; schema-less URL without spaces and plus
    algorithm : `vbt.ledger.ED25519` for the log, `vbt.ledger.COSIGNATURE_V1` for a witness
    """
    if not path.exists():
        _make(path)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the ledger signs with Ed25519; the file holds a key of another kind")
    return NoteSigner(name, key, algorithm=algorithm)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # O_EXCL: two processes that start at once must not end with two keys.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
