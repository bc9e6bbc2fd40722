"""Lines about the progress of a job, for a log, a pipe or a notebook."""

from collections.abc import Callable

from gensyn_ray.domain.money import format_credits
from gensyn_ray.queries.rows import JobStatus

EVERY_S = 5.0
"""The shortest time between two lines."""


def progress_line(seen: JobStatus) -> str:
    """A job's counts and amounts in one line."""
    counts = seen.segments
    if not seen.tasks:
        return f"{seen.id}: starts its driver and workers"
    return (
        f"{seen.id}: {seen.tasks} tasks begun, {counts.committed} segments committed, "
        f"{counts.drawn} drawn, {counts.audited} audited, {counts.settled} settled, "
        f"{format_credits(seen.paid_micro)} credits paid"
    )


class ProgressLines:
    """Gives `say` a line when a job's progress has changed, not more often than `EVERY_S`.

    `monotonic_s`: a clock in seconds."""

    def __init__(self, say: Callable[[str], None], monotonic_s: Callable[[], float]) -> None:
        self._say, self._clock = say, monotonic_s
        self._last, self._next_s = "", 0.0

    def show(self, line_now: Callable[[], str]) -> None:
        """`line_now`: gives the line; called when one may be said."""
        if self._clock() < self._next_s:
            return
        if (line := line_now()) != self._last:
            self._last, self._next_s = line, self._clock() + EVERY_S
            self._say(line)
