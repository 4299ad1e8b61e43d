"""An export is one zip file with everything a stranger needs to check the log without us."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import sqlalchemy as sa

from audit_ledger.log import Leaf, read_leaves
from audit_ledger.sequencer import Sequencer
from vbt.errors import Rejected
from vbt.ledger import Note, Tree, VerifierKey, parse_entry
from vbt.platform.state import audit_checkpoint, audit_leaf, reading

BUNDLE_FORMAT = "vbt-audit-bundle/1"
MAX_CHECKPOINTS = 1000
_EPOCH = (1980, 1, 1, 0, 0, 0)
# For one statement: set on the connection it would make every later one a server-side cursor.
_STREAMED = {"yield_per": 2000}


def export_bundle(
    sequencer: Sequencer,
    path: Path,
    *,
    case_id: str | None = None,
    receipts: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Record the export in the log, then write the log up to that entry to `path`.

    Parameters
    ----------
    case_id : only the entries of this case, with all leaf hashes and inclusion proofs; the whole log when None
    receipts : (name, JSON) of receipts that were delivered with reports, to be checked with the bundle
    """
    scope = {"scope": "log" if case_id is None else "case"}
    recorded = sequencer.record("audit.exported", case_id=case_id, detail=scope)
    witness = sequencer.witness
    write_bundle(
        sequencer.engine,
        path,
        size=recorded.leaf_index + 1,
        log_keys=[sequencer.signer.verifier_key],
        witness_keys=[witness.verifier_key] if witness else [],
        case_id=case_id,
        receipts=receipts,
    )


def trust_document(log_keys: Sequence[VerifierKey], witness_keys: Sequence[VerifierKey], quorum: int = 1) -> bytes:
    """``trust.json``: whom a verifier believes. Hand it to auditors by another way than the bundle."""
    document = {
        "origin": log_keys[0].name,
        "log_keys": [str(key) for key in log_keys],
        "witness_keys": [str(key) for key in witness_keys],
        "witness_quorum": quorum,
    }
    return _json(document)


def write_bundle(
    engine: sa.Engine,
    path: Path,
    *,
    size: int,
    log_keys: Sequence[VerifierKey],
    witness_keys: Sequence[VerifierKey],
    case_id: str | None = None,
    receipts: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Write the first `size` entries; the same log and arguments give the same bytes.

    Raises `Rejected` when no checkpoint has this size.
    """
    with reading(engine) as connection, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as bundle:
        heads = _checkpoints(connection, size)
        tree = Tree(_leaf_hashes(connection, size)) if case_id is not None else None
        _write(bundle, "README.txt", [_shipped("bundle_format.txt")])
        _write(bundle, "trust.json", [trust_document(log_keys, witness_keys)])
        _write(bundle, "checkpoints.jsonl", (_json(str(note), lines=True) for note in heads))
        _write(bundle, "leaf-hashes.bin", _leaf_hashes(connection, size))
        leaves = read_leaves(connection, to_seq=size, case_id=case_id)
        count = _write(bundle, "entries.jsonl", (leaf.entry + b"\n" for leaf in leaves))
        if tree is not None:
            _write(bundle, "proofs.jsonl", _proofs(tree, read_leaves(connection, to_seq=size, case_id=case_id)))
        for name, content in sorted(receipts):
            _write(bundle, f"receipts/{name}.json", [content])
        _write(bundle, "verifier.py", [_verifier()])
        manifest = {
            "format": BUNDLE_FORMAT,
            "scope": "log" if case_id is None else "case",
            "case_id": case_id,
            "size": size,
            "entries": count,
            "exported_at": _time_of(connection, size - 1),
        }
        _write(bundle, "bundle.json", [_json(manifest)])


def _checkpoints(connection: sa.Connection, size: int) -> list[Note]:
    """At most `MAX_CHECKPOINTS`, spread over the log, always with the one of `size`."""
    sizes = sa.select(audit_checkpoint.c.size).where(audit_checkpoint.c.size <= size).order_by(audit_checkpoint.c.size)
    known = list(connection.execute(sizes).scalars())
    if not known or known[-1] != size:
        raise Rejected(
            "audit-bundle-size",
            rule="a bundle ends at a checkpoint",
            got="a size that has none",
            action="export up to a checkpoint",
        )
    step = -(-len(known) // MAX_CHECKPOINTS)
    chosen = known[::-1][::step]
    notes = sa.select(audit_checkpoint.c.note).where(audit_checkpoint.c.size.in_(chosen))
    return [Note.parse(text) for text in connection.execute(notes.order_by(audit_checkpoint.c.size)).scalars()]


def _leaf_hashes(connection: sa.Connection, size: int) -> Iterator[bytes]:
    query = sa.select(audit_leaf.c.leaf_hash).where(audit_leaf.c.seq < size).order_by(audit_leaf.c.seq)
    for value in connection.execute(query, execution_options=_STREAMED).scalars():
        yield bytes(value)


def _proofs(tree: Tree, leaves: Iterable[Leaf]) -> Iterator[bytes]:
    for leaf in leaves:
        proof = [step.hex() for step in tree.inclusion_proof(leaf.seq)]
        yield _json({"seq": leaf.seq, "proof": proof}, lines=True)


def _time_of(connection: sa.Connection, seq: int) -> str:
    entry = connection.execute(sa.select(audit_leaf.c.entry).where(audit_leaf.c.seq == seq)).scalar_one()
    return str(parse_entry(bytes(entry))["sequenced_at"])


def _write(bundle: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> int:
    """Add a member whose bytes depend on nothing but its content; the number of pieces."""
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    count = 0
    with bundle.open(member, "w", force_zip64=True) as file:
        for piece in pieces:
            file.write(piece)
            count += 1
    return count


def _json(document: object, *, lines: bool = False) -> bytes:
    indent = None if lines else 1
    return json.dumps(document, indent=indent, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _shipped(name: str) -> bytes:
    return files("audit_ledger").joinpath(name).read_bytes()


def _verifier() -> bytes:
    # Found, not imported: the verifier is a program of its own.
    spec = importlib.util.find_spec("vbt_verify")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("vbt_verify.py is installed next to the vbt package")
    return Path(spec.origin).read_bytes()
