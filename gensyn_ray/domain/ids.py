"""Names of things. An id is text that is safe in a path, a URL and a Prometheus label."""

import hashlib
import re
from dataclasses import dataclass

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_safe_id(text: str) -> bool:
    """Letters, digits, `.`, `_` and `-`; at most 64; no leading punctuation."""
    return _SAFE.fullmatch(text) is not None


def party_id(public_key: bytes) -> str:
    """A party is its key: the first 20 hex digits of the SHA-256 of its Ed25519 public key."""
    return hashlib.sha256(public_key).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slot:
    """The right to run one segment once: what a commitment answers to and what a payment is for.

    `segment` counts from 0 within the task. `attempt` counts the task's starts: a task that moves
    to another node after churn is at its next attempt, and slots of earlier attempts are dead.
    """

    job: str
    task: str
    segment: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.job}/{self.task}/{self.segment}/{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> "Slot":
        """The inverse of `str`. Raises `ValueError` on anything else."""
        job, task, segment, attempt = text.split("/")
        return cls(job=job, task=task, segment=int(segment), attempt=int(attempt))
