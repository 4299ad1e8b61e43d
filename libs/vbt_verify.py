"""vbt-verify checks an exported audit bundle without trusting, or importing, the software that wrote it.

Needs Python 3.11 and the `cryptography` package, no network, and memory that does not grow with the log. The format
is in the bundle's README.txt. Exit status: 0 verified · 1 tampered · 2 not proven (something needed is missing).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Document = dict[str, Any]
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, TypeError, AttributeError)
OK, FAIL, UNKNOWN = "ok", "tampered", "not proven"
NOT_CHECKED, NOT_ASKED = "not checked", "nothing given"
BUNDLE_FORMAT, RECEIPT_FORMAT = "vbt-audit-bundle/1", "vbt-receipt/1"
MAX_LINE, MAX_DOCUMENT, MAX_MEMBERS = 1 << 20, 4 << 20, 10_000
MAX_CHECKPOINTS, MAX_ENTRIES, MAX_UNPACKED = 100_000, 1 << 31, 1 << 40
CLOCK_TOLERANCE = timedelta(minutes=5)
ALGORITHMS = {"log": 0x01, "witness": 0x04}
REQUIRED = ("bundle.json", "trust.json", "checkpoints.jsonl", "leaf-hashes.bin", "entries.jsonl")
MEMBERS = re.compile(r"README\.txt|verifier\.py|proofs\.jsonl|receipts/[A-Za-z0-9._-]{1,120}\.json")
HASH = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
CLAIMS = {
    "format": "The bundle is complete and well formed",
    "leaf-hashes": "Every entry has the hash listed for it",
    "sequence": "Entries are numbered without gap or repetition",
    "time": "Time never runs backwards",
    "log-signatures": "Every checkpoint is signed by the log",
    "roots": "The entries give the root of every checkpoint",
    "end": "The last checkpoint covers exactly the entries here",
    "witness": "Independent witnesses confirmed the last checkpoint",
    "consistency": "Checkpoints seen elsewhere lie on the same history",
    "inclusion": "The entries of the case are proven to be in the log",
    "receipts": "Every receipt that was handed out still holds",
    "report": "The delivered report is the one in the log",
}


class Broken(Exception):
    """The input cannot be read as what it should be."""


@dataclass
class Claim:
    """One statement about the bundle; the first finding of the worst status is kept."""

    status: str = NOT_CHECKED
    finding: str = ""
    entry: int | None = None


@dataclass(frozen=True)
class Key:
    """A C2SP verifier key: name+key id+base64(algorithm ‖ Ed25519 public key)."""

    name: str
    key_id: bytes
    algorithm: int
    public: bytes

    @classmethod
    def parse(cls, text: str, role: str) -> Key:
        name, key_id, material = text.split("+", 2)
        raw = decode(material, f"a {role} key")
        expected = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
        if len(raw) != 33 or raw[0] != ALGORITHMS[role] or key_id != expected.hex() or not name.isprintable():
            raise Broken(f"a {role} key has a wrong name, id or algorithm")
        return cls(name, expected, raw[0], raw[1:])

    def verifies(self, text: str, blob: bytes) -> bool:
        message = text
        if self.algorithm == ALGORITHMS["witness"]:
            message, blob = f"cosignature/v1\ntime {int.from_bytes(blob[:8], 'big')}\n{text}", blob[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(blob, message.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Policy:
    """Whom to believe: the log's name and keys, its witnesses, and how many of them must have signed."""

    origin: str
    logs: tuple[Key, ...]
    witnesses: tuple[Key, ...]
    quorum: int

    @classmethod
    def parse(cls, document: Document) -> Policy:
        logs = tuple(Key.parse(text, "log") for text in document.get("log_keys", ()))
        witnesses = tuple(Key.parse(text, "witness") for text in document.get("witness_keys", ()))
        quorum, origin = document.get("witness_quorum", 1), document.get("origin")
        if not logs or not isinstance(origin, str) or type(quorum) is not int or quorum < 1:
            raise Broken("trust.json names no origin, no log key or no witness quorum of at least 1")
        if {key.public for key in logs} & {key.public for key in witnesses}:
            raise Broken("trust.json names one key as log and as witness: nobody witnesses himself")
        return cls(origin, logs, witnesses, quorum)


@dataclass
class Head:
    """A checkpoint: what someone signed about the log at one size."""

    source: str
    size: int
    root: bytes
    logs: int = 0
    witnessed: dict[bytes, int] = field(default_factory=dict)
    forged: list[str] = field(default_factory=list)

    @property
    def seen_at(self) -> datetime | None:
        return datetime.fromtimestamp(min(self.witnessed.values()), UTC) if self.witnessed else None


def read_head(note: str, source: str, policy: Policy) -> Head:
    """Parse a C2SP signed checkpoint and verify every signature of a key in the policy."""
    text, separator, block = note.rpartition("\n\n")
    lines, signatures = (text + "\n").split("\n"), block.split("\n")
    if not separator or signatures.pop() or len(lines) < 4 or len(signatures) > 64:
        raise Broken(f"{source} is not a signed note")
    root = decode(lines[2], source)
    if lines[0] != policy.origin or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]) or len(root) != 32:
        raise Broken(f"{source} is not a checkpoint of this log")
    head = Head(source, int(lines[1]), root)
    for line in signatures:
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        raw = decode(encoded, source)
        if dash != "—" or len(raw) < 12:
            raise Broken(f"{source} has an unreadable signature line")
        for key in (*policy.logs, *policy.witnesses):
            if (key.name, key.key_id) != (name, raw[:4]):
                continue
            if not key.verifies(text + "\n", raw[4:]):
                head.forged.append(key.name)
            elif key.algorithm == ALGORITHMS["log"]:
                head.logs += 1
            else:
                head.witnessed[key.public] = min(int.from_bytes(raw[4:12], "big"), 1 << 34)
    return head


def decode(text: str, source: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Broken(f"{source} holds unreadable base64") from error


class Range:
    """The complete subtrees of an RFC 9162 tree: appends in constant memory."""

    def __init__(self) -> None:
        self.size, self.nodes = 0, list[bytes]()

    def append(self, leaf: bytes) -> None:
        nodes, sha256 = self.nodes, hashlib.sha256
        self.size += 1
        width = self.size
        while not width & 1:
            leaf = sha256(b"\x01" + nodes.pop() + leaf).digest()
            width >>= 1
        nodes.append(leaf)

    def root(self) -> bytes:
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = hashlib.sha256(b"\x01" + node + root).digest()
        return root


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 §2.1.3.2."""
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        position, last = position >> 1, last >> 1
    return last == 0 and node == root


class Bundle:
    """A zip file read safely: known names, each once, no member larger than it says, lines and documents bounded."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        members, stored = self.zip.infolist(), (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        self.sizes = {member.filename: member.file_size for member in members}
        if len(members) > MAX_MEMBERS or len(self.sizes) != len(members) or sum(self.sizes.values()) > MAX_UNPACKED:
            raise Broken("the zip file has too many members, one name twice, or unpacks to more than 1 TiB")
        missing = [name for name in REQUIRED if name not in self.sizes]
        if missing or any(name not in REQUIRED and not MEMBERS.fullmatch(name) for name in self.sizes):
            raise Broken(f"the bundle lacks {', '.join(missing) or 'nothing'} or has members that do not belong to it")
        if any(m.flag_bits & 1 or m.compress_type not in stored for m in members):
            raise Broken("the zip file is encrypted or packed in an unknown way")
        manifest = self.document("bundle.json")
        self.size, self.entries = integer(manifest, "size"), integer(manifest, "entries")
        self.scope, self.case_id = manifest.get("scope"), manifest.get("case_id")
        self.exported_at = str(manifest.get("exported_at"))
        if manifest.get("format") != BUNDLE_FORMAT or self.scope not in ("log", "case"):
            raise Broken(f"the bundle is not of format {BUNDLE_FORMAT}")
        if self.sizes["leaf-hashes.bin"] != 32 * self.size or not self.size or not TIME.fullmatch(self.exported_at):
            raise Broken("the bundle has no time of export or not 32 bytes of leaf-hashes.bin for every entry")
        if (self.scope == "log") != (self.entries == self.size and "proofs.jsonl" not in self.sizes):
            raise Broken("a bundle of the whole log holds all entries, one of a case their proofs")

    def document(self, name: str) -> Document:
        if self.sizes.get(name, 0) > MAX_DOCUMENT:
            raise Broken(f"{name} is larger than any such file can be")
        return dict(parse(self.zip.read(name), name))

    def open(self, name: str) -> io.BufferedReader:
        return io.BufferedReader(self.zip.open(name), 1 << 18)  # type: ignore[arg-type]

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a member without their newlines."""
        with self.open(name) as file:
            while line := file.readline(MAX_LINE):
                if not line.endswith(b"\n"):
                    raise Broken(f"{name} has a line that is too long or does not end")
                yield line[:-1]


def parse(content: bytes, name: str, kind: type = dict) -> Any:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Broken(f"{name} holds no JSON") from error
    if not isinstance(document, kind):
        raise Broken(f"{name} holds another kind of JSON than expected")
    return document


def integer(document: Document, name: str) -> int:
    value = document.get(name)
    if type(value) is not int or not 0 <= value <= MAX_ENTRIES:
        raise Broken(f"{name} is not a number of entries")
    return value


class Verification:
    """One run over a bundle; `claims` holds the outcome. What did not travel with the bundle is stronger than it."""

    def __init__(
        self,
        path: Path,
        *,
        policy: Document | None = None,
        anchors: Sequence[str] = (),
        receipts: Sequence[tuple[str, bytes]] = (),
        report: bytes | None = None,
        mirror: Path | None = None,
    ) -> None:
        self.claims = {name: Claim() for name in CLAIMS}
        self.notes: list[str] = []
        self.keys: dict[str, str] = {}
        self.last_time = self.last_action = ""
        self.altered: int | None = None
        self.window: tuple[int, int] | None = None
        self.size = self.entries_read = 0
        self.report_sha256, self.report_found = "" if report is None else hashlib.sha256(report).hexdigest(), -1
        try:
            self.bundle = Bundle(path)
            self.size = self.bundle.size
            self._read_trust(policy)
            self._read_heads(anchors, receipts)
            self._walk(mirror)
            self._judge_heads()
            self._judge_end()
            self._judge_times()
            self._judge_consistency()
            self._judge_receipts()
            self._conclude(bool(anchors or mirror))
        except Broken as error:
            self.fail("format", str(error))
        except UNREADABLE:
            self.fail("format", "the file is damaged or malformed and cannot be read to its end")

    @property
    def status(self) -> str:
        found = {claim.status for claim in self.claims.values()}
        return FAIL if FAIL in found else UNKNOWN if found & {UNKNOWN, NOT_CHECKED} else OK

    def fail(self, claim: str, finding: str, entry: int | None = None) -> None:
        if self.claims[claim].status != FAIL:
            self.claims[claim] = Claim(FAIL, finding, entry)

    def doubt(self, claim: str, finding: str, entry: int | None = None) -> None:
        if self.claims[claim].status == NOT_CHECKED:
            self.claims[claim] = Claim(UNKNOWN, finding, entry)

    def _read_trust(self, policy: Document | None) -> None:
        own = self.bundle.document("trust.json")
        self.policy = Policy.parse(own if policy is None else policy)
        for role, keys in (("log", self.policy.logs), ("witness", self.policy.witnesses)):
            self.keys |= {f"{key.name} ({role})": hashlib.sha256(key.public).hexdigest() for key in keys}
        if policy is None:
            self.notes.append("The keys came with the bundle: compare the fingerprints with those you were given.")
        if self.bundle.scope == "case":
            self.notes.append("Whether the case has further entries only a bundle of the whole log can show.")
        if not self.policy.witnesses:
            self.doubt("witness", "no witness is named: the log's owner could have rewritten it unseen")

    def _read_heads(self, anchors: Sequence[str], receipts: Sequence[tuple[str, bytes]]) -> None:
        self.heads: list[Head] = []
        for number, line in enumerate(self.bundle.lines("checkpoints.jsonl"), 1):
            if number > MAX_CHECKPOINTS:
                raise Broken("checkpoints.jsonl holds too many checkpoints")
            self.heads.append(read_head(parse(line, "a checkpoint", str), f"checkpoint {number}", self.policy))
        if not self.heads or any(b.size < a.size for a, b in pairwise(self.heads)):
            raise Broken("the bundle holds no checkpoint, or not in the order of their sizes")
        members = [name for name in sorted(self.bundle.sizes) if name.startswith("receipts/")]
        self.receipts = [self._read_receipt(name, self.bundle.document(name)) for name in members]
        self.anchors: list[Head] = []
        # What the auditor brings says nothing about the log when it is unreadable itself.
        for number, note in enumerate(anchors, 1):
            try:
                self.anchors.append(read_head(note, f"anchor {number}", self.policy))
            except Broken as error:
                self.doubt("consistency", str(error))
        for name, content in receipts:
            try:
                self.receipts.append(self._read_receipt(name, parse(content, name)))
            except Broken as error:
                self.doubt("receipts", str(error))

    def _read_receipt(self, name: str, document: Document) -> tuple[str, int, bytes, list[bytes], Head]:
        index, note, leaf = integer(document, "leaf_index"), document.get("checkpoint"), document.get("leaf_hash")
        if document.get("format") != RECEIPT_FORMAT or not isinstance(note, str):
            raise Broken(f"{name} is not a receipt of format {RECEIPT_FORMAT}")
        proof = hashes(document.get("inclusion_proof"), name)
        return name, index, hashes([leaf], name)[0], proof, read_head(note, name, self.policy)

    def _walk(self, mirror: Path | None) -> None:
        """Read all leaf hashes and entries once, in order, and note the root at every size that somebody signed."""
        signed = (*self.heads, *self.anchors, *(receipt[4] for receipt in self.receipts))
        sizes = sorted({head.size for head in signed} - {0}, reverse=True)
        self.leaves_at = {receipt[1]: b"" for receipt in self.receipts}
        self.times_at: dict[int, str] = {}
        tree = Range()
        self.roots = {0: tree.root()}
        with self.bundle.open("leaf-hashes.bin") as listed, mirror.open("rb") if mirror else io.BytesIO() as copies:
            for leaf in self._leaves(listed):
                if (copy := copies.read(32)) != leaf and copy and self.altered is None:
                    self.altered = tree.size
                if tree.size in self.leaves_at:
                    self.leaves_at[tree.size] = leaf
                tree.append(leaf)
                if sizes and sizes[-1] == tree.size:
                    self.roots[sizes.pop()], self.times_at[tree.size] = tree.root(), self.last_time
            if copies.read(1):
                self.doubt("consistency", f"the witness's copy goes on after entry {self.size - 1}", self.size)
        if self.entries_read != self.bundle.entries:
            self.fail("format", f"bundle.json says {self.bundle.entries} entries, the bundle holds {self.entries_read}")

    def _leaves(self, listed: BinaryIO) -> Iterator[bytes]:
        """All leaf hashes: of the entries where the bundle has them all, else as listed, with the proofs of a case."""
        whole, entries = self.bundle.scope == "log", self.bundle.lines("entries.jsonl")
        proofs = iter(()) if whole else self.bundle.lines("proofs.jsonl")
        line, entry = self._next(entries, 0)
        for seq in range(self.size):
            leaf = listed.read(32)
            if line and (whole or entry.get("seq") == seq):
                own = hashlib.sha256(b"\x00" + line).digest()
                if own != leaf:
                    self.fail("leaf-hashes", f"entry {seq} does not have the hash listed for it", seq)
                self._read_entry(line, entry, seq)
                if whole:
                    leaf = own
                else:
                    self._check_proof(next(proofs, b"{}"), entry, seq, leaf)
                line, entry = self._next(entries, seq + 1)
            elif whole:
                break
            yield leaf
        if line or next(proofs, b""):
            self.fail("sequence", "an entry or a proof is left over that has no place in the log")

    def _next(self, entries: Iterator[bytes], number: int) -> tuple[bytes, Document]:
        line = next(entries, b"")
        try:
            return line, parse(line, f"entry {number}") if line else {}
        except Broken as error:
            self.fail("format", str(error), number)
            return line, {}

    def _check_proof(self, line: bytes, entry: Document, seq: int, leaf: bytes) -> None:
        document, last = parse(line, "proofs.jsonl"), self.heads[-1]
        proof = hashes(document.get("proof"), "proofs.jsonl")
        if document.get("seq") != seq or not included(leaf, seq, last.size, proof, last.root):
            self.fail("inclusion", f"the proof of entry {seq} does not lead to the last checkpoint", seq)
        if entry.get("case_id") != self.bundle.case_id:
            self.fail("format", f"entry {seq} belongs to another case", seq)

    def _read_entry(self, line: bytes, entry: Document, seq: int) -> None:
        self.entries_read += 1
        if entry.get("seq") != seq:
            self.fail("sequence", f"the entry at place {seq} says it is number {entry.get('seq')!r:.20}", seq)
        at = entry.get("sequenced_at")
        if type(at) is not str or not TIME.fullmatch(at):
            self.fail("time", f"entry {seq} says no time", seq)
        elif at < self.last_time:
            self.fail("time", f"entry {seq} says it was logged before the one ahead of it", seq)
        else:
            self.last_time = at
        if self.report_sha256 and self.report_sha256.encode() in line:
            found = any(output.get("sha256") == self.report_sha256 for output in entry.get("outputs", ()))
            self.report_found = seq if found else self.report_found
        self.last_action = str(entry.get("action"))

    def _conclude(self, elsewhere: bool) -> None:
        """What was checked without a finding holds; what nobody asked about says so."""
        if not elsewhere:
            self.notes.append("No witness's note was given: an old state of the log could pass for the newest.")
        asked = {"consistency": elsewhere, "receipts": bool(self.receipts), "report": bool(self.report_sha256)}
        asked["inclusion"] = self.bundle.scope == "case"
        for name, claim in self.claims.items():
            if claim.status == NOT_CHECKED:
                claim.status = OK if asked.get(name, True) else NOT_ASKED
        if self.report_sha256 and self.report_found < 0:
            self.fail("report", "no entry has this file among its outputs: it was altered, or never recorded here")
        elif self.report_sha256:
            self.claims["report"].finding = f"recorded in entry {self.report_found}"

    def _judge_heads(self) -> None:
        """Signatures and roots; the last root that fits and the first that does not enclose the first change."""
        fits = confirmed = 0
        for head in self.heads:
            if head.forged or not head.logs:
                what = f"carries a forged signature of {head.forged[0]}" if head.forged else "is not signed by the log"
                self.fail("log-signatures", f"{head.source} {what}")
            if (root := self.roots.get(head.size)) == head.root:
                fits = head.size
            elif root is not None:
                self.window = self.window or (fits, head.size - 1)
                self.fail("roots", f"something among entries {fits} to {head.size - 1} is not as it was signed", fits)
            if len(head.witnessed) >= self.policy.quorum:
                confirmed = head.size
        if confirmed < self.heads[-1].size:
            self.doubt("witness", f"not enough witnesses signed: they confirm {confirmed} entries only", confirmed)

    def _judge_end(self) -> None:
        last, size = self.heads[-1].size, self.size
        if last > size:
            self.fail("end", f"a checkpoint covers {last} entries, but the bundle ends after {size}", size)
        elif last < size:
            self.doubt("end", f"nobody signed entries {last} to {size - 1} yet", last)
        if (self.last_action, self.last_time) != ("audit.exported", self.bundle.exported_at):
            self.doubt("end", "the last entry is not the one that records this export: later entries may be missing")

    def _judge_times(self) -> None:
        seen: dict[bytes, int] = {}
        for head in self.heads:
            for key, at in head.witnessed.items():
                if at < seen.get(key, 0):
                    self.fail("time", f"{head.source} was cosigned before a smaller one")
                seen[key] = at
            logged, seen_at = self.times_at.get(head.size), head.seen_at
            if logged and seen_at and datetime.fromisoformat(logged) > seen_at + CLOCK_TOLERANCE:
                self.fail("time", f"{head.source} was cosigned before its last entry was logged", head.size - 1)

    def _judge_consistency(self) -> None:
        if self.altered is not None:
            self.fail("consistency", f"entry {self.altered} is not the one that the witness copied", self.altered)
        for head in self.anchors:
            if head.forged or not head.witnessed:
                self.doubt("consistency", f"{head.source} is not signed by a known witness")
            elif head.size > self.size:
                self._judge_beyond("consistency", head, f"{head.source} covers {head.size} entries")
            elif self.roots[head.size] != head.root:
                self.fail("consistency", f"{head.source} shows another history of the first {head.size} entries")

    def _judge_beyond(self, claim: str, head: Head, what: str) -> None:
        """Evidence of more entries than are here: cut off, unless it is younger than the bundle."""
        finding = f"{what}, the bundle ends after {self.size}"
        if head.seen_at is None or head.seen_at + CLOCK_TOLERANCE > datetime.fromisoformat(self.bundle.exported_at):
            self.doubt(claim, f"{finding}; if it was exported after that, entries were cut off", self.size)
        else:
            self.fail(claim, f"{finding} though it was exported later: entries were cut off", self.size)

    def _judge_receipts(self) -> None:
        for name, index, leaf, proof, head in self.receipts:
            if head.forged or not head.logs or not included(leaf, index, head.size, proof, head.root):
                self.doubt("receipts", f"{name} proves nothing: its signature or its path is wrong", index)
            elif index >= self.size:
                self._judge_beyond("receipts", head, f"{name} is for entry {index}")
            elif self.leaves_at[index] != leaf:
                self.fail("receipts", f"entry {index} is not the one that {name} was given for", index)
            elif self.roots.get(head.size, head.root) != head.root:
                self.fail("receipts", f"{name} shows another history of the first {head.size} entries", index)


def hashes(values: Any, source: str) -> list[bytes]:
    if not isinstance(values, list) or len(values) > 64 or not all(HASH.fullmatch(str(value)) for value in values):
        raise Broken(f"{source} holds unreadable hashes")
    return [bytes.fromhex(value) for value in values]


def headline(result: Verification) -> str:
    """One sentence for a reader who knows nothing of hashes."""
    worst = next((c for c in result.claims.values() if c.status == result.status), Claim())
    if result.status == FAIL:
        altered = f"entry {result.altered} is not as it was recorded"
        return f"TAMPERED: {worst.finding if result.altered is None else altered}."
    if result.status == UNKNOWN:
        return f"NOT PROVEN: nothing altered was found, but {worst.finding}."
    what = f"all {result.size:,} entries of the log are as they were recorded, complete and in order"
    if result.bundle.scope == "case":
        what = f"the {result.entries_read:,} entries given here are as they were recorded, in a log of {result.size:,}"
    return f"VERIFIED: {what}, up to {result.last_time}."


def to_document(result: Verification) -> Document:
    failed = [c.entry for c in result.claims.values() if c.status == FAIL and c.entry is not None]
    return {
        "verdict": {OK: "verified"}.get(result.status, result.status),
        "headline": headline(result),
        "claims": {name: asdict(claim) for name, claim in result.claims.items()},
        "first_bad_entry": min(failed, default=None) if result.altered is None else result.altered,
        "window": result.window,
        "notes": result.notes,
        "keys": result.keys,
    }


def print_text(result: Verification) -> None:
    print(headline(result))
    for note in result.notes:
        print(f"  note: {note}")
    for key, fingerprint in result.keys.items():
        print(f"  key of {key}: {fingerprint}")
    for name, claim in result.claims.items():
        print(f"  [{claim.status:^13}] {CLAIMS[name]}" + (f": {claim.finding}" if claim.finding else ""))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="vbt-verify", description="Check an exported audit bundle offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--policy", type=Path, help="trust.json that you got another way than the bundle")
    parser.add_argument("--anchor", type=Path, action="append", default=[], help="a witness's own note; repeatable")
    parser.add_argument("--mirror", type=Path, help="a witness's leaf-hashes.bin: names the exact entry changed")
    parser.add_argument("--receipts", type=Path, help="directory of receipts (*.json) handed out with reports")
    parser.add_argument("--report", type=Path, help="a delivered file: is it the one in the log?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        policy = parse(options.policy.read_bytes(), "the policy") if options.policy else None
        if policy is not None:
            Policy.parse(policy)
        anchors = [path.read_text("utf-8") for path in options.anchor]
        files = sorted(options.receipts.glob("*.json")) if options.receipts else []
        receipts = [(path.name, path.read_bytes()) for path in files]
        report = options.report.read_bytes() if options.report else None
        if not options.bundle.is_file() or (options.mirror and not options.mirror.is_file()):
            raise Broken("no such file")
    except (*UNREADABLE, Broken) as error:
        print(f"NOT PROVEN: a file could not be read ({type(error).__name__}).", file=sys.stderr)
        return 2
    brought: Document = {"policy": policy, "anchors": anchors, "receipts": receipts, "report": report}
    result = Verification(options.bundle, **brought, mirror=options.mirror)
    if options.json:
        print(json.dumps(to_document(result), indent=2))
    else:
        print_text(result)
    return {OK: 0, FAIL: 1, UNKNOWN: 2}[result.status]


if __name__ == "__main__":
    sys.exit(main())
