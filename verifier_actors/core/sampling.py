"""How much is audited, as a value: rates, sizes of batches, times to wait.

A policy is derived from the job's terms in the journal, so anyone can check afterwards that a batch
had the size and the rate that it had to have. Adaptive rates belong here: a rate may depend on
everything that the journal says of the operator.
"""

from dataclasses import dataclass
from enum import Enum, auto

from verifier_actors.core.draw import PPM

BATCH_WAIT_MS = 30_000
"""A batch that does not fill closes this long after its first commitment."""
REVEAL_WAIT_MS = 5_000
"""A submitter who withholds a link for this long has the whole batch drawn."""


class Reason(Enum):
    """Why commitments are batched."""

    SAMPLING = auto()
    """Each segment is drawn with the job's rate."""
    DEMAND = auto()
    """A full audit or a challenge asks for segments that a draw has left out."""


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
        """The rate of a draw: everything, where the submitter withheld its link."""
        return rate_ppm if secret else PPM
