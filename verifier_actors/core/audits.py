"""All audits of one job: a fold over evidence, and the evidence that is due next.

The network signs the due evidence, journals it and folds it, so the journal alone gives the same
state. The functions `problem_with_...` check recorded evidence against the state before it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gensyn_ray.domain.evidence import (
    Assignment,
    Batch,
    Draw,
    Evidence,
    Flush,
    FullAudit,
    RefereeCall,
    Reveal,
    Ruling,
    Verdict,
)
from verifier_actors.core import beacon, draw
from verifier_actors.core.audit import ANSWERED, Audit, AuditState, Move
from verifier_actors.core.beacon import Beacon
from verifier_actors.core.dispute import answer_to
from verifier_actors.core.lineage import Lineage
from verifier_actors.core.outcome import Outcome
from verifier_actors.core.panel import Panel
from verifier_actors.core.sampling import Reason, SamplingPolicy


@dataclass(slots=True, kw_only=True)
class ClosedBatch:
    """A batch that waits for its draw. `secret`: hex of the submitter's link; empty until it is
    revealed."""

    batch: Batch
    closed_ms: int
    secret: str = ""


class Audits:
    """`secret_anchor`: hex end of the submitter's hash chain. `lineage`: the job's tasks."""

    def __init__(
        self, *, job: str, policy: SamplingPolicy, secret_anchor: str, lineage: Lineage
    ) -> None:
        self.job, self.policy, self._lineage = job, policy, lineage
        self.audits: dict[str, Audit] = {}
        self.revealed = 0
        """Number of revealed links of the submitter's chain."""
        self.batches: dict[str, ClosedBatch] = {}
        """Batches that wait for their draw, by id."""
        self.open: dict[str, Audit] = {}
        """Audits that are drawn and not judged, by slot."""
        self._answered: dict[str, Audit] = {}
        """Those of `open` with a verdict, in the order of their first verdicts. `next_ruling` runs
        after every command, and many more audits can wait for a replay."""
        self.challenged: set[str] = set()
        """Slots that were challenged before any audit of them had ended."""
        self._queue: dict[str, list[str]] = {}
        """Per operator: committed slots that no batch holds."""
        self._batches_closed = 0
        self._last_secret = secret_anchor
        self._flushing = False

    # -- the fold --------------------------------------------------------------------------------

    def commit(self, audit: Audit) -> None:
        """A segment was acknowledged."""
        self.audits[audit.slot] = audit
        self._queue.setdefault(audit.operator, []).append(audit.slot)

    def take(self, evidence: Evidence, party: str, time_ms: int) -> list[Audit]:
        """Fold evidence that was recorded by `party` at `time_ms`. Returns the audits whose
        verification it ends: skipped or judged."""
        match evidence:
            case Batch():
                self.close_batch(evidence, time_ms)
            case Reveal():
                self.reveal(evidence)
            case Draw():
                return self.take_draw(evidence)
            case Verdict():
                self.take_verdict(evidence, party)
            case RefereeCall():
                self.call_referee(evidence)
            case Ruling():
                return [self.rule(evidence)]
            case FullAudit():
                self.audit_fully(evidence.tasks)
            case Flush():
                self.flush()
        return []

    def close_batch(self, batch: Batch, time_ms: int) -> None:
        """A batch was recorded."""
        self._batches_closed += 1
        self.batches[batch.batch] = ClosedBatch(batch=batch, closed_ms=time_ms)
        for slot in batch.slots:
            self.audits[slot].move(Move.BATCH)
        taken = set(batch.slots)
        for operator, slots in self._queue.items():
            self._queue[operator] = [slot for slot in slots if slot not in taken]
        if not any(self._queue.values()):
            self._flushing = False

    def reveal(self, reveal: Reveal) -> None:
        """The submitter's link for a batch was recorded."""
        self.batches[reveal.batch].secret = self._last_secret = reveal.link
        self.revealed += 1

    def take_draw(self, drawn: Draw) -> list[Audit]:
        """A draw was recorded. Returns the audits that it did not select."""
        closed = self.batches.pop(drawn.batch)
        verifier_of = {one.slot: one.verifier for one in drawn.drawn}
        skipped: list[Audit] = []
        for slot in closed.batch.slots:
            audit = self.audits[slot]
            if slot in verifier_of:
                audit.verifier = verifier_of[slot]
                audit.move(Move.ASSIGN)
                self.open[slot] = audit
            else:
                audit.move(Move.SKIP)
                skipped.append(audit)
        return skipped

    def take_verdict(self, verdict: Verdict, party: str) -> None:
        """A verifier's or referee's result was recorded."""
        audit = self.audits[verdict.slot]
        audit.take_verdict(party, verdict.result)
        if audit.state in ANSWERED:
            self._answered[verdict.slot] = audit

    def call_referee(self, call: RefereeCall) -> None:
        """A dispute was recorded."""
        audit = self.audits[call.slot]
        audit.referee = call.referee
        audit.move(Move.CALL_REFEREE)

    def rule(self, ruling: Ruling) -> Audit:
        """A ruling was recorded. Returns the audit that it ends."""
        audit = self.open.pop(ruling.slot)
        self._answered.pop(ruling.slot, None)
        audit.outcome = Outcome(ruling.outcome)
        audit.move(Move.RULE)
        return audit

    def flush(self) -> None:
        """Make a batch due for all commitments that wait for one."""
        self._flushing = any(self._queue.values())

    def audit_fully(self, tasks: Iterable[str]) -> None:
        """Audit every segment of these tasks. Unknown names are ignored."""
        for name in tasks:
            if name in self._lineage.tasks:
                self._lineage.tasks[name].full_audit = True
        self.flush()

    def challenge(self, slot: str) -> None:
        """A bonded challenge was opened. The slot gets an audit unless it had one."""
        if self.audits[slot].outcome is None:
            self.challenged.add(slot)

    # -- what is due -----------------------------------------------------------------------------

    def next_ruling(
        self, panel: Panel, shown: Beacon, tombstoned: Mapping[str, str]
    ) -> RefereeCall | Ruling | None:
        """The referee call or ruling that recorded results require; None if there is none. Audits
        of tombstoned operators are left out: their segments are not paid in any case."""
        for audit in self._answered.values():
            if audit.state in ANSWERED and audit.operator not in tombstoned:
                return answer_to(audit, panel, shown)
        return None

    def next_draw(self, panel: Panel, shown: Beacon, link: bytes, now_ms: int) -> Draw | None:
        """The draw of the oldest batch whose link is revealed, or withheld for too long; None if
        there is none. `link`: the network's next beacon link."""
        for closed in self.batches.values():
            if not closed.secret and not self._is_withheld(closed, now_ms):
                continue
            return Draw(
                job=self.job,
                batch=closed.batch.batch,
                index=shown.index + 1,
                link=link.hex(),
                secret=closed.secret,
                drawn=self.selected(closed, link.hex(), panel),
            )
        return None

    def next_batch(self, tombstoned: Mapping[str, str], now_ms: int) -> Batch | None:
        """The batch that must close now; None if there is none."""
        for operator, slots in self._queue.items():
            if slots and self._must_close(operator, slots, tombstoned, now_ms):
                return self._batch(slots, Reason.SAMPLING)
        demanded = self._demanded()
        return self._batch(demanded, Reason.DEMAND) if demanded else None

    def selected(self, closed: ClosedBatch, link: str, panel: Panel) -> list[Assignment]:
        """The slots of a batch that the two links select, each with its verifier. `link`: the
        network's, hex."""
        rate_ppm = self.policy.drawn_rate_ppm(closed.batch.rate_ppm, closed.secret)
        drawn: list[Assignment] = []
        for slot in closed.batch.slots:
            audit = self.audits[slot]
            value = draw.draw_value(
                link=bytes.fromhex(link),
                root=bytes.fromhex(audit.root),
                secret=bytes.fromhex(closed.secret),
                leaf_index=audit.leaf_index,
            )
            if draw.is_drawn(value, rate_ppm):
                drawn.append(Assignment(slot=slot, verifier=panel.verifier(audit, value)))
        return drawn

    def _must_close(
        self, operator: str, slots: list[str], tombstoned: Mapping[str, str], now_ms: int
    ) -> bool:
        waited_ms = now_ms - self.audits[slots[0]].committed_ms
        return (
            len(slots) >= self.policy.batch_size
            or waited_ms >= self.policy.batch_wait_ms
            or self._flushing
            or operator in tombstoned
        )

    def _demanded(self) -> list[str]:
        """Skipped slots that a full audit or a challenge requires."""
        asked = [
            slot for task in self._lineage.tasks.values() if task.full_audit for slot in task.good
        ]
        asked += sorted(self.challenged)
        skipped = [slot for slot in asked if self.audits[slot].state is AuditState.SKIPPED]
        return list(dict.fromkeys(skipped))

    def _batch(self, slots: list[str], reason: Reason) -> Batch:
        return Batch(
            job=self.job,
            batch=f"{self.job}/batch-{self._batches_closed}",
            slots=list(slots),
            rate_ppm=self.policy.rate_ppm(reason),
        )

    def _is_withheld(self, closed: ClosedBatch, now_ms: int) -> bool:
        return now_ms - closed.closed_ms >= self.policy.reveal_wait_ms

    # -- checks of recorded evidence -------------------------------------------------------------

    def problem_with(
        self,
        evidence: Evidence,
        *,
        panel: Panel,
        shown: Beacon,
        tombstoned: Mapping[str, str],
        time_ms: int,
    ) -> str:
        """What is wrong with recorded evidence of the network that is not folded yet; empty if it
        is right, and for evidence of other parties."""
        match evidence:
            case Batch():
                return self.problem_with_batch(evidence, tombstoned, time_ms)
            case Draw():
                return self.problem_with_draw(evidence, panel, shown, time_ms)
            case RefereeCall() | Ruling():
                return self.problem_with_ruling(evidence, panel, shown)
            case _:
                return ""

    def problem_with_batch(self, batch: Batch, tombstoned: Mapping[str, str], time_ms: int) -> str:
        """The fault of a recorded batch that is not folded yet; empty if it has none.

        A batch holds one of two sets: all waiting commitments of one operator, once they are due,
        at the rate of the job's terms; or all slots that full audits and challenges require, at the
        full rate.
        """
        allowed = [
            self._batch(slots, Reason.SAMPLING)
            for operator, slots in self._queue.items()
            if slots and self._must_close(operator, slots, tombstoned, time_ms)
        ]
        if demanded := self._demanded():
            allowed.append(self._batch(demanded, Reason.DEMAND))
        for one in allowed:
            if one.slots == batch.slots:
                if one.rate_ppm != batch.rate_ppm:
                    return f"its rate is {batch.rate_ppm} ppm and must be {one.rate_ppm}"
                return "" if one == batch else "its id is not the one that follows"
        return "no batch of these slots was due"

    def problem_with_draw(self, drawn: Draw, panel: Panel, shown: Beacon, time_ms: int) -> str:
        """The fault of a recorded draw that is not folded yet; empty if it has none."""
        if not beacon.follows(bytes.fromhex(drawn.link), bytes.fromhex(shown.link)):
            return "its link does not follow the last one"
        if drawn.index != shown.index + 1:
            return "its link is numbered wrongly"
        closed = self.batches.get(drawn.batch)
        if closed is None:
            return "no closed batch waits for it"
        if drawn.secret != closed.secret:
            return "its secret is not the one that was revealed"
        if not closed.secret and not self._is_withheld(closed, time_ms):
            return "its submitter had time left to reveal a link"
        if drawn.drawn != self.selected(closed, drawn.link, panel):
            return "it drew other segments than its links select"
        return ""

    def problem_with_ruling(
        self, recorded: RefereeCall | Ruling, panel: Panel, shown: Beacon
    ) -> str:
        """The fault of a recorded referee call or ruling that is not folded yet; empty if it has
        none."""
        audit = self.open.get(recorded.slot)
        if audit is None or audit.state not in ANSWERED:
            return "no result of a replay waits for it"
        if recorded != answer_to(audit, panel, shown):
            return "the recorded results require another one"
        return ""

    def problem_with_reveal(self, reveal: Reveal) -> str:
        """The reason to refuse a submitter's link; empty if there is none."""
        try:
            link = bytes.fromhex(reveal.link)
        except ValueError:
            return "the link is not hex"
        follows = beacon.follows(link, bytes.fromhex(self._last_secret))
        return "" if follows else "the link does not follow the last one"

    def awaits_reveal(self, batch: str) -> bool:
        """Whether a batch waits for the submitter's link."""
        closed = self.batches.get(batch)
        return closed is not None and not closed.secret
