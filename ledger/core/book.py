"""The book: the ledger's state, folded from events.

`decide` reads the book and never writes; `Book.apply` writes and never refuses. Folding the same
events always gives the same book: after a restart, in an audit, in a test.

Not here: the meaning of evidence. The book stores no draws, verdicts or rulings. Settlement reads
them, and changes the book only through commands such as `Settle` and `Slash`.
"""

from collections.abc import Sequence

from ledger.core import accounts
from ledger.core.book_state import (
    ChallengeEntry,
    ChallengeState,
    JobEntry,
    JobState,
    Party,
    Proposal,
    SlashEntry,
    SlashState,
    SlotEntry,
    SlotState,
    Standing,
    TaskEntry,
    Unbonding,
)
from ledger.core.events import (
    Approved,
    ChallengeEnded,
    ChallengeOpened,
    Event,
    Executed,
    Founded,
    Jailed,
    JobClosed,
    JobOpened,
    Moved,
    ParametersSet,
    PartyJoined,
    Proposed,
    Recorded,
    SlashDistributed,
    SlashReversed,
    SlotCommitted,
    SlotIssued,
    SlotReleased,
    SlotSettled,
    StakeReserved,
    TaskFinished,
    TaskStarted,
    Tombstoned,
    UnbondingCut,
    UnbondingMatured,
    UnbondingStarted,
    Unjailed,
)
from ledger.core.parameters import Parameters

SlotEvent = SlotIssued | SlotCommitted | SlotSettled | SlotReleased
StakeEvent = UnbondingStarted | UnbondingMatured | UnbondingCut | Jailed | Unjailed
FraudEvent = Tombstoned | SlashDistributed | SlashReversed
TreasuryEvent = Proposed | Approved | Executed


class Book:
    """All balances, parties, jobs, slots, slashes, challenges and proposals of one network."""

    def __init__(self) -> None:
        self.founded: Founded | None = None
        self.settings: Parameters | None = None
        self.balances = accounts.Balances()
        self.parties: dict[str, Party] = {}
        self.jobs: dict[str, JobEntry] = {}
        self.drivers: set[str] = set()
        """Public keys of all jobs' drivers, hex."""
        self.slashes: dict[str, SlashEntry] = {}
        """The last slash of each operator. A second one needs the first to be reversed."""
        self.challenges: dict[str, ChallengeEntry] = {}
        self.proposals: dict[str, Proposal] = {}
        """Treasury commands that wait for approvals, by body hash."""

    @property
    def parameters(self) -> Parameters:
        """The network's settings. Raises `LookupError` before `Found`."""
        if self.settings is None:
            raise LookupError("no network has been founded in this book")
        return self.settings

    def slot(self, slot: str) -> SlotEntry | None:
        """The slot's entry, or None if the slot was never issued."""
        job = self.jobs.get(slot.split("/", 1)[0])
        return None if job is None else job.slots.get(slot)

    def apply_all(self, events: Sequence[Event]) -> None:
        """Fold events in order."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Fold one event. Raises `KeyError` or `Overdrawn` for an event not from `decide`."""
        match event:
            case Moved():
                self.balances.move(
                    debit=event.debit, credit=event.credit, amount_micro=event.amount_micro
                )
            case SlotIssued() | SlotCommitted() | SlotSettled() | SlotReleased():
                self._apply_slot(event)
            case StakeReserved():
                self.jobs[event.job].backing_micro[event.operator] = event.amount_micro
            case TaskStarted():
                self._start_task(event)
            case TaskFinished():
                job = self.jobs[event.job]
                task = job.tasks[event.task]
                self._drop_issued(job, task)
                task.finished = True
            case JobOpened():
                self.jobs[event.job] = JobEntry(opened=event)
                self.drivers.add(event.driver_key)
            case JobClosed():
                self._close(event)
            case PartyJoined():
                self.parties[event.party] = Party(joined=event)
            case UnbondingStarted() | UnbondingMatured() | UnbondingCut() | Jailed() | Unjailed():
                self._apply_stake(event)
            case Tombstoned() | SlashDistributed() | SlashReversed():
                self._apply_fraud(event)
            case ChallengeOpened():
                self._open_challenge(event)
            case ChallengeEnded():
                self._end_challenge(event)
            case Proposed() | Approved() | Executed():
                self._apply_treasury(event)
            case Founded():
                self.founded, self.settings = event, event.parameters
            case ParametersSet():
                self.settings = event.parameters
            case Recorded():
                pass

    # -- segments and jobs -------------------------------------------------------------------

    def _apply_slot(self, event: SlotEvent) -> None:
        job_id, task_id, _ = event.slot.split("/", 2)
        job = self.jobs[job_id]
        match event:
            case SlotIssued():
                entry = SlotEntry(operator=event.operator, price_micro=event.price_micro)
                job.slots[event.slot] = entry
                job.promised_micro += event.price_micro
                task = job.tasks[task_id]
                task.operator = event.operator
                task.issued.add(event.slot)
            case SlotCommitted():
                job.slots[event.slot].state = SlotState.COMMITTED
                job.unsettled += 1
                job.tasks[task_id].issued.discard(event.slot)
            case SlotSettled():
                entry = job.slots[event.slot]
                entry.state, entry.paid = SlotState.SETTLED, event.paid
                entry.release_ms = event.release_ms
                job.promised_micro -= entry.price_micro
                job.unsettled -= 1
            case SlotReleased():
                job.slots[event.slot].state = SlotState.RELEASED

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

    def _close(self, event: JobClosed) -> None:
        job = self.jobs[event.job]
        job.state = JobState.EXPIRED if event.expired else JobState.CLOSED
        job.evidence_until_ms = event.evidence_until_ms
        for task in job.tasks.values():
            self._drop_issued(job, task)
        for operator in job.backing_micro:
            if self.parties[operator].tombstoned:
                self._forfeit(job, operator)

    def _forfeit(self, job: JobEntry, operator: str) -> None:
        """The operator loses the pay that is still held back."""
        for entry in job.slots.values():
            if entry.operator == operator and entry.state is not SlotState.RELEASED:
                entry.paid = False

    # -- stake -------------------------------------------------------------------------------

    def _apply_stake(self, event: StakeEvent) -> None:
        match event:
            case UnbondingStarted():
                unbonding = Unbonding(amount_micro=event.amount_micro, mature_ms=event.mature_ms)
                self.parties[event.party].unbonding.append(unbonding)
            case UnbondingMatured():
                del self.parties[event.party].unbonding[: event.count]
            case UnbondingCut():
                self._cut_unbonding(self.parties[event.party], event.amount_micro)
            case Jailed():
                party = self.parties[event.operator]
                party.standing, party.jailed_until_ms = Standing.JAILED, event.until_ms
            case Unjailed():
                self.parties[event.operator].standing = Standing.ACTIVE

    def _cut_unbonding(self, party: Party, amount_micro: int) -> None:
        while amount_micro:
            youngest = party.unbonding[-1]
            taken_micro = min(amount_micro, youngest.amount_micro)
            amount_micro -= taken_micro
            youngest.amount_micro -= taken_micro
            if youngest.amount_micro == 0:
                party.unbonding.pop()

    # -- fraud and challenges ------------------------------------------------------------------

    def _apply_fraud(self, event: FraudEvent) -> None:
        party = self.parties[event.operator]
        match event:
            case Tombstoned():
                self.slashes[event.operator] = SlashEntry(proven=event)
                party.standing = Standing.TOMBSTONED
                party.slashed_micro += event.slashed_micro
                self._forfeit(self.jobs[event.job], event.operator)
                for job in self.jobs.values():
                    for task in job.tasks.values():
                        if task.operator == event.operator:
                            self._drop_issued(job, task)
            case SlashDistributed():
                slash = self.slashes[event.operator]
                slash.state = SlashState.DISTRIBUTED
                for slot in event.refunded:
                    self.jobs[slash.proven.job].slots[slot].refunded = True
            case SlashReversed():
                slash = self.slashes[event.operator]
                slash.state = SlashState.REVERSED
                party.standing = Standing.ACTIVE
                party.slashed_micro -= slash.proven.slashed_micro

    def _open_challenge(self, event: ChallengeOpened) -> None:
        self.challenges[event.challenge] = ChallengeEntry(opened=event)
        self._count_challenge(event.slot, 1)

    def _end_challenge(self, event: ChallengeEnded) -> None:
        challenge = self.challenges[event.challenge]
        challenge.state = ChallengeState(event.outcome)
        self._count_challenge(challenge.opened.slot, -1)

    def _count_challenge(self, slot: str, change: int) -> None:
        job = self.jobs[slot.split("/", 1)[0]]
        job.challenges += change
        job.slots[slot].challenges += change

    # -- the treasury ------------------------------------------------------------------------

    def _apply_treasury(self, event: TreasuryEvent) -> None:
        match event:
            case Proposed():
                self.proposals[event.proposal] = Proposal(proposed=event, keys=[])
            case Approved():
                self.proposals[event.proposal].keys.append(event.key)
            case Executed():
                del self.proposals[event.proposal]
