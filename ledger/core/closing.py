"""Ends of segments and jobs: settle, release, close, expire."""

from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.book_state import JobEntry, SlotEntry, SlotState
from ledger.core.commands import CloseJob, ExpireJob, Release, Settle
from ledger.core.decision import Accepted, Decision, accept, open_job_of, reject
from ledger.core.events import Event, JobClosed, Moved, SlotReleased, SlotSettled
from ledger.core.orders import Header
from ledger.core.refusals import Reason, Rejected


def settle(book: Book, command: Settle, now_ms: int) -> Decision:
    """Pay committed segments from escrow into holdback, or refuse their pay; all items or none."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    release_ms = now_ms + book.parameters.holdback_ms
    events: list[Event] = []
    seen: set[str] = set()
    for item in command.items:
        entry = job.slots.get(item.slot)
        if entry is None:
            return reject(Reason.UNKNOWN_SLOT, item.slot[:200])
        if item.pay and book.parties[entry.operator].tombstoned:
            return reject(Reason.OPERATOR_TOMBSTONED, entry.operator)
        if entry.state is not SlotState.COMMITTED or item.slot in seen:
            return reject(Reason.SLOT_NOT_OPEN, entry.state.value)
        seen.add(item.slot)
        settled = SlotSettled(
            slot=item.slot, paid=item.pay, reason=item.reason, release_ms=release_ms
        )
        events.append(settled)
        if item.pay:
            events.append(
                Moved(
                    debit=accounts.escrow(command.job),
                    credit=accounts.holdback(command.job, entry.operator),
                    amount_micro=entry.price_micro,
                    memo="earn",
                    slot=item.slot,
                )
            )
    return Accepted(events=events)


def release(book: Book, command: Release, now_ms: int) -> Decision:
    """Release pay whose holdback time is over to its operators; all slots or none."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    events: list[Event] = []
    for slot in dict.fromkeys(command.slots):
        entry = job.slots.get(slot)
        if entry is None:
            return reject(Reason.UNKNOWN_SLOT, slot[:200])
        if book.parties[entry.operator].tombstoned:
            return reject(Reason.OPERATOR_TOMBSTONED, entry.operator)
        if entry.challenges:
            return reject(Reason.SLOT_CHALLENGED, slot)
        if not _is_held(entry) or now_ms < entry.release_ms:
            return reject(Reason.NOT_RELEASABLE, slot)
        events += _released(command.job, slot, entry)
    return Accepted(events=events)


def close_job(book: Book, header: Header, command: CloseJob, now_ms: int) -> Decision:
    """Close a job for its driver or submitter, once every committed segment is settled."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if header.key != job.opened.driver_key and header.party != job.opened.submitter:
        return reject(Reason.NOT_YOUR_JOB)
    return _close(book, command.job, job, now_ms, expired=False)


def expire_job(book: Book, command: ExpireJob, now_ms: int) -> Decision:
    """Close a job after its deadline, so that its stake and escrow become free."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if now_ms <= job.opened.deadline_ms:
        return reject(Reason.JOB_NOT_EXPIRED, f"until {job.opened.deadline_ms}")
    return _close(book, command.job, job, now_ms, expired=True)


def _close(book: Book, name: str, job: JobEntry, now_ms: int, *, expired: bool) -> Decision:
    """Release what was earned, slot by slot; return the rest of the budget and the stakes."""
    if job.challenges:
        return reject(Reason.SLOT_CHALLENGED, f"{job.challenges} challenges are open")
    if job.unsettled:
        return reject(Reason.SEGMENTS_UNSETTLED, str(job.unsettled))
    events: list[Event] = []
    forfeited_micro = 0
    for slot, entry in job.slots.items():
        if not _is_held(entry):
            continue
        if book.parties[entry.operator].tombstoned:
            forfeited_micro += entry.price_micro
            events.append(_forfeited(name, slot, entry))
        else:
            events += _released(name, slot, entry)
    for operator in job.backing_micro:
        reserved = accounts.reserved_stake(operator, name)
        if book.balances[reserved]:
            events.append(
                Moved(
                    debit=reserved,
                    credit=accounts.free_stake(operator),
                    amount_micro=book.balances[reserved],
                    memo="release stake",
                )
            )
    if unspent_micro := book.balances[accounts.escrow(name)] + forfeited_micro:
        events.append(
            Moved(
                debit=accounts.escrow(name),
                credit=accounts.available(job.opened.submitter),
                amount_micro=unspent_micro,
                memo="refund",
            )
        )
    evidence_until_ms = now_ms + book.parameters.evidence_ms
    closed = JobClosed(job=name, expired=expired, evidence_until_ms=evidence_until_ms)
    return accept(*events, closed)


def _is_held(entry: SlotEntry) -> bool:
    return entry.state is SlotState.SETTLED and entry.paid


def _released(job: str, slot: str, entry: SlotEntry) -> list[Event]:
    return [
        Moved(
            debit=accounts.holdback(job, entry.operator),
            credit=accounts.available(entry.operator),
            amount_micro=entry.price_micro,
            memo="release",
            slot=slot,
        ),
        SlotReleased(slot=slot),
    ]


def _forfeited(job: str, slot: str, entry: SlotEntry) -> Event:
    return Moved(
        debit=accounts.holdback(job, entry.operator),
        credit=accounts.escrow(job),
        amount_micro=entry.price_micro,
        memo="forfeit",
        slot=slot,
    )
