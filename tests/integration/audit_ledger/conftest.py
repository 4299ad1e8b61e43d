"""A hospital's log written by the real sequencer and witness, and a forger who has its files and perhaps its keys."""

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_ledger.bundle import export_bundle
from audit_ledger.sequencer import Sequencer
from audit_ledger.witness import Witness
from vbt.ledger import (
    COSIGNATURE_V1,
    Checkpoint,
    CompactRange,
    Note,
    NoteSigner,
    Tree,
    canonical_entry,
    leaf_hash,
    timestamp,
)
from vbt.platform.state import audit_outbox, metadata, open_state

ORIGIN = "hospital.example/vbt/audit"
BATCH = 12
BATCHES = 8
REPORT = b"%PDF the report that was delivered"


class Clock:
    """A wall clock that the test turns; every reading is a little later than the one before."""

    def __init__(self):
        self.now = datetime(2026, 3, 1, 8, tzinfo=UTC)

    def __call__(self):
        self.now += timedelta(milliseconds=7)
        return self.now

    def seconds(self):
        return self.now.timestamp()


@dataclass(frozen=True)
class Keys:
    log: NoteSigner
    witness: NoteSigner
    thief: NoteSigner

    @classmethod
    def generate(cls):
        return cls(
            NoteSigner(ORIGIN, Ed25519PrivateKey.generate()),
            NoteSigner("witness.example/dpo", Ed25519PrivateKey.generate(), algorithm=COSIGNATURE_V1),
            NoteSigner(ORIGIN, Ed25519PrivateKey.generate()),
        )

    def trust(self, *, witnessed=True):
        return {
            "origin": ORIGIN,
            "log_keys": [str(self.log.verifier_key)],
            "witness_keys": [str(self.witness.verifier_key)] if witnessed else [],
            "witness_quorum": 1,
        }

    def head(self, entries, size, *, at=None, signer=None, origin=ORIGIN):
        """A checkpoint of the first `size` entries, signed by the log and, with `at`, by the witness."""
        text = str(Checkpoint(origin, size, CompactRange(map(leaf_hash, entries[:size])).root()))
        note = Note(text, ((signer or self.log).sign(text),))
        return str(note if at is None else note.with_signature(self.witness.cosign(text, timestamp=int(at))))


@dataclass(frozen=True)
class Bundle:
    """The parts of a bundle, for forging."""

    entries: list[bytes]
    hashes: list[bytes]
    heads: list[str]
    manifest: dict
    trust: dict
    proofs: list[dict] | None = None
    extra: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    def read(cls, path):
        with zipfile.ZipFile(path) as bundle:
            listed = bundle.read("leaf-hashes.bin")
            case = "proofs.jsonl" in bundle.namelist()
            return cls(
                entries=bundle.read("entries.jsonl").split(b"\n")[:-1],
                hashes=[listed[i : i + 32] for i in range(0, len(listed), 32)],
                heads=[json.loads(line) for line in bundle.read("checkpoints.jsonl").splitlines()],
                manifest=json.loads(bundle.read("bundle.json")),
                trust=json.loads(bundle.read("trust.json")),
                proofs=[json.loads(line) for line in bundle.read("proofs.jsonl").splitlines()] if case else None,
            )

    def write(self, path):
        with zipfile.ZipFile(path, "w") as bundle:
            for name, content in self.extra:
                bundle.writestr(name, content)
            bundle.writestr("entries.jsonl", b"".join(entry + b"\n" for entry in self.entries))
            bundle.writestr("leaf-hashes.bin", b"".join(self.hashes))
            bundle.writestr("checkpoints.jsonl", "".join(json.dumps(head) + "\n" for head in self.heads))
            bundle.writestr("bundle.json", json.dumps(self.manifest))
            bundle.writestr("trust.json", json.dumps(self.trust))
            if self.proofs is not None:
                bundle.writestr("proofs.jsonl", "".join(json.dumps(proof) + "\n" for proof in self.proofs))
        return path

    def sizes(self):
        return [Note.parse(head).checkpoint.size for head in self.heads]

    def with_manifest(self, **changes):
        return replace(self, manifest={**self.manifest, **changes})

    def with_entries(self, entries, *, hashes=None):
        """Other entries, listed with their true hashes unless others are given."""
        hashes = [leaf_hash(entry) for entry in entries] if hashes is None else hashes
        return replace(self, entries=entries, hashes=hashes).with_manifest(size=len(entries), entries=len(entries))

    def cut(self, size, *, keep_heads=False):
        """The log as it was at `size`; the manifest says it was exported then."""
        at = json.loads(self.entries[size - 1])["sequenced_at"]
        heads = self.heads if keep_heads else [h for h, s in zip(self.heads, self.sizes(), strict=True) if s <= size]
        cut = replace(self, heads=heads).with_entries(self.entries[:size], hashes=self.hashes[:size])
        return cut.with_manifest(exported_at=at)

    def unwitnessed(self):
        """The same log when it has nobody but itself to sign for it."""
        heads = []
        for head in self.heads:
            note = Note.parse(head)
            own = [s for s in note.signatures if s.name == ORIGIN]
            heads.append(str(Note(note.text, tuple(own))))
        return replace(self, heads=heads, trust={**self.trust, "witness_keys": []})


@dataclass(frozen=True)
class Hospital:
    """An honest log and everything around it at the moment of its last export."""

    keys: Keys
    bundle: Bundle
    case_bundle: Bundle
    exports: list[int]
    anchors: dict[int, str]
    mirror: Path
    receipts: dict[int, bytes]
    early_receipts: dict[int, bytes]

    @property
    def anchor(self):
        return self.anchors[len(self.bundle.entries)]


def audit_entry(number, *, outputs=()):
    return canonical_entry(
        {
            "event_id": f"event-{number}",
            "at": timestamp(datetime(2026, 3, 1, tzinfo=UTC)),
            "case_id": f"case-{number % 5}",
            "action": "connectome.built",
            "outcome": "success",
            "actor": "connectome-builder",
            "outputs": [{"name": "connectome.npz", "sha256": f"{number:064x}"}, *outputs],
            "detail": {"text": "ärztlich geprüft"},
        }
    )


def submit(engine, entries):
    """What a service does in the transaction of its effect."""
    rows = [{"event_id": json.loads(entry)["event_id"], "entry": entry, "at": 0.0} for entry in entries]
    with engine.begin() as connection:
        connection.execute(audit_outbox.insert(), rows)


def rewritten(entry, **changes):
    fields = {**json.loads(entry), **changes}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.fixture(scope="session")
def keys():
    return Keys.generate()


@pytest.fixture
def engine(tmp_path):
    """An empty state: a SQLite file, or the PostgreSQL that VBT_STATE__URL names."""
    url = os.environ.get("VBT_STATE__URL", "")
    if url.startswith("postgresql"):
        cleaner = sa.create_engine(url)
        with cleaner.begin() as connection:
            metadata.drop_all(connection)
            connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
        cleaner.dispose()
    engine = open_state(url if url.startswith("postgresql") else f"sqlite:///{tmp_path}/state.db")
    yield engine
    engine.dispose()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_ledger(engine, keys, clock, tmp_path):
    """Open the ledger, as often as a test wants, as its process does after a start."""

    def open_it(*, lease_seconds=0.0, witnessed=True):
        witness = Witness(tmp_path / "witness", keys.witness, keys.log.verifier_key, clock=clock.seconds)
        return Sequencer(
            engine, keys.log, witness=witness if witnessed else None, clock=clock, lease_seconds=lease_seconds
        )

    return open_it


@pytest.fixture(scope="session")
def hospital(keys, tmp_path_factory):
    root, clock = tmp_path_factory.mktemp("hospital"), Clock()
    engine = open_state(f"sqlite:///{root}/state.db")
    witness = Witness(root / "witness", keys.witness, keys.log.verifier_key, clock=clock.seconds)
    sequencer = Sequencer(engine, keys.log, witness=witness, clock=clock)
    sequencer.start()
    exports, anchors = [], {}
    report = {"name": "report.pdf", "sha256": hashlib.sha256(REPORT).hexdigest()}
    early = {}
    for batch in range(BATCHES):
        numbers = range(batch * BATCH, (batch + 1) * BATCH)
        submit(engine, [audit_entry(n, outputs=[report] if n == 40 else ()) for n in numbers])
        sequencer.drain()
        clock.now += timedelta(minutes=20)
        early |= {r.leaf_index: r.to_json() for r in map(sequencer.log.receipt, [f"event-{numbers[0]}"])}
        if batch % 2:
            exports.append(sequencer.record("audit.exported").leaf_index + 1)
            anchors[exports[-1]] = str(witness.note)
    case = root / "case.zip"
    export_bundle(sequencer, case, case_id="case-3")
    export_bundle(sequencer, root / "all.zip")
    bundle = Bundle.read(root / "all.zip")
    anchors[len(bundle.entries)] = str(witness.note)
    receipts = {i: sequencer.log.receipt_at(i)[1].to_json() for i in range(len(bundle.entries))}
    return Hospital(
        keys, bundle, Bundle.read(case), exports, anchors, root / "witness" / "leaf-hashes.bin", receipts, early
    )


@pytest.fixture(scope="session")
def forge():
    """Tools that test files share without importing each other."""

    class Forge:
        report = REPORT
        origin = ORIGIN
        rewritten = staticmethod(rewritten)
        audit_entry = staticmethod(audit_entry)
        submit = staticmethod(submit)
        read = staticmethod(Bundle.read)
        replace = staticmethod(replace)
        tree = Tree

    return Forge
