"""The sampling policy as a value: audit rates, batch sizes, waiting times.

A policy is derived from the job's terms in the journal, so anyone can check that a batch had the
required size and rate. Adaptive rates belong here: a rate may depend on everything that the journal
says of the operator.
"""

from dataclasses import dataclass
from enum import Enum, auto

from verifier_actors.core.draw import PPM

BATCH_WAIT_MS = 30_000
"""Time from a batch's first commitment until it closes without being full."""
REVEAL_WAIT_MS = 5_000
"""Time after which the whole batch is drawn if its submitter withholds the link."""


class Reason(Enum):
    """Why a batch closes."""

    SAMPLING = auto()
    """Each segment is drawn with the job's rate."""
    DEMAND = auto()
    """A full audit or a challenge requires segments that a draw did not select."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPolicy:
    """`audit_ppm`: chance of each segment to be drawn, in millionths. `batch_size`: commitments of
    one operator that share a draw."""

    audit_ppm: int
    batch_size: int
    batch_wait_ms: int = BATCH_WAIT_MS
    reveal_wait_ms: int = REVEAL_WAIT_MS

    def rate_ppm(self, reason: Reason) -> int:
        """Chance of each slot of a batch to be drawn, in millionths."""
        return PPM if reason is Reason.DEMAND else self.audit_ppm

    def drawn_rate_ppm(self, rate_ppm: int, secret: str) -> int:
        """The rate of a draw, in millionths: 1,000,000 if the submitter withheld its link."""
        return rate_ppm if secret else PPM
