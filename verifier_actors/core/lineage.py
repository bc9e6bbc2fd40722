"""Lineage: which committed states of a job continue from which, and which a bad one voids."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Task:
    """`trial`: the Tune trial, or the task's own name. `spec`: digest of its specification.
    `attempt`: its newest start. `inputs`: digests of other tasks' states that it started from.
    `good`: slots of the unbroken chain of acknowledged segments that are not void. `full_audit`:
    whether all its segments are to be audited."""

    trial: str
    spec: str
    attempt: int
    inputs: list[str] = field(default_factory=list[str])
    good: list[str] = field(default_factory=list[str])
    full_audit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One segment's step in its task's chain: digests of the states it goes from and to."""

    task: str
    state_before: str
    state_after: str


class Lineage:
    """The tasks of one job and their chains of states."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self._links: dict[str, Link] = {}

    def start(self, name: str, task: Task) -> None:
        """A task starts. If it has started before, only its attempt changes."""
        self.tasks.setdefault(name, task).attempt = task.attempt

    def extend(self, slot: str, link: Link) -> None:
        """A segment of a task was acknowledged."""
        self._links[slot] = link
        self.tasks[link.task].good.append(slot)

    def tip(self, task: str) -> str:
        """Digest of a task's last good state; empty before there is one."""
        good = self.tasks[task].good
        return self._links[good[-1]].state_after if good else ""

    def is_good_state(self, digest: str) -> bool:
        """Whether some task of the job has a good segment that ends in this state."""
        return any(
            self._links[slot].state_after == digest
            for task in self.tasks.values()
            for slot in task.good
        )

    def grown_from(self, slots: Iterable[str]) -> list[str]:
        """The given good slots and all good slots that continue from their states: later slots of
        the same task, and slots of tasks that started from one of those states."""
        fallen: dict[str, None] = {}
        todo = list(slots)
        while todo:
            slot = todo.pop()
            chain = self.tasks[self._links[slot].task].good
            if slot in fallen or slot not in chain:
                continue
            for after in chain[chain.index(slot) :]:
                fallen[after] = None
                todo += self._begun_with(self._links[after].state_after)
        return list(fallen)

    def cut(self, slot: str) -> list[str]:
        """Remove a slot, and the slots that continue from it, from the good chains. Returns
        them."""
        fallen = self.grown_from([slot])
        for one in fallen:
            self.tasks[self._links[one].task].good.remove(one)
        return fallen

    def _begun_with(self, state: str) -> list[str]:
        """First good slots of the tasks that started from a state."""
        return [
            task.good[0]
            for task in self.tasks.values()
            if task.good and state in (self._links[task.good[0]].state_before, *task.inputs)
        ]
