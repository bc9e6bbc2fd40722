"""Views of the authority's state for people and nodes. Pure: state in, records out.

`proofs` has the views of the log with inclusion proofs. Claims of segments that are not judged are
never shown: a replay is blind only if its verifier cannot read the claim.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.queries.rows import (
    AccountRow,
    AssignedTask,
    Balance,
    BundleStanding,
    JobStatus,
    ObjectRights,
    OpenJobRow,
    OperatorRow,
    ReplayOrder,
    RulingRow,
    SegmentCounts,
    SegmentReceipt,
    Statement,
    TaskRow,
)
from gensyn_ray.settlement.state import Job, Pay, Segment, Settlement
from ledger.core import accounts
from ledger.core.book_state import Standing
from ledger.core.journal import Journal
from verifier_actors.core.audit import IN_REPLAY, Audit, AuditState
from verifier_actors.core.dispute import ruling_of
from verifier_actors.core.lineage import Task
from verifier_actors.core.outcome import Outcome

Parameters = Mapping[str, str]


class NoSuchThing(LookupError):
    """The reading's parameters name nothing."""


def task_of_trial(journal: Journal, settlement: Settlement, parameters: Parameters) -> AssignedTask:
    """The task that a trial runs now. Parameters: `job`, `trial`."""
    job = _job(settlement, parameters)
    name, task = _task(job, parameters)
    return AssignedTask(
        task=name,
        spec=task.spec,
        attempt=task.attempt,
        good=len(task.good),
        state=job.lineage.tip(name),
        leaf=_judged_leaf(job, task),
        bundle=job.opened.bundle,
        data_digest=job.opened.data_digest,
        numerics=job.opened.numerics,
        vetted=job.opened.bundle in settlement.vetted,
    )


def object_rights(journal: Journal, settlement: Settlement, parameters: Parameters) -> ObjectRights:
    """A party's rights in the object store for the task that a trial runs now. Parameters: `job`,
    `trial`, `party`, and the object's `kind` and `digest`. The caller checks whether the job's
    manifest names a data object."""
    job = _job(settlement, parameters)
    name, task = _task(job, parameters)
    entry = journal.book.jobs[job.opened.job].tasks[name]
    party = parameters.get("party", "")
    known = journal.book.parties.get(party)
    works = (
        known is not None
        and known.joined.role == "operator"
        and known.standing is Standing.ACTIVE
        and not job.is_closed
    )
    has_task = works and not entry.finished and entry.operator in ("", party)
    digest, kind = parameters.get("digest", ""), parameters.get("kind", "")
    reads = {
        # The same for all tasks of a job: a node reads them once.
        "bundles": works and digest == job.opened.bundle,
        "manifests": works and digest == job.opened.data_digest,
        "data": works,
        "specs": has_task and digest == task.spec,
        "states": has_task and (digest in task.inputs or _is_predecessor(job, name, digest)),
    }
    slots = sorted(map(Slot.parse, entry.issued)) if has_task and entry.operator == party else []
    return ObjectRights(
        reads=reads.get(kind, False),
        manifest=job.opened.data_digest,
        open_slots=[str(slot) for slot in slots],
    )


def tasks(journal: Journal, settlement: Settlement, parameters: Parameters) -> dict[str, TaskRow]:
    """The tasks of a job by name. Parameter: `job`."""
    job = _job(settlement, parameters)
    return {name: _task_row(job, name, task) for name, task in job.tasks.items()}


def _task_row(job: Job, name: str, task: Task) -> TaskRow:
    chain = [job.segments[slot] for slot in task.good]
    leaf = _judged_leaf(job, task)
    return TaskRow(
        trial=task.trial,
        spec=task.spec,
        attempt=task.attempt,
        good=len(chain),
        unjudged=sum(not segment.is_judged for segment in chain),
        unaudited=sum(segment.audit.outcome is None for segment in chain),
        state=job.lineage.tip(name),
        leaf=leaf,
        metrics=leaf.metrics if leaf is not None else {},
    )


def _judged_leaf(job: Job, task: Task) -> Leaf | None:
    last = job.segments[task.good[-1]] if task.good else None
    return last.leaf if last is not None and last.is_judged else None


def open_jobs(journal: Journal, settlement: Settlement, parameters: Parameters) -> list[OpenJobRow]:
    """Jobs that are not closed, oldest first."""
    return [
        OpenJobRow(job=name, kind=job.opened.kind, submitter=job.opened.submitter)
        for name, job in settlement.open_jobs.items()
    ]


def job(journal: Journal, settlement: Settlement, parameters: Parameters) -> JobStatus:
    """Counts of segments, rulings, money. Parameter: `job`."""
    one = _job(settlement, parameters)
    name, book = one.opened.job, journal.book
    escrow_micro = book.balances[accounts.escrow(name)]
    return JobStatus(
        id=name,
        closed=one.is_closed,
        segments=_counts(list(one.segments.values())),
        rulings=_rulings(one),
        revealed=one.audits.revealed,
        tombstoned=sorted(settlement.tombstoned),
        price_micro=one.opened.price_micro,
        audit_ppm=one.opened.audit_ppm,
        budget_micro=one.opened.budget_micro,
        escrow_micro=escrow_micro,
        free_micro=escrow_micro - book.jobs[name].promised_micro,
        slashed_micro=sum(
            slash.proven.slashed_micro
            for slash in book.slashes.values()
            if slash.proven.job == name
        ),
        paid_micro=sum(slot.price_micro for slot in book.jobs[name].slots.values() if slot.paid),
        tasks=len(one.tasks),
    )


def unrevealed(journal: Journal, settlement: Settlement, parameters: Parameters) -> list[str]:
    """Batches of a job that wait for a link of the submitter's chain, oldest first. Parameter:
    `job`."""
    audits = _job(settlement, parameters).audits
    return [batch for batch in audits.batches if audits.awaits_reveal(batch)]


def operators(
    journal: Journal, settlement: Settlement, parameters: Parameters
) -> list[OperatorRow]:
    """Each operator's money, work and standing. With the parameter `job`: work in that job only."""
    book = journal.book
    chosen = parameters.get("job")
    jobs = [job for name, job in settlement.jobs.items() if chosen in (None, name)]
    listed: list[OperatorRow] = []
    for party, entry in book.parties.items():
        if entry.joined.role != "operator":
            continue
        mine = [s for job in jobs for s in job.segments.values() if s.operator == party]
        outcomes = [segment.audit.outcome for segment in mine]
        reserved = sum(
            book.balances[accounts.reserved_stake(party, name)] for name in settlement.jobs
        )
        held = sum(book.balances[accounts.holdback(name, party)] for name in settlement.jobs)
        listed.append(
            OperatorRow(
                id=party,
                name=entry.joined.name,
                numerics=entry.joined.numerics,
                available_micro=book.balances[accounts.available(party)],
                held_micro=held,
                earned_micro=_earned_micro(journal, party, [job.opened.job for job in jobs]),
                stake_micro=book.balances[accounts.free_stake(party)] + reserved,
                slashed_micro=entry.slashed_micro,
                state=entry.standing.value,
                committed=len(mine),
                accepted=outcomes.count(Outcome.ACCEPT),
                rejected=outcomes.count(Outcome.REJECT),
                paid=sum(segment.pay is Pay.PAID for segment in mine),
            )
        )
    return listed


def audits(journal: Journal, settlement: Settlement, parameters: Parameters) -> list[ReplayOrder]:
    """Replays that wait for a verifier or a referee, the urgent first: disputes, full audits and
    challenges. The rows contain no claims."""
    orders = [
        _replay_order(job, audit)
        for job in settlement.open_jobs.values()
        for audit in job.audits.open.values()
        if audit.state in IN_REPLAY and audit.operator not in settlement.tombstoned
    ]
    return sorted(orders, key=lambda order: not order.urgent)


def _replay_order(job: Job, audit: Audit) -> ReplayOrder:
    task = job.tasks[audit.task]
    is_demanded = task.full_audit or audit.slot in job.audits.challenged
    return ReplayOrder(
        job=job.opened.job,
        slot=audit.slot,
        party=audit.asked,
        numerics=audit.numerics,
        spec=task.spec,
        state_before=job.segments[audit.slot].leaf.state_before,
        urgent=is_demanded or audit.state is AuditState.DISPUTED,
    )


def receipts(
    journal: Journal, settlement: Settlement, parameters: Parameters
) -> list[SegmentReceipt]:
    """Each settled segment of a job, with its operator, pay and reason. Parameter: `job`."""
    job = _job(settlement, parameters)
    return [
        SegmentReceipt(
            slot=slot,
            operator=segment.operator,
            paid_micro=job.opened.price_micro if segment.pay is Pay.PAID else 0,
            audited=segment.audit.was_drawn,
            outcome=segment.audit.outcome.value if segment.audit.outcome else "",
            void=segment.is_void,
        )
        for slot, segment in job.segments.items()
        if segment.pay is not Pay.OPEN
    ]


def balance(journal: Journal, settlement: Settlement, parameters: Parameters) -> Balance:
    """A party's standing: what it may spend, what it has bonded. Parameter: `party`."""
    party = parameters.get("party", "")
    book = journal.book
    free = book.balances[accounts.free_stake(party)]
    reserved = sum(book.balances[accounts.reserved_stake(party, name)] for name in settlement.jobs)
    return Balance(
        joined=party in book.parties,
        available_micro=book.balances[accounts.available(party)],
        free_stake_micro=free,
        unbonding_micro=book.balances[accounts.unbonding_stake(party)],
        stake_micro=free + reserved,
        reserve_micro=book.parameters.reserve_micro,
    )


def statement(journal: Journal, settlement: Settlement, parameters: Parameters) -> Statement:
    """Every account of a party or of a job that is not empty. Parameter: `owner`."""
    owner = parameters.get("owner", "")
    book = journal.book
    party = book.parties.get(owner)
    if party is None and owner not in book.jobs:
        raise NoSuchThing(f"no party and no job is called {owner[:64]!r}")
    return Statement(
        owner=owner,
        name=party.joined.name if party else owner,
        role=party.joined.role if party else "job",
        standing=party.standing.value if party else book.jobs[owner].state.value,
        accounts=[
            AccountRow(account=account, amount_micro=amount_micro)
            for account, amount_micro in book.balances
            if amount_micro and owner in account.split("/")
        ],
    )


def bundle(journal: Journal, settlement: Settlement, parameters: Parameters) -> BundleStanding:
    """Whether the network has vetted a program. Parameter: `digest`, of its bundle."""
    return BundleStanding(vetted=parameters.get("digest", "") in settlement.vetted)


VIEWS: dict[str, Callable[[Journal, Settlement, Parameters], Any]] = {
    "task": task_of_trial,
    "object_rights": object_rights,
    "tasks": tasks,
    "open_jobs": open_jobs,
    "job": job,
    "unrevealed": unrevealed,
    "operators": operators,
    "audits": audits,
    "receipts": receipts,
    "balance": balance,
    "statement": statement,
    "bundle": bundle,
}


def _job(settlement: Settlement, parameters: Parameters) -> Job:
    found = settlement.jobs.get(parameters.get("job", ""))
    if found is None:
        raise NoSuchThing(f"no job is called {parameters.get('job')!r}")
    return found


def _task(job: Job, parameters: Parameters) -> tuple[str, Task]:
    """The task that a trial runs now, with its name."""
    for name, task in reversed(job.tasks.items()):
        if task.trial == parameters.get("trial"):
            return name, task
    raise NoSuchThing("no task has been started for this trial")


def _is_predecessor(job: Job, task: str, digest: str) -> bool:
    """Whether a task may continue from a state: from its own last good one, or, before it has one,
    from a good one of any task of its job (PBT's exploit)."""
    if job.tasks[task].good:
        return digest == job.lineage.tip(task)
    return job.lineage.is_good_state(digest)


def _counts(segments: list[Segment]) -> SegmentCounts:
    outcomes = [segment.audit.outcome for segment in segments]
    return SegmentCounts(
        committed=len(segments),
        drawn=sum(segment.audit.was_drawn for segment in segments),
        audited=sum(outcome is not None for outcome in outcomes),
        accepted=outcomes.count(Outcome.ACCEPT),
        rejected=outcomes.count(Outcome.REJECT),
        inconclusive=outcomes.count(Outcome.INCONCLUSIVE),
        unavailable=outcomes.count(Outcome.UNAVAILABLE),
        settled=sum(segment.pay is not Pay.OPEN for segment in segments),
        void=sum(segment.is_void for segment in segments),
    )


def _rulings(job: Job) -> list[RulingRow]:
    rows: list[RulingRow] = []
    for segment in job.segments.values():
        outcome = segment.audit.outcome
        if outcome is Outcome.REJECT or outcome is Outcome.INCONCLUSIVE:
            ruling = ruling_of(segment.audit, outcome)
            slot = segment.slot
            rows.append(
                RulingRow(
                    task=slot.task,
                    segment=slot.segment,
                    at_fault=ruling.at_fault,
                    evidence=ruling,
                )
            )
    return rows


def _earned_micro(journal: Journal, party: str, jobs: list[str]) -> int:
    """Pay that was released to a party finally: that of closed jobs."""
    return sum(
        slot.price_micro
        for job in jobs
        if journal.book.jobs[job].closed
        for slot in journal.book.jobs[job].slots.values()
        if slot.operator == party and slot.paid
    )
