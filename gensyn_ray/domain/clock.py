"""Time as an argument: milliseconds since the Unix epoch.

Pure cores take `now_ms`. Shells take a `Clock`. Tests pass a `ManualClock`.
"""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], int]
"""Returns the time in milliseconds since the Unix epoch."""


@dataclass(kw_only=True, slots=True)
class ManualClock:
    """A clock that changes only by `advance`."""

    now_ms: int = 0

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, by_ms: int) -> None:
        self.now_ms += by_ms
