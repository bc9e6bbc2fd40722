"""Joins audits to the books: folds the journal's events into jobs, segments and their pay.

A pure fold: equal journals give equal states. `decisions` derives the network's next commands from
this state. The rules of verification are in `verifier_actors.core`.

    audit skipped, or judged ACCEPT, INCONCLUSIVE, UNAVAILABLE   the segment is paid
    audit judged REJECT                                          not paid; its successors are void
    operator tombstoned                                          its unaudited segments are not paid

Not covered: bisection to one operator, adaptive rates, stakes and pay of verifiers, a second
verifier where the first never answers (its audit stays open until the job's time is over).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from gensyn_ray.domain.evidence import Draw, Evidence
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from ledger.core.events import (
    ChallengeOpened,
    Event,
    Founded,
    JobClosed,
    JobOpened,
    Moved,
    PartyJoined,
    Recorded,
    SlashReversed,
    SlotCommitted,
    SlotReleased,
    SlotSettled,
    TaskStarted,
    Tombstoned,
)
from verifier_actors.core.audit import Audit
from verifier_actors.core.audits import Audits
from verifier_actors.core.beacon import Beacon
from verifier_actors.core.lineage import Lineage, Link, Task
from verifier_actors.core.outcome import Outcome
from verifier_actors.core.panel import Panel
from verifier_actors.core.sampling import SamplingPolicy


class Pay(Enum):
    """The pay of one segment."""

    OPEN = auto()
    """Not settled."""
    PAID = auto()
    """Settled, and not forfeited since; the credits may still be held back."""
    UNPAID = auto()
    """Settled without pay, or forfeited."""


@dataclass(slots=True, kw_only=True)
class Segment:
    """One acknowledged segment. `is_void`: whether it is rejected, or continues from a rejected
    segment."""

    leaf: Leaf
    audit: Audit
    pay: Pay = Pay.OPEN
    is_void: bool = False

    @property
    def slot(self) -> Slot:
        return self.leaf.slot

    @property
    def operator(self) -> str:
        return self.leaf.operator

    @property
    def is_judged(self) -> bool:
        """Settled, and no audit of it is open."""
        return self.pay is not Pay.OPEN and self.audit.is_over


@dataclass(slots=True, kw_only=True)
class Job:
    """One job's tasks, segments and audits. `settleable`: unsettled segments whose pay is decided.
    `held`: paid slots whose pay is held back, and until when (ms), in order of settlement."""

    opened: JobOpened
    lineage: Lineage
    audits: Audits
    is_closed: bool = False
    segments: dict[str, Segment] = field(default_factory=dict[str, Segment])
    settleable: dict[str, Segment] = field(default_factory=dict[str, Segment])
    held: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def tasks(self) -> dict[str, Task]:
        """The job's tasks by name."""
        return self.lineage.tasks


class Settlement:
    """The settlement state of one network."""

    def __init__(self) -> None:
        self.vetted: set[str] = set()
        """Digests of bundles on which a ruling may slash."""
        self.beacon = Beacon(link="")
        self.panel = Panel()
        self.parties: dict[str, PartyJoined] = {}
        self.tombstoned: dict[str, str] = {}
        """Operators with a proven fraud, and the slot that proved it."""
        self.jobs: dict[str, Job] = {}
        self.open_jobs: dict[str, Job] = {}

    def job_of(self, slot: str) -> Job:
        """The job that a slot belongs to. Raises `KeyError`."""
        return self.jobs[slot.split("/", 1)[0]]

    def segment(self, slot: str) -> Segment:
        """The segment that answered a slot. Raises `KeyError`."""
        return self.job_of(slot).segments[slot]

    def doomed(self, operator: str) -> list[str]:
        """Good slots of a proven cheat that no audit has confirmed, in open jobs."""
        return [
            slot
            for job in self.open_jobs.values()
            for task in job.tasks.values()
            for slot in task.good
            if job.segments[slot].operator == operator
            and job.segments[slot].audit.outcome is not Outcome.ACCEPT
        ]

    # -- the fold --------------------------------------------------------------------------------

    def fold(self, events: Iterable[Event], time_ms: int) -> None:
        """Fold the events of one journal entry, which was made at `time_ms`."""
        for event in events:
            if not isinstance(event, Moved):  # most events are postings; settlement ignores them
                self._fold_one(event, time_ms)

    def _fold_one(self, event: Event, time_ms: int) -> None:
        match event:
            case Founded():
                self.vetted, self.beacon = set(event.vetted), Beacon(link=event.beacon_anchor)
            case PartyJoined():
                self._join(event)
            case JobOpened():
                self._open(event)
            case JobClosed():
                self.open_jobs.pop(event.job).is_closed = True
            case TaskStarted():
                task = Task(
                    trial=event.trial, spec=event.spec, attempt=event.attempt, inputs=event.inputs
                )
                self.jobs[event.job].lineage.start(event.task, task)
            case SlotCommitted():
                self._commit(event, time_ms)
            case SlotSettled():
                self._settle(event)
            case SlotReleased():
                self.job_of(event.slot).held.pop(event.slot, None)
            case Tombstoned():
                self.tombstoned[event.operator] = event.evidence
                self._forfeit(event.operator)
                for slot in self.doomed(event.operator):
                    self._void(slot)
            case ChallengeOpened():
                self.job_of(event.slot).audits.challenge(event.slot)
            case SlashReversed():
                self.tombstoned.pop(event.operator, None)
            case Recorded():
                self._take(event.evidence, event.party, time_ms)
            case _:
                pass

    def _join(self, event: PartyJoined) -> None:
        self.parties[event.party] = event
        if event.role == "verifier":
            self.panel.add(event.party, event.numerics.split(","))

    def _open(self, event: JobOpened) -> None:
        lineage = Lineage()
        audits = Audits(
            job=event.job,
            policy=SamplingPolicy(audit_ppm=event.audit_ppm, batch_size=event.draw_batch),
            secret_anchor=event.secret_anchor,
            lineage=lineage,
        )
        job = Job(opened=event, lineage=lineage, audits=audits)
        self.jobs[event.job] = self.open_jobs[event.job] = job

    def _commit(self, event: SlotCommitted, time_ms: int) -> None:
        leaf, job = event.leaf, self.job_of(event.slot)
        audit = Audit(
            job=leaf.job,
            slot=event.slot,
            task=leaf.task,
            operator=event.operator,
            numerics=leaf.numerics,
            claimed=leaf.claimed,
            root=event.root,
            leaf_index=event.index,
            committed_ms=time_ms,
        )
        job.segments[event.slot] = Segment(leaf=leaf, audit=audit)
        job.audits.commit(audit)
        link = Link(task=leaf.task, state_before=leaf.state_before, state_after=leaf.state_after)
        job.lineage.extend(event.slot, link)

    def _take(self, evidence: Evidence, party: str, time_ms: int) -> None:
        job = self.jobs[evidence.job]
        if isinstance(evidence, Draw):
            self.beacon = Beacon(link=evidence.link, index=evidence.index)
        for audit in job.audits.take(evidence, party, time_ms):
            self._note_settleable(audit.slot)
            if audit.outcome is Outcome.REJECT:
                self._void(audit.slot)
            if audit.outcome is Outcome.INCONCLUSIVE:
                self.vetted.discard(job.opened.bundle)

    # -- pay -------------------------------------------------------------------------------------

    def _settle(self, event: SlotSettled) -> None:
        job = self.job_of(event.slot)
        job.segments[event.slot].pay = Pay.PAID if event.paid else Pay.UNPAID
        job.settleable.pop(event.slot, None)
        if event.paid:
            job.held[event.slot] = event.release_ms

    def _note_settleable(self, slot: str) -> None:
        job = self.job_of(slot)
        if job.segments[slot].pay is Pay.OPEN:
            job.settleable[slot] = job.segments[slot]

    def _forfeit(self, operator: str) -> None:
        """Forfeit the unreleased pay of a proven cheat. The unsettled segments become
        settleable."""
        for job in self.open_jobs.values():
            for slot, segment in job.segments.items():
                if segment.operator != operator:
                    continue
                self._note_settleable(slot)
                if slot in job.held:
                    segment.pay = Pay.UNPAID
                    del job.held[slot]

    def _void(self, slot: str) -> None:
        """Void a slot and all slots that continue from it, in its own task and in others."""
        job = self.job_of(slot)
        for fallen in job.lineage.cut(slot):
            job.segments[fallen].is_void = True
