"""Training reduced to a hash: every party can repeat a segment in microseconds."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a segment, or an operator's claim of it."""

    state_after: str
    metrics: dict[str, float]


def digest_of(*parts: str | int) -> str:
    """SHA-256 in hex over the parts, joined by bars."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def train(state_before: str, task: str, segment: int) -> Result:
    """The correct result of one segment; its score lies in [0, 1)."""
    after = digest_of("state", state_before, task, segment)
    return Result(state_after=after, metrics={"score": int(after[:6], 16) / 2**24})
