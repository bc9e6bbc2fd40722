"""Which open jobs get a driver now. Pure. A driver takes memory and processor time of the head."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

DRIVER_BYTES = 400 << 20
"""Memory of one driver. One that has run a search for eight minutes has 240 MB."""
MEMORY_SHARE = 0.5
"""Share of the head's free memory that drivers may take together."""
DRIVERS_PER_CORE = 4
STARTS = 3
"""Number of starts of a job's driver under one head."""
QUEUED = "QUEUED"
"""Status of a job that waits for a driver."""
ENDED = ("FAILED", "SUCCEEDED", "STOPPED")
"""Ray's states of a driver whose process is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJobDriver:
    """The driver of an open job. `starts`: how many it had under this head. `status`: Ray's status
    of the last one; empty if there was none."""

    job: str
    kind: str
    submitter: str
    starts: int
    status: str

    @property
    def is_running(self) -> bool:
        """Whether its process is there, or starts."""
        return bool(self.status) and self.status not in ENDED

    @property
    def is_due(self) -> bool:
        """Whether the job needs a driver: it had none, or its last one died."""
        return self.starts < STARTS and self.status in ("", "FAILED")


def waiting(drivers: Sequence[OpenJobDriver], most: int) -> tuple[list[OpenJobDriver], list[str]]:
    """(drivers to start now, jobs that wait for one, in their order).

    `drivers`: of the open jobs, oldest first. `most`: drivers at a time. The submitter with the
    fewest running drivers is next, with its oldest job: many jobs of one submitter delay the others
    little."""
    running = Counter(one.submitter for one in drivers if one.is_running)
    free = max(0, most - running.total())
    due = [one for one in drivers if one.is_due]
    order: list[OpenJobDriver] = []
    while due:
        following = min(due, key=lambda one: running[one.submitter])  # the first of equals
        due.remove(following)
        running[following.submitter] += 1
        order.append(following)
    return order[:free], [one.job for one in order[free:]]


def drivers_that_fit(free_bytes: int, cores: int) -> int:
    """The most drivers at a time on a head with this free memory. At least one."""
    by_memory = int(free_bytes * MEMORY_SHARE) // DRIVER_BYTES
    return max(1, min(by_memory, cores * DRIVERS_PER_CORE))
