"""What happened: the facts that `Book.apply` folds into state.

A command that is accepted gives one or more events; they are journaled beside it. `Moved` is the
only event that changes a balance, and `slot` names the segment that the money is for, if any.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    network: str
    network_key: str
    treasury_key: str
    beacon_anchor: str
    vetted: list[str]
    reserve_micro: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted:
    job: str
    task: str
    trial: str
    spec: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished:
    job: str
    task: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstoned:
    operator: str
    job: str
    evidence: str
    slashed_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClosed:
    job: str


Event = (
    Founded
    | PartyJoined
    | Moved
    | JobOpened
    | TaskStarted
    | TaskFinished
    | SlotIssued
    | SlotCommitted
    | Recorded
    | SlotSettled
    | Tombstoned
    | JobClosed
)

KINDS: tuple[type[Event], ...] = (
    Founded,
    PartyJoined,
    Moved,
    JobOpened,
    TaskStarted,
    TaskFinished,
    SlotIssued,
    SlotCommitted,
    Recorded,
    SlotSettled,
    Tombstoned,
    JobClosed,
)
