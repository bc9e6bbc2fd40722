"""How segments and jobs end: settled, slashed, closed. The second half of `decide`."""

from ledger.core import accounts
from ledger.core.book import Book, SlotState
from ledger.core.commands import CloseJob, Settle, Slash
from ledger.core.decision import Accepted, Decision, accept, open_job_of, reject
from ledger.core.events import Event, JobClosed, Moved, SlotSettled, Tombstoned
from ledger.core.orders import Header
from ledger.core.refusals import Reason, Rejected


def settle(book: Book, command: Settle) -> Decision:
    """Pay committed segments from escrow into holdback, or refuse them; all items or none."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    events: list[Event] = []
    seen: set[str] = set()
    for item in command.items:
        entry = job.slots.get(item.slot)
        if entry is None:
            return reject(Reason.UNKNOWN_SLOT, item.slot)
        if entry.state is not SlotState.COMMITTED or item.slot in seen:
            return reject(Reason.SLOT_NOT_OPEN, entry.state.name.lower())
        if item.pay and book.parties[entry.operator].tombstoned:
            return reject(Reason.OPERATOR_TOMBSTONED, entry.operator)
        seen.add(item.slot)
        events.append(SlotSettled(slot=item.slot, paid=item.pay, reason=item.reason))
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


def slash(book: Book, command: Slash) -> Decision:
    """Stake to `slashed`, held pay back to escrow, spoilt honest work made good."""
    party = book.parties.get(command.operator)
    if party is None:
        return reject(Reason.UNKNOWN_PARTY, command.operator)
    if party.tombstoned:
        return reject(Reason.OPERATOR_TOMBSTONED)
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if command.operator not in job.operators:
        return reject(Reason.UNKNOWN_PARTY, "this operator never worked for the job")
    proof = job.slots.get(command.evidence)
    if proof is None:
        return reject(Reason.UNKNOWN_SLOT, command.evidence)
    if proof.operator != command.operator:
        return reject(Reason.NOT_YOUR_SLOT, "the evidence is another operator's slot")
    reserved = accounts.reserved_stake(command.operator, command.job)
    left_micro = book.balances[reserved]
    events: list[Event] = [
        Tombstoned(
            operator=command.operator,
            job=command.job,
            evidence=command.evidence,
            slashed_micro=left_micro,
        ),
        Moved(
            debit=reserved,
            credit=accounts.slashed(command.job),
            amount_micro=left_micro,
            memo="slash",
            slot=command.evidence,
        ),
    ]
    for slot, entry in job.slots.items():
        if entry.operator == command.operator and entry.paid:
            events.append(
                Moved(
                    debit=accounts.holdback(command.job, command.operator),
                    credit=accounts.escrow(command.job),
                    amount_micro=entry.price_micro,
                    memo="forfeit",
                    slot=slot,
                )
            )
    for slot in dict.fromkeys(command.spoilt):
        entry = job.slots.get(slot)
        if entry is None:
            return reject(Reason.UNKNOWN_SLOT, slot)
        cost = entry.paid or entry.state is SlotState.COMMITTED
        if entry.operator == command.operator or not cost:
            continue
        if entry.price_micro <= left_micro:
            left_micro -= entry.price_micro
            events.append(
                Moved(
                    debit=accounts.slashed(command.job),
                    credit=accounts.escrow(command.job),
                    amount_micro=entry.price_micro,
                    memo="make good",
                    slot=slot,
                )
            )
    return Accepted(events=events)


def close_job(book: Book, header: Header, command: CloseJob) -> Decision:
    """Everything earned is released slot by slot; the rest of the budget and the stakes return."""
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if header.key != job.opened.driver_key and header.party != job.opened.submitter:
        return reject(Reason.NOT_YOUR_JOB)
    if job.unsettled:
        return reject(Reason.SEGMENTS_UNSETTLED, str(job.unsettled))
    events: list[Event] = []
    forfeited = 0
    for slot, entry in job.slots.items():
        if not entry.paid:
            continue
        caught = book.parties[entry.operator].tombstoned
        events.append(
            Moved(
                debit=accounts.holdback(command.job, entry.operator),
                credit=accounts.escrow(command.job)
                if caught
                else accounts.available(entry.operator),
                amount_micro=entry.price_micro,
                memo="forfeit" if caught else "release",
                slot=slot,
            )
        )
        forfeited += entry.price_micro if caught else 0
    for operator in job.operators:
        reserved = accounts.reserved_stake(operator, command.job)
        if book.balances[reserved]:
            events.append(
                Moved(
                    debit=reserved,
                    credit=accounts.free_stake(operator),
                    amount_micro=book.balances[reserved],
                    memo="release stake",
                )
            )
    unspent = book.balances[accounts.escrow(command.job)] + forfeited
    if unspent:
        events.append(
            Moved(
                debit=accounts.escrow(command.job),
                credit=accounts.available(job.opened.submitter),
                amount_micro=unspent,
                memo="refund",
            )
        )
    return accept(*events, JobClosed(job=command.job))
