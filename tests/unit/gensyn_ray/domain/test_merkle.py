"""The Merkle tree of RFC 6962: known roots, the naive definition, and proofs."""

import base64
import functools
import hashlib
import json
import pickle
import statistics
import time
from collections.abc import Sequence

import pymerkle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gensyn_ray.domain.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
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
LARGE = 3000
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962, section 2.1, defines it."""
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
    """The sides of the siblings on a leaf's path, nearest first."""
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


def test_the_empty_tree_has_the_hash_of_no_bytes() -> None:
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
    """A root does not determine the number of leaves, so heads sign the size, too."""
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


# -- earlier sizes ---------------------------------------------------------------------------


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH as RFC 6962, section 2.1.1, defines it."""
    if len(leaves) == 1:
        return []
    k = naive_split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_consistency(first: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF as RFC 6962, section 2.1.2, defines it."""
    if first == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = naive_split(len(leaves))
    if first <= k:
        return [*naive_consistency(first, leaves[:k], whole=whole), naive_root(leaves[k:])]
    return [*naive_consistency(first - k, leaves[k:], whole=False), naive_root(leaves[:k])]


@functools.cache
def large() -> MerkleTree:
    return tree_of(numbered(LARGE))


PAIRS = st.tuples(st.integers(1, LARGE), st.integers(1, LARGE)).map(sorted)


def test_every_earlier_root_can_be_had() -> None:
    leaves = numbered(MAX_PROVEN)
    tree = tree_of(leaves)
    for size in range(MAX_PROVEN + 1):
        assert tree.root_at(size) == naive_root(leaves[:size])
    for size in (-1, MAX_PROVEN + 1):
        with pytest.raises(ValueError, match="the tree has 40 leaves, not"):
            tree.root_at(size)
    assert MerkleTree().root_at(0) == EMPTY_ROOT


@pytest.mark.parametrize("size", range(1, MAX_PROVEN + 1))
def test_every_leaf_can_be_proven_in_every_earlier_tree(size: int) -> None:
    leaves = numbered(MAX_PROVEN)
    tree = tree_of(leaves)
    root = tree.root_at(size)
    for index in range(size):
        proof = tree.inclusion_proof(index, size)
        assert proof == naive_path(index, leaves[:size])
        assert verify_inclusion(leaf=leaves[index], index=index, size=size, proof=proof, root=root)
    with pytest.raises(IndexError, match=f"the tree has {size} leaves, none at {size}"):
        tree.inclusion_proof(size, size)


def test_nothing_can_be_proven_in_a_tree_that_is_not_there_yet() -> None:
    tree = tree_of(numbered(5))
    for size in (-1, 6):
        with pytest.raises(ValueError, match="the tree has 5 leaves, not"):
            tree.inclusion_proof(0, size)
    with pytest.raises(IndexError):
        tree.inclusion_proof(0, 0)


def test_a_tree_survives_pickling_and_grows_on() -> None:
    leaves = numbered(MAX_PROVEN)
    tree = tree_of(leaves[:21])
    copy: MerkleTree = pickle.loads(pickle.dumps(tree))
    for leaf in leaves[21:]:
        copy.append(leaf)
    assert (len(tree), tree.root()) == (21, naive_root(leaves[:21]))
    assert (len(copy), copy.root()) == (MAX_PROVEN, naive_root(leaves))
    assert copy.consistency_proof(21) == naive_consistency(21, leaves)


# -- trees that continue others --------------------------------------------------------------


@pytest.mark.parametrize("second", range(1, MAX_PROVEN + 1))
def test_every_tree_can_be_proven_to_continue_every_earlier_one(second: int) -> None:
    leaves = numbered(MAX_PROVEN)
    tree = tree_of(leaves)
    for first in range(1, second + 1):
        proof = tree.consistency_proof(first, second)
        assert proof == naive_consistency(first, leaves[:second])
        assert verify_consistency(
            first=first,
            second=second,
            first_root=tree.root_at(first),
            second_root=tree.root_at(second),
            proof=proof,
        )
    assert tree.consistency_proof(second) == tree.consistency_proof(second, MAX_PROVEN)


@pytest.mark.parametrize(("first", "second"), [(0, 5), (-1, 5), (6, 5), (4, 3), (0, 0), (1, 6)])
def test_no_tree_continues_none_or_a_larger_one(first: int, second: int) -> None:
    tree = tree_of(numbered(5))
    with pytest.raises(ValueError, match="leaves"):
        tree.consistency_proof(first, second)
    root = tree.root()
    assert not verify_consistency(
        first=first, second=second, first_root=root, second_root=root, proof=[]
    )


@pytest.mark.parametrize("second", range(1, MAX_PROVEN + 1))
def test_a_consistency_proof_that_was_tampered_with_is_refused(second: int) -> None:
    tree = tree_of(numbered(second))
    root = tree.root()
    for first in range(1, second + 1):
        old, proof = tree.root_at(first), tree.consistency_proof(first)
        forged = [
            *([*proof[:at], flip(one, at), *proof[at + 1 :]] for at, one in enumerate(proof)),
            *([*proof[:at], *proof[at + 1 :]] for at in range(len(proof))),
            [*proof, root],
            [old, *proof],
            [*proof, EMPTY_ROOT],
        ]
        if len(proof) > 1:
            forged.append(proof[::-1])
        for one in forged:
            assert not verify_consistency(
                first=first, second=second, first_root=old, second_root=root, proof=one
            )


@pytest.mark.parametrize("second", range(2, MAX_PROVEN + 1))
def test_a_consistency_proof_holds_for_its_two_roots_alone(second: int) -> None:
    """For each place of the forked leaf, no proof of either tree connects the two roots."""
    leaves = numbered(second)
    tree = tree_of(leaves)
    for first in range(1, second + 1):
        fork = tree_of([*leaves[: first - 1], b"forked", *leaves[first:]])
        honest, forged = tree.consistency_proof(first), fork.consistency_proof(first)
        for one in (honest, forged):
            for old, new in ((tree, fork), (fork, tree)):
                assert not verify_consistency(
                    first=first,
                    second=second,
                    first_root=old.root_at(first),
                    second_root=new.root(),
                    proof=one,
                )


@pytest.mark.parametrize("second", range(2, 21))
def test_a_consistency_proof_does_not_hold_for_other_sizes_of_the_first_tree(second: int) -> None:
    tree = tree_of(numbered(second))
    for first in range(1, second + 1):
        proof = tree.consistency_proof(first)
        for other in range(-1, second + 3):
            holds = verify_consistency(
                first=other,
                second=second,
                first_root=tree.root_at(first),
                second_root=tree.root(),
                proof=proof,
            )
            assert holds == (other == first)


@RELAXED
@given(PAIRS)
def test_any_large_tree_continues_any_earlier_one(pair: list[int]) -> None:
    first, second = pair
    tree = large()
    proof = tree.consistency_proof(first, second)
    assert len(proof) <= 2 * second.bit_length()
    for at in range(-1, len(proof)):
        claim = [*proof[:at], flip(proof[at], at), *proof[at + 1 :]] if at >= 0 else proof
        holds = verify_consistency(
            first=first,
            second=second,
            first_root=tree.root_at(first),
            second_root=tree.root_at(second),
            proof=claim,
        )
        assert holds == (at < 0)


# -- against an independent implementation ---------------------------------------------------


@functools.cache
def oracle() -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(numbered(LARGE))
    return tree


def as_rfc_6962(proof: pymerkle.ConsistencyProof) -> list[bytes]:
    """If the old tree ends at a complete subtree, pymerkle lists the path down to the first leaf
    after it, and RFC 6962 lists the whole subtree after it. Above, both list the same siblings."""
    if proof.prior_size == proof.size:
        return []
    end = proof.subset.index(1)
    after = proof.path[0]
    for bit, sibling in zip(proof.rule, proof.path[1:end], strict=False):
        after = node_hash(sibling, after) if bit else node_hash(after, sibling)
    last_of_old = [proof.path[end]] if any(proof.subset[end + 1 :]) else []
    return [*last_of_old, after, *proof.path[end + 1 :]]


def check_against_oracle(first: int, second: int) -> None:
    """Roots of both sizes, the path of leaf `first` (from 1) and the consistency of both."""
    tree, other = large(), oracle()
    old, new = tree.root_at(first), tree.root_at(second)
    assert (old, new) == (other.get_root(first), other.get_root(second))
    inclusion = other.prove_inclusion(first, second)
    leaf = numbered(first)[-1]
    assert [leaf_hash(leaf), *tree.inclusion_proof(first - 1, second)] == inclusion.path
    pymerkle.verify_inclusion(leaf_hash(leaf), new, inclusion, index=first, size=second)
    consistency = other.prove_consistency(first, second)
    assert tree.consistency_proof(first, second) == as_rfc_6962(consistency)
    pymerkle.verify_consistency(old, new, consistency, prior_size=first, later_size=second)


@pytest.mark.parametrize("second", range(1, MAX_PROVEN + 1))
def test_small_trees_are_those_of_pymerkle(second: int) -> None:
    for first in range(1, second + 1):
        check_against_oracle(first, second)


@settings(RELAXED, max_examples=50)
@given(PAIRS)
def test_large_trees_are_those_of_pymerkle(pair: list[int]) -> None:
    check_against_oracle(*pair)


# -- size and time of a proof ----------------------------------------------------------------


def test_a_proof_in_a_log_of_a_million_entries_is_small_and_quick() -> None:
    count = 10**6
    tree = MerkleTree()
    for number in range(count):
        tree.append(b"%d" % number)
    root = tree.root()
    times_s: list[float] = []
    for index in [0, 1, 2**19 - 1, 2**19, count - 1, *range(7, count, 4999)]:
        proof = tree.inclusion_proof(index)
        assert len(json.dumps([base64.b64encode(one).decode() for one in proof])) <= 2048
        begin_s = time.perf_counter()
        holds = verify_inclusion(
            leaf=b"%d" % index, index=index, size=count, proof=proof, root=root
        )
        times_s.append(time.perf_counter() - begin_s)
        assert holds
    assert statistics.median(times_s) <= 0.001
