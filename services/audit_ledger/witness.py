"""A witness signs a checkpoint only after it has seen for itself that the log has grown and changed nothing.

It keeps its own key, its own copy of all leaf hashes and the last checkpoint it signed, in a directory of its own. It
protects against a thief of the log's key only as far as that directory is out of the thief's reach: in the demo both
live on one machine, which shows the mechanism, not the protection. In a hospital the witness runs elsewhere, for
example with the data protection officer.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vbt.errors import NotYet, Rejected
from vbt.ledger import (
    HASH_SIZE,
    Checkpoint,
    CompactRange,
    Note,
    NoteSigner,
    Signature,
    VerifierKey,
    verify_consistency,
)

NOTE_FILE = "witness.note"
MIRROR_FILE = "leaf-hashes.bin"


class Witness:
    """Cosigns the checkpoints of one log.

    Parameters
    ----------
    directory : holds ``witness.note`` (last checkpoint signed) and ``leaf-hashes.bin`` (32 bytes per entry)
    signer : the witness's key (`vbt.ledger.COSIGNATURE_V1`)
    log_key : the only log it follows
    clock : seconds since 1970
    """

    def __init__(
        self,
        directory: Path,
        signer: NoteSigner,
        log_key: VerifierKey,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock_path = directory / "lock"
        self._note_path = directory / NOTE_FILE
        self._mirror_path = directory / MIRROR_FILE
        self._signer = signer
        self._log_key = log_key
        self._clock = clock
        self._last: Note | None = None
        self._seen = CompactRange()
        with self._exclusive():
            self._resume()

    @property
    def verifier_key(self) -> VerifierKey:
        """The public key that auditors need."""
        return self._signer.verifier_key

    @property
    def size(self) -> int:
        """Number of entries of the last checkpoint it signed."""
        with self._exclusive():
            return self._seen.size

    @property
    def note(self) -> Note | None:
        """The last checkpoint it signed: an auditor's anchor."""
        with self._exclusive():
            return self._last

    def cosign(
        self, note: Note, old_size: int, leaf_hashes: Sequence[bytes], consistency_proof: Sequence[bytes]
    ) -> Signature:
        """Sign `note` if it is the log's and extends what was signed before; raises `Rejected` otherwise.

        Raises `NotYet` when `old_size` is no longer the witness's size: ask again from there.

        Parameters
        ----------
        leaf_hashes : those of the entries from `old_size` on
        consistency_proof : from `old_size` to the size of the note (RFC 9162 §2.1.4)
        """
        checkpoint = note.checkpoint
        if checkpoint.origin != self._log_key.name or not note.verify([self._log_key]):
            raise _refused("a checkpoint is signed by its log", "one that is not")
        with self._exclusive():
            if old_size != self._seen.size:
                raise NotYet(
                    "witness-moved-on",
                    rule="a proof starts where the witness is",
                    got="another size",
                    action="ask again from the witness's size",
                )
            return self._sign(note, leaf_hashes, self._grown(checkpoint, leaf_hashes, consistency_proof))

    def _grown(
        self, checkpoint: Checkpoint, leaf_hashes: Sequence[bytes], consistency_proof: Sequence[bytes]
    ) -> CompactRange:
        """What it has seen once it has seen this checkpoint too; checked by the proof and by the hashes."""
        size, root = self._seen.size, self._seen.root()
        if not verify_consistency(size, checkpoint.size, root, checkpoint.root, consistency_proof):
            raise _refused("a log only grows", f"a tree of {checkpoint.size} that does not extend {size} entries")
        grown = self._seen.copy()
        grown.extend(leaf_hashes)
        whole = all(len(leaf) == HASH_SIZE for leaf in leaf_hashes)
        if not whole or (grown.size, grown.root()) != (checkpoint.size, checkpoint.root):
            raise _refused("leaf hashes give the root of the checkpoint", "hashes that do not")
        return grown

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Nobody else uses the directory meanwhile, and what another process signed is known here."""
        with self._lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stored = self._note_path.read_text("utf-8") if self._note_path.exists() else None
            if stored != (str(self._last) if self._last else None):
                self._resume()
            yield

    def _sign(self, note: Note, leaf_hashes: Sequence[bytes], grown: CompactRange) -> Signature:
        last = self._last.cosigned_at(self.verifier_key) if self._last else None
        signature = self._signer.cosign(note.text, timestamp=max(int(self._clock()), last or 0))
        signed = note.with_signature(signature)
        # Hashes first: after a crash between the two writes the surplus hashes are cut off again.
        with self._mirror_path.open("ab") as mirror:
            mirror.write(b"".join(leaf_hashes))
            mirror.flush()
            os.fsync(mirror.fileno())
        _replace(self._note_path, str(signed).encode())
        self._last, self._seen = signed, grown
        return signature

    def _resume(self) -> None:
        self._mirror_path.touch()
        if self._note_path.exists():
            self._last = Note.parse(self._note_path.read_text("utf-8"))
            self._last.verify([self.verifier_key, self._log_key])
        checkpoint = self._last.checkpoint if self._last else None
        with self._mirror_path.open("r+b") as mirror:
            mirror.truncate(checkpoint.size * HASH_SIZE if checkpoint else 0)
        self._seen = CompactRange(self._mirror())
        if checkpoint and (self._seen.size, self._seen.root()) != (checkpoint.size, checkpoint.root):
            raise _refused("the witness's hashes give the root it signed", "hashes that do not")

    def _mirror(self) -> Iterator[bytes]:
        with self._mirror_path.open("rb") as mirror:
            while leaf := mirror.read(HASH_SIZE):
                yield leaf


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is either the old or the new one."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _refused(rule: str, got: str) -> Rejected:
    return Rejected("witness-refused", rule=rule, got=got, action="keep the witness's state and verify the log")
