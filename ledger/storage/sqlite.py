"""Journal lines in SQLite: WAL, synchronous=FULL, one connection.

Through `apsw`, which bundles a current SQLite. One `append` is one transaction, so a batch of
commands costs one sync.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from gensyn_ray.domain.errors import OperationError, UsageError


class SqliteJournal:
    """The lines of one network in one file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only and not path.exists():
            raise UsageError(f"no journal at {path}: give the path that the network printed")
        flags = (
            apsw.SQLITE_OPEN_READONLY
            if read_only
            else (apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        )
        try:
            self._db = apsw.Connection(str(path), flags=flags)
            self._db.set_busy_timeout(5_000)
            if not read_only:
                self._db.pragma("journal_mode", "wal")
                self._db.pragma("synchronous", "full")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, line BLOB)"
                )
        except apsw.Error as error:
            raise OperationError(f"{path} cannot be opened as a journal: {error}") from None

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        with self._db:
            kept = self._db.execute("SELECT coalesce(max(number) + 1, 0) FROM entry").get
            if first_index != kept:
                raise ValueError(f"line {first_index} does not follow {kept} lines")
            self._db.executemany(
                "INSERT INTO entry (number, line) VALUES (?, ?)",
                list(enumerate(lines, start=first_index)),
            )

    def read(self) -> Iterator[bytes]:
        for (line,) in self._db.execute("SELECT line FROM entry ORDER BY number"):
            yield line  # pyright: ignore[reportReturnType]

    def close(self) -> None:
        self._db.close()
