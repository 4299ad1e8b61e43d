"""The site's secrets live in a key directory, one file each, readable by their owner alone; made at the first start."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

_KEY_BYTES = 32


class SiteKeys:
    """The keys of one hospital site.

    ``pseudonym.key`` turns UIDs into keys of rows; ``vault.key`` wraps the key of each case's identity. The
    ledger's log has its Ed25519 key beside them; its witness keeps its own elsewhere.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log_key_path = directory / "log.pem"
        self._pseudonym_key = _read_or_make(directory / "pseudonym.key")
        self._vault_key = _read_or_make(directory / "vault.key")

    def pseudonym(self, identifier: str) -> str:
        """HMAC-SHA256 of a UID under the site's key, in hex: the same UID gives the same key, and no way back."""
        return hmac.new(self._pseudonym_key, identifier.encode(), hashlib.sha256).hexdigest()

    def wrap(self, key: bytes) -> bytes:
        """A case's key under the site's vault key (RFC 3394)."""
        return aes_key_wrap(self._vault_key, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The case's key again.

        Raises
        ------
        cryptography.hazmat.primitives.keywrap.InvalidUnwrap : wrapped under another vault key
        """
        return aes_key_unwrap(self._vault_key, wrapped)


def _read_or_make(path: Path) -> bytes:
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path.name} in the key directory is readable by others; its mode must be 0600")
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{path.name} in the key directory holds {len(key)} bytes, not {_KEY_BYTES}")
    return key


def _make(path: Path) -> None:
    # Written aside and linked into place: of two processes that start at once one wins, and none reads half a key.
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(aside)
    except FileExistsError:
        return
    finally:
        aside.unlink()
