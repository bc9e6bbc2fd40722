"""What people and nodes may read of the authority's state. Pure: state in, JSON values out.

What the log itself says, with proofs, is in `proofs`. Claims of segments that are not judged yet
are never shown: replay is blind only while nobody can read what it is going to be compared with.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gensyn_ray.domain.ids import Slot
from gensyn_ray.settlement.state import Job, Segment, Settlement, Task
from ledger.core import accounts
from ledger.core.book_state import Standing
from ledger.core.journal import Journal
from verifier_actors.core.outcome import Outcome

Parameters = Mapping[str, str]


class NoSuchThing(LookupError):
    """The reading's parameters name nothing."""


def task_of_trial(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """The task that a trial runs now: its attempt, spec and last good state, and the leaf of that
    state once it is judged."""
    job = _job(settlement, parameters)
    name, task = _task(job, parameters)
    return {
        "task": name,
        "spec": task.spec,
        "attempt": task.attempt,
        "good": len(task.good),
        "state": _tip(job, task),
        "leaf": _judged_leaf(job, task),
        "bundle": job.opened.bundle,
        "data_digest": job.opened.data_digest,
        "numerics": job.opened.numerics,
        "vetted": job.opened.bundle in settlement.vetted,
    }


def object_rights(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """What a party may do in the object store for the task that a trial runs now: whether it may
    read the object `digest` of a `kind`, and the open slots whose end states it may store. Of
    `data`, those that the job's `manifest` names, which whoever asks must look up."""
    job = _job(settlement, parameters)
    name, task = _task(job, parameters)
    entry = journal.book.jobs[job.opened.job].tasks[name]
    party = parameters.get("party", "")
    known = journal.book.parties.get(party)
    works = (
        known is not None
        and known.joined.role == "operator"
        and known.standing is Standing.ACTIVE
        and not job.closed
    )
    has_task = works and not entry.finished and entry.operator in ("", party)
    digest, kind = parameters.get("digest", ""), parameters.get("kind", "")
    reads = {
        # The same for all tasks of a job: a node reads them once.
        "bundles": works and digest == job.opened.bundle,
        "manifests": works and digest == job.opened.data_digest,
        "data": works,
        "specs": has_task and digest == task.spec,
        "states": has_task and (digest in task.inputs or _is_predecessor(job, task, digest)),
    }
    slots = sorted(map(Slot.parse, entry.issued)) if has_task and entry.operator == party else []
    return {
        "reads": reads.get(kind, False),
        "manifest": job.opened.data_digest,
        "open_slots": [str(slot) for slot in slots],
    }


def tasks(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Per task: its trial, spec and newest attempt; how many segments are good, and how many of
    those still wait for a judgement; its last good state, and that state's leaf and metrics once
    they are judged."""
    job = _job(settlement, parameters)
    return {
        name: {
            "trial": task.trial,
            "spec": task.spec,
            "attempt": task.attempt,
            "good": len(task.good),
            "unjudged": sum(not job.segments[slot].is_judged for slot in task.good),
            "unaudited": sum(job.segments[slot].outcome is None for slot in task.good),
            "state": _tip(job, task),
            "leaf": _judged_leaf(job, task),
            "metrics": _judged_leaf(job, task).get("metrics", {}),
        }
        for name, task in job.tasks.items()
    }


def _judged_leaf(job: Job, task: Task) -> dict[str, Any]:
    last = job.segments[task.good[-1]] if task.good else None
    return last.leaf if last is not None and last.is_judged else {}


def open_jobs(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Jobs that are not closed, oldest first: what a driver of each is started with."""
    return [
        {"job": name, "kind": job.opened.kind, "submitter": job.opened.submitter}
        for name, job in settlement.open_jobs.items()
    ]


def job(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Counts of segments, rulings, money."""
    one = _job(settlement, parameters)
    name = one.opened.job
    segments = list(one.segments.values())
    book = journal.book
    return {
        "id": name,
        "closed": one.closed,
        "segments": _counts(segments),
        "rulings": _rulings(one),
        "revealed": one.revealed,
        "tombstoned": sorted(settlement.tombstoned),
        "price_micro": one.opened.price_micro,
        "audit_ppm": one.opened.audit_ppm,
        "budget_micro": one.opened.budget_micro,
        "escrow_micro": book.balances[accounts.escrow(name)],
        "free_micro": book.balances[accounts.escrow(name)] - book.jobs[name].promised_micro,
        "slashed_micro": sum(
            slash.proven.slashed_micro
            for slash in book.slashes.values()
            if slash.proven.job == name
        ),
        "paid_micro": sum(s.price_micro for s in book.jobs[name].slots.values() if s.paid),
        "tasks": len(one.tasks),
    }


def unrevealed(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Rounds of a job that wait for a link of the submitter's chain, oldest first."""
    job = _job(settlement, parameters)
    return [round_.id for round_ in job.rounds.values() if round_.secret is None]


def operators(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Each operator's money, work and standing; with `job`, work in that job alone."""
    book = journal.book
    chosen = parameters.get("job")
    jobs = [job for name, job in settlement.jobs.items() if chosen in (None, name)]
    listed: list[dict[str, Any]] = []
    for party, entry in book.parties.items():
        if entry.joined.role != "operator":
            continue
        mine = [s for job in jobs for s in job.segments.values() if s.operator == party]
        reserved = sum(
            book.balances[accounts.reserved_stake(party, name)] for name in settlement.jobs
        )
        held = sum(book.balances[accounts.holdback(name, party)] for name in settlement.jobs)
        listed.append(
            {
                "id": party,
                "name": entry.joined.name,
                "numerics": entry.joined.numerics,
                "available_micro": book.balances[accounts.available(party)],
                "held_micro": held,
                "earned_micro": _earned_micro(journal, party, [job.opened.job for job in jobs]),
                "stake_micro": book.balances[accounts.free_stake(party)] + reserved,
                "slashed_micro": entry.slashed_micro,
                "state": entry.standing.value,
                "committed": len(mine),
                "accepted": sum(s.outcome is Outcome.ACCEPT for s in mine),
                "rejected": sum(s.outcome is Outcome.REJECT for s in mine),
                "paid": sum(s.paid for s in mine),
            }
        )
    return listed


def audits(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Replays that wait for a verifier or referee, the urgent first: challenges, and tasks on whose
    word a job waits. Nothing here says what was claimed."""
    waiting: list[dict[str, Any]] = []
    for job in settlement.jobs.values():
        if job.closed:
            continue
        for slot, segment in job.unjudged.items():
            if not segment.drawn or segment.outcome is not None:
                continue
            if segment.operator in settlement.tombstoned:
                continue
            task = job.tasks[segment.slot.task]
            urgent = task.hardened or slot in settlement.questioned
            for party, given in (
                (segment.verifier, segment.verdict),
                (segment.referee, segment.ruling),
            ):
                if party and given is None:
                    waiting.append(
                        {
                            "job": segment.slot.job,
                            "slot": slot,
                            "party": party,
                            "numerics": segment.leaf["numerics"],
                            "spec": task.spec,
                            "state_before": segment.leaf["state_before"],
                            "urgent": urgent or party == segment.referee,
                        }
                    )
    return sorted(waiting, key=lambda audit: not audit["urgent"])


def receipts(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Each judged segment of a job: who did it, what was paid, why."""
    job = _job(settlement, parameters)
    return [
        {
            "slot": slot,
            "operator": segment.operator,
            "paid_micro": job.opened.price_micro if segment.paid else 0,
            "audited": bool(segment.drawn),
            "outcome": segment.outcome.value if segment.outcome else "",
            "void": segment.void,
        }
        for slot, segment in job.segments.items()
        if segment.settled
    ]


def balance(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """A party's standing: what it may spend, what it has bonded, what one job reserves."""
    party = parameters.get("party", "")
    known = journal.book.parties.get(party)
    free = journal.book.balances[accounts.free_stake(party)]
    reserved = sum(
        journal.book.balances[accounts.reserved_stake(party, name)] for name in settlement.jobs
    )
    return {
        "joined": known is not None,
        "available_micro": journal.book.balances[accounts.available(party)],
        "free_stake_micro": free,
        "unbonding_micro": journal.book.balances[accounts.unbonding_stake(party)],
        "stake_micro": free + reserved,
        "reserve_micro": journal.book.parameters.reserve_micro,
    }


def statement(journal: Journal, settlement: Settlement, parameters: Parameters) -> Any:
    """Every account that holds something of a party's or of a job's, and the party's standing."""
    owner = parameters.get("owner", "")
    book = journal.book
    party = book.parties.get(owner)
    if party is None and owner not in book.jobs:
        raise NoSuchThing(f"no party and no job is called {owner[:64]!r}")
    return {
        "owner": owner,
        "name": party.joined.name if party else owner,
        "role": party.joined.role if party else "job",
        "standing": party.standing.value if party else book.jobs[owner].state.value,
        "accounts": [
            {"account": account, "amount_micro": amount_micro}
            for account, amount_micro in book.balances
            if amount_micro and owner in account.split("/")
        ],
    }


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


def _is_predecessor(job: Job, task: Task, digest: str) -> bool:
    """Whether a task may go on from a state: its own last good one; before it has any, a good one
    of any task of its job (PBT's exploit)."""
    if task.good:
        return digest == _tip(job, task)
    return any(
        job.segments[slot].leaf["state_after"] == digest
        for other in job.tasks.values()
        for slot in other.good
    )


def _tip(job: Job, task: Task) -> str:
    return job.segments[task.good[-1]].leaf["state_after"] if task.good else ""


def _counts(segments: list[Segment]) -> dict[str, int]:
    outcomes = [segment.outcome for segment in segments]
    return {
        "committed": len(segments),
        "drawn": sum(bool(segment.drawn) for segment in segments),
        "audited": sum(outcome is not None for outcome in outcomes),
        "accepted": outcomes.count(Outcome.ACCEPT),
        "rejected": outcomes.count(Outcome.REJECT),
        "inconclusive": outcomes.count(Outcome.INCONCLUSIVE),
        "unavailable": outcomes.count(Outcome.UNAVAILABLE),
        "settled": sum(segment.settled for segment in segments),
        "void": sum(segment.void for segment in segments),
    }


def _rulings(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "task": segment.slot.task,
            "segment": segment.slot.segment,
            "at_fault": segment.operator if segment.outcome is Outcome.REJECT else "",
            "evidence": {
                "slot": slot,
                "outcome": segment.outcome,
                "claimed": segment.claimed,
                "verifier": segment.verifier,
                "verdict": segment.verdict,
                "referee": segment.referee,
                "ruling": segment.ruling,
            },
        }
        for slot, segment in job.segments.items()
        if segment.outcome in (Outcome.REJECT, Outcome.INCONCLUSIVE)
    ]


def _earned_micro(journal: Journal, party: str, jobs: list[str]) -> int:
    """What was released to a party for good: the pay of closed jobs."""
    return sum(
        slot.price_micro
        for job in jobs
        if journal.book.jobs[job].closed
        for slot in journal.book.jobs[job].slots.values()
        if slot.operator == party and slot.paid
    )
