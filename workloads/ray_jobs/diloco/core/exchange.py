"""An actor on the head between the driver of a loosely coupled training and its workers.

In a module of its own: what an actor's module imports, its process pays for in seconds.
"""

from collections.abc import Callable
from typing import Any

MUSTER_S = 60.0
"""How long the first workers of a group wait for the rest of it."""
WANTED_S = 1.0
"""How often a worker asks, between steps, whether they are still waited for."""


class Exchange:
    """Tells the workers their orders and the driver who is there."""

    def __init__(self) -> None:
        self._workers: dict[int, str] = {}
        self._size = 0
        self._orders: dict[str, str | None] = {}
        self._is_over = False
        self._errors: list[str] = []

    def enter(self, worker: str, rank: int, size: int) -> None:
        """A worker began. A rank that is taken, or another size, means a new group: whoever was
        there before is gone."""
        if rank in self._workers or size != self._size:
            self._workers, self._size = {}, size
        self._workers[rank] = worker

    def order(self, worker: str) -> tuple[str | None, bool]:
        """(the task that a worker is to run now, whether the run is over)."""
        return self._orders.get(worker), self._is_over

    def failed(self, error: str) -> None:
        """The program raised on a worker, which leaves."""
        self._errors.append(error)

    def failed_and_stays(self, error: str, rank: int, worker: str) -> None:
        """The program raised on the worker of this rank, which goes on under a new name: what it
        was to do can be given out again without a new group."""
        self._errors.append(error)
        self._workers[rank] = worker

    def post(
        self, orders: dict[str, str | None], is_over: bool
    ) -> tuple[list[str], int, list[str]]:
        """Take the driver's orders; gives the workers that are there, by rank, how many of their
        group are not, and what the program raised so far."""
        self._orders, self._is_over = orders, is_over
        there = [self._workers[rank] for rank in sorted(self._workers)]
        return there, self._size - len(there), self._errors


class Muster:
    """Lets the workers of a group begin together: where rounds are short and starting is slow, the
    first to be ready would do the work of all. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._incomplete_since: float | None = None

    def ready(self, there: list[str], missing: int) -> list[str]:
        """Those who may be given orders: all that are there, or for some time none."""
        if not missing:
            self._incomplete_since = None
            return there
        if self._incomplete_since is None:
            self._incomplete_since = self._clock()
        waited_s = self._clock() - self._incomplete_since
        return there if waited_s >= MUSTER_S else []


class Wanted:
    """Whether an order still stands, as far as its worker knows. Steps never wait for the answer:
    until one comes, and where none can be had, it does. `clock` in seconds."""

    def __init__(
        self,
        order: str,
        *,
        ask: Callable[[], Any],
        answer: Callable[[Any], tuple[str | None, bool] | None],
        clock: Callable[[], float],
    ) -> None:
        """`ask` sends the question of `Exchange.order`; `answer` gives what came of it, None if
        nothing yet."""
        self._order, self._ask, self._answer, self._clock = order, ask, answer, clock
        self._asked: Any = None
        self._asked_s = clock()

    def __call__(self) -> bool:
        if self._asked is not None:
            said = self._answer(self._asked)
            if said is None:
                return True
            self._asked = None
            return said == (self._order, False)
        if self._clock() - self._asked_s >= WANTED_S:
            self._asked, self._asked_s = self._ask(), self._clock()
        return True
