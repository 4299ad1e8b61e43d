"""Every entry gets exactly one place, whatever happens to the process that gives it."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from audit_ledger.keys import open_signer
from audit_ledger.log import AuditLog
from audit_ledger.sequencer import Sequencer
from vbt.errors import NotYet, Rejected, Unsound
from vbt.ledger import Checkpoint, CompactRange, Note, Tree, leaf_hash, verify_inclusion
from vbt.platform.state import audit_checkpoint, audit_leaf, audit_outbox


def stored(engine):
    with engine.connect() as connection:
        leaves = connection.execute(sa.select(audit_leaf).order_by(audit_leaf.c.seq)).all()
        heads = connection.execute(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.size)).all()
        waiting = connection.execute(sa.select(sa.func.count()).select_from(audit_outbox)).scalar()
    return leaves, [Note.parse(head.note) for head in heads], waiting


def assert_sound(engine, keys):
    """No gap, no duplicate, and every checkpoint is signed over the tree recomputed from the entries."""
    leaves, heads, _ = stored(engine)
    assert [leaf.seq for leaf in leaves] == list(range(len(leaves)))
    assert [json.loads(leaf.entry)["seq"] for leaf in leaves] == list(range(len(leaves)))
    assert len({leaf.event_id for leaf in leaves}) == len(leaves)
    tree, sizes = CompactRange(), {note.checkpoint.size: note for note in heads}
    for leaf in leaves:
        assert leaf.leaf_hash == leaf_hash(leaf.entry)
        tree.append(leaf.leaf_hash)
        if tree.size in sizes:
            note = sizes.pop(tree.size)
            assert note.checkpoint.root == tree.root()
            assert note.verify([keys.log.verifier_key])
    assert not sizes
    assert heads[-1].checkpoint.size == len(leaves)
    return leaves, heads


def test_entries_keep_the_order_in_which_they_were_written(engine, keys, open_ledger, forge):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(n) for n in range(1203)])
    assert ledger.drain() == 1203
    leaves, heads = assert_sound(engine, keys)
    assert [leaf.event_id for leaf in leaves] == [f"event-{n}" for n in range(1203)]
    assert [head.checkpoint.size for head in heads] == [500, 1000, 1203]
    assert stored(engine)[2] == 0
    assert all(head.cosigned_at(keys.witness.verifier_key) for head in heads)


def test_logging_begins_and_ends_with_an_entry(engine, keys, open_ledger):
    ledger = open_ledger()
    ledger.start()
    ledger.heartbeat()
    ledger.stop()
    actions = [json.loads(leaf.entry)["action"] for leaf in assert_sound(engine, keys)[0]]
    assert actions == ["audit.logging-started", "audit.heartbeat", "audit.logging-stopped"]


def test_an_idle_ledger_writes_nothing(engine, open_ledger):
    ledger = open_ledger()
    ledger.start()
    assert ledger.drain() == 0
    assert len(stored(engine)[0]) == 1


def test_a_redelivered_entry_is_not_added_twice(engine, keys, open_ledger, forge):
    ledger, entries = open_ledger(), [forge.audit_entry(n) for n in range(30)]
    for _ in range(3):
        forge.submit(engine, entries)
        ledger.drain()
    assert len(assert_sound(engine, keys)[0]) == 30


def test_another_entry_under_a_taken_event_id_is_reported_and_changes_nothing(engine, keys, open_ledger, forge):
    ledger, entry = open_ledger(), forge.audit_entry(1)
    forge.submit(engine, [entry])
    ledger.drain()
    for _ in range(2):
        forge.submit(engine, [forge.rewritten(entry, outcome="failed")])
        ledger.drain()
    leaves, _ = assert_sound(engine, keys)
    assert json.loads(leaves[0].entry)["outcome"] == "success"
    assert [json.loads(leaf.entry)["action"] for leaf in leaves[1:]] == ["audit.conflict"]


@pytest.mark.parametrize(
    "entry", [b"not json", b'{"event_id": "x"}', b'{"event_id":"another"}', b'{"event_id":"x","seq":9}']
)
def test_an_unreadable_entry_leaves_its_digest_and_stops_nothing(engine, keys, open_ledger, forge, entry):
    with engine.begin() as connection:
        connection.execute(audit_outbox.insert(), {"event_id": "x", "entry": entry, "at": 0.0})
    forge.submit(engine, [forge.audit_entry(1)])
    assert open_ledger().drain() == 2
    actions = [json.loads(leaf.entry)["action"] for leaf in assert_sound(engine, keys)[0]]
    assert actions == ["audit.malformed", "connectome.built"]


def test_log_time_never_runs_backwards(engine, open_ledger, clock):
    ledger = open_ledger()
    ledger.start()
    clock.now -= timedelta(hours=3)
    ledger.heartbeat()
    times = [json.loads(leaf.entry)["sequenced_at"] for leaf in stored(engine)[0]]
    assert times == sorted(times)
    heads = stored(engine)[1]
    cosigned = [note.signatures[1].timestamp for note in heads]
    assert cosigned == sorted(cosigned)


def test_a_second_writer_waits_for_the_first_to_stop(engine, keys, open_ledger):
    first, second = open_ledger(lease_seconds=60), open_ledger(lease_seconds=60)
    first.start()
    with pytest.raises(NotYet):
        second.start()
    first.stop()
    second.start()
    assert len(assert_sound(engine, keys)[0]) == 3


def test_a_writer_takes_over_from_one_that_died(engine, keys, open_ledger, forge):
    first = open_ledger()
    first.start()
    forge.submit(engine, [forge.audit_entry(n) for n in range(5)])
    second = open_ledger()
    assert second.drain() == 5
    forge.submit(engine, [forge.audit_entry(n) for n in range(5, 9)])
    assert first.drain() == 4
    assert_sound(engine, keys)


def test_receipts_prove_their_entries(engine, keys, open_ledger, forge):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(n) for n in range(70)])
    ledger.drain()
    receipts = ledger.log.case_receipts("case-3")
    assert [receipt.event_id for receipt in receipts] == [f"event-{n}" for n in range(3, 70, 5)]
    for receipt in receipts:
        note = Note.parse(receipt.checkpoint)
        head = note.checkpoint
        assert note.verify([keys.log.verifier_key])
        assert verify_inclusion(receipt.leaf_hash, receipt.leaf_index, head.size, receipt.inclusion_proof, head.root)


def test_an_entry_that_waits_has_no_receipt_yet(engine, open_ledger, forge):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(1)])
    with pytest.raises(NotYet):
        ledger.log.receipt("event-1")
    with pytest.raises(Rejected):
        ledger.log.receipt_at(0)


class Power(Exception):
    """Goes out."""


def cut_power(engine, statement, occurrence):
    """Break the connection in the middle of a transaction, before the statement that is the given one of its kind."""
    seen = []

    def listen(_connection, _cursor, text, _parameters, _context, _many):
        if text.startswith(statement):
            seen.append(text)
            if len(seen) == occurrence:
                raise Power

    sa.event.listen(engine, "before_cursor_execute", listen)
    return lambda: sa.event.remove(engine, "before_cursor_execute", listen)


@pytest.mark.parametrize("occurrence", [1, 2])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bus_lease",
        "DELETE FROM audit_outbox",
        "INSERT INTO audit_leaf",
        "INSERT INTO audit_checkpoint",
        "UPDATE audit_checkpoint",
    ],
)
def test_an_interrupted_batch_leaves_no_trace(engine, keys, open_ledger, forge, statement, occurrence):
    ledger = open_ledger()
    ledger.start()
    forge.submit(engine, [forge.audit_entry(n) for n in range(700)])
    restore = cut_power(engine, statement, occurrence)
    with pytest.raises(Power):
        ledger.drain()
    restore()
    for survivor in (ledger, open_ledger()):
        survivor.drain()
    leaves, heads = assert_sound(engine, keys)
    assert [leaf.event_id for leaf in leaves[1:]] == [f"event-{n}" for n in range(700)]
    assert heads[-1].cosigned_at(keys.witness.verifier_key)


def test_a_crash_of_the_witness_between_its_two_writes_is_healed(engine, open_ledger, forge, tmp_path):
    ledger = open_ledger()
    ledger.start()
    with (tmp_path / "witness" / "leaf-hashes.bin").open("ab") as mirror:
        mirror.write(b"x" * 45)
    forge.submit(engine, [forge.audit_entry(n) for n in range(5)])
    again = open_ledger()
    again.drain()
    assert again.witness.size == 6


PROCESS = """
    import sys
    from datetime import UTC, datetime
    from pathlib import Path
    from audit_ledger.keys import open_signer
    from audit_ledger.sequencer import Sequencer
    from audit_ledger.witness import Witness
    from vbt.ledger import COSIGNATURE_V1
    from vbt.platform.state import open_state

    root = Path(sys.argv[1])
    log = open_signer(root / "log.pem", "hospital.example/vbt/audit")
    witness = open_signer(root / "witness.pem", "witness.example/dpo", algorithm=COSIGNATURE_V1)
    engine = open_state(sys.argv[2])
    sequencer = Sequencer(engine, log, witness=Witness(root / "witness", witness, log.verifier_key), lease_seconds=0.0)
    print("ready", flush=True)
    while True:
        sequencer.drain()
"""


def test_a_killed_process_loses_and_doubles_nothing(engine, forge, tmp_path):
    rng, written = random.Random(5), 0
    for _ in range(3):
        url = engine.url.render_as_string(hide_password=False)
        command = [sys.executable, "-c", textwrap.dedent(PROCESS), str(tmp_path), url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        forge.submit(engine, [forge.audit_entry(n) for n in range(written, written + 1500)])
        written += 1500
        try:
            process.wait(timeout=rng.uniform(0.02, 0.2))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    log = open_signer(tmp_path / "log.pem", forge.origin)
    Sequencer(engine, log, lease_seconds=0.0).drain()
    leaves, _ = assert_sound(engine, SimpleNamespace(log=log))
    assert [leaf.event_id for leaf in leaves] == [f"event-{n}" for n in range(written)]


def test_a_log_changed_in_the_database_is_not_extended(engine, open_ledger, forge):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(n) for n in range(20)])
    ledger.drain()
    with engine.begin() as connection:
        changed = audit_leaf.update().where(audit_leaf.c.seq == 7)
        connection.execute(changed.values(leaf_hash=leaf_hash(b"another")))
    with pytest.raises(Unsound):
        open_ledger().start()


@pytest.mark.parametrize("lost", [range(7, 8), range(15, 20), range(10, 20), range(20)])
def test_a_log_that_lost_entries_is_not_extended(engine, open_ledger, forge, lost):
    ledger = open_ledger()
    for half in (range(10), range(10, 20)):
        forge.submit(engine, [forge.audit_entry(n) for n in half])
        ledger.drain()
    with engine.begin() as connection:
        connection.execute(audit_leaf.delete().where(audit_leaf.c.seq.in_(lost)))
    with pytest.raises(Unsound):
        open_ledger(witnessed=False).start()


def test_a_running_ledger_notices_that_its_newest_entries_are_gone(engine, open_ledger, forge):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(n) for n in range(20)])
    ledger.drain()
    with engine.begin() as connection:
        connection.execute(audit_leaf.delete().where(audit_leaf.c.seq > 14))
    with pytest.raises(Unsound):
        ledger.heartbeat()


def test_the_witness_refuses_a_log_put_back_from_an_older_copy(engine, keys, open_ledger, forge):
    ledger = open_ledger()
    ledger.start()
    forge.submit(engine, [forge.audit_entry(n) for n in range(20)])
    ledger.drain()
    with engine.begin() as connection:
        connection.execute(audit_leaf.delete().where(audit_leaf.c.seq > 0))
        connection.execute(audit_checkpoint.delete().where(audit_checkpoint.c.size > 1))
    again = open_ledger()
    with pytest.raises(Unsound):
        again.heartbeat()
    forge.submit(engine, [forge.audit_entry(n) for n in range(50, 90)])
    with pytest.raises(Unsound):
        again.drain()
    assert not stored(engine)[1][-1].cosigned_at(keys.witness.verifier_key)


def test_the_witness_signs_only_for_its_log(keys, open_ledger):
    ledger = open_ledger()
    ledger.start()
    note = ledger.log.checkpoint()
    stolen = Note(note.text, (keys.thief.sign(note.text),))
    larger = str(note.checkpoint).replace("\n1\n", "\n2\n")
    for forged in (stolen, Note(larger, (keys.log.sign(larger),)), Note("x\n", (keys.log.sign("x\n"),))):
        with pytest.raises(Rejected):
            ledger.witness.cosign(forged, 1, [], ())


def test_the_witness_signs_only_what_extends_what_it_signed(keys, open_ledger, forge, engine):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(n) for n in range(20)])
    ledger.drain()
    honest = Tree(leaf.leaf_hash for leaf in ledger.log.leaves())
    forked = Tree([*(honest.leaf(i) for i in range(19)), bytes(32), bytes(32)])
    text = str(Checkpoint(forge.origin, 21, forked.root()))
    note = Note(text, (keys.log.sign(text),))
    for hashes, proof in (
        ([forked.leaf(20)], forked.consistency_proof(20)),
        ([forked.leaf(20)], ()),
        ([bytes(31)], Tree([*(honest.leaf(i) for i in range(20)), bytes(32)]).consistency_proof(20)),
    ):
        with pytest.raises(Rejected):
            ledger.witness.cosign(note, 20, hashes, proof)
    with pytest.raises(NotYet):
        ledger.witness.cosign(note, 19, [], ())
    assert ledger.witness.size == 20


def test_leaf_hashes_must_give_the_root_even_when_the_proof_is_right(keys, open_ledger, forge, engine):
    ledger = open_ledger()
    forge.submit(engine, [forge.audit_entry(n) for n in range(20)])
    ledger.drain()
    grown = Tree([*(leaf.leaf_hash for leaf in ledger.log.leaves()), bytes(32)])
    text = str(Checkpoint(forge.origin, 21, grown.root()))
    note = Note(text, (keys.log.sign(text),))
    for wrong in ([], [b"x" * 32], [bytes(32), bytes(32)], [bytes(31)]):
        with pytest.raises(Rejected):
            ledger.witness.cosign(note, 20, wrong, grown.consistency_proof(20))
    ledger.witness.cosign(note, 20, [bytes(32)], grown.consistency_proof(20))


def test_two_processes_share_one_witness(engine, keys, open_ledger, forge, tmp_path):
    """A command run beside the service, for an export, must not leave the service's witness behind."""
    service, command = open_ledger(), open_ledger()
    for start, ledger in enumerate((service, command, service, command, service)):
        forge.submit(engine, [forge.audit_entry(start * 7 + n) for n in range(7)])
        assert ledger.drain() == 7
    leaves, heads = assert_sound(engine, keys)
    assert all(head.cosigned_at(keys.witness.verifier_key) for head in heads)
    mirror = (tmp_path / "witness" / "leaf-hashes.bin").read_bytes()
    assert mirror == b"".join(leaf.leaf_hash for leaf in leaves)


def test_exports_and_entries_from_many_threads_keep_the_log_sound(engine, keys, open_ledger, forge):
    ledger = open_ledger()
    ledger.start()

    def work(worker):
        for turn in range(4):
            forge.submit(engine, [forge.audit_entry(worker * 100 + turn)])
            receipt = ledger.record("audit.exported") if worker % 2 else ledger.drain()
            if worker % 2:
                # Under its own checkpoint at once, whatever the others do.
                assert receipt.leaf_index < Note.parse(receipt.checkpoint).checkpoint.size

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    ledger.drain()
    leaves, heads = assert_sound(engine, keys)
    assert len(leaves) == 1 + 16 + 8
    assert all(head.cosigned_at(keys.witness.verifier_key) for head in heads)


def test_readers_beside_the_writer_always_see_a_sound_log(engine, open_ledger, forge):
    ledger, reader, stop = open_ledger(), AuditLog(engine), threading.Event()
    ledger.start()

    def read():
        seen = 0
        while not stop.is_set():
            leaf, receipt = reader.receipt_at(0)
            head = Note.parse(receipt.checkpoint).checkpoint
            assert verify_inclusion(leaf.leaf_hash, 0, head.size, receipt.inclusion_proof, head.root)
            seen += 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for start in range(0, 60, 3):
            forge.submit(engine, [forge.audit_entry(n) for n in range(start, start + 3)])
            ledger.drain()
        stop.set()
        assert all(future.result() for future in readers)


def test_a_private_key_file_is_for_its_owner_only(tmp_path):
    made = open_signer(tmp_path / "keys" / "log.pem", "hospital.example/vbt/audit")
    assert (tmp_path / "keys" / "log.pem").stat().st_mode & 0o777 == 0o600
    assert open_signer(tmp_path / "keys" / "log.pem", made.verifier_key.name).verifier_key == made.verifier_key
