"""Tells a worker between two steps whether its task is still assigned to it."""

from collections.abc import Callable
from typing import Any

ASK_EVERY_S = 1.0


class StillAssigned:
    """Asks without waiting: while no answer is there, or none can be had, the answer is yes.

    `send` sends the question `Exchange.assignment`. `receive` gives its answer, or None while it
    is pending. `clock`: monotonic seconds."""

    def __init__(
        self,
        task: str,
        *,
        send: Callable[[], Any],
        receive: Callable[[Any], tuple[str | None, bool] | None],
        clock: Callable[[], float],
    ) -> None:
        self._task, self._send, self._receive, self._clock = task, send, receive, clock
        self._question: Any = None
        self._sent_s = clock()

    def __call__(self) -> bool:
        if self._question is not None:
            answer = self._receive(self._question)
            if answer is None:
                return True
            self._question = None
            return answer == (self._task, False)
        if self._clock() - self._sent_s >= ASK_EVERY_S:
            self._question, self._sent_s = self._send(), self._clock()
        return True
