"""The Merkle tree of RFC 6962, section 2.1, over SHA-256.

One implementation serves tensor states, segment leaves, step traces and the ledger's log. A leaf is
hashed with a 0x00 prefix and a node with 0x01, so no leaf can be passed off as a node. A tree of n
leaves splits at the largest power of two below n.
"""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one leaf's bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node from its children's hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Root over the bytes of each leaf, in order; the hash of nothing if there is none."""
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


class MerkleTree:
    """A tree that grows by one leaf at a time.

    Appending costs O(log n) hashes at worst and two on average. All leaf hashes are kept (32 bytes
    each), so that any inclusion proof can be given.
    """

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        # Roots of the complete subtrees that make up the tree, largest first: (size, hash).
        self._peaks: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._leaves)

    def append(self, leaf: bytes) -> int:
        """Add one leaf's bytes; returns its index."""
        self._leaves.append(leaf_hash(leaf))
        size, top = 1, self._leaves[-1]
        while self._peaks and self._peaks[-1][0] == size:
            _, left = self._peaks.pop()
            size, top = size * 2, node_hash(left, top)
        self._peaks.append((size, top))
        return len(self._leaves) - 1

    def root(self) -> bytes:
        """Root over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        top = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            top = node_hash(left, top)
        return top

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Audit path of a leaf (RFC 6962, 2.1.1), nearest sibling first.

        Raises `IndexError` if there is no such leaf.
        """
        if not 0 <= index < len(self._leaves):
            raise IndexError(f"the tree has {len(self._leaves)} leaves, none at {index}")
        return _path(index, self._leaves)


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether `leaf` stands at `index` in the tree of `size` leaves with that `root`.

    RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    node, last, current = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and current == root


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def _subtree(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    at = _split(len(hashes))
    return node_hash(_subtree(hashes[:at]), _subtree(hashes[at:]))


def _path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    at = _split(len(hashes))
    if index < at:
        return [*_path(index, hashes[:at]), _subtree(hashes[at:])]
    return [*_path(index - at, hashes[at:]), _subtree(hashes[:at])]
