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
from ledger.core.orders import Order
from ledger.core.refusals import Reason, Rejected

Admit = Callable[[Order], Rejected | None]
"""A further check on an order, from rules that this core does not know."""


class CorruptJournal(ValueError):
    """A journal does not say what an honest authority would have written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted command. `line` is its canonical form, without a line end."""

    index: int
    time_ms: int
    envelope: Envelope
    events: list[Event]
    line: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """The same command was accepted before, at `index`."""

    index: int


def make_entry(index: int, time_ms: int, envelope: Envelope, happened: list[Event]) -> Entry:
    """An entry with its canonical line."""
    line = canonical.encode(
        {
            "index": index,
            "time_ms": time_ms,
            "envelope": envelope.to_json(),
            "events": [records.to_tagged(event) for event in happened],
        }
    )
    return Entry(index=index, time_ms=time_ms, envelope=envelope, events=happened, line=line)


def parse_entry(line: bytes) -> Entry:
    """The entry that a line spells. Raises `CorruptJournal`."""
    try:
        value: dict[str, Any] = canonical.decode(line)
        happened: list[Event] = [
            records.from_tagged(events.KINDS, event) for event in value["events"]
        ]
        envelope = Envelope.from_json(value["envelope"])
        if type(value["index"]) is not int or type(value["time_ms"]) is not int:
            raise ValueError("index and time are whole numbers")
        entry = make_entry(value["index"], value["time_ms"], envelope, happened)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptJournal(f"not a journal entry: {error}") from None
    if entry.line != line:
        raise CorruptJournal("an entry holds more than an entry's fields")
    return entry


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
        if (before := self._index_of.get(envelope.body_hash)) is not None:
            return Duplicate(index=before)
        order = orders.read(envelope)
        if isinstance(order, Rejected):
            return order
        founded = self.book.founded
        here = (self.genesis, founded.network if founded else "")
        if not orders.is_founding(order) and (order.header.genesis, order.header.network) != here:
            return Rejected(reason=Reason.WRONG_NETWORK)
        if (order.header.key, order.header.nonce) in self._nonces:
            return Rejected(reason=Reason.NONCE_REUSED)
        decision = decide(self.book, order, now_ms)
        if isinstance(decision, Rejected):
            return decision
        if admit is not None and (no := admit(order)) is not None:
            return no
        return make_entry(len(self.tree), now_ms, envelope, decision.events)

    def apply(self, entry: Entry) -> Order:
        """Fold an entry that is durable. Returns its order, for whoever folds more from it."""
        order = orders.read(entry.envelope)
        if isinstance(order, Rejected):
            raise CorruptJournal(f"entry {entry.index}: {order.reason}")
        if entry.index != len(self.tree):
            raise CorruptJournal(f"entry {entry.index} stands where {len(self.tree)} belongs")
        if orders.is_founding(order):
            self.genesis = entry.envelope.body_hash
        self.tree.append(entry.line)
        self._index_of[entry.envelope.body_hash] = entry.index
        self._nonces.add((order.header.key, order.header.nonce))
        self.book.apply_all(entry.events)
        return order
