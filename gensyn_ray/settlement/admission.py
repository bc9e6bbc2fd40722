"""Which orders settlement refuses, before the book's answer becomes an entry.

The ledger's core knows money, slots and signers. What it cannot judge is refused here: a segment
that does not follow its task's last good state, a verdict from whoever was not asked for one, a
link that does not follow the chain, contents that the fold could not read.
"""

from typing import Any, cast

from gensyn_ray.domain.numerics import classes_in
from gensyn_ray.settlement.state import Job, Settlement
from ledger.core.commands import Commit, Record, RequestSlot
from ledger.core.orders import Order
from ledger.core.refusals import Reason, Rejected
from verifier_actors.core import beacon


def admit(settlement: Settlement, order: Order) -> Rejected | None:
    """Refuse what the ledger's core cannot judge: chains of states, who gives a verdict."""
    match order.command:
        case RequestSlot() as request:
            return _admit_slot(settlement, order.header.party, request)
        case Commit() as commit:
            for leaf in commit.leaves:
                if (no := _admit_leaf(settlement, order.header.party, leaf)) is not None:
                    return no
        case Record() as record:
            return _admit_record(settlement, order, record)
        case _:
            pass
    return None


def _admit_slot(settlement: Settlement, operator: str, request: RequestSlot) -> Rejected | None:
    job = settlement.jobs[request.job]
    task = job.tasks[request.task]
    if request.segment not in (len(task.good), len(task.good) + 1):
        return Rejected(reason=Reason.WRONG_PREDECESSOR, detail=f"{len(task.good)} are good")
    classes = _classes(settlement, operator, job)
    if not any(settlement.verifiers(one, not_of=operator) for one in classes):
        why = ", ".join(classes) or f"this node does not serve {job.opened.numerics}"
        return Rejected(reason=Reason.NO_VERIFIER, detail=why)
    return None


def _classes(settlement: Settlement, operator: str, job: Job) -> list[str]:
    """Numerics classes in which an operator may answer this job's slots."""
    return classes_in(settlement.parties[operator].numerics, job.opened.numerics)


def _admit_leaf(settlement: Settlement, operator: str, leaf: dict[str, Any]) -> Rejected | None:
    job = settlement.jobs[leaf["job"]]
    task = job.tasks[leaf["task"]]
    texts = ("state_before", "state_after", "numerics")
    if not all(isinstance(leaf.get(name), str) for name in texts) or not isinstance(
        leaf.get("metrics"), dict
    ):
        return Rejected(reason=Reason.WRONG_LEAF, detail="fields are missing")
    if leaf["numerics"] not in _classes(settlement, operator, job):
        return Rejected(reason=Reason.WRONG_LEAF, detail="not a class that the node joined as")
    if leaf["segment"] != len(task.good):
        return Rejected(reason=Reason.WRONG_PREDECESSOR, detail=f"{len(task.good)} are good")
    if task.good:
        before = job.segments[task.good[-1]].leaf["state_after"]
        allowed = leaf["state_before"] == before
    else:
        allowed = leaf["state_before"] == "" or _is_good_state(settlement, leaf)
    return None if allowed else Rejected(reason=Reason.WRONG_PREDECESSOR)


def _is_good_state(settlement: Settlement, leaf: dict[str, Any]) -> bool:
    """A task may grow from a good state of another task of its job (PBT's exploit)."""
    job = settlement.jobs[leaf["job"]]
    return any(
        job.segments[slot].leaf["state_after"] == leaf["state_before"]
        for task in job.tasks.values()
        for slot in task.good
    )


def _admit_record(settlement: Settlement, order: Order, record: Record) -> Rejected | None:
    content, role = record.content, order.header.role
    kinds = {
        "network": ("round", "draw", "referee_call", "ruling"),
        "driver": ("reveal", "harden"),
        "verifier": ("verdict",),
    }
    if record.kind not in kinds[role]:
        return Rejected(reason=Reason.ROLE_NOT_ALLOWED, detail=f"{role}, {record.kind}")
    if role == "network":
        return None
    name = content.get("job")
    job = settlement.jobs.get(name) if isinstance(name, str) else None
    if job is None:
        return Rejected(reason=Reason.UNKNOWN_JOB)
    if role == "verifier":
        slot = content.get("slot")
        segment = job.segments.get(slot) if isinstance(slot, str) else None
        mine = segment is not None and order.header.party in (segment.verifier, segment.referee)
        if not mine or not isinstance(content.get("result"), str):
            return Rejected(reason=Reason.NOT_YOUR_SLOT, detail="not assigned to you")
        return None
    if job.opened.driver_key != order.header.key:
        return Rejected(reason=Reason.NOT_YOUR_JOB)
    return _check_reveal(job, content) if record.kind == "reveal" else _check_harden(content)


def _check_reveal(job: Job, content: dict[str, Any]) -> Rejected | None:
    name = content.get("round")
    round_ = job.rounds.get(name) if isinstance(name, str) else None
    if round_ is None or round_.secret is not None:
        return Rejected(reason=Reason.UNKNOWN_SLOT, detail="no round waits for this link")
    try:
        link = bytes.fromhex(content["link"])
    except (KeyError, TypeError, ValueError):
        return Rejected(reason=Reason.MALFORMED, detail="link")
    if not beacon.follows(link, bytes.fromhex(job.last_secret)):
        return Rejected(reason=Reason.MALFORMED, detail="the link does not follow the last one")
    return None


def _check_harden(content: dict[str, Any]) -> Rejected | None:
    tasks: object = content.get("tasks")
    if isinstance(tasks, list) and all(isinstance(one, str) for one in cast("list[Any]", tasks)):
        return None
    return Rejected(reason=Reason.MALFORMED, detail="tasks is a list of names")
