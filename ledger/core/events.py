"""The events that `Book.apply` folds into state.

An accepted command gives one or more events, which are journaled with it. Only `Moved` changes a
balance. Amounts are micro-credits. Times are Unix milliseconds; they are fixed when a command is
decided, so that folding needs no clock.
"""

from dataclasses import dataclass
from typing import Any, get_args

from gensyn_ray.domain.evidence import Evidence
from gensyn_ray.domain.leaf import Leaf
from ledger.core.parameters import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """The network exists. The fields are those of `Found`."""

    network: str
    network_key: str
    treasury_keys: list[str]
    treasury_threshold: int
    beacon_anchor: str
    vetted: list[str]
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersSet:
    """The network's settings from now on."""

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
    """A treasury key (hex) agreed to a proposal."""

    proposal: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A proposal had enough keys and took effect."""

    proposal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyJoined:
    """A key became a party. `key`: Ed25519 public key, hex."""

    party: str
    role: str
    key: str
    name: str
    numerics: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """`amount_micro` went from `debit` to `credit`. `slot`: the segment it is for, or empty."""

    debit: str
    credit: str
    amount_micro: int
    memo: str
    slot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingStarted:
    """Stake can be withdrawn from `mature_ms` on."""

    party: str
    amount_micro: int
    mature_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingMatured:
    """The party's oldest `count` unbondings ended."""

    party: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingCut:
    """A slash took `amount_micro` from the party's youngest unbondings."""

    party: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jailed:
    """The operator gets no slots before `until_ms`."""

    operator: str
    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjailed:
    """The operator may get slots again."""

    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOpened:
    """A job is open until `deadline_ms`. The other fields are those of `OpenJob`."""

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
    """An attempt of a task started. The fields are those of `StartTask`."""

    job: str
    task: str
    trial: str
    spec: str
    attempt: int
    inputs: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished:
    """A task gets no more slots."""

    job: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeReserved:
    """The operator's stake that backs its work in the job."""

    job: str
    operator: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotIssued:
    """The operator may run the segment of `slot` for `price_micro`."""

    slot: str
    operator: str
    price_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCommitted:
    """The operator answered a slot. `leaf` is leaf `index` under the commitment's `root` (hex)."""

    slot: str
    operator: str
    root: str
    index: int
    leaf: Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Evidence, as its signer `party` recorded it in `role`."""

    evidence: Evidence
    role: str
    party: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSettled:
    """A committed slot was paid or refused. Pay can be released from `release_ms` on."""

    slot: str
    paid: bool
    reason: str
    release_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReleased:
    """A slot's pay is the operator's own."""

    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClosed:
    """A job ended. Fraud in it can be punished until `evidence_until_ms`."""

    job: str
    expired: bool
    evidence_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstoned:
    """Fraud is proven. `slashed_micro` of stake is held at least until `appeal_until_ms`."""

    operator: str
    job: str
    evidence: str
    slashed_micro: int
    spoilt: list[str]
    reporter: str
    appeal_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashDistributed:
    """A held slash was paid out. `refunded`: slots whose price went back to the submitter."""

    operator: str
    refunded: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashReversed:
    """A held slash was returned to the operator."""

    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeOpened:
    """`party` questions `slot` with a bond. Without an answer it expires at `expires_ms`."""

    challenge: str
    slot: str
    party: str
    claim: str
    bond_micro: int
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeEnded:
    """A challenge ended. `outcome`: upheld, dismissed or expired."""

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

KINDS: tuple[type[Event], ...] = get_args(Event)
