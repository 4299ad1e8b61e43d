"""An append-only list of hashes has one root, and short proofs of membership and of growth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry): the hash of one log entry (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right): the hash over two subtrees (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The roots of a tree's complete subtrees: all that is needed to append, in memory log₂ of the size.

    Parameters
    ----------
    leaf_hashes : 32 bytes each, in log order
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._size = 0
        self._subtrees: list[bytes] = []
        self.extend(leaf_hashes)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def copy(self) -> CompactRange:
        """An independent range of the same leaves."""
        twin = CompactRange()
        twin._size, twin._subtrees = self._size, self._subtrees.copy()
        return twin

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at the end."""
        self._subtrees.append(leaf)
        self._size += 1
        # Every trailing zero bit of the new size is a pair of equal subtrees that has just become complete.
        completed = self._size
        while not completed & 1:
            right = self._subtrees.pop()
            self._subtrees[-1] = node_hash(self._subtrees[-1], right)
            completed >>= 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaf hashes at the end."""
        for leaf in leaf_hashes:
            self.append(leaf)

    def root(self) -> bytes:
        """Merkle tree hash of all leaves so far, 32 bytes."""
        if not self._subtrees:
            return EMPTY_ROOT
        root = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            root = node_hash(left, root)
        return root


class Tree:
    """A Merkle tree that keeps all complete subtrees (64 bytes per leaf), so that every proof is fast.

    Parameters
    ----------
    leaf_hashes : 32 bytes each, in log order

    References
    ----------
    RFC 9162 §2.1 (the same tree as RFC 6962 §2.1)
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaf_hashes:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // HASH_SIZE

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at the end."""
        if len(leaf) != HASH_SIZE:
            raise ValueError(f"a leaf hash must have 32 bytes, got {len(leaf)}")
        position, node = self.size, leaf
        for level in range(position.bit_length() + 1):
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node
            if not position & 1:
                return
            node = node_hash(self._node(level, position - 1), node)
            position >>= 1

    def leaf(self, index: int) -> bytes:
        """Hash of the leaf at `index`, from 0."""
        if not 0 <= index < self.size:
            raise ValueError(f"leaf index must be in [0, {self.size}), got {index}")
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """Merkle tree hash of the first `size` leaves (all when None), 32 bytes."""
        size = self._within(self.size if size is None else size)
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Path from leaf `index` to the root of the first `size` leaves (RFC 9162 §2.1.3.1)."""
        size = self._within(self.size if size is None else size)
        if not 0 <= index < size:
            raise ValueError(f"leaf index must be in [0, {size}), got {index}")
        start, end, path = 0, size, []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency_proof(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """Proof that the first `old_size` leaves are a prefix of the first `size` (RFC 9162 §2.1.4.1)."""
        size = self._within(self.size if size is None else size)
        if not 0 <= old_size <= size:
            raise ValueError(f"old size must be in [0, {size}], got {old_size}")
        if old_size in (0, size):
            return ()
        start, end, path = 0, size, []
        while end != old_size:
            middle = start + _split(end - start)
            if old_size <= middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(start, middle))
                start = middle
        if start:
            # The old root is then not itself a node of the new tree; its last subtree has to be given.
            path.append(self._subtree(start, end))
        return tuple(reversed(path))

    def _within(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError(f"tree size must be in [0, {self.size}], got {size}")
        return size

    def _node(self, level: int, position: int) -> bytes:
        return bytes(self._levels[level][position * HASH_SIZE : (position + 1) * HASH_SIZE])

    def _subtree(self, start: int, end: int) -> bytes:
        """Hash of leaves [start, end), where start is a multiple of the smallest power of two ≥ end − start."""
        width = end - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._node(level, start >> level)
        middle = start + _split(width)
        return node_hash(self._subtree(start, middle), self._subtree(middle, end))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is entry `index` of the tree of `size` leaves with `root` (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `size` leaves extends the tree of `old_size` leaves (RFC 9162 §2.1.4.2)."""
    if not 0 <= old_size <= size:
        return False
    if old_size in (0, size):
        expected = EMPTY_ROOT if old_size == 0 else root
        return not proof and old_root == expected
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    return bool(path) and _climb(old_size, size, path) == (old_root, root)


def _climb(old_size: int, size: int, path: list[bytes]) -> tuple[bytes, bytes] | None:
    """Both roots that a consistency path leads to; None when it has the wrong length."""
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if position & 1 or position == last:
            old_computed = node_hash(sibling, old_computed)
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    return (old_computed, computed) if last == 0 else None


def _split(width: int) -> int:
    """The largest power of two smaller than `width`."""
    return 1 << ((width - 1).bit_length() - 1)
