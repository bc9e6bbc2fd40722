"""Jobs, tasks and slots: open a job, start its tasks, issue slots, take commitments."""

from gensyn_ray.domain import merkle
from gensyn_ray.domain.ids import is_safe_id
from gensyn_ray.domain.leaf import Leaf
from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.book_state import SlotState, Standing
from ledger.core.commands import Commit, FinishTask, OpenJob, RequestSlot, StartTask
from ledger.core.decision import (
    Accepted,
    Decision,
    accept,
    in_range,
    is_digest,
    open_job_of,
    reject,
)
from ledger.core.events import (
    Event,
    JobOpened,
    Moved,
    SlotCommitted,
    SlotIssued,
    StakeReserved,
    TaskFinished,
    TaskStarted,
)
from ledger.core.orders import Header
from ledger.core.refusals import Reason, Rejected


def open_job(book: Book, header: Header, command: OpenJob, now_ms: int) -> Decision:
    """Open a job and move its budget into escrow."""
    source = accounts.available(header.party)
    if not (is_digest(command.secret_anchor) and is_digest(command.driver_key)):
        return reject(Reason.MALFORMED, "keys and anchors are 64 hex digits")
    if command.job in book.jobs:
        return reject(Reason.JOB_EXISTS)
    if not is_safe_id(command.job):
        return reject(Reason.BAD_ID, command.job[:64])
    if not (in_range(command.budget_micro) and in_range(command.price_micro)):
        return reject(Reason.AMOUNT_OUT_OF_RANGE, "budget and price are above zero")
    if not 0 <= command.audit_ppm <= 1_000_000 or command.draw_batch < 1:
        return reject(Reason.AMOUNT_OUT_OF_RANGE, "audit_ppm or draw_batch")
    if book.balances[source] < command.budget_micro:
        return reject(
            Reason.INSUFFICIENT_FUNDS,
            f"available {book.balances[source]}, budget {command.budget_micro}",
        )
    return accept(
        JobOpened(
            job=command.job,
            kind=command.kind,
            submitter=header.party,
            bundle=command.bundle,
            data_digest=command.data_digest,
            budget_micro=command.budget_micro,
            price_micro=command.price_micro,
            audit_ppm=command.audit_ppm,
            draw_batch=command.draw_batch,
            secret_anchor=command.secret_anchor,
            driver_key=command.driver_key,
            numerics=command.numerics,
            deadline_ms=now_ms + book.parameters.job_ms,
        ),
        Moved(
            debit=source,
            credit=accounts.escrow(command.job),
            amount_micro=command.budget_micro,
            memo="fund",
        ),
    )


def start_task(book: Book, header: Header, command: StartTask) -> Decision:
    """Start a task or its next attempt; open slots of the previous attempt become dead."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if job.opened.driver_key != header.key:
        return reject(Reason.NOT_YOUR_JOB)
    if not is_safe_id(command.task):
        return reject(Reason.BAD_ID, command.task[:64])
    before = job.tasks.get(command.task)
    if before is not None and (before.spec, before.trial) != (command.spec, command.trial):
        # A driver that changed the spec could have honest segments replayed with another one.
        return reject(Reason.TASK_EXISTS)
    if command.attempt != (0 if before is None else before.attempt + 1):
        return reject(Reason.STALE_ATTEMPT)
    return accept(
        TaskStarted(
            job=command.job,
            task=command.task,
            trial=command.trial,
            spec=command.spec,
            attempt=command.attempt,
            inputs=command.inputs,
        )
    )


def finish_task(book: Book, header: Header, command: FinishTask) -> Decision:
    """End a task."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if job.opened.driver_key != header.key:
        return reject(Reason.NOT_YOUR_JOB)
    if command.task not in job.tasks:
        return reject(Reason.UNKNOWN_TASK)
    return accept(TaskFinished(job=command.job, task=command.task))


def request_slot(book: Book, header: Header, command: RequestSlot, now_ms: int) -> Decision:
    """Issue a slot. An operator's first slot in a job also reserves its stake."""
    if book.parties[header.party].standing is Standing.JAILED:
        return reject(Reason.OPERATOR_JAILED)
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if now_ms > job.opened.deadline_ms:
        return reject(Reason.JOB_EXPIRED)
    task = job.tasks.get(command.task)
    if task is None:
        return reject(Reason.UNKNOWN_TASK)
    if task.finished:
        return reject(Reason.TASK_FINISHED)
    if command.attempt != task.attempt:
        return reject(Reason.STALE_ATTEMPT)
    if task.operator not in ("", header.party):
        return reject(Reason.ATTEMPT_TAKEN)
    slot = str(command.slot)
    if command.segment < 0:
        return reject(Reason.UNKNOWN_SLOT, "segments count from 0")
    if slot in job.slots:
        return reject(Reason.SLOT_EXISTS)
    events: list[Event] = []
    if header.party not in job.backing_micro:
        reserve_micro = book.parameters.reserve_micro
        source = accounts.free_stake(header.party)
        if book.balances[source] < reserve_micro:
            return reject(
                Reason.INSUFFICIENT_STAKE, f"free {book.balances[source]}, needed {reserve_micro}"
            )
        events += [
            StakeReserved(job=command.job, operator=header.party, amount_micro=reserve_micro),
            Moved(
                debit=source,
                credit=accounts.reserved_stake(header.party, command.job),
                amount_micro=reserve_micro,
                memo="reserve",
            ),
        ]
    price = job.opened.price_micro
    if book.balances[accounts.escrow(command.job)] - job.promised_micro < price:
        return reject(Reason.BUDGET_EXHAUSTED)
    events.append(SlotIssued(slot=slot, operator=header.party, price_micro=price))
    return Accepted(events=events)


def commit(book: Book, header: Header, command: Commit) -> Decision:
    """Take leaves for the signer's open slots; all or none."""
    if not command.leaves:
        return reject(Reason.WRONG_LEAF, "no leaves")
    slots: list[str] = []
    for leaf in command.leaves:
        if (no := _check_commit(book, header, leaf)) is not None:
            return no
        slots.append(str(leaf.slot))
    if len(set(slots)) != len(slots):
        return reject(Reason.WRONG_LEAF, "a slot is answered twice")
    root = merkle.root_of(leaf.encode() for leaf in command.leaves).hex()
    if root != command.root:
        return reject(Reason.WRONG_ROOT)
    return Accepted(
        events=[
            SlotCommitted(slot=slot, operator=header.party, root=root, index=index, leaf=leaf)
            for index, (slot, leaf) in enumerate(zip(slots, command.leaves, strict=True))
        ]
    )


def _check_commit(book: Book, header: Header, leaf: Leaf) -> Rejected | None:
    slot = str(leaf.slot)
    job = open_job_of(book, leaf.job)
    if isinstance(job, Rejected):
        return job
    entry = job.slots.get(slot)
    if entry is None:
        return reject(Reason.UNKNOWN_SLOT, slot[:200])
    if entry.operator != header.party:
        return reject(Reason.NOT_YOUR_SLOT, slot)
    if entry.state is not SlotState.ISSUED:
        return reject(Reason.SLOT_NOT_OPEN, entry.state.value)
    if leaf.operator != header.party:
        return reject(Reason.WRONG_LEAF, "the leaf names another operator")
    if leaf.data_digest != job.opened.data_digest:
        return reject(Reason.WRONG_LEAF, "the leaf names other data than the job")
    return None
