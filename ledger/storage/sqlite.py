"""Journal store in SQLite: WAL, synchronous=FULL, one connection.

Uses `apsw`, which bundles a current SQLite. One `append` is one transaction, so a batch of commands
costs one sync.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import apsw

from gensyn_ray.domain.errors import OperationError, UsageError
from ledger.storage.journal import check_follows

_TABLES = """
CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, line BLOB);
CREATE TABLE IF NOT EXISTS snapshot (
    one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, data BLOB NOT NULL
);
"""


class SqliteJournal:
    """The lines of one network in one file.

    `vfs`: name of the SQLite file system layer to use. `synchronous`: "normal" syncs only at a WAL
    checkpoint and loses acknowledged lines in a power cut; use it only for journals that may be
    lost.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        vfs: str | None = None,
        synchronous: Literal["full", "normal"] = "full",
    ) -> None:
        if read_only and not path.exists():
            raise UsageError(f"no journal at {path}: give the path that the network printed")
        flags = (
            apsw.SQLITE_OPEN_READONLY
            if read_only
            else (apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        )
        self._path = path
        self._read_only = read_only
        self._in_doubt = False
        """Whether an append has failed. The file's content is unknown then."""
        try:
            self._db = apsw.Connection(str(path), flags=flags, vfs=vfs)
            self._db.set_busy_timeout(5_000)
            if not read_only:
                self._db.pragma("journal_mode", "wal")
                self._db.pragma("synchronous", synchronous)
                self._db.execute(_TABLES)
            self._count = self._stored()
        except apsw.Error as error:
            raise OperationError(f"{path} cannot be opened as a journal: {error}") from None

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        if self._in_doubt:
            raise OperationError(f"an append to {self._path} has failed: restart the process")
        check_follows(first_index, self.count())
        self._in_doubt = True
        try:
            with self._db:
                self._db.executemany(
                    "INSERT INTO entry (number, line) VALUES (?, ?)",
                    enumerate(lines, start=first_index),
                )
        except apsw.ConstraintError:
            if self._stored() == self._count:
                raise
            raise ValueError(f"another process has written line {first_index}") from None
        self._in_doubt = False
        self._count += len(lines)

    def count(self) -> int:
        return self._stored() if self._read_only else self._count

    def read(self, first_index: int = 0) -> Iterator[bytes]:
        for (line,) in self._db.execute(
            "SELECT line FROM entry WHERE number >= ? AND number < ? ORDER BY number",
            (first_index, self.count()),
        ):
            yield line  # pyright: ignore[reportReturnType]

    def line(self, index: int) -> bytes:
        found = self._db.execute("SELECT line FROM entry WHERE number = ?", (index,)).get
        if found is None:
            raise IndexError(f"there is no line {index}")
        return found

    def save_snapshot(self, size: int, snapshot: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)", (size, snapshot))

    def load_snapshot(self) -> tuple[int, bytes] | None:
        # A journal of a version without snapshots lacks the table until a writer opens it.
        if not self._db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'snapshot'").get:
            return None
        return self._db.execute("SELECT size, data FROM snapshot").get

    def close(self) -> None:
        self._db.close()

    def _stored(self) -> int:
        return self._db.execute("SELECT coalesce(max(number) + 1, 0) FROM entry").get
