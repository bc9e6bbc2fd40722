"""What must hold in every book at every moment. An empty list means that it does."""

from ledger.core import accounts
from ledger.core.book import Book, SlotState


def check(book: Book) -> list[str]:
    """Every broken invariant, in words."""
    broken: list[str] = []
    if total := book.balances.total_micro():
        broken.append(f"the balances sum to {total}, not to zero")
    for account, amount in book.balances:
        if amount < 0 and account != accounts.EXTERNAL:
            broken.append(f"{account} is below zero: {amount}")
    for job_id, job in book.jobs.items():
        open_states = (SlotState.ISSUED, SlotState.COMMITTED)
        promised = sum(s.price_micro for s in job.slots.values() if s.state in open_states)
        if promised != job.promised_micro:
            broken.append(f"{job_id} promises {job.promised_micro}, its slots {promised}")
        escrow = book.balances[accounts.escrow(job_id)]
        if not job.closed and promised > escrow:
            broken.append(f"{job_id} promises {promised} and has {escrow}")
        if job.closed and escrow:
            broken.append(f"{job_id} is closed and still holds {escrow}")
        held: dict[str, int] = {}
        for slot in job.slots.values():
            if slot.paid and not job.closed:
                held[slot.operator] = held.get(slot.operator, 0) + slot.price_micro
        for operator in job.operators:
            holdback = book.balances[accounts.holdback(job_id, operator)]
            if holdback != held.get(operator, 0):
                broken.append(f"{job_id} holds {holdback} for {operator}, its slots say otherwise")
    return broken
