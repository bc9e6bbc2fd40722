"""What can be asked of the ledger, by whom.

    operation      role                  asks
    Found          network               start the network's books (once, first)
    Deposit        treasury              bring credits in from outside
    Join           any                   make a key known as a party
    Bond           operator              available -> free stake
    OpenJob        submitter             available -> escrow
    StartTask      driver                begin an attempt at a task
    FinishTask     driver                the task needs no more segments
    RequestSlot    operator              reserve stake and escrow for one segment
    Commit         operator              answer slots with signed segment leaves
    Record         network|driver|verifier   put evidence into the log; moves nothing
    Settle         network               pay or refuse committed segments
    Slash          network               take a proven cheat's stake; final
    CloseJob       driver|submitter      release what was earned, return the rest

A driver is the job's own key, named in `OpenJob`: it can start and finish tasks and close the job,
and cannot move a credit anywhere that the job's rules do not send it.
"""

from dataclasses import dataclass
from typing import Any

ROLES = ("network", "treasury", "submitter", "driver", "operator", "verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`vetted`: bundle digests on which a ruling may slash. `beacon_anchor`: hex chain end."""

    network: str
    network_key: str
    treasury_key: str
    beacon_anchor: str
    vetted: list[str]
    reserve_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    party: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """`numerics`: the class that the node computed in its self-test; empty for submitters."""

    name: str
    numerics: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """`audit_ppm`: sampling rate per segment in millionths. `draw_batch`: commitments of one
    operator that share a beacon link. `secret_anchor`: hex end of the submitter's hash chain."""

    job: str
    kind: str
    bundle: str
    data_digest: str
    budget_micro: int
    price_micro: int
    audit_ppm: int
    draw_batch: int
    secret_anchor: str
    driver_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTask:
    """`spec`: digest under which the program's specification is stored."""

    job: str
    task: str
    trial: str
    spec: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTask:
    job: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSlot:
    job: str
    task: str
    segment: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """`root`: hex Merkle root over the canonical bytes of `leaves`, in order."""

    root: str
    leaves: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Evidence. The ledger checks who may say it, and not what it means."""

    kind: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleItem:
    slot: str
    pay: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    job: str
    items: list[SettleItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slash:
    """`evidence`: the slot of the ruling. `spoilt`: honest slots that grew from a bad state; what
    they cost the submitter is made good from the slash."""

    job: str
    operator: str
    evidence: str
    spoilt: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseJob:
    job: str


Command = (
    Found
    | Deposit
    | Join
    | Bond
    | OpenJob
    | StartTask
    | FinishTask
    | RequestSlot
    | Commit
    | Record
    | Settle
    | Slash
    | CloseJob
)

ALLOWED_ROLES: dict[type[Command], tuple[str, ...]] = {
    Found: ("network",),
    Deposit: ("treasury",),
    Join: ("submitter", "operator", "verifier"),
    Bond: ("operator",),
    OpenJob: ("submitter",),
    StartTask: ("driver",),
    FinishTask: ("driver",),
    RequestSlot: ("operator",),
    Commit: ("operator",),
    Record: ("network", "driver", "verifier"),
    Settle: ("network",),
    Slash: ("network",),
    CloseJob: ("driver", "submitter"),
}

KINDS: tuple[type[Command], ...] = tuple(ALLOWED_ROLES)
