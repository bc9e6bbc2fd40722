"""Lets the workers of a group start to train together."""

from collections.abc import Callable

GROUP_WAIT_S = 60.0
"""How long the first workers of a group wait for the others."""


class GroupStart:
    """Holds back assignments until a group is complete.

    If rounds are short and starting is slow, the first ready worker would compute all of them.
    `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._incomplete_since: float | None = None

    def ready(self, started: list[str], missing: int) -> list[str]:
        """The workers that may get tasks: none while some are `missing`, for `GROUP_WAIT_S` at
        most, and then all that have started."""
        if not missing:
            self._incomplete_since = None
            return started
        if self._incomplete_since is None:
            self._incomplete_since = self._clock()
        waited_s = self._clock() - self._incomplete_since
        return started if waited_s >= GROUP_WAIT_S else []
