"""What can be asked of the ledger, by whom.

    operation            role                      asks
    Found                network                   start the network's books (once, first)
    Deposit              treasury                  bring credits in from outside
    Grant                treasury                  treasury -> available
    Correct              treasury                  undo a wrong posting by an opposite one
    SetParameters        treasury                  change the network's settings
    ReverseSlash         treasury                  give a wrongly slashed stake back
    Approve              treasury                  agree to another key's proposal
    Join                 any party                 make a key known
    Withdraw             any party                 available -> outside
    Bond                 operator|verifier         available -> free stake
    Unbond               operator|verifier         free stake -> unbonding
    Mature               operator|verifier|network unbonding that is over -> available
    Jail                 network                   no more slots for a time
    Unjail               operator                  come back when that time is over
    OpenJob              submitter                 available -> escrow
    StartTask            driver                    begin an attempt at a task
    FinishTask           driver                    the task needs no more segments
    RequestSlot          operator                  reserve stake and escrow for one segment
    Commit               operator                  answer slots with signed segment leaves
    Record               network|driver|verifier   put evidence into the log; moves nothing
    Settle               network                   pay or refuse committed segments, into holdback
    Release              network                   holdback whose window is over -> available
    CloseJob             driver|submitter          release what was earned, return the rest
    ExpireJob            network                   the same, for a job that outlived its time
    Slash                network                   take a proven cheat's stake; holds it
    ReportEquivocation   any party                 two signed answers to one slot: proof in itself
    DistributeSlash      network                   give a held slash out after its appeal time
    OpenChallenge          any party                 question a segment, with a bond
    ResolveChallenge       network                   the bond returns, or is lost
    ExpireChallenge        network|opener            unanswered: the bond returns
    PayJackpot           network                   jackpot -> available of a verifier

What the treasury asks happens when as many of its keys as the network was founded to need have
said so: the first signs the command, which stands as a proposal, the others sign `Approve`.

A driver is the job's own key, named in `OpenJob`: it can start and finish tasks and close the job,
and cannot move a credit anywhere that the job's rules do not send it.
"""

from dataclasses import dataclass, field
from typing import Any

from gensyn_ray.domain.numerics import PINNED
from ledger.core.parameters import Parameters

ROLES = ("network", "treasury", "submitter", "driver", "operator", "verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`vetted`: bundle digests on which a ruling may slash. `beacon_anchor`: hex chain end.
    `treasury_threshold`: how many of `treasury_keys` (hex) a treasury command needs."""

    network: str
    network_key: str
    treasury_keys: list[str]
    treasury_threshold: int
    beacon_anchor: str
    vetted: list[str]
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    party: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    party: str
    amount_micro: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correct:
    """History is never edited: an opposite posting is added. Only between accounts that no rule
    ties to something else: `available/...`, `treasury`, `jackpot`. `entry`: what was wrong."""

    debit: str
    credit: str
    amount_micro: int
    entry: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetParameters:
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseSlash:
    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """`proposal`: body hash of the treasury command that waits."""

    proposal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """`numerics`: the class that the node computed in its self-test; empty for submitters."""

    name: str
    numerics: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbond:
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mature:
    party: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Jail:
    operator: str
    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjail:
    """By the jailed operator; it asks for nothing but to be let out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """`audit_ppm`: sampling rate per segment in millionths. `draw_batch`: commitments of one
    operator that share a beacon link. `secret_anchor`: hex end of the submitter's hash chain.
    `numerics`: the mode that its segments are computed in (`gensyn_ray.domain.numerics`)."""

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
    """`spec`: digest under which the program's specification is stored. `inputs`: digests of the
    states of other tasks that this one begins with."""

    job: str
    task: str
    trial: str
    spec: str
    attempt: int
    inputs: list[str] = field(default_factory=list[str])


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
class Release:
    job: str
    slots: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseJob:
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slash:
    """`evidence`: the slot of the ruling. `spoilt`: honest slots that grew from a bad state; what
    they cost the submitter is made good from the slash. `reporter`: who proved it beyond their
    duty, or empty: a verifier who was asked to replay is not paid by outcome."""

    job: str
    operator: str
    evidence: str
    spoilt: list[str]
    reporter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEquivocation:
    """Two `Commit` envelopes of one operator with different leaves for `slot`."""

    slot: str
    first: dict[str, str]
    second: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributeSlash:
    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChallenge:
    challenge: str
    slot: str
    claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveChallenge:
    challenge: str
    upheld: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireChallenge:
    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PayJackpot:
    """`evidence`: the slot of the planted error that was found."""

    party: str
    amount_micro: int
    evidence: str


PARTIES = ("submitter", "operator", "verifier")

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

KINDS: tuple[type[Command], ...] = tuple(ALLOWED_ROLES)

TREASURY_KINDS: tuple[type[TreasuryCommand], ...] = (
    Deposit,
    Grant,
    Correct,
    SetParameters,
    ReverseSlash,
)
