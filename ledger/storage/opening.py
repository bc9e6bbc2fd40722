"""Opens the journal store that an address names."""

from pathlib import Path

from gensyn_ray.domain.errors import UsageError
from ledger.storage.journal import JournalStore
from ledger.storage.sqlite import SqliteJournal


def open_journal(url_or_path: str, *, read_only: bool = False) -> JournalStore:
    """The journal in a PostgreSQL database ("postgresql://...") or in a file.

    Raises `UsageError` and `OperationError`.
    """
    if url_or_path.startswith(("postgresql://", "postgres://")):
        # Imported here, because psycopg imports slowly and needs libpq.
        from ledger.storage.postgres import PostgresJournal

        return PostgresJournal(url_or_path, read_only=read_only)
    if "://" in url_or_path:
        # The message omits the address, which may hold a password.
        raise UsageError("a journal is a path or a postgresql:// address: correct it")
    return SqliteJournal(Path(url_or_path), read_only=read_only)
