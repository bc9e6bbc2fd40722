"""The records of the authority's readings.

Amounts are micro-credits. Digests are hex. Fields named `..._ms` are milliseconds since the epoch.
"""

from dataclasses import dataclass, field

from gensyn_ray.domain.evidence import Ruling
from gensyn_ray.domain.leaf import Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task as its job's driver sees it. `good`: segments of its unbroken chain; `unjudged` and
    `unaudited`: how many of those still wait for a judgement, or have no audit's outcome. `state`:
    digest of the last good state, empty before there is one. `leaf`: that state's leaf, once it is
    judged; until then a replay of it must be blind. `metrics`: that leaf's, empty without it."""

    trial: str
    spec: str
    attempt: int
    good: int
    unjudged: int
    unaudited: int
    state: str
    leaf: Leaf | None
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignedTask:
    """The task that a trial runs now, as the node that runs it needs it. `vetted`: whether the
    network has vetted the program's `bundle`. For the other fields see `TaskRow`."""

    task: str
    spec: str
    attempt: int
    good: int
    state: str
    leaf: Leaf | None
    bundle: str
    data_digest: str
    numerics: str
    vetted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRights:
    """A party's rights in the object store for one task: whether it may read the object in question
    (`reads`); the open slots whose end states it may store; the job's `manifest`, which names the
    data objects that it may read."""

    reads: bool
    manifest: str
    open_slots: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJobRow:
    """The data from which the driver of an open job is started."""

    job: str
    kind: str
    submitter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCounts:
    """Segments of one job. `audited` of them have an outcome: `accepted`, `rejected`,
    `inconclusive` or `unavailable`."""

    committed: int
    drawn: int
    audited: int
    accepted: int
    rejected: int
    inconclusive: int
    unavailable: int
    settled: int
    void: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RulingRow:
    """A ruling against an operator, or one that found two replays to differ."""

    task: str
    segment: int
    at_fault: str
    evidence: Ruling


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The books of one job. `revealed`: number of revealed links of the submitter's chain.
    `tombstoned`: operators with a proven fraud, on the whole network. `free_micro`: the part of the
    escrow that is not promised to a slot."""

    id: str
    closed: bool
    segments: SegmentCounts
    rulings: list[RulingRow]
    revealed: int
    tombstoned: list[str]
    price_micro: int
    audit_ppm: int
    budget_micro: int
    escrow_micro: int
    free_micro: int
    slashed_micro: int
    paid_micro: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """An operator's money, standing and work. `available_micro` may be withdrawn; `held_micro` is
    pay whose audit window is open; `earned_micro` is the pay of closed jobs."""

    id: str
    name: str
    numerics: str
    available_micro: int
    held_micro: int
    earned_micro: int
    stake_micro: int
    slashed_micro: int
    state: str
    committed: int
    accepted: int
    rejected: int
    paid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """A replay that waits for a verifier or a referee. It does not contain the claim.
    `state_before` is empty where the segment begins with `init`. `urgent`: a job waits for it."""

    job: str
    slot: str
    party: str
    numerics: str
    spec: str
    state_before: str
    urgent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReceipt:
    """The end of one settled segment. `outcome`: its audit's, empty without one."""

    slot: str
    operator: str
    paid_micro: int
    audited: bool
    outcome: str
    void: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A party's money. `reserve_micro`: stake that one job reserves of an operator's."""

    joined: bool
    available_micro: int
    free_stake_micro: int
    unbonding_micro: int
    stake_micro: int
    reserve_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One account of the books."""

    account: str
    amount_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Every account of a party or of a job that is not empty."""

    owner: str
    name: str
    role: str
    standing: str
    accounts: list[AccountRow] = field(default_factory=list[AccountRow])


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleStanding:
    """`vetted`: whether the network has vetted a program's bundle."""

    vetted: bool
