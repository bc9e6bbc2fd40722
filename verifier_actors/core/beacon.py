"""Hash chains: randomness that is fixed in advance and unknown until it is revealed.

The owner picks a seed, hashes it n times and publishes the end (the anchor). Links are shown in
reverse: link 1 hashes to the anchor, link k to link k - 1. Anyone can check a link. Only the owner
can compute one. The owner cannot choose a link after the anchor is public. The authority and each
submitter hold one such chain; a draw needs a link of both.

Lamport, Password authentication with insecure communication (1981); the use for audits follows
section 6 of the design.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Beacon:
    """The revealed part of the network's chain: its last link in hex, and that link's number."""

    link: str
    index: int = 0


def anchor_of(seed: bytes, length: int) -> bytes:
    """The public end of a chain that holds `length` links."""
    return link_of(seed, length, 0)


def link_of(seed: bytes, length: int, index: int) -> bytes:
    """Link `index` (the anchor is 0, the first link to show is 1, the seed is `length`).

    Raises `ValueError` when the chain is used up.
    """
    if not 0 <= index <= length:
        raise ValueError(f"the chain ends at {length}; there is no link {index}")
    value = seed
    for _ in range(length - index):
        value = hashlib.sha256(value).digest()
    return value


def follows(link: bytes, previous: bytes) -> bool:
    """Whether `link` comes after `previous` in the order of revealing: it hashes to `previous`."""
    return hashlib.sha256(link).digest() == previous
