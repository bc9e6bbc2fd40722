"""What commitments, draws and verdicts mean for the books.

A pure fold over the journal: whoever holds it arrives at the same state. What the network must do
next follows from that state, in `duties`.

    committed -> in a round -> drawn -> replayed -> ACCEPT, UNAVAILABLE, INCONCLUSIVE: paid
                                                 -> differs: referee replays -> ruling
                            -> not drawn: paid
    ruling against an operator: stake slashed, unaudited work void, what grew from it run afresh

Not covered yet: bisection to one operator, adaptive rates, stakes and pay of verifiers, a second
verifier where the first never answers (its audit stays open until the job's time is over).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gensyn_ray.domain.ids import Slot
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
from verifier_actors.core import beacon, draw
from verifier_actors.core.outcome import Outcome, result_digest


@dataclass(slots=True, kw_only=True)
class Segment:
    """One acknowledged segment and what became of it."""

    slot: Slot
    operator: str
    leaf: dict[str, Any]
    root: str
    leaf_index: int
    committed_ms: int
    drawn: bool | None = None
    verifier: str = ""
    verdict: str | None = None
    referee: str = ""
    ruling: str | None = None
    outcome: Outcome | None = None
    settled: bool = False
    paid: bool = False
    void: bool = False

    @property
    def claimed(self) -> str:
        """What a replay's result is compared with."""
        return result_digest(self.leaf["state_after"], self.leaf["metrics"])

    @property
    def is_judged(self) -> bool:
        """Settled, and no audit of it is open."""
        return (
            self.settled and self.drawn is not None and (not self.drawn or self.outcome is not None)
        )


@dataclass(slots=True, kw_only=True)
class Round:
    """Commitments that share one beacon link. Fixed before the link is shown."""

    id: str
    job: str
    slots: list[str]
    rate_ppm: int
    closed_ms: int
    secret: str | None = None


@dataclass(slots=True, kw_only=True)
class Task:
    """`good`: slots of the unbroken chain of acknowledged segments that nothing speaks against.
    `inputs`: states of other tasks that this one began with."""

    trial: str
    spec: str
    attempt: int
    inputs: list[str] = field(default_factory=list[str])
    good: list[str] = field(default_factory=list[str])
    hardened: bool = False


@dataclass(slots=True, kw_only=True)
class Job:
    opened: JobOpened
    last_secret: str
    revealed: int = 0
    """Links of the submitter's chain that were shown."""
    closed: bool = False
    flush: bool = False
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    segments: dict[str, Segment] = field(default_factory=dict[str, Segment])
    unjudged: dict[str, Segment] = field(default_factory=dict[str, Segment])
    """Those of `segments` that are not settled, or whose audit is open."""
    answered: dict[str, Segment] = field(default_factory=dict[str, Segment])
    """Those of `unjudged` with a verdict, and no ruling yet."""
    decided: dict[str, Segment] = field(default_factory=dict[str, Segment])
    """Those of `unjudged` that can be settled."""
    waiting: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Per operator: slots that no round holds yet."""
    rounds: dict[str, Round] = field(default_factory=dict[str, Round])
    """Closed and not drawn yet."""
    rounds_closed: int = 0
    held: dict[str, int] = field(default_factory=dict[str, int])
    """Paid slots whose pay is still held back, and until when (ms), in order of settlement."""


class Settlement:
    """State of all audits of one network."""

    def __init__(self) -> None:
        self.vetted: set[str] = set()
        self.last_link = ""
        self.links_shown = 0
        self.parties: dict[str, PartyJoined] = {}
        self.tombstoned: dict[str, str] = {}
        self.jobs: dict[str, Job] = {}
        self.open_jobs: dict[str, Job] = {}
        self.questioned: set[str] = set()
        """Slots that were challenged before any audit of them had ended."""

    # -- the fold ----------------------------------------------------------------------------

    def fold(self, events: Iterable[Event], time_ms: int) -> None:
        """Fold the events of one journal entry."""
        for event in events:
            if not isinstance(event, Moved):  # most are, and money means nothing here
                self._fold_one(event, time_ms)

    def _fold_one(self, event: Event, time_ms: int) -> None:
        match event:
            case Founded():
                self.vetted, self.last_link = set(event.vetted), event.beacon_anchor
            case PartyJoined():
                self.parties[event.party] = event
            case JobOpened():
                job = Job(opened=event, last_secret=event.secret_anchor)
                self.jobs[event.job] = self.open_jobs[event.job] = job
            case JobClosed():
                self.open_jobs.pop(event.job).closed = True
            case TaskStarted():
                tasks = self.jobs[event.job].tasks
                task = tasks.setdefault(
                    event.task,
                    Task(
                        trial=event.trial,
                        spec=event.spec,
                        attempt=event.attempt,
                        inputs=event.inputs,
                    ),
                )
                task.attempt = event.attempt
            case SlotCommitted():
                self._fold_commit(event, time_ms)
            case SlotSettled():
                segment = self.segment(event.slot)
                segment.settled, segment.paid = True, event.paid
                job = self.jobs[segment.slot.job]
                job.decided.pop(event.slot, None)
                if event.paid:
                    job.held[event.slot] = event.release_ms
                self._note_if_judged(event.slot)
            case SlotReleased():
                self.jobs[event.slot.split("/", 1)[0]].held.pop(event.slot, None)
            case Tombstoned():
                self.tombstoned[event.operator] = event.evidence
                self._forfeit(event.operator)
                for slot in self.doomed(event.operator):
                    self._cut(slot)
            case ChallengeOpened():
                if self.segment(event.slot).outcome is None:
                    self.questioned.add(event.slot)
            case SlashReversed():
                self.tombstoned.pop(event.operator, None)
            case Recorded():
                self._fold_record(event, time_ms)
            case _:
                pass

    def _fold_commit(self, event: SlotCommitted, time_ms: int) -> None:
        slot = Slot.parse(event.slot)
        job = self.jobs[slot.job]
        job.segments[event.slot] = job.unjudged[event.slot] = Segment(
            slot=slot,
            operator=event.operator,
            leaf=event.leaf,
            root=event.root,
            leaf_index=event.index,
            committed_ms=time_ms,
        )
        job.tasks[slot.task].good.append(event.slot)
        job.waiting.setdefault(event.operator, []).append(event.slot)

    def _fold_record(self, event: Recorded, time_ms: int) -> None:
        content = event.content
        match event.kind:
            case "round":
                job = self.jobs[content["job"]]
                job.rounds_closed += 1
                job.rounds[content["round"]] = Round(
                    id=content["round"],
                    job=content["job"],
                    slots=content["slots"],
                    rate_ppm=content["rate_ppm"],
                    closed_ms=time_ms,
                )
                for slot in content["slots"]:
                    job.segments[slot].drawn = None
                    job.unjudged[slot] = job.segments[slot]
                taken = set(content["slots"])
                for operator, slots in job.waiting.items():
                    job.waiting[operator] = [slot for slot in slots if slot not in taken]
                if not any(job.waiting.values()):
                    job.flush = False
            case "reveal":
                job = self.jobs[content["job"]]
                job.rounds[content["round"]].secret = job.last_secret = content["link"]
                job.revealed += 1
            case "draw":
                self._fold_draw(content)
            case "verdict":
                segment = self.segment(content["slot"])
                if event.party == segment.verifier and segment.verdict is None:
                    segment.verdict = content["result"]
                elif event.party == segment.referee and segment.ruling is None:
                    segment.ruling = content["result"]
                if segment.outcome is None:
                    self.jobs[segment.slot.job].answered[content["slot"]] = segment
            case "referee_call":
                self.segment(content["slot"]).referee = content["referee"]
            case "ruling":
                self._fold_ruling(content)
            case "harden":
                job = self.jobs[content["job"]]
                job.flush = any(job.waiting.values())
                for task in content["tasks"]:
                    if task in job.tasks:
                        job.tasks[task].hardened = True
            case _:
                pass

    def _fold_draw(self, content: dict[str, Any]) -> None:
        self.last_link, self.links_shown = content["link"], content["index"]
        round_ = self.jobs[content["job"]].rounds.pop(content["round"])
        chosen = {one["slot"]: one["verifier"] for one in content["drawn"]}
        for slot in round_.slots:
            segment = self.segment(slot)
            segment.drawn, segment.verifier = slot in chosen, chosen.get(slot, "")
            if not segment.drawn:
                self._note_decided(segment)
            self._note_if_judged(slot)

    def _fold_ruling(self, content: dict[str, Any]) -> None:
        segment = self.segment(content["slot"])
        segment.outcome = Outcome(content["outcome"])
        self.jobs[segment.slot.job].answered.pop(content["slot"], None)
        self._note_decided(segment)
        self._note_if_judged(content["slot"])
        if segment.outcome is Outcome.REJECT and not segment.void:
            self._cut(content["slot"])
        if segment.outcome is Outcome.INCONCLUSIVE:
            self.vetted.discard(self.jobs[segment.slot.job].opened.bundle)

    def _forfeit(self, operator: str) -> None:
        """What a proven cheat earned and does not hold yet is not paid any more."""
        for job in self.open_jobs.values():
            for slot, segment in job.segments.items():
                if segment.operator != operator:
                    continue
                self._note_decided(segment)
                if not segment.paid or slot in job.held:
                    segment.paid = False
                    job.held.pop(slot, None)

    def _note_decided(self, segment: Segment) -> None:
        if not segment.settled:
            self.jobs[segment.slot.job].decided[str(segment.slot)] = segment

    def _note_if_judged(self, slot: str) -> None:
        if self.segment(slot).is_judged:
            self.jobs[slot.split("/", 1)[0]].unjudged.pop(slot, None)

    def segment(self, slot: str) -> Segment:
        """The segment that answered a slot. Raises `KeyError`."""
        return self.jobs[slot.split("/", 1)[0]].segments[slot]

    def doomed(self, operator: str) -> list[str]:
        """Good slots of a proven cheat that no audit has confirmed."""
        return [
            slot
            for job in self.jobs.values()
            if not job.closed
            for task in job.tasks.values()
            for slot in task.good
            if job.segments[slot].operator == operator
            and job.segments[slot].outcome is not Outcome.ACCEPT
        ]

    def _cut(self, slot: str) -> None:
        """Void a slot and everything that grew from it, in its own task and in others."""
        for fallen in self.grown_from([slot]):
            segment = self.segment(fallen)
            segment.void = True
            task = self.jobs[segment.slot.job].tasks[segment.slot.task]
            if fallen in task.good:
                task.good.remove(fallen)

    def grown_from(self, slots: Sequence[str]) -> list[str]:
        """The given good slots and all good slots that build on their states."""
        fallen: dict[str, None] = {}
        todo = list(slots)
        while todo:
            slot = todo.pop()
            job = self.jobs[slot.split("/", 1)[0]]
            segment = job.segments[slot]
            chain = job.tasks[segment.slot.task].good
            if slot in fallen or slot not in chain:
                continue
            for after in chain[chain.index(slot) :]:
                fallen[after] = None
                state = job.segments[after].leaf["state_after"]
                todo.extend(
                    task.good[0]
                    for task in job.tasks.values()
                    if task.good
                    and state in (job.segments[task.good[0]].leaf["state_before"], *task.inputs)
                )
        return list(fallen)

    # -- draws, which anyone can compute again ------------------------------------------------

    def drawn_by(self, content: dict[str, Any]) -> list[dict[str, str]]:
        """Slots that a draw's links select, each with its verifier: what `"drawn"` must say."""
        job = self.jobs[content["job"]]
        round_ = job.rounds[content["round"]]
        chosen: list[dict[str, str]] = []
        for slot in round_.slots:
            segment = job.segments[slot]
            value = draw.draw_value(
                link=bytes.fromhex(content["link"]),
                root=bytes.fromhex(segment.root),
                secret=bytes.fromhex(content["secret"]),
                leaf_index=segment.leaf_index,
            )
            # A link that the submitter withheld means that everything is drawn.
            rate = round_.rate_ppm if content["secret"] else draw.PPM
            if not draw.is_drawn(value, rate):
                continue
            verifiers = self.verifiers(segment.leaf["numerics"], not_of=segment.operator)
            chosen.append({"slot": slot, "verifier": draw.choose(value, verifiers)})
        return chosen

    def check_draw(self, content: dict[str, Any]) -> str:
        """What is wrong with a journaled draw that is about to be folded; empty if it is right."""
        if not beacon.follows(bytes.fromhex(content["link"]), bytes.fromhex(self.last_link)):
            return "its link does not follow the last one"
        if content["index"] != self.links_shown + 1:
            return "its link is numbered wrongly"
        round_ = self.jobs[content["job"]].rounds[content["round"]]
        if content["secret"] != (round_.secret or ""):
            return "its secret is not the one that was revealed"
        if content["drawn"] != self.drawn_by(content):
            return "it drew other segments than its links select"
        return ""

    def verifiers(self, numerics: str, *, not_of: str) -> list[str]:
        """Verifiers that replay this class. A verifier joins with its classes, comma-joined."""
        return [
            party
            for party, joined in self.parties.items()
            if joined.role == "verifier"
            and party != not_of
            and numerics in joined.numerics.split(",")
        ]
