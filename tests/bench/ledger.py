"""What the ledger costs: integrating entries, proving one, and verifying a large export in constant memory.

Run by hand: ``python tests/bench/ledger.py [entries]`` (1,000,000 by default). CPU seconds, because a shared machine's
wall clock says little.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import vbt_verify
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
    verify_consistency,
    verify_inclusion,
)
from vbt.platform.state import audit_outbox, open_state

START = datetime(2026, 1, 1, tzinfo=UTC)
LOG = NoteSigner("hospital.example/audit/2026", Ed25519PrivateKey.generate())
WITNESS = NoteSigner("witness.example/1", Ed25519PrivateKey.generate(), algorithm=COSIGNATURE_V1)

# The peak of the process's own memory; getrusage would count the parent's as well.
MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(next(line.split(":")[1].strip() for line in open("/proc/self/status") if "VmHWM" in line), file=sys.stderr)
"""


def entry(number, **more):
    """About 600 bytes, as a stage of the pipeline writes them."""
    return canonical_entry(
        {
            "event_id": f"0198c0de-0000-7000-8000-{number:012x}",
            "at": timestamp(START + timedelta(milliseconds=number)),
            "case_id": f"case-{number // 20}",
            "revision": 1,
            "action": "connectome.built",
            "outcome": "success",
            "actor": "connectome-builder",
            "purpose": "TREAT",
            "consent": {"decision": "permit", "basis": "treatment"},
            "inputs": [{"name": "diffusion.nii.gz", "sha256": f"{number:064x}"}],
            "outputs": [{"name": "connectome.npz", "sha256": f"{number + 1:064x}"}],
            "software": {"name": "vbt", "version": "0.1.0", "digest": "ab" * 32},
            "trace_id": f"{number:032x}",
            "span_id": f"{number:016x}",
            "detail": {"streamlines": 1000000},
            **more,
        }
    )


def signed(tree_size, root, at):
    text = str(Checkpoint(LOG.verifier_key.name, tree_size, root))
    cosignature = WITNESS.cosign(text, timestamp=int(at.timestamp()) + 1)
    return str(Note(text, (LOG.sign(text), cosignature)))


def write_large_bundle(path, size):
    """A genuine bundle of `size` entries with 1,000 checkpoints."""
    tree, hashes, notes, at = CompactRange(), bytearray(), [], START
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        with bundle.open("entries.jsonl", "w", force_zip64=True) as file:
            for seq in range(size):
                at = START + timedelta(milliseconds=seq)
                place = {"seq": seq, "sequenced_at": timestamp(at)}
                line = entry(seq, **place, **({"action": "audit.exported"} if seq == size - 1 else {}))
                file.write(line + b"\n")
                leaf = leaf_hash(line)
                hashes += leaf
                tree.append(leaf)
                if (seq + 1) % max(1, size // 1000) == 0 or seq == size - 1:
                    notes.append(json.dumps(signed(seq + 1, tree.root(), at)))
        trust = {"origin": LOG.verifier_key.name, "log_keys": [str(LOG.verifier_key)], "witness_quorum": 1}
        trust["witness_keys"] = [str(WITNESS.verifier_key)]
        manifest = {"format": vbt_verify.BUNDLE_FORMAT, "scope": "log", "case_id": None, "size": size, "entries": size}
        manifest["exported_at"] = timestamp(at)
        bundle.writestr("leaf-hashes.bin", bytes(hashes))
        bundle.writestr("checkpoints.jsonl", "\n".join(notes) + "\n")
        bundle.writestr("trust.json", json.dumps(trust))
        bundle.writestr("bundle.json", json.dumps(manifest))


def bench_verifier(directory, size):
    path = directory / "large.zip"
    write_large_bundle(path, size)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    command = [sys.executable, "-c", MEASURED, vbt_verify.__file__, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(run.stdout.splitlines()[0])
    print(
        f"verify {size:,} entries: exit {run.returncode}, {cpu:.1f} s CPU, {wall:.1f} s wall, "
        f"{run.stderr.strip()} peak RSS, bundle {path.stat().st_size / 2**20:.0f} MiB"
    )


def bench_sequencer(directory, count=20_000):
    engine = open_state(f"sqlite:///{directory}/state.db")
    sequencer = Sequencer(engine, LOG, witness=Witness(directory / "witness", WITNESS, LOG.verifier_key))
    rows = [{"event_id": json.loads(e)["event_id"], "entry": e, "at": 0.0} for e in map(entry, range(count))]
    with engine.begin() as connection:
        connection.execute(audit_outbox.insert(), rows)
    cpu, wall = time.process_time(), time.monotonic()
    added = sequencer.drain()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(f"sequence and witness {added:,} entries: {added / cpu:,.0f} per CPU second, {added / wall:,.0f} per second")


def bench_tree(size):
    leaves = [leaf_hash(str(i).encode()) for i in range(size)]
    cpu = time.process_time()
    CompactRange(leaves)
    print(f"append: {size / (time.process_time() - cpu):,.0f} leaves per CPU second (compact range)")
    tree = Tree(leaves)
    root, old = tree.root(), tree.root(size - 7)
    cpu = time.process_time()
    proofs = [tree.inclusion_proof(i * 997 % size) for i in range(1000)]
    made = time.process_time()
    assert all(verify_inclusion(leaves[i * 997 % size], i * 997 % size, size, p, root) for i, p in enumerate(proofs))
    print(
        f"inclusion proof at {size:,}: at most {32 * max(map(len, proofs))} B, "
        f"made in {(made - cpu) * 1e3:.0f} µs, verified in {(time.process_time() - made) * 1e3:.0f} µs"
    )
    growth = tree.consistency_proof(size - 7)
    assert verify_consistency(size - 7, size, old, root, growth)
    print(f"consistency proof: {32 * len(growth)} B")


if __name__ == "__main__":
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as scratch:
        bench_sequencer(Path(scratch))
        bench_tree(entries)
        bench_verifier(Path(scratch), entries)
