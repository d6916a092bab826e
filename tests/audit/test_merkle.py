"""Trees: the published vectors of Certificate Transparency, and proofs over every pair of sizes."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.audit.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The inputs and roots that the Certificate Transparency code bases test with (certificate-transparency-go, merkletree tests).
CT_LEAVES = [bytes.fromhex(h) for h in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]
CT_ROOTS = [bytes.fromhex(h) for h in (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)]
HASHES = [leaf_hash(leaf) for leaf in CT_LEAVES]
MANY = [leaf_hash(bytes([i])) for i in range(40)]


def _recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written: the oracle."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(_recursive_root(leaves[:k]), _recursive_root(leaves[k:]))


def test_empty_root() -> None:
    assert Tree().root() == EMPTY_ROOT == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


@pytest.mark.parametrize("size", range(1, 9))
def test_ct_roots(size: int) -> None:
    assert root_of(HASHES[:size]) == CT_ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "proof"), [
    (0, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (5, 8, ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
])
def test_ct_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    steps = [bytes.fromhex(step) for step in proof]
    assert inclusion_proof(HASHES[:size], index) == steps
    assert verify_inclusion(HASHES[index], index, size, steps, CT_ROOTS[size - 1])


@pytest.mark.parametrize(("old", "new", "proof"), [
    (1, 1, []),
    (1, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    (2, 5, ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
])
def test_ct_consistency_proofs(old: int, new: int, proof: list[str]) -> None:
    steps = [bytes.fromhex(step) for step in proof]
    assert consistency_proof(HASHES[:new], old) == steps
    assert verify_consistency(old, new, steps, CT_ROOTS[old - 1], CT_ROOTS[new - 1])


def test_every_inclusion_and_no_other() -> None:
    for size in range(1, 18):
        root = root_of(MANY[:size])
        for index in range(size):
            proof = inclusion_proof(MANY[:size], index)
            assert verify_inclusion(MANY[index], index, size, proof, root)
            assert not verify_inclusion(MANY[index + 1], index, size, proof, root)
            assert not verify_inclusion(MANY[index], index, size, [*proof, root], root)
            assert not verify_inclusion(MANY[index], index, size, proof[:-1], root) or not proof
            assert not any(verify_inclusion(MANY[index], other, size, proof, root) for other in range(size) if other != index)


def test_every_consistency_and_no_other() -> None:
    for new in range(1, 18):
        for old in range(1, new + 1):
            proof = consistency_proof(MANY[:new], old)
            roots = root_of(MANY[:old]), root_of(MANY[:new])
            assert verify_consistency(old, new, proof, *roots)
            assert not verify_consistency(old, new, [*proof, roots[0]], *roots)
            assert not verify_consistency(old, new, proof, roots[0], root_of(MANY[1 : new + 1]))
            assert not verify_consistency(old, new, proof, root_of(MANY[1 : old + 1]), roots[1])


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(0, 70))
def test_tree_grows_as_the_rfc_says_from_any_compact_range(leaves: list[bytes], cut: int) -> None:
    tree = Tree()
    for leaf in leaves[:cut]:
        tree.append(leaf)
    again = Tree(tree.size, tree.compact)
    for leaf in leaves[cut:]:
        again.append(leaf)
    assert again.root() == _recursive_root(leaves)
    assert tree.root() == _recursive_root(leaves[:cut])
    assert again.size == len(leaves)
    assert len(again.compact) == len(leaves).bit_count()


def test_compact_range_must_fit_the_size() -> None:
    with pytest.raises(ValueError, match="perfect subtrees"):
        Tree(3, [bytes(32)])


@pytest.mark.parametrize("call", [lambda: inclusion_proof(MANY[:3], 3), lambda: consistency_proof(MANY[:3], 0)])
def test_proofs_that_do_not_exist(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]  # one of the lambdas above
    assert not verify_inclusion(MANY[0], 3, 3, [], MANY[0])
    assert not verify_consistency(0, 3, [], EMPTY_ROOT, MANY[0])
    assert not verify_consistency(2, 3, [], MANY[0], MANY[0])
