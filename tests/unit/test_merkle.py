"""The Merkle tree against RFC 6962: known roots, a naive definition, and proofs that cannot lie."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gensyn_ray.domain.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    leaf_hash,
    node_hash,
    root_of,
    verify_inclusion,
)

# The inputs and roots of the Certificate Transparency reference implementation.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MAX_PROVEN = 40
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = naive_split(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_split(count: int) -> int:
    """The largest power of two that is smaller than `count`."""
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def sides(index: int, size: int) -> str:
    """On which side the siblings of a leaf's path stand, nearest first."""
    if size == 1:
        return ""
    k = naive_split(size)
    return sides(index, k) + "R" if index < k else sides(index - k, size - k) + "L"


def numbered(count: int) -> list[bytes]:
    return [f"leaf {number}".encode() for number in range(count)]


def tree_of(leaves: Sequence[bytes]) -> MerkleTree:
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree


def flip(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_the_roots_are_those_of_the_certificate_transparency_reference() -> None:
    for count, root in enumerate(CT_ROOTS, start=1):
        assert root_of(CT_LEAVES[:count]).hex() == root


def test_nothing_has_the_hash_of_nothing() -> None:
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert MerkleTree().root() == EMPTY_ROOT


def test_the_root_is_the_naive_one_after_every_append() -> None:
    leaves = numbered(70)
    tree = MerkleTree()
    for count in range(71):
        assert tree.root() == naive_root(leaves[:count]) == root_of(leaves[:count])
        assert len(tree) == count
        if count < 70:
            assert tree.append(leaves[count]) == count


@RELAXED
@given(st.lists(st.binary(max_size=40), max_size=70))
def test_the_root_is_the_naive_one_for_any_leaves(leaves: list[bytes]) -> None:
    assert root_of(leaves) == naive_root(leaves)


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert leaf_hash(left + right) != node_hash(left, right)
    assert root_of([left + right]) != root_of([b"left", b"right"])


@pytest.mark.parametrize("size", range(1, MAX_PROVEN + 1))
def test_every_leaf_of_a_tree_can_be_proven(size: int) -> None:
    leaves = numbered(size)
    tree = tree_of(leaves)
    for index, leaf in enumerate(leaves):
        proof = tree.inclusion_proof(index)
        assert len(proof) == len(sides(index, size))
        assert verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=tree.root())


@pytest.mark.parametrize("size", range(1, MAX_PROVEN + 1))
def test_a_proof_holds_for_its_leaf_and_its_place_alone(size: int) -> None:
    leaves = numbered(size)
    tree = tree_of(leaves)
    root = tree.root()
    for index, leaf in enumerate(leaves):
        proof = tree.inclusion_proof(index)
        assert not verify_inclusion(
            leaf=leaf + b"!", index=index, size=size, proof=proof, root=root
        )
        assert not verify_inclusion(
            leaf=leaf, index=index, size=size, proof=proof, root=flip(root, index % 32)
        )
        for other in range(-1, size + 2):
            holds = verify_inclusion(leaf=leaf, index=other, size=size, proof=proof, root=root)
            assert holds == (other == index)


@pytest.mark.parametrize("size", range(1, MAX_PROVEN + 1))
def test_a_proof_holds_for_another_size_only_where_the_path_is_the_same(size: int) -> None:
    """A root alone does not say how many leaves stand under it: heads sign the size too."""
    leaves = numbered(size)
    tree = tree_of(leaves)
    for index, leaf in enumerate(leaves):
        proof = tree.inclusion_proof(index)
        for other in range(MAX_PROVEN + 30):
            same_path = index < other and sides(index, other) == sides(index, size)
            assert same_path == verify_inclusion(
                leaf=leaf, index=index, size=other, proof=proof, root=tree.root()
            )


@pytest.mark.parametrize("size", range(2, MAX_PROVEN + 1))
def test_a_damaged_proof_does_not_hold(size: int) -> None:
    leaves = numbered(size)
    tree = tree_of(leaves)
    root = tree.root()
    for index, leaf in enumerate(leaves):
        proof = tree.inclusion_proof(index)
        flipped = [
            [*proof[:at], flip(sibling, at), *proof[at + 1 :]] for at, sibling in enumerate(proof)
        ]
        damaged = [
            *flipped,
            proof[:-1],
            proof[1:],
            [*proof, root],
            [root, *proof],
            [*proof, EMPTY_ROOT],
        ]
        if len(proof) > 1:
            damaged.append(proof[::-1])
        for one in damaged:
            assert not verify_inclusion(leaf=leaf, index=index, size=size, proof=one, root=root)


def test_there_is_no_proof_of_a_leaf_that_is_not_there() -> None:
    tree = tree_of(numbered(5))
    for index in (-1, 5, 100):
        with pytest.raises(IndexError, match="the tree has 5 leaves"):
            tree.inclusion_proof(index)
    with pytest.raises(IndexError):
        MerkleTree().inclusion_proof(0)


def test_nothing_can_be_proven_of_an_empty_tree() -> None:
    assert not verify_inclusion(leaf=b"", index=0, size=0, proof=[], root=EMPTY_ROOT)


@RELAXED
@given(st.data())
def test_any_leaf_of_any_tree_can_be_proven_and_no_other(data: st.DataObject) -> None:
    leaves = data.draw(st.lists(st.binary(max_size=8), min_size=1, max_size=200))
    index = data.draw(st.integers(0, len(leaves) - 1))
    claim = data.draw(st.one_of(st.just(leaves[index]), st.binary(max_size=8)))
    tree = tree_of(leaves)
    assert (claim == leaves[index]) == verify_inclusion(
        leaf=claim,
        index=index,
        size=len(leaves),
        proof=tree.inclusion_proof(index),
        root=tree.root(),
    )
