"""The verifier stands alone, and each of its checks is the only one that finds something."""

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import cryptography
import pytest

import vbt_verify
from vbt.ledger import COSIGNATURE_V1, Note, NoteSigner, Tree, VerifierKey, leaf_hash

# One of the forgeries is a zip file with one name twice, which zipfile warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
SOURCE = Path(vbt_verify.__file__).read_text("utf-8")


@pytest.fixture(scope="module")
def battery(hospital, keys, forge, tmp_path_factory):
    """Bundles that each break one rule, with the question an auditor asks: name → (path, arguments)."""
    root, bundle, case, cases = tmp_path_factory.mktemp("battery"), hospital.bundle, hospital.case_bundle, {}
    entries, sizes = bundle.entries, bundle.sizes()
    trust, last = keys.trust(), len(entries)
    times = {Note.parse(head).checkpoint.size: Note.parse(head).signatures[1].timestamp for head in bundle.heads}

    def add(name, forged, **question):
        cases[name] = (forged.write(root / f"{name}.zip"), {"policy": trust, **question})

    def signed(forged_entries, *, heads=sizes, shift=lambda _, at: at, **changes):
        ends = json.loads(forged_entries[-1])
        made = [keys.head(forged_entries, s, at=shift(s, times[min(s, last)])) for s in heads]
        made = forge.replace(bundle, heads=made).with_entries(forged_entries)
        return made.with_manifest(exported_at=ends["sequenced_at"], **changes)

    def changed(at, **fields):
        return [*entries[:at], forge.rewritten(entries[at], **fields), *entries[at + 1 :]]

    def with_heads(heads):
        return forge.replace(bundle, heads=heads)

    def receipt(index, forged_entries, size, **fields):
        tree = Tree(map(leaf_hash, forged_entries[:size]))
        document = {
            "format": "vbt-receipt/1",
            "event_id": "e",
            "leaf_index": index,
            "leaf_hash": tree.leaf(index).hex(),
            "inclusion_proof": [step.hex() for step in tree.inclusion_proof(index)],
            "checkpoint": keys.head(forged_entries, size),
            **fields,
        }
        return [("receipt.json", json.dumps(document).encode())]

    another = changed(20, outcome="another history")
    text = Note.parse(bundle.heads[-1]).text
    # the case's entries and proofs
    where = len(case.entries) // 2
    edited = [*case.entries[:where], forge.rewritten(case.entries[where], outcome="edited"), *case.entries[where + 1 :]]
    add("case: edited entry", forge.replace(case, entries=edited))
    wrong = {**case.proofs[where], "proof": case.proofs[where - 1]["proof"]}
    add("case: wrong proof", forge.replace(case, proofs=[*case.proofs[:where], wrong, *case.proofs[where + 1 :]]))
    add("case: entry dropped", forge.replace(case, entries=case.entries[1:], proofs=case.proofs[1:]))
    add("case: entry left over", forge.replace(case, entries=[*case.entries, case.entries[0]]))
    add("case: of another case", case.with_manifest(case_id="case-1"))
    # what was written wrong and honestly signed
    add(
        "entries: number skipped",
        signed([*entries[:30], *(forge.rewritten(e, seq=json.loads(e)["seq"] + 1) for e in entries[30:])]),
    )
    add("entries: time back", signed(changed(30, sequenced_at="2026-02-01T00:00:00.000000Z")))
    first_of_batch = json.loads(entries[sizes[2]])["sequenced_at"]
    add("entries: time of no kind", signed(changed(sizes[2], sequenced_at=first_of_batch.replace("Z", "+00:00"))))
    future = "2026-03-02T00:00:00.000000Z"
    add(
        "entries: after they were witnessed", signed([*entries[:-1], forge.rewritten(entries[-1], sequenced_at=future)])
    )
    add("witness: time back", signed(entries, shift=lambda s, at: at + 10 * 3600 - 1800 * sizes.index(s)))
    # what was changed afterwards
    add("roots: edited with its hash", bundle.with_entries(changed(20, outcome="edited")))
    thief = Note(text, (keys.thief.sign(text), Note.parse(bundle.heads[-1]).signatures[1]))
    add("log: signed by another", with_heads([*bundle.heads[:-1], str(thief)]))
    own, witness = Note.parse(bundle.heads[-1]).signatures
    bad = forge.replace(own, blob=own.blob[:-1] + bytes([own.blob[-1] ^ 1]))
    add("log: signature altered", with_heads([*bundle.heads, str(Note(text, (own, bad, witness)))]))
    cut = bundle.cut(hospital.exports[1], keep_heads=True)
    add("end: cut off before the last checkpoint", cut)
    add("end: beyond the last checkpoint", with_heads(bundle.heads[:-1]))
    add("end: no export", bundle.cut(sizes[2]))
    add("witness: none signed the last", with_heads([*bundle.heads[:-1], str(Note(text, (own,)))]))
    two = {**trust, "witness_quorum": 2, "witness_keys": [*trust["witness_keys"], second_witness(keys)]}
    add("witness: one of two signed", bundle, policy=two)
    selfish = {**trust, "witness_keys": [str(self_witness(keys).verifier_key)]}
    note = Note.parse(bundle.heads[-1])
    alone = Note(text, (note.signatures[0], self_witness(keys).cosign(text, timestamp=times[last])))
    add("witness: the log itself", with_heads([*bundle.heads[:-1], str(alone)]), policy=selfish)
    # what others kept
    add("mirror: another history", signed(another), mirror=hospital.mirror)
    add("anchor: another history", signed(another), anchors=[hospital.anchor])
    add("anchor: more than the bundle", bundle.cut(hospital.exports[1]), anchors=[hospital.anchor])
    add("anchor: signed by no witness", bundle, anchors=[keys.head(entries, last)])
    add("mirror: more than the bundle", bundle.cut(hospital.exports[1]), mirror=hospital.mirror)
    add("receipt: beyond the end", bundle.cut(hospital.exports[1]), receipts=receipt(last - 1, entries, last))
    longer = [*another, *entries]
    add("receipt: of another entry", bundle, receipts=receipt(20, longer, last + 9))
    add("receipt: of another history", bundle, receipts=receipt(3, another, last))
    add("receipt: signed by nobody", bundle, receipts=receipt(3, entries, last, checkpoint=str(Note(text, (witness,)))))
    add("receipt: of a wrong path", bundle, receipts=receipt(3, entries, last, inclusion_proof=[]))
    add("report: altered", bundle, report=forge.report + b" ")
    # the container
    add("zip: one name twice", forge.replace(bundle, extra=[("entries.jsonl", b"{}\n")]))
    add("zip: a stranger", forge.replace(bundle, extra=[("run-me.sh", b"")]))
    add("zip: surplus hashes", forge.replace(bundle, hashes=[*bundle.hashes, bytes(32)]))
    add("zip: heads in disorder", with_heads([bundle.heads[1], bundle.heads[0], *bundle.heads[2:]]))
    foreign = [keys.head(entries, s, at=times[s], origin="another.example/log") for s in sizes]
    add("log: another log of the same key", with_heads(foreign))
    return cases


def self_witness(keys):
    return NoteSigner("friend.example", keys.log._private_key, algorithm=COSIGNATURE_V1)


def second_witness(keys):
    return str(VerifierKey("second.example", COSIGNATURE_V1, keys.thief.verifier_key.public_bytes))


MUTANTS = {
    "if own != leaf:": "if False:",
    'if entry.get("seq") != seq:': "if False:",
    "if type(at) is not str or not TIME.fullmatch(at):": "if False:",
    "elif at < self.last_time:": "elif False:",
    "if head.forged or not head.logs:\n                what": "if False:\n                what",
    "if not key.verifies(": "if False and not key.verifies(",
    "elif root is not None:": "elif False:",
    "if last > size:": "if False:",
    "elif last < size:": "elif False:",
    'if (self.last_action, self.last_time) != ("audit.exported", self.bundle.exported_at):': "if False:",
    "if confirmed < self.heads[-1].size:": "if False:",
    "if len(head.witnessed) >= self.policy.quorum:": "if head.witnessed:",
    "if {key.public for key in logs} & {key.public for key in witnesses}:": "if False:",
    "if at < seen.get(key, 0):": "if False:",
    "if logged and seen_at and": "if False and",
    "if self.altered is not None:\n            self.fail": "if False:\n            self.fail",
    "elif self.roots[head.size] != head.root:": "elif False:",
    'self._judge_beyond("consistency", head,': '(lambda *_: None)("consistency", head,',
    "if head.forged or not head.witnessed:": "if False:",
    "if copies.read(1):": "if False:",
    'self._judge_beyond("receipts", head,': '(lambda *_: None)("receipts", head,',
    "elif self.leaves_at[index] != leaf:": "elif False:",
    "elif self.roots.get(head.size, head.root) != head.root:": "elif False:",
    "if head.forged or not head.logs or not included(": "if False and not included(",
    "not head.logs or not included(leaf, index, head.size, proof, head.root)": "not head.logs",
    "if self.report_sha256 and self.report_found < 0:": "if False:",
    'if document.get("seq") != seq or not included(': "if False and not included(",
    'if entry.get("case_id") != self.bundle.case_id:': "if False:",
    'if line or next(proofs, b""):': "if False:",
    "if self.entries_read != self.bundle.entries:": "if False:",
    " or len(self.sizes) != len(members)": "",
    "any(name not in REQUIRED and not MEMBERS.fullmatch(name) for name in self.sizes)": "False",
    'self.sizes["leaf-hashes.bin"] != 32 * self.size or ': "",
    "lines[0] != policy.origin or ": "",
    "or any(b.size < a.size for a, b in pairwise(self.heads))": "",
}


def mutant(original, replacement):
    assert SOURCE.count(original) == 1, "a check was rewritten: rewrite its mutant"
    module = ModuleType("mutant")
    sys.modules["mutant"] = module  # dataclasses look their module up
    exec(compile(SOURCE.replace(original, replacement), "mutant", "exec"), module.__dict__)
    return module


def test_every_broken_rule_is_found(battery):
    for name, (path, question) in battery.items():
        assert vbt_verify.Verification(path, **question).status != vbt_verify.OK, name


@pytest.mark.parametrize("original", MUTANTS)
def test_no_check_can_be_taken_away(original, battery):
    """With the check switched off, at least one forgery passes as verified."""
    module = mutant(original, MUTANTS[original])
    assert any(module.Verification(path, **question).status == module.OK for path, question in battery.values())


def test_keys_from_the_bundle_are_used_only_with_a_warning(hospital, keys, tmp_path):
    """Whoever replaces the whole bundle replaces its keys too: hence the fingerprints, and --policy."""
    result = vbt_verify.Verification(hospital.bundle.write(tmp_path / "b.zip"), anchors=[hospital.anchor])
    assert result.status == vbt_verify.OK
    assert "compare the fingerprints" in result.notes[0]
    assert keys.log.verifier_key.fingerprint in json.dumps(vbt_verify.to_document(result))


def test_a_bundle_without_named_witnesses_is_never_verified(hospital, forge, tmp_path):
    bundle = forge.replace(hospital.bundle, trust={**hospital.bundle.trust, "witness_keys": []})
    result = vbt_verify.Verification(bundle.write(tmp_path / "b.zip"))
    assert result.status == vbt_verify.UNKNOWN


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_and_never_crash(hospital, tmp_path, seed):
    rng, path = random.Random(seed), tmp_path / "b.zip"
    content = hospital.bundle.write(path).read_bytes()
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))
        result = vbt_verify.Verification(path, policy=hospital.keys.trust())
        # Bytes of the zip directory that mean nothing (dates, attributes) may change without consequence.
        assert result.status == vbt_verify.FAIL or same_content(path, hospital.bundle)


def same_content(path, bundle):
    with zipfile.ZipFile(path) as archive:
        return archive.read("entries.jsonl") == b"".join(entry + b"\n" for entry in bundle.entries)


def test_a_bomb_is_refused_before_it_fills_memory(hospital, tmp_path):
    path = tmp_path / "bomb.zip"
    hospital.bundle.write(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    bombs = {
        "entries.jsonl": bytes(300 << 20),
        "bundle.json": b" " * (300 << 20),
        "checkpoints.jsonl": b"\n" * (8 << 20),
    }
    for name, bomb in bombs.items():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member, content in members.items():
                archive.writestr(member, bomb if member == name else content)
        code = f"import resource, vbt_verify; r = vbt_verify.Verification({str(path)!r}); print(r.status)\n"
        code += "print([l for l in open('/proc/self/status') if 'VmHWM' in l][0].split()[1])"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        status, peak = run.stdout.split()
        assert status == vbt_verify.FAIL
        assert int(peak) < 100_000, "kB"


@pytest.fixture
def stranger(tmp_path):
    """A machine that has Python and cryptography, neither our packages nor a network: runs verifier.py."""
    site = tmp_path / "site"
    site.mkdir()
    packages = Path(cryptography.__file__).parent.parent
    for needed in ("cryptography", "cffi", "_cffi_backend*", "pycparser", "typing_extensions*"):
        for found in packages.glob(needed):
            (site / found.name).symlink_to(found)
    isolated = ["unshare", "-rn"]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        isolated = []

    def run(verifier, *arguments):
        start = f"import sys, runpy; sys.path.append({str(site)!r}); sys.argv = sys.argv[1:]; "
        start += "runpy.run_path(sys.argv[0], run_name='__main__')"
        command = [*isolated, sys.executable, "-I", "-S", "-c", start, str(verifier), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    return run


def test_the_verifier_imports_nothing_of_the_suite(stranger, tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text("import vbt")
    assert "No module named 'vbt'" in stranger(probe).stderr
    imported = [line for line in SOURCE.splitlines() if line.startswith(("import ", "from "))]
    names = {line.split()[1].split(".")[0] for line in imported}
    assert names - set(sys.stdlib_module_names) == {"cryptography"}
    assert len(SOURCE.splitlines()) <= 600


def test_a_stranger_can_verify(stranger, hospital, forge, tmp_path):
    path = hospital.bundle.write(tmp_path / "bundle.zip")
    (tmp_path / "trust.json").write_text(json.dumps(hospital.keys.trust()))
    (tmp_path / "witness.note").write_text(hospital.anchor)
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "7.json").write_bytes(hospital.receipts[7])
    (tmp_path / "report.pdf").write_bytes(forge.report)
    brought = ["--policy", "trust.json", "--anchor", "witness.note", "--mirror", hospital.mirror]
    brought += ["--receipts", "receipts", "--report", "report.pdf"]
    verified = stranger(vbt_verify.__file__, path, *brought)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.startswith(f"VERIFIED: all {len(hospital.bundle.entries)} entries of the log are as")
    (tmp_path / "report.pdf").write_bytes(forge.report[:-1])
    altered = stranger(vbt_verify.__file__, path, *brought, "--json")
    assert altered.returncode == 1
    document = json.loads(altered.stdout)
    assert document["verdict"] == "tampered"
    assert document["claims"]["report"]["status"] == "tampered"
    assert all(
        claim["status"] == "ok" for name, claim in document["claims"].items() if name not in ("report", "inclusion")
    )


@pytest.mark.parametrize("missing", ["--policy", "--anchor", "--mirror", "--report"])
def test_what_cannot_be_read_proves_nothing(hospital, tmp_path, missing, capsys):
    path = hospital.bundle.write(tmp_path / "bundle.zip")
    assert vbt_verify.main([str(path), missing, str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("NOT PROVEN")
    assert vbt_verify.main([str(tmp_path / "absent.zip")]) == 2


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"origin": "x", "log_keys": [3]}', '{"origin":"x","log_keys":["a+b+c"]}']
)
def test_an_unreadable_policy_proves_nothing(hospital, tmp_path, content):
    path = hospital.bundle.write(tmp_path / "bundle.zip")
    (tmp_path / "trust.json").write_text(content)
    assert vbt_verify.main([str(path), "--policy", str(tmp_path / "trust.json")]) == 2
