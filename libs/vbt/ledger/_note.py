"""A checkpoint is a signed note: the log says which tree it has, a witness says when it saw that tree grow."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vbt.errors import Rejected
from vbt.ledger._tree import HASH_SIZE

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
MAX_SIGNATURES = 64


@dataclass(frozen=True)
class VerifierKey:
    """A public key with its name, as the field exchanges it: ``name+hex key id+base64(type ‖ key)``.

    Parameters
    ----------
    name : schema-less URL of the key's owner; the log's is its origin
    algorithm : `ED25519` for a log, `COSIGNATURE_V1` for a witness
    public_bytes : 32-byte Ed25519 public key

    References
    ----------
    C2SP signed-note v1.0.0, "Verifier keys"; C2SP tlog-cosignature v1, "Format"
    """

    name: str
    algorithm: int
    public_bytes: bytes

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(c.isspace() or ord(c) < 0x20 for c in self.name):
            raise ValueError(f"a key name must be non-empty with no space and no plus, got {self.name!r}")
        if self.algorithm not in (ED25519, COSIGNATURE_V1) or len(self.public_bytes) != 32:
            raise ValueError("a verifier key must be a 32-byte Ed25519 key of type 0x01 or 0x04")

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name ‖ newline ‖ type ‖ key)."""
        material = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_bytes
        return hashlib.sha256(material).digest()[:4]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in hex, for two people to compare."""
        return hashlib.sha256(self.public_bytes).hexdigest()

    def __str__(self) -> str:
        material = base64.b64encode(bytes([self.algorithm]) + self.public_bytes).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read a verifier key; raises `Rejected` where the text is not one."""
        try:
            name, key_id, material = text.strip().split("+", 2)
            decoded = base64.b64decode(material, validate=True)
            key = cls(name, decoded[0], decoded[1:])
        except (ValueError, IndexError) as error:
            raise _malformed("a verifier key is name+id+base64", "something else") from error
        if key.key_id.hex() != key_id:
            raise _malformed("the id of a verifier key is the hash of the key", "another id")
        return key


@dataclass(frozen=True)
class Signature:
    """One signature line of a note: key name, 4-byte key id, and the bytes that the algorithm defines."""

    name: str
    key_id: bytes
    blob: bytes

    def __str__(self) -> str:
        return f"— {self.name} {base64.b64encode(self.key_id + self.blob).decode()}\n"

    @property
    def timestamp(self) -> int:
        """Seconds since 1970 at which a witness signed (cosignature/v1 only)."""
        return int.from_bytes(self.blob[:8], "big")


class NoteSigner:
    """A private key that signs notes under a name; `algorithm` says whether as a log or as a witness."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey, *, algorithm: int = ED25519) -> None:
        self._private_key = private_key
        self.verifier_key = VerifierKey(name, algorithm, private_key.public_key().public_bytes_raw())

    def sign(self, text: str) -> Signature:
        """Sign the note text as its author (type 0x01)."""
        return self._signature(ED25519, self._private_key.sign(text.encode()))

    def cosign(self, text: str, *, timestamp: int) -> Signature:
        """State that at `timestamp` (s since 1970) this was the largest consistent tree seen (type 0x04)."""
        signature = self._private_key.sign(_cosigned_message(text, timestamp))
        return self._signature(COSIGNATURE_V1, timestamp.to_bytes(8, "big") + signature)

    def _signature(self, algorithm: int, blob: bytes) -> Signature:
        key = self.verifier_key
        if key.algorithm != algorithm:
            raise ValueError("a log's key signs, a witness's key cosigns; use the method of the key's algorithm")
        return Signature(key.name, key.key_id, blob)


@dataclass(frozen=True)
class Checkpoint:
    """The log `origin` has `size` entries and their Merkle root is `root` (32 bytes).

    References
    ----------
    C2SP tlog-checkpoint v1.0.0
    """

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text (extension lines are allowed and ignored); raises `Rejected`."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise _malformed("a checkpoint has an origin, a size and a root, one per line", f"{len(lines)} lines")
        origin, size, root = lines[:3]
        if not (size.isascii() and size.isdigit() and str(int(size)) == size and len(size) <= 19):
            raise _malformed("a tree size is decimal without leading zeros", "something else")
        decoded = _base64(root)
        if len(decoded) != HASH_SIZE:
            raise _malformed("a root hash has 32 bytes", f"{len(decoded)} bytes")
        return cls(origin, int(size), decoded)


@dataclass(frozen=True)
class Note:
    """A text and the signatures under it."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))

    @property
    def checkpoint(self) -> Checkpoint:
        """The text read as a checkpoint; raises `Rejected`."""
        return Checkpoint.parse(self.text)

    @classmethod
    def parse(cls, encoded: str) -> Note:
        """Read a signed note; raises `Rejected` where it is not well formed."""
        if any(ord(c) < 0x20 and c != "\n" for c in encoded):
            raise _malformed("a note holds no control characters", "at least one")
        text, separator, block = encoded.rpartition("\n\n")
        lines = block.split("\n")
        if not separator or not text or lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
            raise _malformed("a note is a text, an empty line and 1 to 64 signature lines", "something else")
        return cls(text + "\n", tuple(map(_signature_line, lines)))

    def with_signature(self, signature: Signature) -> Note:
        """The note with one more signature line; one by the same key is replaced."""
        others = (s for s in self.signatures if (s.name, s.key_id) != (signature.name, signature.key_id))
        return Note(self.text, (*others, signature))

    def verify(self, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
        """The keys among `keys` that signed this note; unknown signatures are ignored.

        Raises `Rejected` when a signature of a known key does not verify.
        """
        known = {(key.name, key.key_id): key for key in keys}
        signers = []
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if not _verifies(key, self.text, signature):
                raise Rejected(
                    "note-signature-invalid",
                    rule="a signature of a known key verifies",
                    got=f"an invalid signature of {key.name}",
                    action="treat the note as forged",
                )
            signers.append(key)
        return tuple(dict.fromkeys(signers))

    def cosigned_at(self, key: VerifierKey) -> int | None:
        """Seconds since 1970 at which the witness `key` signed; None where it has not. Verify first."""
        times = [s.timestamp for s in self.signatures if (s.name, s.key_id) == (key.name, key.key_id)]
        return times[0] if times else None


def _verifies(key: VerifierKey, text: str, signature: Signature) -> bool:
    message, raw = text.encode(), signature.blob
    if key.algorithm == COSIGNATURE_V1:
        message, raw = _cosigned_message(text, signature.timestamp), signature.blob[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key.public_bytes).verify(raw, message)
    except InvalidSignature:
        return False
    return True


def _cosigned_message(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _signature_line(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    decoded = _base64(encoded)
    if dash != "—" or not name or len(decoded) < 5:
        raise _malformed("a signature line is an em dash, a key name and base64", "something else")
    return Signature(name, decoded[:4], decoded[4:])


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("hashes and signatures are standard base64", "something else") from error


def _malformed(rule: str, got: str) -> Rejected:
    return Rejected("note-malformed", rule=rule, got=got, action="get the note again from its source")
