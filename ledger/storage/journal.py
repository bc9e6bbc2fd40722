"""Where journal lines are kept: the interface, and the one in memory.

A store holds lines 0..n-1. `append` returns only when the lines are durable; if it raises, the
process must end, because nobody can know what a failed sync has left on disk.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol


class JournalStore(Protocol):
    """Append-only lines, numbered from 0."""

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        """Make lines `first_index`, `first_index + 1`, ... durable, all or none."""
        ...

    def read(self) -> Iterator[bytes]:
        """Every line in order."""
        ...

    def close(self) -> None:
        """Let go of the storage."""
        ...


class MemoryJournal:
    """Lines in a list: for tests and simulations. Nothing survives the process."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def append(self, first_index: int, lines: Sequence[bytes]) -> None:
        if first_index != len(self._lines):
            raise ValueError(f"line {first_index} does not follow {len(self._lines)} lines")
        self._lines.extend(lines)

    def read(self) -> Iterator[bytes]:
        return iter(list(self._lines))

    def close(self) -> None:
        pass
