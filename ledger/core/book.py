"""The book: `decide` says what a command would do, `apply` does it.

`decide` reads and never writes; `apply` writes and never refuses. The state after any number of
events is a fold over them, so a restart, an auditor and a test all arrive at the same book.

Not here: what evidence means. Draws, verdicts and rulings are `Record`s to this core; the
settlement rules that read them sit above, and reach the book only through `Settle` and `Slash`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from ledger.core import accounts
from ledger.core.events import (
    Event,
    Founded,
    JobClosed,
    JobOpened,
    Moved,
    PartyJoined,
    Recorded,
    SlotCommitted,
    SlotIssued,
    SlotSettled,
    TaskFinished,
    TaskStarted,
    Tombstoned,
)


class SlotState(Enum):
    """issued -> committed -> settled; issued -> dead when its attempt ends without it."""

    ISSUED = auto()
    COMMITTED = auto()
    SETTLED = auto()
    DEAD = auto()


@dataclass(slots=True, kw_only=True)
class SlotEntry:
    operator: str
    price_micro: int
    state: SlotState = SlotState.ISSUED
    paid: bool = False
    """Earned, and not forfeited since."""


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
    closed: bool = False
    promised_micro: int = 0
    """Prices of slots that are issued or committed, and not yet settled."""
    unsettled: int = 0
    """Committed slots that wait for settlement."""
    tasks: dict[str, TaskEntry] = field(default_factory=dict[str, TaskEntry])
    slots: dict[str, SlotEntry] = field(default_factory=dict[str, SlotEntry])
    operators: dict[str, None] = field(default_factory=dict[str, None])
    """Operators with stake reserved for this job, in order of arrival."""


@dataclass(slots=True, kw_only=True)
class Party:
    joined: PartyJoined
    tombstoned: bool = False
    slashed_micro: int = 0


class Book:
    """All balances, parties, jobs and slots of one network."""

    def __init__(self) -> None:
        self.founded: Founded | None = None
        self.balances = accounts.Balances()
        self.parties: dict[str, Party] = {}
        self.jobs: dict[str, JobEntry] = {}

    def slot(self, slot: str) -> SlotEntry | None:
        """The entry of a slot, if it was ever issued."""
        job = self.jobs.get(slot.split("/", 1)[0])
        return None if job is None else job.slots.get(slot)

    def apply_all(self, events: Sequence[Event]) -> None:
        """Fold events in order."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Fold one event. Raises `KeyError` on an event that no `decide` gave: a bug."""
        match event:
            case Moved():
                self.balances.move(
                    debit=event.debit, credit=event.credit, amount_micro=event.amount_micro
                )
            case SlotIssued() | SlotCommitted() | SlotSettled():
                self._apply_slot(event)
            case Founded():
                self.founded = event
            case PartyJoined():
                self.parties[event.party] = Party(joined=event)
            case JobOpened():
                self.jobs[event.job] = JobEntry(opened=event)
            case TaskStarted():
                self._start_task(event)
            case TaskFinished():
                job = self.jobs[event.job]
                task = job.tasks[event.task]
                self._drop_issued(job, task)
                task.finished = True
            case Tombstoned():
                self._tombstone(event)
            case JobClosed():
                self._close(self.jobs[event.job])
            case Recorded():
                pass

    def _apply_slot(self, event: SlotIssued | SlotCommitted | SlotSettled) -> None:
        job_id, task_id, _ = event.slot.split("/", 2)
        job = self.jobs[job_id]
        task = job.tasks[task_id]
        match event:
            case SlotIssued():
                entry = SlotEntry(operator=event.operator, price_micro=event.price_micro)
                job.slots[event.slot] = entry
                job.promised_micro += event.price_micro
                job.operators[event.operator] = None
                task.operator = event.operator
                task.issued.add(event.slot)
            case SlotCommitted():
                job.slots[event.slot].state = SlotState.COMMITTED
                job.unsettled += 1
                task.issued.discard(event.slot)
            case SlotSettled():
                entry = job.slots[event.slot]
                entry.state, entry.paid = SlotState.SETTLED, event.paid
                job.promised_micro -= entry.price_micro
                job.unsettled -= 1

    def _start_task(self, event: TaskStarted) -> None:
        job = self.jobs[event.job]
        if (before := job.tasks.get(event.task)) is not None:
            self._drop_issued(job, before)
        job.tasks[event.task] = TaskEntry(trial=event.trial, spec=event.spec, attempt=event.attempt)

    def _drop_issued(self, job: JobEntry, task: TaskEntry) -> None:
        for slot in task.issued:
            entry = job.slots[slot]
            entry.state = SlotState.DEAD
            job.promised_micro -= entry.price_micro
        task.issued.clear()

    def _tombstone(self, event: Tombstoned) -> None:
        party = self.parties[event.operator]
        party.tombstoned = True
        party.slashed_micro += event.slashed_micro
        self._forfeit(self.jobs[event.job], event.operator)
        for job in self.jobs.values():
            for task in job.tasks.values():
                if task.operator == event.operator:
                    self._drop_issued(job, task)

    def _forfeit(self, job: JobEntry, operator: str) -> None:
        for entry in job.slots.values():
            if entry.operator == operator:
                entry.paid = False

    def _close(self, job: JobEntry) -> None:
        job.closed = True
        for operator in job.operators:
            if self.parties[operator].tombstoned:
                self._forfeit(job, operator)
