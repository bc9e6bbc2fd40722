"""Asking again, a bounded number of times, with growing pauses.

Everything that the network stores is named by its content, or written by one process alone, so
doing it twice is harmless.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gensyn_ray.domain.errors import Unreachable

T = TypeVar("T")


class Transient(Exception):
    """An attempt failed in a way that may pass by itself: a timeout, a 5xx answer, a cut line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """`attempts` in all; pauses double from `first_pause_s` up to `longest_pause_s`. `timeout_s`:
    how long one attempt may wait for the next bytes. `sleep` takes seconds; `chance` gives numbers
    from 0 to 1, which spread out those who failed together."""

    attempts: int = 6
    first_pause_s: float = 0.25
    longest_pause_s: float = 8.0
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def persist(self, action: Callable[[], T], *, what: str) -> T:
        """What `action` gives. `what` says in an error what was tried, with bucket and key.

        Raises `Unreachable` once every attempt has raised `Transient`; other exceptions pass.
        """
        pause_s, last = self.first_pause_s, Transient("not tried")
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(pause_s * (0.5 + self.chance() / 2))
                pause_s = min(2 * pause_s, self.longest_pause_s)
            try:
                return action()
            except Transient as error:
                last = error
        raise Unreachable(
            f"{what} failed {self.attempts} times, last: {last}; "
            "check that the object store runs and can be reached from here, then try again"
        )
