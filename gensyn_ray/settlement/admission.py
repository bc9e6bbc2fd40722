"""Checks that an order must pass in settlement before it becomes an entry.

The ledger's core checks money, slots and signers. This module refuses what needs the state of
audits: a segment that does not continue from its task's last good state, a verdict from a party
that was not asked for one, a link that does not follow the chain, evidence that the signer's role
may not give.
"""

from gensyn_ray.domain.evidence import SIGNER_ROLES, Evidence, Reveal, Verdict
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.numerics import classes_in
from gensyn_ray.settlement.state import Job, Settlement
from ledger.core.commands import Commit, Record, RequestSlot
from ledger.core.orders import Header, Order
from ledger.core.refusals import Reason, Rejected


def admit(settlement: Settlement, order: Order) -> Rejected | None:
    """The refusal of an order that the ledger's core accepts; None if there is none."""
    match order.command:
        case RequestSlot() as request:
            return _admit_slot(settlement, order.header.party, request)
        case Commit() as commit:
            for leaf in commit.leaves:
                if (no := _admit_leaf(settlement, order.header.party, leaf)) is not None:
                    return no
        case Record() as record:
            return _admit_evidence(settlement, order.header, record.evidence)
        case _:
            pass
    return None


def _admit_slot(settlement: Settlement, operator: str, request: RequestSlot) -> Rejected | None:
    job = settlement.jobs[request.job]
    task = job.tasks[request.task]
    if request.segment not in (len(task.good), len(task.good) + 1):
        return Rejected(reason=Reason.WRONG_PREDECESSOR, detail=f"{len(task.good)} are good")
    classes = _classes(settlement, operator, job)
    if not any(settlement.panel.serving(one, not_of=operator) for one in classes):
        why = ", ".join(classes) or f"this node does not serve {job.opened.numerics}"
        return Rejected(reason=Reason.NO_VERIFIER, detail=why)
    return None


def _classes(settlement: Settlement, operator: str, job: Job) -> list[str]:
    """Numerics classes in which an operator may answer this job's slots."""
    return classes_in(settlement.parties[operator].numerics, job.opened.numerics)


def _admit_leaf(settlement: Settlement, operator: str, leaf: Leaf) -> Rejected | None:
    job = settlement.jobs[leaf.job]
    task = job.tasks[leaf.task]
    if leaf.numerics not in _classes(settlement, operator, job):
        return Rejected(reason=Reason.WRONG_LEAF, detail="not a class that the node joined as")
    if not leaf.state_after:
        # A rejection voids what began with the leaf's end state, and an empty digest means `init`.
        return Rejected(reason=Reason.WRONG_LEAF, detail="it names no end state")
    if leaf.segment != len(task.good):
        return Rejected(reason=Reason.WRONG_PREDECESSOR, detail=f"{len(task.good)} are good")
    if task.good:
        follows = leaf.state_before == job.lineage.tip(leaf.task)
    else:
        # A task may start from a good state of another task of its job (PBT's exploit).
        follows = leaf.state_before == "" or job.lineage.is_good_state(leaf.state_before)
    if not follows:
        return Rejected(reason=Reason.WRONG_PREDECESSOR)
    if not settlement.panel.serving(leaf.numerics, not_of=operator):
        # The slot may have been issued for another class of the node; a draw needs a verifier.
        return Rejected(reason=Reason.NO_VERIFIER, detail=leaf.numerics)
    return None


def _admit_evidence(settlement: Settlement, header: Header, evidence: Evidence) -> Rejected | None:
    role = SIGNER_ROLES[type(evidence)]
    if header.role != role:
        detail = f"{type(evidence).__name__} comes from {role}, not from {header.role}"
        return Rejected(reason=Reason.ROLE_NOT_ALLOWED, detail=detail)
    if role == "network":
        return None
    job = settlement.jobs.get(evidence.job)
    if job is None:
        return Rejected(reason=Reason.UNKNOWN_JOB)
    if isinstance(evidence, Verdict):
        return _admit_verdict(job, header, evidence)
    if job.opened.driver_key != header.key:
        return Rejected(reason=Reason.NOT_YOUR_JOB)
    return _admit_reveal(job, evidence) if isinstance(evidence, Reveal) else None


def _admit_verdict(job: Job, header: Header, verdict: Verdict) -> Rejected | None:
    segment = job.segments.get(verdict.slot)
    if segment is None or header.party not in (segment.audit.verifier, segment.audit.referee):
        return Rejected(reason=Reason.NOT_YOUR_SLOT, detail="not assigned to you")
    return None


def _admit_reveal(job: Job, reveal: Reveal) -> Rejected | None:
    if not job.audits.awaits_reveal(reveal.batch):
        return Rejected(reason=Reason.UNKNOWN_SLOT, detail="no batch waits for this link")
    if problem := job.audits.problem_with_reveal(reveal):
        return Rejected(reason=Reason.MALFORMED, detail=problem)
    return None
