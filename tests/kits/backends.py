"""The journal stores under the contract test. Each opens an empty journal."""

from itertools import count
from pathlib import Path
from typing import Protocol

import apsw
import psycopg

from ledger.storage.journal import JournalStore, MemoryJournal
from ledger.storage.postgres import PostgresJournal
from ledger.storage.sqlite import SqliteJournal

_SCHEMAS = count()


class Backend(Protocol):
    """The place of one journal. `address`: the argument of `open_journal`."""

    address: str

    def open(self, *, read_only: bool = False) -> JournalStore:
        """Open the journal. May be called repeatedly."""
        ...

    def forbid(self, number: int) -> None:
        """Make the storage refuse this line from every writer."""
        ...

    def allow(self) -> None:
        """Undo `forbid`."""
        ...


class Memory:
    address = ""

    def open(self, *, read_only: bool = False) -> JournalStore:
        return MemoryJournal()

    def forbid(self, number: int) -> None:
        raise NotImplementedError

    def allow(self) -> None:
        raise NotImplementedError


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"
        self.address = str(self.path)

    def open(self, *, read_only: bool = False) -> JournalStore:
        return SqliteJournal(self.path, read_only=read_only)

    def forbid(self, number: int) -> None:
        self._execute(
            f"CREATE TRIGGER full BEFORE INSERT ON entry WHEN NEW.number = {number} "
            "BEGIN SELECT RAISE(ABORT, 'no space'); END"
        )

    def allow(self) -> None:
        self._execute("DROP TRIGGER full")

    def _execute(self, statement: str) -> None:
        other = apsw.Connection(self.address)
        other.execute(statement)
        other.close()


class Postgres:
    def __init__(self, server: str) -> None:
        self.schema = f"journal_{next(_SCHEMAS)}"
        self.address = f"{server}&options=-csearch_path%3D{self.schema}"
        with psycopg.connect(server) as admin:
            admin.execute(f"CREATE SCHEMA {self.schema}".encode())

    def open(self, *, read_only: bool = False) -> JournalStore:
        return PostgresJournal(self.address, read_only=read_only)

    def forbid(self, number: int) -> None:
        self._execute(
            f"ALTER TABLE journal_entry ADD CONSTRAINT no_space CHECK (number <> {number})"
        )

    def allow(self) -> None:
        self._execute("ALTER TABLE journal_entry DROP CONSTRAINT no_space")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.address) as other:
            other.execute(statement.encode())
