"""The Merkle tree of RFC 6962, section 2.1, over SHA-256.

Tensor states, segment leaves, step traces and the ledger's log use it. A leaf is hashed with a 0x00
prefix and a node with a 0x01 prefix, so that no leaf can replace a node. A tree of n leaves splits
at the largest power of two below n.
"""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()
_WIDTH = 32


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one leaf's bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node from its children's hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Root over the leaves in order; SHA-256 of no bytes if there are none."""
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


class MerkleTree:
    """An append-only tree.

    Stores the hashes of all complete subtrees, one byte string for each level (64 bytes a leaf in
    total). An append takes two hashes on average. A root of any earlier size and every proof take
    O(log n).
    """

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]
        """`_levels[k]`: hashes of the complete subtrees of 2^k leaves, in order."""

    def __len__(self) -> int:
        return len(self._levels[0]) // _WIDTH

    def append(self, leaf: bytes) -> int:
        """Append a leaf's bytes; returns its index."""
        index = node = len(self)
        top, level = leaf_hash(leaf), 0
        self._levels[0] += top
        while node & 1:
            node, level = node >> 1, level + 1
            top = node_hash(self._node(level - 1, 2 * node), top)
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += top
        return index

    def leaf_hash(self, index: int) -> bytes:
        """Hash of a leaf. Raises `IndexError` if it does not exist."""
        if not 0 <= index < len(self):
            raise IndexError(f"the tree has {len(self)} leaves, none at {index}")
        return self._node(0, index)

    def root(self) -> bytes:
        """Root over all leaves so far."""
        return self.root_at(len(self))

    def root_at(self, size: int) -> bytes:
        """Root over the first `size` leaves. Raises `ValueError` if there are fewer."""
        if not 0 <= size <= len(self):
            raise ValueError(f"the tree has {len(self)} leaves, not {size}")
        # The tree's complete subtrees, one for each bit of its size, smallest first.
        top = b""
        for level in range(size.bit_length()):
            if size >> level & 1:
                peak = self._node(level, (size >> level) - 1)
                top = node_hash(peak, top) if top else peak
        return top or EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Audit path of a leaf in the tree of the first `size` leaves, by default all (RFC 6962,
        2.1.1). Nearest sibling first.

        Raises `IndexError` if the leaf does not exist, `ValueError` if there are fewer leaves.
        """
        size = self._checked_size(size)
        if not 0 <= index < size:
            raise IndexError(f"the tree has {size} leaves, none at {index}")
        path: list[bytes] = []
        begin, end = 0, size
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(begin, middle))
                begin = middle
        return path[::-1]

    def consistency_proof(self, first: int, second: int | None = None) -> list[bytes]:
        """Proof that the first `second` leaves, by default all, continue the first `first` leaves
        (RFC 6962, 2.1.2). Raises `ValueError` unless 0 < first <= second <= number of leaves.
        """
        second = self._checked_size(second)
        if not 0 < first <= second:
            raise ValueError(f"a tree of {second} leaves does not continue one of {first}")
        path: list[bytes] = []
        begin, end = 0, second
        while end != first:
            middle = begin + _split(end - begin)
            if first <= middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(begin, middle))
                begin = middle
        if begin:
            path.append(self._subtree(begin, end))
        return path[::-1]

    def _checked_size(self, size: int | None) -> int:
        if size is None:
            return len(self)
        if not 0 <= size <= len(self):
            raise ValueError(f"the tree has {len(self)} leaves, not {size}")
        return size

    def _subtree(self, begin: int, end: int) -> bytes:
        """Root over the leaves from `begin` to `end`, which are a subtree of some split: `begin` is
        a multiple of the least power of two that is at least `end - begin`."""
        count = end - begin
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._node(level, begin >> level)
        middle = begin + _split(count)
        return node_hash(self._subtree(begin, middle), self._subtree(middle, end))

    def _node(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * _WIDTH : (index + 1) * _WIDTH])


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether `leaf` is leaf `index` of the tree of `size` leaves with this `root`.

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


def verify_consistency(
    *, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `second` leaves and `second_root` continues that of `first` leaves.

    RFC 9162, section 2.1.4.2.
    """
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1
