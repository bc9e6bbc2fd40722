"""Identifiers. An id is text that is safe in a path, a URL and a Prometheus label."""

import hashlib
import re
from dataclasses import dataclass

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_safe_id(text: str) -> bool:
    """Whether the text is 1 to 64 letters, digits, `.`, `_` and `-`, and starts with a letter or
    digit."""
    return _SAFE.fullmatch(text) is not None


def party_id(public_key: bytes) -> str:
    """A party's id: the first 20 hex digits of the SHA-256 of its Ed25519 public key."""
    return hashlib.sha256(public_key).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slot:
    """The right to run one segment once. A commitment answers a slot, and pay is for a slot.

    `segment` counts from 0 within the task. `attempt` counts the task's starts from 0: a task that
    moves to another node starts its next attempt, and open slots of earlier attempts are dead.
    """

    job: str
    task: str
    segment: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.job}/{self.task}/{self.segment}/{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> "Slot":
        """The inverse of `str`. Raises `ValueError`."""
        job, task, segment, attempt = text.split("/")
        return cls(job=job, task=task, segment=int(segment), attempt=int(attempt))
