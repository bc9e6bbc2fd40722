"""`decide(book, order, now_ms)`: the events of a command, or the reason for its refusal.

Checks run in the order of `Reason`. Nothing here writes to the book. This module checks the signer;
the module of the subject decides the rest:

    treasury      founding, minting, settings, corrections
    stake         parties, bonding, unbonding, jail
    jobs          jobs, tasks, slots, commitments
    closing       settling, releasing, closing
    fraud         slashes
    challenges    bonds, jackpot
"""

from ledger.core import challenges, closing, fraud, jobs, stake, treasury
from ledger.core.book import Book
from ledger.core.commands import (
    ALLOWED_ROLES,
    PARTIES,
    Approve,
    Bond,
    CloseJob,
    Commit,
    Correct,
    Deposit,
    DistributeSlash,
    ExpireChallenge,
    ExpireJob,
    FinishTask,
    Found,
    Grant,
    Jail,
    Join,
    Mature,
    OpenChallenge,
    OpenJob,
    PayJackpot,
    Record,
    Release,
    ReportEquivocation,
    RequestSlot,
    ResolveChallenge,
    ReverseSlash,
    SetParameters,
    Settle,
    Slash,
    StartTask,
    Unbond,
    Unjail,
    Withdraw,
)
from ledger.core.decision import Decision, accept, reject
from ledger.core.events import Recorded
from ledger.core.orders import Header, Order
from ledger.core.refusals import Reason, Rejected

STILL_ALLOWED = (Withdraw, Unbond, Mature, OpenChallenge)
"""Commands of a tombstoned operator: withdraw the remaining stake, and appeal."""


def decide(book: Book, order: Order, now_ms: int) -> Decision:
    """Decide an order against the book at `now_ms` (Unix milliseconds)."""
    header, command = order.header, order.command
    if header.expiry_ms < now_ms:
        return reject(Reason.EXPIRED)
    if header.role not in ALLOWED_ROLES[type(command)]:
        return reject(Reason.ROLE_NOT_ALLOWED, f"{header.role[:64]}, {header.operation}")
    if isinstance(command, Found):
        return treasury.found(book, order, command)
    if (no := _check_signer(book, order)) is not None:
        return no
    match command:
        case Deposit() | Grant() | Correct() | SetParameters() | ReverseSlash():
            return treasury.propose(book, order, command, now_ms)
        case Approve():
            return treasury.approve(book, order, command, now_ms)
        case Join():
            return stake.join(book, header, command)
        case Withdraw():
            return stake.withdraw(book, header, command)
        case Bond():
            return stake.bond(book, header, command)
        case Unbond():
            return stake.unbond(book, header, command, now_ms)
        case Mature():
            return stake.mature(book, header, command, now_ms)
        case Jail():
            return stake.jail(book, command, now_ms)
        case Unjail():
            return stake.unjail(book, header, now_ms)
        case OpenJob():
            return jobs.open_job(book, header, command, now_ms)
        case StartTask():
            return jobs.start_task(book, header, command)
        case FinishTask():
            return jobs.finish_task(book, header, command)
        case RequestSlot():
            return jobs.request_slot(book, header, command, now_ms)
        case Commit():
            return jobs.commit(book, header, command)
        case Record():
            return _record(header, command)
        case Settle():
            return closing.settle(book, command, now_ms)
        case Release():
            return closing.release(book, command, now_ms)
        case CloseJob():
            return closing.close_job(book, header, command, now_ms)
        case ExpireJob():
            return closing.expire_job(book, command, now_ms)
        case Slash():
            return fraud.slash(book, command, now_ms)
        case ReportEquivocation():
            return fraud.report_equivocation(book, header, command, now_ms)
        case DistributeSlash():
            return fraud.distribute_slash(book, command, now_ms)
        case OpenChallenge():
            return challenges.open_challenge(book, header, command, now_ms)
        case ResolveChallenge():
            return challenges.resolve_challenge(book, command)
        case ExpireChallenge():
            return challenges.expire_challenge(book, header, command, now_ms)
        case PayJackpot():
            return challenges.pay_jackpot(book, command)


def _check_signer(book: Book, order: Order) -> Rejected | None:
    """Refuse a signer that may not use its role. `Journal` has checked the network."""
    header, founded = order.header, book.founded
    if founded is None:
        return reject(Reason.WRONG_NETWORK)
    if header.role == "network" and header.key != founded.network_key:
        return reject(Reason.ROLE_NOT_ALLOWED, "not the network's key")
    if header.role == "treasury" and header.key not in founded.treasury_keys:
        return reject(Reason.ROLE_NOT_ALLOWED, "not a key of the treasury")
    if header.role in PARTIES and not isinstance(order.command, Join):
        party = book.parties.get(header.party)
        if party is None:
            return reject(Reason.UNKNOWN_PARTY, "join first")
        if party.joined.role != header.role:
            return reject(Reason.ROLE_NOT_ALLOWED, f"joined as {party.joined.role}")
        if party.tombstoned and not isinstance(order.command, STILL_ALLOWED):
            return reject(Reason.OPERATOR_TOMBSTONED)
    if header.role == "driver" and header.key not in book.drivers:
        return reject(Reason.UNKNOWN_PARTY, "no job names this driver")
    return None


def _record(header: Header, command: Record) -> Decision:
    return accept(Recorded(evidence=command.evidence, role=header.role, party=header.party))
