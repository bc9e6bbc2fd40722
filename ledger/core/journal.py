"""The log and the book together: what is accepted, in order, under one Merkle root.

An entry is an accepted command with its exact signed bytes, the moment at which it was decided, and
the events that it caused. Its canonical line is one leaf of the log. Refused commands leave no
entry: they change nothing, and journaling them would let anyone fill the disk.
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
"""A further check on an order, from rules that this core does not know."""


class CorruptJournal(ValueError):
    """A journal does not say what an honest authority would have written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted command. `line` is its canonical form, without a line end; `header` what its
    envelope says of itself; `told` its events as canonical text, which a receipt repeats."""

    index: int
    time_ms: int
    envelope: Envelope
    header: Header
    events: list[Event]
    told: str
    line: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """The same command was accepted before, at `index`."""

    index: int


def make_entry(index: int, time_ms: int, order: Order, happened: list[Event]) -> Entry:
    """An entry with its canonical line."""
    told = "[" + ",".join([records.tagged_text(event, depth=2) for event in happened]) + "]"
    line = canonical.encode_object(
        {
            "index": str(index),
            "time_ms": str(time_ms),
            "envelope": canonical.text(order.envelope.to_json()),
            "events": told,
        }
    )
    return Entry(
        index=index,
        time_ms=time_ms,
        envelope=order.envelope,
        header=order.header,
        events=happened,
        told=told,
        line=line,
    )


def parse_entry(line: bytes) -> Entry:
    """The entry that a line spells. Raises `CorruptJournal`.

    Does not check signatures or decisions: whoever reads another's journal uses `export.flat`.
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
            told=canonical.text(value["events"], depth=1),
            line=line,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptJournal(f"not a journal entry: {error}") from None


def _event(value: Any) -> Event:
    return records.from_tagged(events.KINDS, value)


class Journal:
    """Decides orders against the book and folds what was accepted into book and log.

    The shell calls `propose`, then `apply`, makes the entry durable and only then acknowledges it:
    a batch shares one sync. If the sync fails the process ends, and with it what was applied.
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
        """What would be written for this envelope now. Changes nothing."""
        return self.propose_read(orders.read(envelope), now_ms, admit)

    def propose_read(
        self, order: Order | Rejected, now_ms: int, admit: Admit | None = None
    ) -> Entry | Duplicate | Rejected:
        """The same for an envelope that `orders.read` has opened, on another thread perhaps."""
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
        """Fold an entry that was proposed here, or that is durable. Raises `CorruptJournal`."""
        if entry.index != len(self.tree):
            raise CorruptJournal(f"entry {entry.index} stands where {len(self.tree)} belongs")
        if entry.index == 0:
            self.genesis = entry.envelope.body_hash
        self.tree.append(entry.line)
        self._index_of[entry.envelope.body_hash] = entry.index
        self._nonces.add((entry.header.key, entry.header.nonce))
        self.book.apply_all(entry.events)

    def head_at(self, size: int) -> str:
        """`SIZE:ROOT` of the log's first `size` entries: what signers and receipts quote."""
        return f"{size}:{self.tree.root_at(size).hex()}"

    def _knows_head(self, head: str) -> bool:
        """Whether the log that a signer saw last is this log's own past."""
        if head == "":
            return True
        size = head.partition(":")[0]
        known = size.isascii() and size.isdecimal() and len(size) < 20
        return known and int(size) <= len(self.tree) and self.head_at(int(size)) == head
