"""The invariants of every book (`ledger/README.md` lists them)."""

from collections.abc import Iterator

from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.book_state import ChallengeState, JobEntry, SlashState, SlotState

OPEN_STATES = (SlotState.ISSUED, SlotState.COMMITTED)


def check(book: Book) -> list[str]:
    """A message for each broken invariant; empty if all hold."""
    return [*_of_balances(book), *_of_jobs(book), *_of_stake(book), *_of_fraud(book)]


def _of_balances(book: Book) -> Iterator[str]:
    if total := book.balances.total_micro():
        yield f"the balances sum to {total}, not to zero"
    for account, amount in book.balances:
        if amount < 0 and account != accounts.EXTERNAL:
            yield f"{account} is below zero: {amount}"


def _of_jobs(book: Book) -> Iterator[str]:
    for name, job in book.jobs.items():
        promised = sum(s.price_micro for s in job.slots.values() if s.state in OPEN_STATES)
        if promised != job.promised_micro:
            yield f"{name} promises {job.promised_micro}, its slots {promised}"
        escrow = book.balances[accounts.escrow(name)]
        if not job.closed and promised > escrow:
            yield f"{name} promises {promised} and has {escrow}"
        if job.closed and (escrow or promised):
            yield f"{name} is closed and still holds {escrow} and promises {promised}"
        yield from _of_holdback(book, name, job)


def _of_holdback(book: Book, name: str, job: JobEntry) -> Iterator[str]:
    held: dict[str, int] = {}
    for slot in job.slots.values():
        if slot.paid and slot.state is SlotState.SETTLED:
            held[slot.operator] = held.get(slot.operator, 0) + slot.price_micro
    for operator, backing in job.backing_micro.items():
        if book.balances[accounts.holdback(name, operator)] != held.get(operator, 0):
            yield f"{name} holds back for {operator} another amount than its slots say"
        reserved = book.balances[accounts.reserved_stake(operator, name)]
        slash = book.slashes.get(operator)
        freed = job.closed or (
            slash is not None
            and slash.proven.job == name
            and slash.state is not SlashState.REVERSED
        )
        if reserved != (0 if freed else backing):
            yield f"{name} has {reserved} of {operator}'s stake reserved, not {backing}"


def _of_stake(book: Book) -> Iterator[str]:
    for name, party in book.parties.items():
        unbonding_micro = sum(one.amount_micro for one in party.unbonding)
        if book.balances[accounts.unbonding_stake(name)] != unbonding_micro:
            yield f"{name} unbonds another amount than its entries say"


def _of_fraud(book: Book) -> Iterator[str]:
    for operator, slash in book.slashes.items():
        proven = slash.proven
        held = book.balances[accounts.slashed(proven.job, operator)]
        if held != (proven.slashed_micro if slash.state is SlashState.HELD else 0):
            yield f"the slash of {operator} holds {held}"
        if proven.slashed_micro > book.jobs[proven.job].backing_micro[operator]:
            yield f"{operator} was slashed beyond what backed {proven.job}"
    for name, challenge in book.challenges.items():
        bond = book.balances[accounts.challenge_bond(name)]
        if bond != (challenge.opened.bond_micro if challenge.state is ChallengeState.OPEN else 0):
            yield f"the challenge {name} holds a bond of {bond}"
