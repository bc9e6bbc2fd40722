"""The flat journal: one file with all entries and a checkpoint, for an offline check.

    gensyn-ray journal v1
    <entry line>            one per line, canonical JSON
    ...
    <empty line>
    <signed checkpoint>

`verify` needs only the file and the network's public key. It verifies every signature, decides
every command again and recomputes the Merkle root; every byte of the file is covered. It cannot see
that a file is an old one; for that, remember a checkpoint (`since`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gensyn_ray.domain.merkle import root_of
from gensyn_ray.domain.signing import SigningKey
from ledger.core import checkpoint as checkpoints
from ledger.core import invariants
from ledger.core.checkpoint import Checkpoint
from ledger.core.journal import Admit, CorruptJournal, Duplicate, Entry, Journal, parse_entry
from ledger.core.refusals import Rejected

HEADER = b"gensyn-ray journal v1\n"
NOTE_LINES = 5
"""Lines of the note: origin, size, root, an empty line, the network's signature."""


def write_flat(lines: Iterable[bytes], key: SigningKey, origin: str, path: Path) -> Checkpoint:
    """Write a flat journal with a checkpoint signed by the network's key."""
    kept = list(lines)
    head = Checkpoint(origin=origin, size=len(kept), root=root_of(kept))
    text = HEADER + b"".join(line + b"\n" for line in kept) + b"\n"
    path.write_bytes(text + checkpoints.sign(head, key).encode())
    return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A valid flat journal. `note`: the signed text of its `head`."""

    head: Checkpoint
    note: str
    journal: Journal
    entries: list[Entry]


def verify(
    data: bytes,
    public_key: bytes,
    *,
    since: Checkpoint | None = None,
    admit: Admit | None = None,
    follow: Callable[[Entry], None] | None = None,
) -> Verified:
    """Check a flat journal from its first byte to its last.

    `since`: a checkpoint that the journal must continue. `admit`: rules outside the ledger's core
    that each order has to pass. `follow` gets each valid entry. Raises `CorruptJournal` with the
    first problem.
    """
    lines, head, note = _split(data, public_key)
    if head.size != len(lines):
        raise CorruptJournal(f"the checkpoint counts {head.size} entries, the file {len(lines)}")
    if root_of(lines) != head.root:
        raise CorruptJournal("the entries do not have the checkpoint's root")
    if since is not None:
        if since.size > len(lines):
            raise CorruptJournal(f"rolled back: {since.size} entries were seen before")
        if root_of(lines[: since.size]) != since.root:
            raise CorruptJournal("the file does not continue the remembered checkpoint")
    journal = Journal()
    entries: list[Entry] = []
    for line in lines:
        entry = parse_entry(line)
        if entry.time_ms < (entries[-1].time_ms if entries else 0):
            raise CorruptJournal(f"time runs backwards at entry {entry.index}")
        _check_decision(journal, entry, admit)
        journal.apply(entry)
        entries.append(entry)
        if follow is not None:
            follow(entry)
    founded = journal.book.founded
    if founded is None or bytes.fromhex(founded.network_key) != public_key:
        raise CorruptJournal("the journal was founded by another key")
    if founded.network != head.origin:
        raise CorruptJournal("the checkpoint belongs to another network")
    if broken := invariants.check(journal.book):
        raise CorruptJournal(broken[0])
    return Verified(head=head, note=note, journal=journal, entries=entries)


def _split(data: bytes, public_key: bytes) -> tuple[list[bytes], Checkpoint, str]:
    if not data.startswith(HEADER):
        raise CorruptJournal("not a flat journal: the first line differs")
    body, mark, end = data[len(HEADER) :].partition(b"\n\n")
    if not mark:
        raise CorruptJournal("the checkpoint is missing")
    try:
        note = end.decode()
        head = checkpoints.read(note, public_key)
    except ValueError as error:
        raise CorruptJournal(str(error)) from None
    if note.count("\n") != NOTE_LINES:
        # Nothing would cover the line of an unknown witness.
        raise CorruptJournal("the checkpoint has more than the network's signature")
    return body.split(b"\n"), head, note


def _check_decision(journal: Journal, entry: Entry, admit: Admit | None) -> None:
    again = journal.propose(entry.envelope, entry.time_ms, admit)
    if isinstance(again, Rejected):
        raise CorruptJournal(f"entry {entry.index} should have been refused: {again.reason}")
    if isinstance(again, Duplicate):
        raise CorruptJournal(f"entry {entry.index} repeats entry {again.index}")
    if again.line != entry.line:
        raise CorruptJournal(f"the events of entry {entry.index} are not those of its command")
