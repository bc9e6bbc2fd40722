"""Retries: a bounded number of attempts with growing pauses.

A request of the object store can be repeated safely, because each object is named by its content or
has one writer.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gensyn_ray.domain.errors import Unreachable

T = TypeVar("T")


class Transient(Exception):
    """A failure that another attempt may not have: a timeout, a 5xx answer, a lost connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long to try.

    `attempts`: total number. Pauses double from `first_pause_s` to `longest_pause_s`. `timeout_s`:
    limit for each read of one attempt. `sleep` takes seconds. `jitter` returns a number from 0 to 1
    that scales a pause, so that callers which failed together do not retry together.
    """

    attempts: int = 6
    first_pause_s: float = 0.25
    longest_pause_s: float = 8.0
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def run(self, action: Callable[[], T], *, what: str) -> T:
        """Run `action` until it succeeds. `what` names it in an error, with bucket and key.

        Raises `Unreachable` once every attempt has raised `Transient`. Other exceptions pass.
        """
        pause_s, last = self.first_pause_s, Transient("not tried")
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(pause_s * (0.5 + self.jitter() / 2))
                pause_s = min(2 * pause_s, self.longest_pause_s)
            try:
                return action()
            except Transient as error:
                last = error
        raise Unreachable(
            f"{what} failed {self.attempts} times, last: {last}; "
            "check that the object store runs and is reachable from here, then try again"
        )
