"""What happened: the facts that `Book.apply` folds into state.

A command that is accepted gives one or more events; they are journaled beside it. `Moved` is the
only event that changes a balance, and `slot` names the segment that the money is for, if any.
Moments (`..._ms`) are fixed when a command is decided, so that folding needs no clock.
"""

from dataclasses import dataclass
from typing import Any

from ledger.core.parameters import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    network: str
    network_key: str
    treasury_keys: list[str]
    treasury_threshold: int
    beacon_anchor: str
    vetted: list[str]
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersSet:
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A treasury command that waits for more of the treasury's keys. `proposal`: its body hash."""

    proposal: str
    operation: str
    arguments: dict[str, Any]
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    proposal: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    proposal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyJoined:
    party: str
    role: str
    key: str
    name: str
    numerics: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    debit: str
    credit: str
    amount_micro: int
    memo: str
    slot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingStarted:
    party: str
    amount_micro: int
    mature_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingMatured:
    """The oldest `count` unbondings of the party are over."""

    party: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingCut:
    """A slash took this much from the youngest unbondings."""

    party: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jailed:
    operator: str
    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjailed:
    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOpened:
    job: str
    kind: str
    submitter: str
    bundle: str
    data_digest: str
    budget_micro: int
    price_micro: int
    audit_ppm: int
    draw_batch: int
    secret_anchor: str
    driver_key: str
    numerics: str
    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted:
    job: str
    task: str
    trial: str
    spec: str
    attempt: int
    inputs: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished:
    job: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeReserved:
    job: str
    operator: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotIssued:
    slot: str
    operator: str
    price_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCommitted:
    slot: str
    operator: str
    root: str
    index: int
    leaf: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    kind: str
    role: str
    party: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSettled:
    slot: str
    paid: bool
    reason: str
    release_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReleased:
    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClosed:
    job: str
    expired: bool
    evidence_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstoned:
    """Proven fraud: `slashed_micro` of stake is held until `appeal_until_ms`."""

    operator: str
    job: str
    evidence: str
    slashed_micro: int
    spoilt: list[str]
    reporter: str
    appeal_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashDistributed:
    """`refunded`: slots whose price went back to the submitter."""

    operator: str
    refunded: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashReversed:
    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeOpened:
    challenge: str
    slot: str
    party: str
    claim: str
    bond_micro: int
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeEnded:
    """`outcome`: upheld, dismissed or expired."""

    challenge: str
    outcome: str
    reason: str


Event = (
    Founded
    | ParametersSet
    | Proposed
    | Approved
    | Executed
    | PartyJoined
    | Moved
    | UnbondingStarted
    | UnbondingMatured
    | UnbondingCut
    | Jailed
    | Unjailed
    | JobOpened
    | TaskStarted
    | TaskFinished
    | StakeReserved
    | SlotIssued
    | SlotCommitted
    | Recorded
    | SlotSettled
    | SlotReleased
    | JobClosed
    | Tombstoned
    | SlashDistributed
    | SlashReversed
    | ChallengeOpened
    | ChallengeEnded
)

KINDS: tuple[type[Event], ...] = (
    Founded,
    ParametersSet,
    Proposed,
    Approved,
    Executed,
    PartyJoined,
    Moved,
    UnbondingStarted,
    UnbondingMatured,
    UnbondingCut,
    Jailed,
    Unjailed,
    JobOpened,
    TaskStarted,
    TaskFinished,
    StakeReserved,
    SlotIssued,
    SlotCommitted,
    Recorded,
    SlotSettled,
    SlotReleased,
    JobClosed,
    Tombstoned,
    SlashDistributed,
    SlashReversed,
    ChallengeOpened,
    ChallengeEnded,
)
