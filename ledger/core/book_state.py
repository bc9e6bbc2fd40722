"""The book's state besides balances: jobs, slots, parties, slashes, challenges, proposals.

Entries are mutable. Only `Book.apply` changes them.
"""

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from ledger.core.events import ChallengeOpened, JobOpened, PartyJoined, Proposed, Tombstoned


class SlotState(Enum):
    """States of a slot. `DEAD`: its attempt ended without a commitment."""

    ISSUED = "issued"
    COMMITTED = "committed"
    SETTLED = "settled"
    RELEASED = "released"
    DEAD = "dead"


class Standing(Enum):
    """States of a party."""

    ACTIVE = "active"
    JAILED = "jailed"
    TOMBSTONED = "tombstoned"


class SlashState(Enum):
    """States of a slash."""

    HELD = "held"
    DISTRIBUTED = "distributed"
    REVERSED = "reversed"


class ChallengeState(StrEnum):
    """States of a challenge."""

    OPEN = "open"
    UPHELD = "upheld"
    DISMISSED = "dismissed"
    EXPIRED = "expired"


class JobState(Enum):
    """States of a job."""

    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"


@dataclass(slots=True, kw_only=True)
class SlotEntry:
    """One issued slot. `price_micro`: its pay, fixed when it was issued."""

    operator: str
    price_micro: int
    state: SlotState = SlotState.ISSUED
    paid: bool = False
    """Earned, and not forfeited."""
    refunded: bool = False
    """A slash returned its price to the submitter."""
    release_ms: int = 0
    challenges: int = 0
    """Number of open challenges of this slot."""


@dataclass(slots=True, kw_only=True)
class TaskEntry:
    """A task's current attempt. `operator`: who runs it, empty before its first slot."""

    trial: str
    spec: str
    attempt: int
    operator: str = ""
    finished: bool = False
    issued: set[str] = field(default_factory=set[str])


@dataclass(slots=True, kw_only=True)
class JobEntry:
    """One job with its tasks and slots."""

    opened: JobOpened
    state: JobState = JobState.OPEN
    evidence_until_ms: int = 0
    """Last time at which fraud in the closed job can be punished."""
    promised_micro: int = 0
    """Sum of the prices of issued and committed slots."""
    unsettled: int = 0
    """Number of committed slots that are not settled."""
    challenges: int = 0
    """Number of open challenges of its slots."""
    tasks: dict[str, TaskEntry] = field(default_factory=dict[str, TaskEntry])
    slots: dict[str, SlotEntry] = field(default_factory=dict[str, SlotEntry])
    backing_micro: dict[str, int] = field(default_factory=dict[str, int])
    """Stake that each operator reserved for this job, in the order of reservation."""

    @property
    def closed(self) -> bool:
        return self.state is not JobState.OPEN


@dataclass(slots=True, kw_only=True)
class Unbonding:
    """Stake that can be withdrawn from `mature_ms` on."""

    amount_micro: int
    mature_ms: int


@dataclass(slots=True, kw_only=True)
class Party:
    """A registered key with its standing and its unbonding stake."""

    joined: PartyJoined
    standing: Standing = Standing.ACTIVE
    jailed_until_ms: int = 0
    slashed_micro: int = 0
    """Stake taken for fraud and not returned."""
    unbonding: list[Unbonding] = field(default_factory=list[Unbonding])
    """Oldest first."""

    @property
    def tombstoned(self) -> bool:
        return self.standing is Standing.TOMBSTONED


@dataclass(slots=True, kw_only=True)
class SlashEntry:
    """A slash and what became of its stake."""

    proven: Tombstoned
    state: SlashState = SlashState.HELD


@dataclass(slots=True, kw_only=True)
class ChallengeEntry:
    """A challenge and how it ended."""

    opened: ChallengeOpened
    state: ChallengeState = ChallengeState.OPEN


@dataclass(slots=True, kw_only=True)
class Proposal:
    """A waiting treasury command. `keys`: hex keys that agree, the proposer's first."""

    proposed: Proposed
    keys: list[str]
