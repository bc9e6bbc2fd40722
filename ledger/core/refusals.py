"""Why a command is not carried out.

Where several reasons hold, the first below is given: checks run from the envelope inwards. A
command over several items is checked item by item. The last two come from the rules of settlement,
after everything that the book itself can say.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Documented reasons, most general first."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad signature"
    UNKNOWN_OPERATION = "unknown operation"
    WRONG_NETWORK = "wrong network"
    NONCE_REUSED = "nonce reused"
    EXPIRED = "expired"
    ROLE_NOT_ALLOWED = "role not allowed"
    ALREADY_FOUNDED = "network already founded"
    UNKNOWN_PARTY = "unknown party"
    PARTY_EXISTS = "party already joined"
    OPERATOR_TOMBSTONED = "operator is tombstoned"
    UNKNOWN_JOB = "unknown job"
    JOB_EXISTS = "job already open"
    JOB_CLOSED = "job is closed"
    NOT_YOUR_JOB = "not your job"
    BAD_ID = "id holds other than letters, digits, dot, dash, underscore"
    UNKNOWN_TASK = "unknown task"
    TASK_EXISTS = "task was started with another spec or trial"
    TASK_FINISHED = "task is finished"
    STALE_ATTEMPT = "another attempt is current"
    ATTEMPT_TAKEN = "attempt belongs to another operator"
    SLOT_EXISTS = "slot was already issued"
    UNKNOWN_SLOT = "unknown slot"
    NOT_YOUR_SLOT = "not your slot"
    SLOT_NOT_OPEN = "slot is not open"
    WRONG_LEAF = "leaf does not answer its slot"
    WRONG_ROOT = "root is not that of the leaves"
    AMOUNT_OUT_OF_RANGE = "amount out of range"
    INSUFFICIENT_FUNDS = "insufficient funds"
    INSUFFICIENT_STAKE = "insufficient free stake"
    BUDGET_EXHAUSTED = "budget exhausted"
    SEGMENTS_UNSETTLED = "segments are not settled"
    WRONG_PREDECESSOR = "segment does not follow the task's last good state"
    NO_VERIFIER = "no verifier serves this numerics class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The answer to a command that is not carried out."""

    reason: Reason
    detail: str = ""
