"""Fourteen ways to change a log, twenty seeded times each: all found with a witness, and what is not found without.

The attacker has every file of the log. From the eleventh kind on he has the log's private key as well; the witness's
key, its note and its copy of the leaf hashes are out of his reach, and the auditor has the last two.
"""

import json
import os
import random

import pytest

import vbt_verify
from vbt.ledger import Note, leaf_hash

TIMES = int(os.environ.get("VBT_ATTACKS", "20"))


def edit(hospital, rng, forge):
    bundle = hospital.bundle
    entries, at = bundle.entries.copy(), rng.randrange(len(bundle.entries))
    entries[at] = forge.rewritten(entries[at], outcome=f"forged-{rng.random()}")
    return bundle.with_entries(entries, hashes=None if rng.random() < 0.5 else bundle.hashes), at


def bit_flip(hospital, rng, _forge):
    bundle = hospital.bundle
    entries, at = bundle.entries.copy(), rng.randrange(len(bundle.entries))
    changed = bytearray(entries[at])
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    entries[at] = bytes(changed)
    return forge_lines(bundle, entries), at


def forge_lines(bundle, entries):
    """A flipped bit may have made a newline; the attacker does not mind."""
    return bundle.with_entries(entries, hashes=bundle.hashes)


def delete(hospital, rng, _forge):
    bundle, at = hospital.bundle, rng.randrange(len(hospital.bundle.entries))
    return bundle.with_entries(bundle.entries[:at] + bundle.entries[at + 1 :]), at


def reorder(hospital, rng, _forge):
    bundle = hospital.bundle
    entries = bundle.entries.copy()
    first, second = sorted(rng.sample(range(len(entries)), 2))
    entries[first], entries[second] = entries[second], entries[first]
    return bundle.with_entries(entries), first


def renumbered(entries, forge):
    return [forge.rewritten(entry, seq=seq) for seq, entry in enumerate(entries)]


def delete_and_renumber(hospital, rng, forge):
    bundle, at = hospital.bundle, rng.randrange(len(hospital.bundle.entries) - 1)
    entries = renumbered(bundle.entries[:at] + bundle.entries[at + 1 :], forge)
    return bundle.with_entries(entries), at


def insert(hospital, rng, forge):
    bundle, at = hospital.bundle, rng.randrange(len(hospital.bundle.entries) - 1)
    invented = forge.rewritten(bundle.entries[at], event_id="invented")
    entries = renumbered([*bundle.entries[:at], invented, *bundle.entries[at:]], forge)
    return bundle.with_entries(entries), at


def duplicate(hospital, rng, forge):
    bundle, at = hospital.bundle, rng.randrange(len(hospital.bundle.entries) - 1)
    entries = [*bundle.entries[: at + 1], *bundle.entries[at:]]
    return bundle.with_entries(renumbered(entries, forge) if rng.random() < 0.5 else entries), at + 1


def truncate_keeping_checkpoints(hospital, rng, _forge):
    return hospital.bundle.cut(rng.randrange(1, len(hospital.bundle.entries)), keep_heads=True), None


def truncate_dropping_checkpoints(hospital, rng, _forge):
    """The log as it honestly was at an earlier export."""
    return hospital.bundle.cut(rng.choice(hospital.exports)), None


def forge_checkpoint(hospital, rng, forge):
    bundle, at = hospital.bundle, rng.randrange(len(hospital.bundle.heads))
    note = Note.parse(bundle.heads[at])
    signature = hospital.keys.thief.sign(note.text)
    if rng.random() < 0.5:
        signature = forge.replace(signature, key_id=hospital.keys.log.verifier_key.key_id)
    own = [s for s in note.signatures if s.name != forge.origin]
    heads = bundle.heads.copy()
    heads[at] = str(Note(note.text, (signature, *own)))
    return forge.replace(bundle, heads=heads), None


def resigned(hospital, entries, first_changed, forge):
    """Every checkpoint after the change, signed anew with the stolen key."""
    bundle = hospital.bundle.with_entries(entries)
    kept = [h for h, size in zip(bundle.heads, bundle.sizes(), strict=True) if size <= first_changed]
    anew = [
        hospital.keys.head(entries, size) for size in hospital.bundle.sizes() if first_changed < size < len(entries)
    ]
    return forge.replace(bundle, heads=[*kept, *anew, hospital.keys.head(entries, len(entries))])


def rewrite_with_stolen_key(hospital, rng, forge):
    entries, at = hospital.bundle.entries.copy(), rng.randrange(len(hospital.bundle.entries) - 1)
    entries[at] = forge.rewritten(entries[at], outcome="refused-by-thief")
    return resigned(hospital, entries, at, forge), at


def regrow_with_stolen_key(hospital, rng, forge):
    whole = hospital.bundle.entries
    at = rng.randrange(1, len(whole) - 1)
    last = json.loads(whole[-1])
    invented = [forge.rewritten(entry, event_id=f"invented-{i}") for i, entry in enumerate(whole[at:-1])]
    invented = invented[: rng.randrange(len(invented) + 1)]
    export = forge.rewritten(whole[-1], seq=at + len(invented), event_id="export of the thief")
    bundle = resigned(hospital, [*whole[:at], *invented, export], at, forge)
    return bundle.with_manifest(exported_at=last["sequenced_at"]), None


def fork(hospital, rng, forge):
    """Two histories, both signed by the log, in the hands of one auditor."""
    bundle = hospital.bundle
    at = rng.randrange(len(bundle.heads))
    size = bundle.sizes()[at]
    entries = bundle.entries.copy()
    entries[rng.randrange(size)] = b"another history"
    heads = bundle.heads.copy()
    heads.insert(at + rng.randrange(2), hospital.keys.head(entries, size))
    return forge.replace(bundle, heads=heads), None


def clock_rollback(hospital, rng, forge):
    """Written so from the start: the tree, the log and the witness all agree."""
    entries, at = hospital.bundle.entries.copy(), rng.randrange(2, len(hospital.bundle.entries))
    entries[at] = forge.rewritten(entries[at], sequenced_at=f"2026-02-{rng.randrange(10, 28)}T08:00:00.000000Z")
    return everything_signed(hospital, entries, forge), at


def everything_signed(hospital, entries, forge, **changes):
    keys, bundle = hospital.keys, hospital.bundle
    times = {Note.parse(h).checkpoint.size: Note.parse(h).signatures[1].timestamp for h in bundle.heads}
    sizes = [size for size in bundle.sizes() if size < len(entries)]
    last = max(times.values())
    heads = [keys.head(entries, size, at=times[size]) for size in sizes]
    bundle = forge.replace(bundle, heads=[*heads, keys.head(entries, len(entries), at=last)])
    at = json.loads(entries[-1])["sequenced_at"]
    return bundle.with_entries(entries).with_manifest(exported_at=at, **changes)


WITHOUT_THE_KEY = [
    edit,
    bit_flip,
    delete,
    reorder,
    delete_and_renumber,
    insert,
    duplicate,
    truncate_keeping_checkpoints,
    truncate_dropping_checkpoints,
    forge_checkpoint,
]
ATTACKS = [*WITHOUT_THE_KEY, rewrite_with_stolen_key, regrow_with_stolen_key, fork, clock_rollback]
UNSEEN_WITHOUT_WITNESS = {truncate_dropping_checkpoints, rewrite_with_stolen_key, regrow_with_stolen_key}
BY_NAME = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)


def attacked(attack, hospital, forge, tmp_path):
    rng = random.Random(attack.__name__)
    for number in range(TIMES):
        bundle, at = attack(hospital, rng, forge)
        yield bundle, at, tmp_path / f"{number}.zip"


@BY_NAME
def test_every_attack_is_found_with_a_witness(attack, hospital, forge, tmp_path):
    for bundle, _, path in attacked(attack, hospital, forge, tmp_path):
        bundle.write(path)
        policy = hospital.keys.trust()
        result = vbt_verify.Verification(path, policy=policy, anchors=[hospital.anchor])
        assert result.status != vbt_verify.OK
        # A log that ends early can be an old export; everything else is proof of tampering.
        if attack not in (truncate_dropping_checkpoints, regrow_with_stolen_key):
            assert result.status == vbt_verify.FAIL


@BY_NAME
def test_without_a_witness_three_attacks_look_like_the_honest_log(attack, hospital, forge, tmp_path):
    honest = vbt_verify.Verification(
        hospital.bundle.unwitnessed().write(tmp_path / "honest.zip"), policy=hospital.keys.trust(witnessed=False)
    )
    assert honest.status == vbt_verify.UNKNOWN, "without a witness nothing is ever called verified"
    for bundle, _, path in attacked(attack, hospital, forge, tmp_path):
        bundle.unwitnessed().write(path)
        result = vbt_verify.Verification(path, policy=hospital.keys.trust(witnessed=False))
        if attack in UNSEEN_WITHOUT_WITNESS:
            assert {n: c.status for n, c in result.claims.items()} == {n: c.status for n, c in honest.claims.items()}
        else:
            assert result.status == vbt_verify.FAIL


@pytest.mark.parametrize(
    "attack",
    [edit, bit_flip, delete, reorder, delete_and_renumber, insert, duplicate, rewrite_with_stolen_key, clock_rollback],
    ids=lambda attack: attack.__name__,
)
def test_the_witnesss_leaf_hashes_name_the_exact_entry(attack, hospital, forge, tmp_path):
    for bundle, at, path in attacked(attack, hospital, forge, tmp_path):
        bundle.write(path)
        result = vbt_verify.Verification(path, policy=hospital.keys.trust(), mirror=hospital.mirror)
        assert result.altered == at
        assert vbt_verify.to_document(result)["first_bad_entry"] == at
        assert vbt_verify.headline(result) == f"TAMPERED: entry {at} is not as it was recorded."


def test_checkpoints_alone_enclose_the_change(hospital, forge, tmp_path):
    sizes = hospital.bundle.sizes()
    for bundle, at, path in attacked(edit, hospital, forge, tmp_path):
        result = vbt_verify.Verification(bundle.write(path), policy=hospital.keys.trust())
        first, last = result.window
        assert first <= at <= last
        assert first in {0, *sizes}
        assert last + 1 in sizes


def test_two_heads_shown_to_two_auditors_are_found_only_by_comparing(hospital, forge, tmp_path):
    rng = random.Random(3)
    bundle, at = rewrite_with_stolen_key(hospital, rng, forge)
    shown = everything_signed(hospital, bundle.entries, forge)
    path = shown.write(tmp_path / "second.zip")
    alone = vbt_verify.Verification(path, policy=hospital.keys.trust())
    assert alone.status == vbt_verify.OK, "a witness that signs two histories deceives an auditor who sees one"
    both = vbt_verify.Verification(path, policy=hospital.keys.trust(), anchors=[hospital.anchor])
    assert both.claims["consistency"].status == vbt_verify.FAIL
    assert at < len(bundle.entries)


def test_removal_after_the_last_witnessed_checkpoint_is_found_by_receipts_alone(hospital, forge, tmp_path):
    """Nobody but the holders of receipts ever saw the lost tail, so nobody else can miss it."""
    witnessed = hospital.exports[1]
    honest = hospital.bundle
    export = forge.rewritten(honest.entries[witnessed - 1], seq=witnessed, event_id="next export")
    regrown = everything_signed(hospital, [*honest.entries[:witnessed], export], forge)
    path = regrown.write(tmp_path / "regrown.zip")
    question = {"policy": hospital.keys.trust(), "anchors": [hospital.anchors[witnessed]]}
    assert vbt_verify.Verification(path, **question).status == vbt_verify.OK
    lost = range(witnessed, len(honest.entries))
    for index in lost:
        result = vbt_verify.Verification(path, **question, receipts=[("r.json", hospital.receipts[index])])
        assert result.claims["receipts"].status in (vbt_verify.FAIL, vbt_verify.UNKNOWN)
        assert result.status != vbt_verify.OK
    kept = [(f"{i}.json", r) for i, r in hospital.early_receipts.items() if i < witnessed]
    assert kept
    assert vbt_verify.Verification(path, **question, receipts=kept).status == vbt_verify.OK


def test_an_honest_log_never_raises_an_alarm(hospital, tmp_path):
    """At every export, with anchors from before, from then and from after it, and with every receipt known then."""
    trust = hospital.keys.trust()
    for size in [*hospital.exports, len(hospital.bundle.entries)]:
        path = hospital.bundle.cut(size).write(tmp_path / f"{size}.zip")
        for anchored, anchor in hospital.anchors.items():
            result = vbt_verify.Verification(path, policy=trust, anchors=[anchor])
            expected = vbt_verify.OK if anchored <= size else vbt_verify.UNKNOWN
            assert result.status == expected, vbt_verify.headline(result)
        known = [(f"{i}.json", r) for i, r in hospital.early_receipts.items() if i < size - 15]
        assert vbt_verify.Verification(path, policy=trust, receipts=known).status == vbt_verify.OK


def test_leaf_hashes_in_the_bundle_are_those_of_the_entries(hospital):
    assert hospital.bundle.hashes == [leaf_hash(entry) for entry in hospital.bundle.entries]
