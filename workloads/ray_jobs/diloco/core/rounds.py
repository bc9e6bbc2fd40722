"""Who does what in loosely coupled training, and when a round is over. Plain: no Ray.

A run is a chain of global states. Each round, every present worker takes steps from the last one
(`workloads.core.diloco`), each as a task of its own; then one worker merges what came in time into
the next global state. A merge is replayed before anything grows from it, because everybody would
suffer from a bad one; it costs little. Changes are spot-checked like any segment; when a ruling
takes one that was merged already, the run goes back to the global state before it.

A slow worker takes fewer steps, by its measured speed, and the round waits for nobody longer than
`patience` times the spread of the workers' own times, and once for what a new one has to load. A
worker that leaves costs its own round alone; one that joins takes part from the next one on, or at
once while steps are being taken.

Not defended: a worker that leaves and comes back under a new name is new again, and may hold up a
round for what a new one is allowed, as often as the group may fail (`together.MAX_FAILURES`).
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from workloads.core.segment import InnerSteps, OuterStep

LEAST_SHARE = 0.25
"""Of a round's steps: what the slowest worker still takes."""
FIRST_S = 20.0
"""What a worker's first part may take longer: loading kernels and data that others have loaded."""
CHECK_S = 0.5
"""How often the authority is asked whether something merged was ruled bad."""


class Driver(Protocol):
    """What the rounds ask of the job's driver."""

    def start_part(
        self,
        *,
        task: str,
        inputs: Mapping[str, str],
        round: InnerSteps | None,
        merge: OuterStep | None,
    ) -> None: ...
    def start_again(self, *, task: str, attempt: int) -> None: ...
    def finish_task(self, task: str) -> None: ...
    def harden(self, tasks: list[str]) -> None: ...
    def tasks(self) -> dict[str, dict[str, Any]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`steps`: of a round, for a worker of the faster half. `bits`: of a change, 8 or 32.
    `patience`: a round waits for the median of its times plus so many median absolute deviations.

    The outer step is milder than DiLoCo's own 0.7 and 0.9, which overshoots while rounds are few
    (docs/results.md).
    """

    rounds: int
    steps: int
    bits: int = 8
    outer_lr: float = 0.8
    outer_momentum: float = 0.5
    patience: float = 4.0


@dataclass(slots=True, kw_only=True)
class _Worker:
    speed: float = 0.0
    """Steps a second, commitment included, as measured from outside; 0 if not yet."""
    order: str = ""
    """The task that it works on."""


@dataclass(slots=True, kw_only=True)
class _Part:
    """A task under way: who has it since when, and how many steps it is."""

    worker: str
    since_s: float
    steps: int
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """An acknowledged change."""

    task: str
    state: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A global state: the task that made it, what went into it, its metrics, and when it was
    accepted, counted from the run's beginning."""

    task: str
    state: str
    metrics: dict[str, float]
    changes: tuple[Contribution, ...] = ()
    at_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Now:
    """The round that is under way."""

    open: dict[str, _Part] = field(default_factory=dict[str, _Part])
    changes: list[Contribution] = field(default_factory=list[Contribution])
    seconds: list[float] = field(default_factory=list[float])
    asked: list[str] = field(default_factory=list[str])
    """Workers that were given steps, in order."""
    merge: str = ""
    """The merge's task, once it is started."""
    unchecked: Merged | None = None
    """The merge, made and not judged yet."""


class Rounds:
    """State of one run. `turn` looks, decides and acts; `clock`: monotonic seconds."""

    def __init__(self, driver: Driver, plan: Plan, clock: Callable[[], float]) -> None:
        self._driver, self._plan, self._clock = driver, plan, clock
        self._began_s = clock()
        self._workers: dict[str, _Worker] = {}
        self._now = _Now()
        self._revision = 0
        self._closing = False
        self._next_check_s = 0.0
        self.history: list[Merged] = []
        self.is_over = False

    # -- workers ---------------------------------------------------------------------------------

    def present(self, workers: list[str]) -> None:
        """Who is there now. What a worker that left had begun is lost, or given to another."""
        for gone in sorted(set(self._workers) - set(workers)):
            order = self._workers.pop(gone).order
            part = self._now.open.get(order)
            if part is not None and order != self._now.merge:
                del self._now.open[order]
                self._driver.finish_task(order)
            elif part is not None:
                part.worker = ""
        for new in workers:
            self._workers.setdefault(new, _Worker())

    def order_of(self, worker: str) -> str | None:
        """The task that a worker is to run now."""
        return self._workers[worker].order or None if worker in self._workers else None

    # -- one look --------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take in what was acknowledged, then hand out what is due."""
        if self.is_over:
            return
        tasks = self._driver.tasks()
        self._take_in(tasks)
        if self._clock() >= self._next_check_s:
            self._next_check_s = self._clock() + CHECK_S
            self._drop_bad(tasks)
        if self._now.unchecked is not None:
            self._judge_merge(self._now.unchecked, tasks)
        if len(self.history) == self._plan.rounds + 1:
            self._close(tasks)
        elif self._now.merge:
            self._give_merge()
        elif not self.history or self._is_round_over():
            self._start_merge()
        else:
            self._hand_out_steps()

    @property
    def round(self) -> int:
        """The round under way, from 1; 0 until there is a first global state."""
        return len(self.history)

    def _take_in(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        for name, part in list(self._now.open.items()):
            seen = tasks.get(name)
            if seen is None or not seen["good"]:
                continue
            del self._now.open[name]
            seconds = self._clock() - part.since_s
            if part.worker in self._workers:
                worker = self._workers[part.worker]
                worker.order = ""
                if part.steps:
                    worker.speed = part.steps / max(seconds, 1e-6)
            self._driver.finish_task(name)
            if name == self._now.merge:
                self._now.unchecked = Merged(
                    task=name,
                    state=seen["state"],
                    metrics={},
                    changes=tuple(self._now.changes),
                )
                self._driver.harden([name])
            elif not self._now.merge:
                done = Contribution(task=name, state=seen["state"], steps=part.steps)
                self._now.changes.append(done)
                self._now.seconds.append(seconds)

    def _drop_bad(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Forget changes that were ruled bad, and every global state that they are part of."""
        for index, merged in enumerate(self.history):
            parts = (merged.task, *(one.task for one in merged.changes))
            if not all(tasks[name]["good"] for name in parts):
                del self.history[index:]
                self._restart()
                return
        if not all(tasks[one.task]["good"] for one in self._now.changes):
            if self._now.merge:
                self._restart()
            else:
                self._now.changes = [one for one in self._now.changes if tasks[one.task]["good"]]

    def _restart(self) -> None:
        """The round begins anew, under new names; workers give up what they have begun."""
        for name in self._now.open:
            self._driver.finish_task(name)
        for worker in self._workers.values():
            worker.order = ""
        self._now, self._closing = _Now(), False
        self._revision += 1

    # -- steps -----------------------------------------------------------------------------------

    def _hand_out_steps(self) -> None:
        usual = self._usual_speed()
        for name, worker in self._workers.items():
            if worker.order or name in self._now.asked:
                continue
            share = worker.speed / usual if worker.speed else 1.0
            steps = max(1, round(self._plan.steps * max(LEAST_SHARE, min(1.0, share))))
            first = (self.round - 1) * self._plan.steps
            self._begin(
                self._name(f"w{len(self._now.asked)}"),
                name,
                steps=steps,
                inputs={"global": self.history[-1].state},
                round_=InnerSteps(steps=steps, first_step=first, bits=self._plan.bits),
            )
            self._now.asked.append(name)

    def _usual_speed(self) -> float:
        """Steps a second, 0 if nobody's are known: of the faster half the slowest, so that one that
        claims to be very fast hurries nobody."""
        known = [one.speed for one in self._workers.values() if one.speed]
        return statistics.median_high(known) if known else 0.0

    def _is_round_over(self) -> bool:
        """Whether everybody has answered, or those who have not are late."""
        if not self._now.changes:
            return False
        if not self._now.open:
            return set(self._workers) <= set(self._now.asked)
        usual, middle = self._usual_speed(), statistics.median(self._now.seconds)
        spread = statistics.median(abs(one - middle) for one in self._now.seconds)
        # Whoever had too few steps is done before the others can be.
        middle = max(middle, self._plan.steps / usual if usual else 0.0)
        # Times that agree by chance would leave no room: a tenth of the median at the least.
        deadline = middle + self._plan.patience * max(spread, 0.1 * middle)
        missing = len(self._now.open)
        waited = max(self._waited_s(part) for part in self._now.open.values())
        return missing <= len(self._now.changes) and waited > deadline

    def _waited_s(self, part: _Part) -> float:
        """For a part, beyond what its worker needs to begin with."""
        worker = self._workers.get(part.worker)
        is_first = worker is not None and not worker.speed
        return self._clock() - part.since_s - (FIRST_S if is_first else 0.0)

    # -- merges ----------------------------------------------------------------------------------

    def _start_merge(self) -> None:
        for name, part in self._now.open.items():  # too late for this round
            self._driver.finish_task(name)
            if part.worker in self._workers:
                late = self._workers[part.worker]
                late.order = ""
                # It is slower than this, by an unknown factor. It gives up what it has begun.
                late.speed = part.steps / max(2.0 * (self._clock() - part.since_s), 1e-6)
        self._now.open.clear()
        if not self._workers:
            return
        worker = max(self._workers, key=lambda name: self._workers[name].speed)
        self._now.merge = self._name("merge")
        changes = self._now.changes
        names = [f"change-{number:03d}" for number in range(len(changes))]
        inputs = dict(zip(names, (one.state for one in changes), strict=True))
        if self.history:
            inputs["global"] = self.history[-1].state
        self._begin(
            self._now.merge,
            worker,
            inputs=inputs,
            merge=OuterStep(
                weights={name: one.steps for name, one in zip(names, changes, strict=True)},
                lr=self._plan.outer_lr,
                momentum=self._plan.outer_momentum,
            ),
        )

    def _give_merge(self) -> None:
        """To another worker, if the one that had it has left."""
        part = self._now.open.get(self._now.merge)
        if part is None or part.worker or not self._workers:
            return
        part.worker = next(iter(self._workers))
        part.attempt += 1
        self._workers[part.worker].order = self._now.merge
        self._driver.start_again(task=self._now.merge, attempt=part.attempt)

    def _judge_merge(self, merged: Merged, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        if not tasks[merged.task]["good"]:
            self._restart()
        elif not tasks[merged.task]["unjudged"]:
            metrics, at_s = tasks[merged.task]["metrics"], self._clock() - self._began_s
            self.history.append(replace(merged, metrics=metrics, at_s=at_s))
            self._now = _Now()

    def _close(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Have the rest drawn and judged; what falls takes the run back."""
        if not self._closing:
            self._closing = True
            self._driver.harden([])
            return
        parts = [one.task for merged in self.history for one in merged.changes]
        if not any(tasks[name]["unjudged"] for name in parts):
            self.is_over = True

    def _begin(
        self,
        task: str,
        worker: str,
        *,
        inputs: Mapping[str, str],
        steps: int = 0,
        round_: InnerSteps | None = None,
        merge: OuterStep | None = None,
    ) -> None:
        self._driver.start_part(task=task, inputs=inputs, round=round_, merge=merge)
        self._workers[worker].order = task
        self._now.open[task] = _Part(worker=worker, since_s=self._clock(), steps=steps)

    def _name(self, what: str) -> str:
        revision = f".{self._revision}" if self._revision else ""
        return f"r{len(self.history):03d}{revision}.{what}"
