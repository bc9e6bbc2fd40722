"""Challenges: bonded questions about a segment. Also the jackpot's payments.

While a challenge is open, its segment's pay is not released and its job cannot close. Settlement
decides how a challenge ends; this module moves the bond.
"""

from gensyn_ray.domain.ids import is_safe_id
from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.book_state import ChallengeEntry, ChallengeState, SlotState
from ledger.core.commands import ExpireChallenge, OpenChallenge, PayJackpot, ResolveChallenge
from ledger.core.decision import Accepted, Decision, accept, in_range, reject
from ledger.core.events import ChallengeEnded, ChallengeOpened, Event, Moved
from ledger.core.orders import Header
from ledger.core.refusals import Reason, Rejected


def open_challenge(book: Book, header: Header, command: OpenChallenge, now_ms: int) -> Decision:
    """Take the bond and stop the release of the segment's pay."""
    job = book.jobs.get(command.slot.split("/", 1)[0])
    if job is None:
        return reject(Reason.UNKNOWN_JOB, command.slot[:200])
    if not is_safe_id(command.challenge):
        return reject(Reason.BAD_ID, command.challenge[:64])
    entry = job.slots.get(command.slot)
    if entry is None:
        return reject(Reason.UNKNOWN_SLOT, command.slot[:200])
    if entry.state in (SlotState.ISSUED, SlotState.DEAD):
        return reject(Reason.SLOT_NOT_OPEN, entry.state.value)
    if job.closed and now_ms > job.evidence_until_ms:
        return reject(Reason.EVIDENCE_TOO_OLD)
    if command.challenge in book.challenges:
        return reject(Reason.CHALLENGE_EXISTS)
    source, bond_micro = accounts.available(header.party), book.parameters.challenge_bond_micro
    if book.balances[source] < bond_micro:
        return reject(Reason.INSUFFICIENT_FUNDS, f"the bond is {bond_micro}")
    opened: list[Event] = [
        ChallengeOpened(
            challenge=command.challenge,
            slot=command.slot,
            party=header.party,
            claim=command.claim,
            bond_micro=bond_micro,
            expires_ms=now_ms + book.parameters.challenge_ms,
        )
    ]
    bond = accounts.challenge_bond(command.challenge)
    return Accepted(events=opened + _move(source, bond, bond_micro, "challenge bond", command.slot))


def resolve_challenge(book: Book, command: ResolveChallenge) -> Decision:
    """End a challenge. Upheld returns the bond; dismissed pays it to the treasury."""
    challenge = _open_challenge_of(book, command.challenge)
    if isinstance(challenge, Rejected):
        return challenge
    outcome = ChallengeState.UPHELD if command.upheld else ChallengeState.DISMISSED
    return _end(challenge, outcome, command.reason)


def expire_challenge(book: Book, header: Header, command: ExpireChallenge, now_ms: int) -> Decision:
    """End a challenge that got no answer in time, and return the bond."""
    known = book.challenges.get(command.challenge)
    if known and header.role != "network" and header.party != known.opened.party:
        return reject(Reason.ROLE_NOT_ALLOWED, "another party's challenge")
    challenge = _open_challenge_of(book, command.challenge)
    if isinstance(challenge, Rejected):
        return challenge
    if now_ms < challenge.opened.expires_ms:
        return reject(Reason.CHALLENGE_NOT_EXPIRED, f"until {challenge.opened.expires_ms}")
    return _end(challenge, ChallengeState.EXPIRED, "no answer in time")


def pay_jackpot(book: Book, command: PayJackpot) -> Decision:
    """Reward a verifier for a found planted error."""
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


def _open_challenge_of(book: Book, challenge: str) -> ChallengeEntry | Rejected:
    entry = book.challenges.get(challenge)
    if entry is None:
        return reject(Reason.UNKNOWN_CHALLENGE, challenge[:64])
    if entry.state is not ChallengeState.OPEN:
        return reject(Reason.CHALLENGE_ENDED, entry.state.value)
    return entry


def _end(challenge: ChallengeEntry, outcome: ChallengeState, reason: str) -> Decision:
    opened = challenge.opened
    dismissed = outcome is ChallengeState.DISMISSED
    target = accounts.TREASURY if dismissed else accounts.available(opened.party)
    memo = "bond lost" if dismissed else "bond returned"
    bond = accounts.challenge_bond(opened.challenge)
    return accept(
        *_move(bond, target, opened.bond_micro, memo, opened.slot),
        ChallengeEnded(challenge=opened.challenge, outcome=outcome.value, reason=reason),
    )


def _move(debit: str, credit: str, amount_micro: int, memo: str, slot: str) -> list[Event]:
    if amount_micro == 0:
        return []
    return [Moved(debit=debit, credit=credit, amount_micro=amount_micro, memo=memo, slot=slot)]
