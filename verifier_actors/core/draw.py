"""The draw: selects the committed segments that are audited, and their verifiers.

    draw(commitment, leaf) = SHA-256(tag, authority's link, commitment root, submitter's link, leaf)

A segment is drawn if the first eight bytes, as a number, fall below rate * 2^64. Rates are whole
millionths, so that no result depends on a machine's rounding. Anyone with the journal can compute
every draw again.

Not defended: an authority and a submitter who share their secrets know the draws of that
submitter's job in advance. The submitter pays for the job, and the authority runs the network, so
they can only harm themselves.
"""

import hashlib
from collections.abc import Sequence

_TAG = b"gensyn-ray/draw/v1\n"
_VERIFIER_TAG = b"gensyn-ray/verifier/v1\n"
PPM = 1_000_000


def draw_value(*, link: bytes, root: bytes, secret: bytes, leaf_index: int) -> bytes:
    """The draw value of one leaf of one commitment, 32 bytes."""
    return hashlib.sha256(_TAG + link + root + secret + leaf_index.to_bytes(8, "big")).digest()


def is_drawn(value: bytes, rate_ppm: int) -> bool:
    """Whether a draw value falls under the rate; a rate of 1,000,000 draws everything."""
    return int.from_bytes(value[:8], "big") * PPM < rate_ppm << 64


def choose(value: bytes, candidates: Sequence[str]) -> str:
    """One of the candidates, by rendezvous hashing: the order of the sequence does not matter."""
    return max(
        candidates,
        key=lambda one: hashlib.sha256(_VERIFIER_TAG + value + one.encode()).digest(),
    )


def detection_probability(bad_segments: int, rate_ppm: int) -> float:
    """Chance that at least one of `bad_segments` is drawn: 1 - (1 - q)^k.

    Every drawn bad segment is found, because a replay is exact and blind.
    """
    return 1.0 - (1.0 - rate_ppm / PPM) ** bad_segments
