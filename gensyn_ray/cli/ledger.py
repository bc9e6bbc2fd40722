"""`gensyn-ray ledger`: keep and check the books."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from gensyn_ray.authority import load
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.settlement import Settlement
from ledger.core.checkpoint import read as read_checkpoint
from ledger.core.events import Recorded
from ledger.core.journal import CorruptJournal, Entry
from ledger.export.flat import Verified, verify, write_flat
from ledger.storage.sqlite import SqliteJournal

app = App(name="ledger", help="Keep and check the books.")


@app.command(name="verify")
def verify_journal(
    journal: Path,
    *,
    key: str,
    since: Path | None = None,
    draws: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Check a flat journal offline: signatures, decisions, Merkle root, every byte.

    Parameters
    ----------
    journal: The flat journal.
    key: The network's public key, as hex.
    since: A checkpoint seen earlier; the journal must contain it.
    draws: Also compute every draw again from the journal's links.
    """
    checked = check_file(journal, key, since=since, draws=draws)
    book = checked.journal.book
    print(
        f"{journal}: whole. {checked.head.size} entries, root {checked.head.root.hex()[:16]}, "
        f"{len(book.jobs)} jobs, balances sum to {book.balances.total_micro()}"
        + (", every draw is right" if draws else "")
    )


@app.command
def export(path: Path, *, home: Path, format: Literal["journal"] = "journal") -> None:
    """Write the books of the authority at HOME to PATH.

    Parameters
    ----------
    path: The file to write.
    home: The authority's home directory.
    format: `journal` is the flat journal that `verify` checks.
    """
    config, hidden = load(home)
    key = SigningKey(bytes.fromhex(hidden.network_seed))
    head = write_flat(
        SqliteJournal(home / "journal.sqlite", read_only=True).read(), key, config.network, path
    )
    print(f"{path}: {head.size} entries; check it with: --key {key.public.hex()}")


def check_file(
    journal: Path, key: str, *, since: Path | None = None, draws: bool = False
) -> Verified:
    """Verify a flat journal. Raises `UsageError` or `OperationError` with what is wrong."""
    try:
        public = bytes.fromhex(key)
        data = journal.read_bytes()
        seen = None if since is None else read_checkpoint(since.read_text(), public)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot check {journal}: {error}") from None
    settlement = Settlement()

    def follow(entry: Entry) -> None:
        for event in entry.events:
            if not isinstance(event, Recorded) or event.kind != "draw":
                continue
            if problem := settlement.check_draw(event.content):
                raise CorruptJournal(f"entry {entry.index}: {problem}")
        settlement.fold(entry.events, entry.time_ms)

    try:
        return verify(data, public, since=seen, follow=follow if draws else None)
    except CorruptJournal as error:
        raise OperationError(f"{journal} is not whole: {error}") from None
