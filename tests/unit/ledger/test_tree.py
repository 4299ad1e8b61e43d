"""The tree is RFC 6962's: published vectors, and the recursive definition for every size to 70."""

import random

import pytest

from vbt.ledger import (
    EMPTY_ROOT,
    CompactRange,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

# Leaves, roots and proofs of the Certificate Transparency reference tests (RFC 6962; google/trillian,
# transparency-dev/merkle testonly/reference_test.go).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A296 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
F083 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
B47A = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
C1A0 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
A854 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
EBC5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {
    (0, 1): [],
    (0, 2): [A296],
    (1, 2): [ROOTS[0]],
    (2, 3): [ROOTS[1]],
    (1, 5): [ROOTS[0], F083, C1A0],
    (0, 8): [A296, F083, B47A],
    (5, 8): [C1A0, A854, ROOTS[3]],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [A296, F083, B47A],
    (2, 5): [F083, C1A0],
    (6, 8): [EBC5, A854, ROOTS[3]],
}
HASHES = [leaf_hash(entry) for entry in LEAVES]
LARGEST = 70


def mth(leaves):
    """RFC 9162 §2.1.1 word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


@pytest.fixture(scope="module")
def leaves():
    return [leaf_hash(str(i).encode()) for i in range(LARGEST)]


@pytest.fixture(scope="module")
def tree(leaves):
    return Tree(leaves)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_reference(size):
    assert Tree(HASHES[:size]).root().hex() == ROOTS[size - 1]
    assert CompactRange(HASHES[:size]).root().hex() == ROOTS[size - 1]


def test_an_empty_tree_has_the_hash_of_nothing():
    assert Tree().root() == CompactRange().root() == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference(index, size):
    proof = Tree(HASHES).inclusion_proof(index, size)
    assert [step.hex() for step in proof] == INCLUSION[index, size]
    assert verify_inclusion(HASHES[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "size"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference(old, size):
    proof = Tree(HASHES).consistency_proof(old, size)
    assert [step.hex() for step in proof] == CONSISTENCY[old, size]
    assert verify_consistency(old, size, bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[size - 1]), proof)


def test_every_root_equals_the_recursive_definition(leaves, tree):
    growing = CompactRange()
    for size in range(LARGEST + 1):
        assert growing.root() == tree.root(size) == mth(leaves[:size])
        assert growing.size == size
        growing.extend(leaves[size : size + 1])


def test_every_inclusion_proof_verifies_only_for_its_place(leaves, tree):
    for size in range(1, LARGEST + 1):
        root = tree.root(size)
        for index in range(size):
            proof = tree.inclusion_proof(index, size)
            assert verify_inclusion(leaves[index], index, size, proof, root)
            assert not verify_inclusion(leaves[index], (index + 1) % size, size, proof, root) or size == 1
            assert not verify_inclusion(leaves[index - 1], index, size, proof, root) or size == 1


def test_every_consistency_proof_verifies_only_for_its_sizes(tree):
    for size in range(1, LARGEST + 1):
        root = tree.root(size)
        for old in range(size + 1):
            proof = tree.consistency_proof(old, size)
            assert verify_consistency(old, size, tree.root(old), root, proof)
            if 0 < old < size:
                assert not verify_consistency(old, size, root, root, proof)
                assert not verify_consistency(old, size, tree.root(old), tree.root(old), proof)
                assert not verify_consistency(old - 1, size, tree.root(old), root, proof)


def corruptions(proof, rng):
    step = rng.randrange(len(proof))
    flipped = list(proof)
    flipped[step] = bytes([flipped[step][0] ^ (1 << rng.randrange(8))]) + flipped[step][1:]
    return flipped, proof[:-1], proof[1:], (*proof, proof[0]), (proof[0], *proof)


def test_no_corrupted_proof_is_accepted(leaves, tree):
    rng = random.Random(7)
    for _ in range(2000):
        size = rng.randrange(2, LARGEST + 1)
        index, old, root = rng.randrange(size), rng.randrange(1, size), tree.root(size)
        for wrong in corruptions(tree.inclusion_proof(index, size), rng):
            assert not verify_inclusion(leaves[index], index, size, wrong, root)
        for wrong in corruptions(tree.consistency_proof(old, size), rng):
            assert not verify_consistency(old, size, tree.root(old), root, wrong)


def test_proofs_grow_with_the_logarithm_of_the_log():
    tree = Tree(bytes(32) for _ in range(1024))
    assert len(tree.inclusion_proof(5)) == 10
    assert len(tree.consistency_proof(1023)) <= 11


def test_positions_outside_the_tree_are_refused(tree):
    for call in (
        lambda: tree.inclusion_proof(LARGEST),
        lambda: tree.inclusion_proof(0, LARGEST + 1),
        lambda: tree.consistency_proof(LARGEST + 1),
        lambda: tree.leaf(-1),
        lambda: tree.append(b"short"),
    ):
        with pytest.raises(ValueError, match="must"):
            call()
