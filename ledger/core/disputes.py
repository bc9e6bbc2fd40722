"""Questions about a segment, with a bond that is lost if they are found to be idle.

While a dispute is open its segment's pay is not released and its job does not close. What the
answer is, is decided above: this core keeps the bond and the state.
"""

from gensyn_ray.domain.ids import is_safe_id
from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.commands import ExpireDispute, OpenDispute, PayJackpot, ResolveDispute
from ledger.core.decision import Accepted, Decision, accept, in_range, reject
from ledger.core.entries import DisputeEntry, DisputeState, SlotState
from ledger.core.events import DisputeEnded, DisputeOpened, Event, Moved
from ledger.core.orders import Header
from ledger.core.refusals import Reason, Rejected


def open_dispute(book: Book, header: Header, command: OpenDispute, now_ms: int) -> Decision:
    """Put up the bond and stop the segment's pay."""
    job = book.jobs.get(command.slot.split("/", 1)[0])
    if job is None:
        return reject(Reason.UNKNOWN_JOB, command.slot[:200])
    if not is_safe_id(command.dispute):
        return reject(Reason.BAD_ID, command.dispute[:64])
    entry = job.slots.get(command.slot)
    if entry is None:
        return reject(Reason.UNKNOWN_SLOT, command.slot[:200])
    if entry.state in (SlotState.ISSUED, SlotState.DEAD):
        return reject(Reason.SLOT_NOT_OPEN, entry.state.value)
    if job.closed and now_ms > job.evidence_until_ms:
        return reject(Reason.EVIDENCE_TOO_OLD)
    if command.dispute in book.disputes:
        return reject(Reason.DISPUTE_EXISTS)
    source, bond_micro = accounts.available(header.party), book.parameters.dispute_bond_micro
    if book.balances[source] < bond_micro:
        return reject(Reason.INSUFFICIENT_FUNDS, f"the bond is {bond_micro}")
    opened: list[Event] = [
        DisputeOpened(
            dispute=command.dispute,
            slot=command.slot,
            party=header.party,
            claim=command.claim,
            bond_micro=bond_micro,
            expires_ms=now_ms + book.parameters.dispute_ms,
        )
    ]
    bond = accounts.dispute_bond(command.dispute)
    return Accepted(events=opened + _move(source, bond, bond_micro, "dispute bond", command.slot))


def resolve_dispute(book: Book, command: ResolveDispute) -> Decision:
    """Upheld: the bond returns. Dismissed: it goes to the treasury."""
    dispute = _open_dispute_of(book, command.dispute)
    if isinstance(dispute, Rejected):
        return dispute
    outcome = DisputeState.UPHELD if command.upheld else DisputeState.DISMISSED
    return _end(dispute, outcome, command.reason)


def expire_dispute(book: Book, header: Header, command: ExpireDispute, now_ms: int) -> Decision:
    """Nobody answered in time: that is not the opener's fault, and the bond returns."""
    known = book.disputes.get(command.dispute)
    if known and header.role != "network" and header.party != known.opened.party:
        return reject(Reason.ROLE_NOT_ALLOWED, "another party's dispute")
    dispute = _open_dispute_of(book, command.dispute)
    if isinstance(dispute, Rejected):
        return dispute
    if now_ms < dispute.opened.expires_ms:
        return reject(Reason.DISPUTE_NOT_EXPIRED, f"until {dispute.opened.expires_ms}")
    return _end(dispute, DisputeState.EXPIRED, "no answer in time")


def pay_jackpot(book: Book, command: PayJackpot) -> Decision:
    """Reward for finding a planted error."""
    party = book.parties.get(command.party)
    if party is None or party.joined.role != "verifier":
        return reject(Reason.UNKNOWN_PARTY, command.party[:64])
    if book.slot(command.evidence) is None:
        return reject(Reason.UNKNOWN_SLOT, command.evidence[:200])
    if not in_range(command.amount_micro):
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    held_micro = book.balances[accounts.JACKPOT]
    if held_micro < command.amount_micro:
        return reject(Reason.INSUFFICIENT_FUNDS, f"the jackpot holds {held_micro}")
    target = accounts.available(command.party)
    return accept(
        *_move(accounts.JACKPOT, target, command.amount_micro, "jackpot", command.evidence)
    )


def _open_dispute_of(book: Book, dispute: str) -> DisputeEntry | Rejected:
    entry = book.disputes.get(dispute)
    if entry is None:
        return reject(Reason.UNKNOWN_DISPUTE, dispute[:64])
    if entry.state is not DisputeState.OPEN:
        return reject(Reason.DISPUTE_ENDED, entry.state.value)
    return entry


def _end(dispute: DisputeEntry, outcome: DisputeState, reason: str) -> Decision:
    opened = dispute.opened
    dismissed = outcome is DisputeState.DISMISSED
    target = accounts.TREASURY if dismissed else accounts.available(opened.party)
    memo = "bond lost" if dismissed else "bond returned"
    bond = accounts.dispute_bond(opened.dispute)
    return accept(
        *_move(bond, target, opened.bond_micro, memo, opened.slot),
        DisputeEnded(dispute=opened.dispute, outcome=outcome.value, reason=reason),
    )


def _move(debit: str, credit: str, amount_micro: int, memo: str, slot: str) -> list[Event]:
    if amount_micro == 0:
        return []
    return [Moved(debit=debit, credit=credit, amount_micro=amount_micro, memo=memo, slot=slot)]
