"""Merkle trees of RFC 6962: hashes, a growing tree, inclusion and consistency proofs and their verification.

Works on leaf hashes alone; knows nothing of what leaves hold or where they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
HASH_LENGTH = 32


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that only grows, kept as its compact range: the roots of its perfect subtrees, biggest first."""

    __slots__ = ("_range", "_size")

    def __init__(self, size: int = 0, compact: Sequence[bytes] = ()) -> None:
        if len(compact) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} perfect subtrees, not {len(compact)}")
        self._size = size
        self._range = list(compact)

    @property
    def size(self) -> int:
        return self._size

    @property
    def compact(self) -> tuple[bytes, ...]:
        return tuple(self._range)

    def append(self, leaf: bytes) -> None:
        """Take the next leaf's hash."""
        size, node = self._size, leaf
        while size & 1:
            node = node_hash(self._range.pop(), node)
            size >>= 1
        self._range.append(node)
        self._size += 1

    def root(self) -> bytes:
        if not self._range:
            return EMPTY_ROOT
        node = self._range[-1]
        for left in self._range[-2::-1]:
            node = node_hash(left, node)
        return node

    def copy(self) -> Tree:
        return Tree(self._size, self._range)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def _split(size: int) -> int:
    """The largest power of two below size (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The path from leaf `index` to the root over `leaves` (RFC 6962 §2.1.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"leaf {index} is not in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), root_of(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), root_of(leaves[:k])]


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """That the first `old` leaves are the start of `leaves` (RFC 6962 §2.1.2)."""
    if not 0 < old <= len(leaves):
        raise ValueError(f"no consistency proof from {old} to {len(leaves)}")
    return _subproof(leaves, old, True)


def _subproof(leaves: Sequence[bytes], old: int, known: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if known else [root_of(leaves)]
    k = _split(len(leaves))
    if old <= k:
        return [*_subproof(leaves[:k], old, known), root_of(leaves[k:])]
    return [*_subproof(leaves[k:], old - k, False), root_of(leaves[:k])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `leaf` stands at `index` in the tree of `size` leaves with this root (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, node = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(step, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and node == root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` shows that the tree of `new` leaves begins with the tree of `old` (RFC 9162 §2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if not proof:
        return False
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    left = right = steps[0]
    for step in steps[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            left, right = node_hash(step, left), node_hash(step, right)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            right = node_hash(right, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and left == old_root and right == new_root
