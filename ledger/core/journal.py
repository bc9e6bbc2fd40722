"""The journal: accepted commands in order, under one Merkle root, and the book they lead to.

An entry holds an accepted command's exact signed bytes, the time of its decision and its events.
Its canonical line is one leaf of the log. A refused command leaves no entry: it changes nothing,
and an entry for each would let anyone fill the disk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.merkle import MerkleTree
from gensyn_ray.domain.signing import Envelope
from ledger.core import events, orders
from ledger.core.book import Book
from ledger.core.decide import decide
from ledger.core.events import Event
from ledger.core.orders import Header, Order
from ledger.core.refusals import Reason, Rejected

Admit = Callable[[Order], Rejected | None]
"""Another check on an order, by rules outside this core: None admits the order."""


class CorruptJournal(ValueError):
    """A journal differs from what an honest authority would have written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted command.

    `line`: the entry as canonical JSON, without a line end. `header`: parsed from the envelope.
    `events_text`: the events as canonical JSON; a receipt repeats it.
    """

    index: int
    time_ms: int
    envelope: Envelope
    header: Header
    events: list[Event]
    events_text: str
    line: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """The same signed body was accepted before, as entry `index`."""

    index: int


def make_entry(index: int, time_ms: int, order: Order, happened: list[Event]) -> Entry:
    """The entry for an accepted order: computes its canonical line."""
    events_text = "[" + ",".join([records.tagged_text(event, depth=2) for event in happened]) + "]"
    line = canonical.encode_object(
        {
            "index": str(index),
            "time_ms": str(time_ms),
            "envelope": canonical.text(order.envelope.to_json()),
            "events": events_text,
        }
    )
    return Entry(
        index=index,
        time_ms=time_ms,
        envelope=order.envelope,
        header=order.header,
        events=happened,
        events_text=events_text,
        line=line,
    )


def parse_entry(line: bytes) -> Entry:
    """Parse a line. Raises `CorruptJournal`.

    Checks neither signatures nor decisions; use `ledger.export.flat` for a journal from elsewhere.
    """
    try:
        value: dict[str, Any] = canonical.decode(line)
        if set(value) != {"index", "time_ms", "envelope", "events"}:
            raise ValueError("other fields than an entry's")
        if type(value["index"]) is not int or type(value["time_ms"]) is not int:
            raise ValueError("index and time are whole numbers")
        envelope = Envelope.from_json(value["envelope"])
        return Entry(
            index=value["index"],
            time_ms=value["time_ms"],
            envelope=envelope,
            header=orders.header_of(envelope),
            events=[_event(event) for event in value["events"]],
            events_text=canonical.text(value["events"], depth=1),
            line=line,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptJournal(f"not a journal entry: {error}") from None


def _event(value: Any) -> Event:
    return records.from_tagged(events.KINDS, value)


class Journal:
    """Decides orders against the book, and folds accepted ones into book and log.

    The caller runs `propose`, then `apply`, then makes the entry durable, then acknowledges it.
    Several entries share one sync. If the sync fails, the process must end, because it has applied
    entries that may not be stored.
    """

    def __init__(self) -> None:
        self.book = Book()
        self.tree = MerkleTree()
        self.genesis = ""
        self._index_of: dict[str, int] = {}
        self._nonces: set[tuple[str, str]] = set()

    def propose(
        self, envelope: Envelope, now_ms: int, admit: Admit | None = None
    ) -> Entry | Duplicate | Rejected:
        """The entry that this envelope would get now. Changes nothing."""
        return self.propose_read(orders.read(envelope), now_ms, admit)

    def propose_read(
        self, order: Order | Rejected, now_ms: int, admit: Admit | None = None
    ) -> Entry | Duplicate | Rejected:
        """`propose` for an envelope that `orders.read` has parsed already."""
        if isinstance(order, Rejected):
            return order
        if (before := self._index_of.get(order.envelope.body_hash)) is not None:
            return Duplicate(index=before)
        founded = self.book.founded
        here = (self.genesis, founded.network if founded else "")
        if not orders.is_founding(order) and (order.header.genesis, order.header.network) != here:
            return Rejected(reason=Reason.WRONG_NETWORK)
        if not self._knows_head(order.header.head):
            return Rejected(reason=Reason.UNKNOWN_HEAD, detail=order.header.head[:100])
        if (order.header.key, order.header.nonce) in self._nonces:
            return Rejected(reason=Reason.NONCE_REUSED)
        decision = decide(self.book, order, now_ms)
        if isinstance(decision, Rejected):
            return decision
        if admit is not None and (no := admit(order)) is not None:
            return no
        return make_entry(len(self.tree), now_ms, order, decision.events)

    def apply(self, entry: Entry) -> None:
        """Fold the next entry. Raises `CorruptJournal` if it has another index."""
        if entry.index != len(self.tree):
            raise CorruptJournal(f"entry {entry.index} stands where {len(self.tree)} belongs")
        if entry.index == 0:
            self.genesis = entry.envelope.body_hash
        self.tree.append(entry.line)
        self._index_of[entry.envelope.body_hash] = entry.index
        self._nonces.add((entry.header.key, entry.header.nonce))
        self.book.apply_all(entry.events)

    def head_at(self, size: int) -> str:
        """`SIZE:ROOT` of the log's first `size` entries, as commands and receipts quote it."""
        return f"{size}:{self.tree.root_at(size).hex()}"

    def _knows_head(self, head: str) -> bool:
        """Whether a signer's last seen head is empty or an earlier head of this log."""
        if head == "":
            return True
        size = head.partition(":")[0]
        known = size.isascii() and size.isdecimal() and len(size) < 20
        return known and int(size) <= len(self.tree) and self.head_at(int(size)) == head
