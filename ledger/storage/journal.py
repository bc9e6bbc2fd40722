"""Where journal lines are kept: the interface, and the one in memory.

A store holds lines 0..n-1 and at most one snapshot: bytes that somebody folded the first `size`
lines into. `append` returns only when the lines are durable. If it fails in the middle the process
must end, because nobody can know what a failed sync has left on disk; the store takes nothing more.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol


class JournalStore(Protocol):
    """Append-only lines, numbered from 0. It has one writer."""

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        """Make lines `first_index`, `first_index + 1`, ... durable, all or none.

        Raises `ValueError` if `first_index` is not `count()`, or if somebody else wrote there.
        """
        ...

    def count(self) -> int:
        """How many lines there are."""
        ...

    def read(self, first_index: int = 0) -> Iterator[bytes]:
        """The lines from `first_index` on, in order: those that are there when the first is asked
        for."""
        ...

    def line(self, index: int) -> bytes:
        """One line. Raises `IndexError` if there is none."""
        ...

    def save_snapshot(self, size: int, snapshot: bytes) -> None:
        """Make a snapshot of the first `size` lines durable, in the place of the previous one."""
        ...

    def load_snapshot(self) -> tuple[int, bytes] | None:
        """The last snapshot with its size, if there is one."""
        ...

    def close(self) -> None:
        """Let go of the storage."""
        ...


def check_follows(first_index: int, count: int) -> None:
    """Raise `ValueError` unless a batch at `first_index` continues `count` lines."""
    if first_index != count:
        raise ValueError(f"line {first_index} does not follow {count} lines")


class MemoryJournal:
    """Lines in a list: for tests and simulations. Nothing survives the process."""

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
