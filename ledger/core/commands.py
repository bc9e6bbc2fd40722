"""The commands of the ledger, and the roles that may sign each of them.

The first line of each class says what the command does; the generated part of `ledger/README.md`
shows it beside the roles. Amounts are micro-credits, times are Unix milliseconds.

A treasury command takes effect once as many treasury keys agree as the network was founded to need.
The first key signs the command, which then waits as a proposal. The other keys sign `Approve`.

The driver signs with the job's own key, which `OpenJob` names. That key starts and finishes tasks
and closes the job. It moves credits only as the job's rules say.
"""

from dataclasses import dataclass, field
from typing import get_args

from gensyn_ray.domain.evidence import Evidence
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.numerics import PINNED
from ledger.core.parameters import Parameters

ROLES = ("network", "treasury", "submitter", "driver", "operator", "verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Starts the network's books: the first command of every journal.

    `vetted`: digests of the bundles whose rulings may slash. `beacon_anchor`: end of the
    authority's hash chain, hex. `treasury_threshold`: how many of `treasury_keys` (hex) a treasury
    command needs.
    """

    network: str
    network_key: str
    treasury_keys: list[str]
    treasury_threshold: int
    beacon_anchor: str
    vetted: list[str]
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Credits enter from outside: external to available."""

    party: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Pays a party out of the treasury: treasury to available."""

    party: str
    amount_micro: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correct:
    """Adds a posting that undoes a wrong one.

    Only accounts that no other rule depends on can be corrected: `available/...`, `treasury` and
    `jackpot`. `entry`: index of the entry that was wrong.
    """

    debit: str
    credit: str
    amount_micro: int
    entry: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetParameters:
    """Changes the network's settings."""

    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseSlash:
    """Returns the stake of a wrong slash, and the operator's standing."""

    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Agrees to another key's proposal. `proposal`: body hash of the waiting treasury command."""

    proposal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Registers a key as a party in one role.

    `numerics`: the classes that the node's self-test computed, joined by commas; empty for
    submitters.
    """

    name: str
    numerics: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    """Turns credits into stake: available to free stake."""

    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Credits leave the network: available to external."""

    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbond:
    """Starts the withdrawal of stake: free stake to unbonding."""

    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mature:
    """Returns stake whose unbonding time is over: unbonding to available."""

    party: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Jail:
    """Refuses an operator new slots until a time."""

    operator: str
    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjail:
    """Ends the operator's own jail after its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """Opens a job and funds it: available to escrow.

    `audit_ppm`: sampling rate per segment in millionths. `draw_batch`: commitments of one operator
    that share a beacon link. `secret_anchor`: end of the submitter's hash chain, hex. `numerics`:
    the mode in which its segments are computed (`gensyn_ray.domain.numerics`).
    """

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
    numerics: str = PINNED


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTask:
    """Starts a task, or its next attempt.

    `spec`: digest of the task's stored specification. `inputs`: digests of the states of other
    tasks that this one starts from.
    """

    job: str
    task: str
    trial: str
    spec: str
    attempt: int
    inputs: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTask:
    """Ends a task: it gets no more slots."""

    job: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSlot:
    """Asks for the right to run one segment; reserves stake and escrow for it. Its fields are those
    of the slot."""

    job: str
    task: str
    segment: int
    attempt: int

    @classmethod
    def of(cls, slot: Slot) -> "RequestSlot":
        """The request for a slot."""
        return cls(job=slot.job, task=slot.task, segment=slot.segment, attempt=slot.attempt)

    @property
    def slot(self) -> Slot:
        """The slot that is asked for."""
        return Slot(job=self.job, task=self.task, segment=self.segment, attempt=self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Answers slots with leaves. `root`: Merkle root over their canonical bytes in order, hex."""

    root: str
    leaves: list[Leaf]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Puts evidence into the log; moves no credits.

    The ledger checks the signer's role. Settlement checks what the record says.
    """

    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleItem:
    """One slot of a `Settle`. `pay`: whether the slot's price is earned."""

    slot: str
    pay: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Pays committed segments into holdback, or refuses their pay."""

    job: str
    items: list[SettleItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Releases pay whose holdback time is over: holdback to available."""

    job: str
    slots: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseJob:
    """Closes a job: releases what was earned, returns the rest of the budget."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    """Closes a job after its deadline."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slash:
    """Takes an operator's stake after a ruling, and holds it for an appeal.

    `evidence`: the slot of the ruling. `spoilt`: honest operators' slots that continue from a bad
    state; the slash refunds the submitter for them. `reporter`: the party that proved the fraud, or
    empty. An assigned verifier is never the reporter, because its pay must not depend on the
    outcome.
    """

    job: str
    operator: str
    evidence: str
    spoilt: list[str]
    reporter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEquivocation:
    """Proves fraud by two `Commit` envelopes of one operator with different leaves for `slot`."""

    slot: str
    first: dict[str, str]
    second: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributeSlash:
    """Pays out a held slash after its appeal time."""

    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChallenge:
    """Questions a segment with a bond. `claim`: the challenger's reason, as text."""

    challenge: str
    slot: str
    claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveChallenge:
    """Ends a challenge: upheld returns the bond, dismissed loses it to the treasury."""

    challenge: str
    upheld: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireChallenge:
    """Ends a challenge that got no answer in time; the bond returns."""

    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PayJackpot:
    """Pays a verifier for a found planted error: jackpot to available. `evidence`: its slot."""

    party: str
    amount_micro: int
    evidence: str


PARTIES = ("submitter", "operator", "verifier")
"""Roles of a party that joins by itself."""

TreasuryCommand = Deposit | Grant | Correct | SetParameters | ReverseSlash

Command = (
    Found
    | Deposit
    | Grant
    | Correct
    | SetParameters
    | ReverseSlash
    | Approve
    | Join
    | Withdraw
    | Bond
    | Unbond
    | Mature
    | Jail
    | Unjail
    | OpenJob
    | StartTask
    | FinishTask
    | RequestSlot
    | Commit
    | Record
    | Settle
    | Release
    | CloseJob
    | ExpireJob
    | Slash
    | ReportEquivocation
    | DistributeSlash
    | OpenChallenge
    | ResolveChallenge
    | ExpireChallenge
    | PayJackpot
)

ALLOWED_ROLES: dict[type[Command], tuple[str, ...]] = {
    Found: ("network",),
    Deposit: ("treasury",),
    Grant: ("treasury",),
    Correct: ("treasury",),
    SetParameters: ("treasury",),
    ReverseSlash: ("treasury",),
    Approve: ("treasury",),
    Join: PARTIES,
    Withdraw: PARTIES,
    Bond: ("operator", "verifier"),
    Unbond: ("operator", "verifier"),
    Mature: ("operator", "verifier", "network"),
    Jail: ("network",),
    Unjail: ("operator",),
    OpenJob: ("submitter",),
    StartTask: ("driver",),
    FinishTask: ("driver",),
    RequestSlot: ("operator",),
    Commit: ("operator",),
    Record: ("network", "driver", "verifier"),
    Settle: ("network",),
    Release: ("network",),
    CloseJob: ("driver", "submitter"),
    ExpireJob: ("network",),
    Slash: ("network",),
    ReportEquivocation: PARTIES,
    DistributeSlash: ("network",),
    OpenChallenge: PARTIES,
    ResolveChallenge: ("network",),
    ExpireChallenge: ("network", "submitter", "operator", "verifier"),
    PayJackpot: ("network",),
}

KINDS: tuple[type[Command], ...] = get_args(Command)
TREASURY_KINDS: tuple[type[TreasuryCommand], ...] = get_args(TreasuryCommand)
