"""Two tables from a journal: postings, and receipts of settled segments.

Both keep the order of the entries.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gensyn_ray.domain.ids import Slot
from ledger.core.events import Moved, SlotCommitted, SlotSettled
from ledger.core.journal import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """`amount_micro` from `debit` to `credit`. `signer`: the party whose command caused it."""

    entry: int
    time_ms: int
    operation: str
    signer: str
    debit: str
    credit: str
    amount_micro: int
    memo: str
    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How one segment was settled.

    `amount_micro`: its pay at settlement; a later slash may have taken it. `command`: body hash of
    the settling command, as in a signed receipt.
    """

    slot: str
    operator: str
    job: str
    task: str
    segment: int
    attempt: int
    paid: bool
    amount_micro: int
    reason: str
    settled_entry: int
    settled_ms: int
    command: str


def postings(entries: Iterable[Entry]) -> Iterator[Posting]:
    """All postings, oldest first."""
    for entry in entries:
        yield from postings_of(entry)


def postings_of(entry: Entry) -> Iterator[Posting]:
    """The postings of one entry, in its order."""
    header = entry.header
    for event in entry.events:
        if isinstance(event, Moved):
            yield Posting(
                entry=entry.index,
                time_ms=entry.time_ms,
                operation=header.operation,
                signer=header.party,
                debit=event.debit,
                credit=event.credit,
                amount_micro=event.amount_micro,
                memo=event.memo,
                slot=event.slot,
            )


def receipts(entries: Iterable[Entry]) -> Iterator[Receipt]:
    """One receipt for each settled segment, in the order of settlement.

    Raises `KeyError` if the entry that committed a segment is missing.
    """
    committed: dict[str, str] = {}
    for entry in entries:
        yield from receipts_of(entry, committed)


def receipts_of(entry: Entry, committed: dict[str, str]) -> Iterator[Receipt]:
    """The receipts of one entry. Updates `committed`: operator by committed, unsettled slot."""
    for event in entry.events:
        if isinstance(event, SlotCommitted):
            committed[event.slot] = event.operator
        elif isinstance(event, SlotSettled):
            yield _receipt(entry, event, committed.pop(event.slot))


def _receipt(entry: Entry, settled: SlotSettled, operator: str) -> Receipt:
    slot = Slot.parse(settled.slot)
    return Receipt(
        slot=settled.slot,
        operator=operator,
        job=slot.job,
        task=slot.task,
        segment=slot.segment,
        attempt=slot.attempt,
        paid=settled.paid,
        amount_micro=_earned_micro(entry, settled.slot) if settled.paid else 0,
        reason=settled.reason,
        settled_entry=entry.index,
        settled_ms=entry.time_ms,
        command=entry.envelope.body_hash,
    )


def _earned_micro(entry: Entry, slot: str) -> int:
    moves = (event for event in entry.events if isinstance(event, Moved))
    return sum(moved.amount_micro for moved in moves if moved.slot == slot)
