"""Parties and their stake: join, withdraw, bond, unbond, mature, jail, unjail.

    available -> stake/free -> stake/unbonding -> available
                 stake/free <-> stake/reserved/{job}      (first slot in a job; end of the job)

A slash can take unbonding stake. Unbonding lasts longer than a job, its holdback and a challenge
together, so stake cannot leave before the work that it backed is final.
"""

from gensyn_ray.domain.ids import is_safe_id
from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.book_state import Standing
from ledger.core.commands import Bond, Jail, Join, Mature, Unbond, Withdraw
from ledger.core.decision import Decision, accept, in_range, reject
from ledger.core.events import (
    Jailed,
    Moved,
    PartyJoined,
    UnbondingMatured,
    UnbondingStarted,
    Unjailed,
)
from ledger.core.orders import Header
from ledger.core.parameters import MAX_MS
from ledger.core.refusals import Reason


def join(book: Book, header: Header, command: Join) -> Decision:
    """Register a key as a party. Its role is final."""
    if header.party in book.parties:
        return reject(Reason.PARTY_EXISTS)
    if not is_safe_id(command.name):
        return reject(Reason.BAD_ID, command.name[:64])
    return accept(
        PartyJoined(
            party=header.party,
            role=header.role,
            key=header.key,
            name=command.name,
            numerics=command.numerics,
        )
    )


def withdraw(book: Book, header: Header, command: Withdraw) -> Decision:
    """Move available credits out of the network."""
    return _move(book, header.party, command.amount_micro, "withdraw")


def bond(book: Book, header: Header, command: Bond) -> Decision:
    """Move available credits to free stake."""
    return _move(book, header.party, command.amount_micro, "bond")


def _move(book: Book, party: str, amount_micro: int, memo: str) -> Decision:
    source = accounts.available(party)
    if not in_range(amount_micro):
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    if book.balances[source] < amount_micro:
        return reject(Reason.INSUFFICIENT_FUNDS, f"available {book.balances[source]}")
    target = accounts.EXTERNAL if memo == "withdraw" else accounts.free_stake(party)
    return accept(Moved(debit=source, credit=target, amount_micro=amount_micro, memo=memo))


def unbond(book: Book, header: Header, command: Unbond, now_ms: int) -> Decision:
    """Move free stake to unbonding."""
    source = accounts.free_stake(header.party)
    if not in_range(command.amount_micro):
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    if book.balances[source] < command.amount_micro:
        return reject(Reason.INSUFFICIENT_STAKE, f"free {book.balances[source]}")
    return accept(
        UnbondingStarted(
            party=header.party,
            amount_micro=command.amount_micro,
            mature_ms=now_ms + book.parameters.unbonding_ms,
        ),
        Moved(
            debit=source,
            credit=accounts.unbonding_stake(header.party),
            amount_micro=command.amount_micro,
            memo="unbond",
        ),
    )


def mature(book: Book, header: Header, command: Mature, now_ms: int) -> Decision:
    """Move stake whose unbonding time is over to available."""
    if header.role != "network" and header.party != command.party:
        return reject(Reason.ROLE_NOT_ALLOWED, "another party's stake")
    party = book.parties.get(command.party)
    if party is None:
        return reject(Reason.UNKNOWN_PARTY, command.party[:64])
    # Oldest first. `unbonding_ms` may have changed in between: stop at the first that is not over.
    count = 0
    while count < len(party.unbonding) and party.unbonding[count].mature_ms <= now_ms:
        count += 1
    if count == 0:
        return reject(Reason.NOTHING_MATURED)
    return accept(
        Moved(
            debit=accounts.unbonding_stake(command.party),
            credit=accounts.available(command.party),
            amount_micro=sum(one.amount_micro for one in party.unbonding[:count]),
            memo="mature",
        ),
        UnbondingMatured(party=command.party, count=count),
    )


def jail(book: Book, command: Jail, now_ms: int) -> Decision:
    """Refuse an operator slots until `until_ms` has passed and it sends `Unjail`."""
    party = book.parties.get(command.operator)
    if party is None or party.joined.role != "operator":
        return reject(Reason.UNKNOWN_PARTY, command.operator[:64])
    if party.tombstoned:
        return reject(Reason.OPERATOR_TOMBSTONED)
    if not now_ms < command.until_ms <= now_ms + MAX_MS:
        return reject(Reason.AMOUNT_OUT_OF_RANGE, "jail ends in the future")
    return accept(
        Jailed(operator=command.operator, until_ms=command.until_ms, reason=command.reason)
    )


def unjail(book: Book, header: Header, now_ms: int) -> Decision:
    """End an operator's jail after its time."""
    party = book.parties[header.party]
    if party.standing is not Standing.JAILED:
        return reject(Reason.NOT_JAILED)
    if now_ms < party.jailed_until_ms:
        return reject(Reason.STILL_JAILED, f"until {party.jailed_until_ms}")
    return accept(Unjailed(operator=header.party))
