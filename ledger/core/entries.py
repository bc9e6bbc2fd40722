"""What the book holds besides balances: mutable entries, changed by `Book.apply` alone."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from ledger.core.events import ChallengeOpened, JobOpened, PartyJoined, Proposed, Tombstoned


class SlotState(Enum):
    """Of one segment's slot. `DEAD`: its attempt ended without an answer."""

    ISSUED = "issued"
    COMMITTED = "committed"
    SETTLED = "settled"
    RELEASED = "released"
    DEAD = "dead"


class Standing(Enum):
    """Of a party."""

    ACTIVE = "active"
    JAILED = "jailed"
    TOMBSTONED = "tombstoned"


class SlashState(Enum):
    """Of the stake that was taken for a proven fraud."""

    HELD = "held"
    DISTRIBUTED = "distributed"
    REVERSED = "reversed"


class ChallengeState(StrEnum):
    """Of a challenge and its bond."""

    OPEN = "open"
    UPHELD = "upheld"
    DISMISSED = "dismissed"
    EXPIRED = "expired"


class JobState(Enum):
    """Of a job and its escrow."""

    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"


@dataclass(slots=True, kw_only=True)
class SlotEntry:
    operator: str
    price_micro: int
    state: SlotState = SlotState.ISSUED
    paid: bool = False
    """Earned, and not forfeited since."""
    refunded: bool = False
    """Its price went back to the submitter out of a slash."""
    release_ms: int = 0
    challenges: int = 0
    """Open challenges about it."""


@dataclass(slots=True, kw_only=True)
class TaskEntry:
    trial: str
    spec: str
    attempt: int
    operator: str = ""
    finished: bool = False
    issued: set[str] = field(default_factory=set[str])


@dataclass(slots=True, kw_only=True)
class JobEntry:
    opened: JobOpened
    state: JobState = JobState.OPEN
    evidence_until_ms: int = 0
    """After this, fraud in the closed job can no longer be punished."""
    promised_micro: int = 0
    """Prices of slots that are issued or committed, and not yet settled."""
    unsettled: int = 0
    """Committed slots that wait for settlement."""
    challenges: int = 0
    """Open challenges about its slots."""
    tasks: dict[str, TaskEntry] = field(default_factory=dict[str, TaskEntry])
    slots: dict[str, SlotEntry] = field(default_factory=dict[str, SlotEntry])
    backing_micro: dict[str, int] = field(default_factory=dict[str, int])
    """Stake that each operator reserved for this job, in order of arrival."""

    @property
    def closed(self) -> bool:
        return self.state is not JobState.OPEN


@dataclass(slots=True, kw_only=True)
class Unbonding:
    amount_micro: int
    mature_ms: int


@dataclass(slots=True, kw_only=True)
class Party:
    joined: PartyJoined
    standing: Standing = Standing.ACTIVE
    jailed_until_ms: int = 0
    slashed_micro: int = 0
    """Taken for fraud, and not given back since."""
    unbonding: list[Unbonding] = field(default_factory=list[Unbonding])
    """Oldest first."""

    @property
    def tombstoned(self) -> bool:
        return self.standing is Standing.TOMBSTONED


@dataclass(slots=True, kw_only=True)
class SlashEntry:
    proven: Tombstoned
    state: SlashState = SlashState.HELD


@dataclass(slots=True, kw_only=True)
class ChallengeEntry:
    opened: ChallengeOpened
    state: ChallengeState = ChallengeState.OPEN


@dataclass(slots=True, kw_only=True)
class Proposal:
    """A treasury command that waits. `keys`: hex of those that have agreed, the proposer first."""

    proposed: Proposed
    keys: list[str]
