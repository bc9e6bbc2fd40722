"""The start barrier of a search's first trials. It has no process of its own.

Arrivals are keys in a small store that all nodes of a cluster share (Ray's internal one).
"""

from dataclasses import dataclass
from typing import Protocol


class SharedKeys(Protocol):
    """A store of keys that every node of the cluster reads and writes."""

    def add(self, key: str) -> None: ...
    def count(self, prefix: str) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBarrier:
    """Lets the first `expected` actors of a job start to train together, one on each node.

    Tune gives a trial whose actor still starts to an actor that is ready. If trials are short and
    starting is slow, the first ready node would compute all of them."""

    job: str
    expected: int

    @property
    def _prefix(self) -> str:
        return f"gensyn-start/{self.job}/"

    def arrive(self, keys: SharedKeys, actor: str) -> None:
        """`actor` is ready. Repeating it changes nothing."""
        keys.add(self._prefix + actor)

    def open(self, keys: SharedKeys) -> None:
        """Let all actors through, whatever their number."""
        for number in range(self.expected):
            keys.add(f"{self._prefix}open-{number}")

    def is_open(self, keys: SharedKeys) -> bool:
        """Whether the expected number of actors has arrived, or `open` was called."""
        return self.expected == 0 or keys.count(self._prefix) >= self.expected
