"""The interface of journal stores, and the store in memory.

A store holds lines 0 to n - 1 and at most one snapshot: bytes to which its first `size` lines were
folded. `append` returns once the lines are durable. If `append` fails, the process must end,
because the content of the disk is unknown after a failed sync; the store refuses further appends.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol


class JournalStore(Protocol):
    """Append-only lines, numbered from 0, with one writer."""

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        """Make lines `first_index`, `first_index + 1`, ... durable, all or none.

        Raises `ValueError` if `first_index` is not `count()`, or if another process wrote it.
        """
        ...

    def count(self) -> int:
        """Number of lines."""
        ...

    def read(self, first_index: int = 0) -> Iterator[bytes]:
        """The lines from `first_index` on, in order, up to the count at the first step."""
        ...

    def line(self, index: int) -> bytes:
        """One line. Raises `IndexError` if it does not exist."""
        ...

    def save_snapshot(self, size: int, snapshot: bytes) -> None:
        """Replace the snapshot, durably, by one of the first `size` lines."""
        ...

    def load_snapshot(self) -> tuple[int, bytes] | None:
        """(size, bytes) of the snapshot, or None."""
        ...

    def close(self) -> None:
        """Close the storage."""
        ...


def check_follows(first_index: int, count: int) -> None:
    """Raise `ValueError` unless a batch at `first_index` continues `count` lines."""
    if first_index != count:
        raise ValueError(f"line {first_index} does not follow {count} lines")


class MemoryJournal:
    """Lines in memory, for tests and simulations."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._snapshot: tuple[int, bytes] | None = None

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        check_follows(first_index, len(self._lines))
        self._lines.extend(lines)

    def count(self) -> int:
        return len(self._lines)

    def read(self, first_index: int = 0) -> Iterator[bytes]:
        yield from self._lines[first_index:]

    def line(self, index: int) -> bytes:
        if not 0 <= index < len(self._lines):
            raise IndexError(f"there is no line {index}")
        return self._lines[index]

    def save_snapshot(self, size: int, snapshot: bytes) -> None:
        self._snapshot = (size, snapshot)

    def load_snapshot(self) -> tuple[int, bytes] | None:
        return self._snapshot

    def close(self) -> None:
        pass
