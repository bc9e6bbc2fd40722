"""Helpers for tests of the ledger's core: readers of books, senders by role, a 2-of-3 treasury."""

from collections.abc import Callable
from typing import Any

from gensyn_ray.domain.leaf import Leaf
from ledger.core import accounts
from ledger.core.book import Book
from ledger.core.book_state import ChallengeEntry, SlashEntry, SlotEntry, Standing
from ledger.core.commands import (
    Approve,
    Command,
    OpenChallenge,
    Release,
    ReportEquivocation,
    Settle,
    SettleItem,
    Slash,
)
from ledger.core.events import Moved
from ledger.core.journal import Entry
from ledger.core.refusals import Reason, Rejected
from tests.kits.ledger_kit import (
    Answer,
    Kit,
    commit,
    found,
    key_of,
    leaf_of,
    party_of,
    slot_of,
)

FIRST = slot_of("job-1", "task-0", 0)
SECOND = slot_of("job-1", "task-0", 1)
THIRD = slot_of("job-1", "task-0", 2)
FOURTH = slot_of("job-1", "task-0", 3)
UNISSUED = slot_of("job-1", "task-0", 99)

TREASURY_KEYS = ("treasury", "treasury-b", "treasury-c")

Attempt = Callable[[Kit], Answer]


def reason_of(answer: Answer) -> Reason | None:
    return answer.reason if isinstance(answer, Rejected) else None


def moves(entry: Entry) -> list[tuple[str, str, int, str]]:
    """The postings of an entry: (debit, credit, amount in micro-credits, memo)."""
    return [
        (event.debit, event.credit, event.amount_micro, event.memo)
        for event in entry.events
        if isinstance(event, Moved)
    ]


def memos(entry: Entry) -> list[str]:
    return [memo for _, _, _, memo in moves(entry)]


def state_of(book: Book) -> dict[str, Any]:
    """The whole content of a book, for comparisons."""
    return {**vars(book), "balances": dict(book.balances)}


def available(kit: Kit, name: str) -> int:
    return kit.balance(accounts.available(party_of(name)))


def free(kit: Kit, name: str) -> int:
    return kit.balance(accounts.free_stake(party_of(name)))


def unbonding(kit: Kit, name: str) -> int:
    return kit.balance(accounts.unbonding_stake(party_of(name)))


def reserved(kit: Kit, name: str, job: str) -> int:
    return kit.balance(accounts.reserved_stake(party_of(name), job))


def held(kit: Kit, job: str, name: str) -> int:
    return kit.balance(accounts.slashed(job, party_of(name)))


def standing(kit: Kit, name: str) -> Standing:
    return kit.journal.book.parties[party_of(name)].standing


def slot_in(kit: Kit, slot: str) -> SlotEntry:
    entry = kit.journal.book.slot(slot)
    assert entry is not None
    return entry


def slash_of(kit: Kit, name: str) -> SlashEntry:
    return kit.journal.book.slashes[party_of(name)]


def challenge_in(kit: Kit, challenge: str) -> ChallengeEntry:
    return kit.journal.book.challenges[challenge]


def leaf(slot: str = SECOND, operator: str = "op-a", **changes: Any) -> Leaf:
    """The leaf with which `operator` answers a slot of the busy kit."""
    return leaf_of(slot, operator, **changes)


# -- commands --------------------------------------------------------------------------------


def settle(job: str, *slots: str) -> Settle:
    return Settle(job=job, items=[SettleItem(slot=slot, pay=True, reason="") for slot in slots])


def release(job: str, *slots: str) -> Release:
    return Release(job=job, slots=list(slots))


def slash(job: str, name: str, evidence: str, *spoilt: str, reporter: str = "") -> Slash:
    return Slash(
        job=job,
        operator=party_of(name),
        evidence=evidence,
        spoilt=list(spoilt),
        reporter=party_of(reporter) if reporter else "",
    )


def open_challenge(challenge: str, slot: str) -> OpenChallenge:
    return OpenChallenge(challenge=challenge, slot=slot, claim="it is wrong")


def signed_answer(kit: Kit, name: str, slot: str, **changes: Any) -> dict[str, str]:
    """A signed commitment to one leaf that is not sent."""
    return kit.sign(name, "operator", commit(leaf_of(slot, name, **changes))).to_json()


def two_answers(kit: Kit, name: str, slot: str) -> ReportEquivocation:
    """A report of two different signed answers to one slot."""
    first, second = (signed_answer(kit, name, slot, state_after=state) for state in ("a", "b"))
    return ReportEquivocation(slot=slot, first=first, second=second)


# -- senders ---------------------------------------------------------------------------------


def by(name: str, role: str, command: Command, **header: Any) -> Attempt:
    return lambda kit: kit.send(name, role, command, **header)


def op(command: Command) -> Attempt:
    return by("op-a", "operator", command)


def driver(command: Command) -> Attempt:
    return by("driver", "driver", command)


def network(command: Command) -> Attempt:
    return by("network", "network", command)


def submitter(command: Command) -> Attempt:
    return by("submitter", "submitter", command)


def treasury(command: Command) -> Attempt:
    return by("treasury", "treasury", command)


def later(by_ms: int, attempt: Attempt) -> Attempt:
    """The same attempt at a later time. Resets the clock, because tests share the kit."""

    def at(kit: Kit) -> Answer:
        kit.clock.advance(by_ms)
        try:
            return attempt(kit)
        finally:
            kit.clock.advance(-by_ms)

    return at


# -- a treasury of three keys ----------------------------------------------------------------


class CouncilKit(Kit):
    """A kit with a 2-of-3 treasury. `treasury` proposes and `treasury-b` approves."""

    def __init__(self, **changes: Any) -> None:
        keys = [key_of(name).public.hex() for name in TREASURY_KEYS]
        super().__init__(found(treasury_keys=keys, treasury_threshold=2, **changes))

    def propose(self, command: Command, name: str = "treasury") -> str:
        """Propose a command; returns the name of the proposal."""
        return super().accept(name, "treasury", command).envelope.body_hash

    def approve(self, name: str, proposal: str) -> Entry:
        return super().accept(name, "treasury", Approve(proposal=proposal))

    def accept(self, name: str, role: str, command: Command) -> Entry:
        if role == "treasury":
            return self.approve("treasury-b", self.propose(command, name))
        return super().accept(name, role, command)
