"""Reasons for a refusal.

If several reasons apply, the answer is the first of them in the order below: checks run from the
envelope inwards. A command with several items is checked item by item. Keys, anchors and envelopes
inside a command are checked after its signer and before the state that they would change. The last
two reasons are settlement's, and are checked after the book's.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Documented reasons, in order of precedence."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad signature"
    UNKNOWN_OPERATION = "unknown operation"
    WRONG_NETWORK = "wrong network"
    UNKNOWN_HEAD = "unknown log head: the signer saw another history"
    NONCE_REUSED = "nonce reused"
    EXPIRED = "expired"
    ROLE_NOT_ALLOWED = "role not allowed"
    ALREADY_FOUNDED = "network already founded"
    UNKNOWN_PARTY = "unknown party"
    PARTY_EXISTS = "party already joined"
    OPERATOR_TOMBSTONED = "operator is tombstoned"
    OPERATOR_JAILED = "operator is jailed"
    NOT_JAILED = "operator is not jailed"
    STILL_JAILED = "jail time is not over"
    UNKNOWN_PROPOSAL = "unknown proposal"
    PROPOSAL_EXPIRED = "proposal has expired"
    ALREADY_APPROVED = "this key has approved already"
    UNSAFE_PARAMETERS = "unsafe parameters"
    ACCOUNT_NOT_ALLOWED = "account cannot be corrected"
    UNKNOWN_JOB = "unknown job"
    JOB_EXISTS = "job already open"
    JOB_CLOSED = "job is closed"
    JOB_EXPIRED = "job is past its deadline"
    JOB_NOT_EXPIRED = "job is not past its deadline"
    NOT_YOUR_JOB = "not your job"
    BAD_ID = "an id has only letters, digits, dot, dash and underscore"
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
    WRONG_ROOT = "root does not match the leaves"
    NOT_EQUIVOCATION = "these are not two answers of one operator to one slot"
    EVIDENCE_TOO_OLD = "evidence is too old"
    NO_SLASH_HELD = "no slash is held for this operator"
    APPEAL_OPEN = "the slash can still be appealed"
    CHALLENGE_EXISTS = "challenge already opened"
    UNKNOWN_CHALLENGE = "unknown challenge"
    CHALLENGE_ENDED = "challenge has ended"
    CHALLENGE_NOT_EXPIRED = "challenge has not expired"
    SLOT_CHALLENGED = "slot is challenged"
    NOT_RELEASABLE = "slot has no releasable pay"
    NOTHING_MATURED = "no unbonding is over"
    AMOUNT_OUT_OF_RANGE = "amount out of range"
    INSUFFICIENT_FUNDS = "insufficient funds"
    INSUFFICIENT_STAKE = "insufficient free stake"
    BUDGET_EXHAUSTED = "budget exhausted"
    SEGMENTS_UNSETTLED = "segments are not settled"
    WRONG_PREDECESSOR = "segment does not follow the task's last good state"
    NO_VERIFIER = "no verifier serves this numerics class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A refusal. `detail`: more about it, for people."""

    reason: Reason
    detail: str = ""
