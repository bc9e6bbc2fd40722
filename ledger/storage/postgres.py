"""Journal store in PostgreSQL, on one connection.

One `append` is one INSERT: one round trip, one transaction, one sync. Durability needs the server's
`fsync` to be on. The writer holds an advisory lock for the time of its session, so the address must
not point to a pooler that shares sessions.
"""

from collections.abc import Iterator, Sequence
from typing import LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gensyn_ray.domain.errors import OperationError, UsageError
from ledger.storage.journal import check_follows

CONNECT_TIMEOUT_S = 10
PAGE_LINES = 256
"""Lines that `read` fetches in one query."""

_LOCK = 0x6A726E6C
"""Key of the journal's advisory lock."""
_BRIEFLY: LiteralString = "SET lock_timeout = '2s'"
"""The server frees a lock some time after its session was closed or its process ended."""
_TABLES: LiteralString = """
CREATE TABLE IF NOT EXISTS journal_entry (number bigint PRIMARY KEY, line bytea NOT NULL);
CREATE TABLE IF NOT EXISTS journal_snapshot (
    one integer PRIMARY KEY CHECK (one = 1), size bigint NOT NULL, data bytea NOT NULL
);
"""


class PostgresJournal:
    """The lines of one network in one schema of one database.

    `conninfo`: libpq's connection string or a `postgresql://` address. The password may be in it,
    in PGPASSWORD or in ~/.pgpass. Messages never show it.
    """

    def __init__(self, conninfo: str, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._db = _connect(conninfo)
        try:
            if read_only:
                self._db.execute("SET default_transaction_read_only = on")
            else:
                self._prepare()
            self._count = self._stored()
        except psycopg.errors.UndefinedTable:
            self._db.close()
            raise UsageError("the database has no journal: correct the address") from None
        except psycopg.Error as error:
            self._db.close()
            raise OperationError(
                f"the database cannot hold a journal: {_first_line(error)}; ask its owner to fix it"
            ) from None

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        check_follows(first_index, self.count())
        try:
            self._db.execute(
                "INSERT INTO journal_entry "
                "SELECT %b::bigint + place - 1, line "
                "FROM unnest(%b::bytea[]) WITH ORDINALITY AS new (line, place)",
                (first_index, list(lines)),
            )
        except BaseException as error:
            # The server may have the lines or not. Closing the connection refuses further appends.
            self._db.close()
            if isinstance(error, psycopg.errors.UniqueViolation):
                raise ValueError(f"another process has written line {first_index}") from None
            raise
        self._count += len(lines)

    def count(self) -> int:
        return self._stored() if self._read_only else self._count

    def read(self, first_index: int = 0) -> Iterator[bytes]:
        # In pages, because a server-side cursor needs a transaction for the whole read, and lines
        # appended meanwhile would be durable only at its end.
        end = self.count()
        for first in range(first_index, end, PAGE_LINES):
            for (line,) in self._db.execute(
                "SELECT line FROM journal_entry WHERE number >= %s AND number < %s ORDER BY number",
                (first, min(first + PAGE_LINES, end)),
                binary=True,
            ):
                yield line

    def line(self, index: int) -> bytes:
        found = self._db.execute(
            "SELECT line FROM journal_entry WHERE number = %s", (index,), binary=True
        ).fetchone()
        if found is None:
            raise IndexError(f"there is no line {index}")
        return found[0]

    def save_snapshot(self, size: int, snapshot: bytes) -> None:
        self._db.execute(
            "INSERT INTO journal_snapshot VALUES (1, %s, %b) "
            "ON CONFLICT (one) DO UPDATE SET size = excluded.size, data = excluded.data",
            (size, snapshot),
        )

    def load_snapshot(self) -> tuple[int, bytes] | None:
        query = "SELECT size, data FROM journal_snapshot"
        return self._db.execute(query, binary=True).fetchone()

    def close(self) -> None:
        self._db.close()

    def _prepare(self) -> None:
        """Become the writer. Raises `OperationError` if another process is the writer."""
        self._db.execute("SET synchronous_commit = on")
        self._db.execute(_BRIEFLY)
        try:
            self._db.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", (_LOCK,))
        except psycopg.errors.LockNotAvailable:
            self._db.close()
            raise OperationError(
                "another process writes this journal: stop it; if its machine is gone, end its "
                "session on the server with pg_terminate_backend"
            ) from None
        self._db.execute("RESET lock_timeout")
        self._db.execute(_TABLES)

    def _stored(self) -> int:
        (count,) = self._row("SELECT coalesce(max(number) + 1, 0) FROM journal_entry")
        return count

    def _row(self, query: LiteralString, parameters: tuple[int, ...] = ()) -> tuple[int, ...]:
        found = self._db.execute(query, parameters).fetchone()
        assert found is not None
        return found


def _connect(conninfo: str) -> psycopg.Connection:
    """A connection on which each statement is its own transaction."""
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise UsageError(_MALFORMED) from None
    # Parts of a password with an unescaped "@" or "/" are in these fields; libpq's errors quote
    # them.
    if "@" in f"{given.get('host')}{given.get('dbname')}":
        raise UsageError(_MALFORMED)
    if not str(given.get("port", "0")).replace(",", "").isdecimal():
        raise UsageError(_MALFORMED)
    try:
        return psycopg.connect(
            **{"connect_timeout": CONNECT_TIMEOUT_S, **given},  # pyright: ignore[reportArgumentType]
            autocommit=True,
        )
    except psycopg.Error as error:
        raise OperationError(
            f"no connection to the database: {_first_line(error)}; "
            "start the server or correct the address"
        ) from None


_MALFORMED = (
    "the journal's address is malformed: write postgresql://USER@HOST:PORT/DATABASE, with the "
    "password in ~/.pgpass or with its special characters as %40 and the like"
)


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0].strip()
