"""Decides which worker of a DiLoCo run gets which task, and when a round is over. Imports no Ray.

A run is a chain of global states. In each round every worker takes inner steps from the last global
state (`workloads.core.diloco`), as a task of its own. Then one worker takes the outer step with the
pseudo-gradients that came in time. An outer step is replayed before the next round starts from it:
its replay is cheap, and every later state depends on it. Pseudo-gradients are sampled like any
segment. If a ruling takes one that was applied, the run goes back to the global state before it.

A slow worker takes fewer inner steps, by its measured speed. A round waits for late workers at most
`patience` times the spread of the workers' times. A new worker gets `FIRST_S` more, once. A worker
that leaves loses its part of the round. A worker that joins gets inner steps at once, or in the
next round.

Not defended: a worker that leaves and returns under a new id is new again. It can delay a round by
`FIRST_S`, as often as Ray Train restarts the group (`run_rounds.MAX_FAILURES`).
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gensyn_ray.queries.rows import TaskRow
from workloads.core.task_spec import InnerSteps, OuterStep, TaskSpec
from workloads.ray_jobs.diloco.core.global_state import GlobalState, PseudoGradient
from workloads.ray_jobs.diloco.core.plan import Plan
from workloads.ray_jobs.diloco.core.speeds import usual_speed
from workloads.ray_jobs.kind.context import Driver

LEAST_SHARE = 0.25
"""The least share of a round's steps that a slow worker gets."""
FIRST_S = 20.0
"""Extra time for a worker's first part: it loads kernels and data that others have loaded."""


@dataclass(slots=True, kw_only=True)
class _Worker:
    speed: float = 0.0
    """Measured inner steps per second, with the commitment; 0 before the first measurement."""
    task: str = ""
    """The task that the worker runs."""


@dataclass(slots=True, kw_only=True)
class _OpenTask:
    """A started task. `steps`: inner steps, 0 for an outer step."""

    spec: TaskSpec
    worker: str
    since_s: float
    steps: int
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class _Round:
    """The round in progress."""

    open: dict[str, _OpenTask] = field(default_factory=dict[str, _OpenTask])
    pseudo_gradients: list[PseudoGradient] = field(default_factory=list[PseudoGradient])
    seconds: list[float] = field(default_factory=list[float])
    """How long each pseudo-gradient took."""
    served: list[str] = field(default_factory=list[str])
    """Workers that got inner steps, in order."""
    outer_task: str = ""
    """The outer step's task, once it has started."""
    unjudged: GlobalState | None = None
    """The outer step's result, until it is judged."""


class Rounds:
    """The state of one run.

    `template`: the task spec of the run, with the program's config, without task and inputs.
    `clock`: monotonic seconds. `history`: judged global states, oldest first. `is_over`: all rounds
    are done and judged."""

    def __init__(
        self, driver: Driver, template: TaskSpec, plan: Plan, clock: Callable[[], float]
    ) -> None:
        self._driver, self._template, self._plan = driver, template, plan
        self._clock, self._started_s = clock, clock()
        self._workers: dict[str, _Worker] = {}
        self._now = _Round()
        self._revision = 0
        self._closing = False
        self.history: list[GlobalState] = []
        self.is_over = False

    # -- workers ---------------------------------------------------------------------------------

    def set_workers(self, workers: list[str]) -> None:
        """Take the list of workers that are there now. Inner steps of a worker that left are lost;
        an outer step goes to another worker."""
        for gone in sorted(set(self._workers) - set(workers)):
            name = self._workers.pop(gone).task
            task = self._now.open.get(name)
            if task is not None and name != self._now.outer_task:
                del self._now.open[name]
                self._driver.finish_task(name)
            elif task is not None:
                task.worker = ""
        for new in workers:
            self._workers.setdefault(new, _Worker())

    def task_of(self, worker: str) -> str | None:
        """The task that a worker must run now."""
        return self._workers[worker].task or None if worker in self._workers else None

    # -- one poll --------------------------------------------------------------------------------

    def advance(self) -> None:
        """Read the tasks' states from the authority, then start the tasks that are due."""
        if self.is_over:
            return
        tasks = self._driver.tasks()
        self._take_acknowledged(tasks)
        self._drop_bad(tasks)
        if self._now.unjudged is not None:
            self._accept_if_judged(self._now.unjudged, tasks)
        if len(self.history) == self._plan.rounds + 1:
            self._close(tasks)
        elif self._now.outer_task:
            self._restart_outer_step()
        elif not self.history or self._is_round_over():
            self._start_outer_step()
        else:
            self._start_inner_steps()

    @property
    def round(self) -> int:
        """The round in progress, from 1; 0 before the first global state."""
        return len(self.history)

    def _take_acknowledged(self, tasks: Mapping[str, TaskRow]) -> None:
        for name, task in list(self._now.open.items()):
            seen = tasks.get(name)
            if seen is None or not seen.good:
                continue
            del self._now.open[name]
            seconds = self._clock() - task.since_s
            if task.worker in self._workers:
                worker = self._workers[task.worker]
                worker.task = ""
                if task.steps:
                    worker.speed = task.steps / max(seconds, 1e-6)
            self._driver.finish_task(name)
            if name == self._now.outer_task:
                self._now.unjudged = GlobalState(
                    task=name,
                    state=seen.state,
                    metrics={},
                    pseudo_gradients=tuple(self._now.pseudo_gradients),
                )
                self._driver.full_audit([name])
            elif not self._now.outer_task:
                done = PseudoGradient(task=name, state=seen.state, steps=task.steps)
                self._now.pseudo_gradients.append(done)
                self._now.seconds.append(seconds)

    def _drop_bad(self, tasks: Mapping[str, TaskRow]) -> None:
        """Forget pseudo-gradients with bad rulings, and each global state that applied one."""
        for index, reached in enumerate(self.history):
            names = (reached.task, *(one.task for one in reached.pseudo_gradients))
            if not all(tasks[name].good for name in names):
                del self.history[index:]
                self._restart_round()
                return
        good = [one for one in self._now.pseudo_gradients if tasks[one.task].good]
        if len(good) == len(self._now.pseudo_gradients):
            return
        if self._now.outer_task:
            self._restart_round()
        else:
            self._now.pseudo_gradients = good

    def _restart_round(self) -> None:
        """Start the round again, with new task names. Workers give up their tasks."""
        for name in self._now.open:
            self._driver.finish_task(name)
        for worker in self._workers.values():
            worker.task = ""
        self._now, self._closing = _Round(), False
        self._revision += 1

    # -- inner steps -----------------------------------------------------------------------------

    def _start_inner_steps(self) -> None:
        usual = self._usual_speed()
        for name, worker in self._workers.items():
            if worker.task or name in self._now.served:
                continue
            share = worker.speed / usual if worker.speed else 1.0
            steps = max(1, round(self._plan.steps * max(LEAST_SHARE, min(1.0, share))))
            spec = replace(
                self._template,
                task=self._name(f"w{len(self._now.served)}"),
                inputs={"global": self.history[-1].state},
                inner_steps=InnerSteps(
                    steps=steps,
                    first_step=(self.round - 1) * self._plan.steps,
                    bits=self._plan.bits,
                ),
            )
            self._start(spec, name, steps=steps)
            self._now.served.append(name)

    def _usual_speed(self) -> float:
        return usual_speed([one.speed for one in self._workers.values() if one.speed])

    def _is_round_over(self) -> bool:
        """Whether each worker's pseudo-gradient is there, or the missing ones are late."""
        if not self._now.pseudo_gradients:
            return False
        if not self._now.open:
            return set(self._workers) <= set(self._now.served)
        usual, middle = self._usual_speed(), statistics.median(self._now.seconds)
        spread = statistics.median(abs(one - middle) for one in self._now.seconds)
        # A worker with few steps is done before the others can be.
        middle = max(middle, self._plan.steps / usual if usual else 0.0)
        # Times that agree by chance have no spread, so it is at least a tenth of the median.
        deadline_s = middle + self._plan.patience * max(spread, 0.1 * middle)
        waited_s = max(self._waited_s(task) for task in self._now.open.values())
        return len(self._now.open) <= len(self._now.pseudo_gradients) and waited_s > deadline_s

    def _waited_s(self, task: _OpenTask) -> float:
        """Seconds since the task started, without a new worker's extra time."""
        worker = self._workers.get(task.worker)
        is_first = worker is not None and not worker.speed
        return self._clock() - task.since_s - (FIRST_S if is_first else 0.0)

    # -- the outer step --------------------------------------------------------------------------

    def _start_outer_step(self) -> None:
        self._give_up_late_tasks()
        if not self._workers:
            return
        worker = max(self._workers, key=lambda name: self._workers[name].speed)
        gradients = {
            f"pseudo-gradient-{number:03d}": one
            for number, one in enumerate(self._now.pseudo_gradients)
        }
        inputs = {name: one.state for name, one in gradients.items()}
        if self.history:
            inputs["global"] = self.history[-1].state
        # The task's name seeds the first state's random numbers: another name gives other bits.
        self._now.outer_task = self._name("merge")
        spec = replace(
            self._template,
            task=self._now.outer_task,
            inputs=inputs,
            outer_step=OuterStep(
                weights={name: one.steps for name, one in gradients.items()},
                lr=self._plan.outer_lr,
                momentum=self._plan.outer_momentum,
            ),
        )
        self._start(spec, worker)

    def _give_up_late_tasks(self) -> None:
        for name, task in self._now.open.items():
            self._driver.finish_task(name)
            if task.worker in self._workers:
                late = self._workers[task.worker]
                late.task = ""
                # Its speed is unknown, but at most steps / time. Half of that is assumed.
                late.speed = task.steps / max(2.0 * (self._clock() - task.since_s), 1e-6)
        self._now.open.clear()

    def _restart_outer_step(self) -> None:
        """Start the outer step on another worker, if its worker has left."""
        task = self._now.open.get(self._now.outer_task)
        if task is None or task.worker or not self._workers:
            return
        task.worker = next(iter(self._workers))
        task.attempt += 1
        self._workers[task.worker].task = self._now.outer_task
        self._driver.start_task(task.spec, trial=task.spec.task, attempt=task.attempt)

    def _accept_if_judged(self, reached: GlobalState, tasks: Mapping[str, TaskRow]) -> None:
        seen = tasks[reached.task]
        if not seen.good:
            self._restart_round()
        elif not seen.unjudged:
            at_s = self._clock() - self._started_s
            self.history.append(replace(reached, metrics=seen.metrics, at_s=at_s))
            self._now = _Round()

    def _close(self, tasks: Mapping[str, TaskRow]) -> None:
        """Flush open batches and wait for their rulings. A bad one takes the run back."""
        if not self._closing:
            self._closing = True
            self._driver.flush()
            return
        names = [one.task for reached in self.history for one in reached.pseudo_gradients]
        if not any(tasks[name].unjudged for name in names):
            self.is_over = True

    def _start(self, spec: TaskSpec, worker: str, *, steps: int = 0) -> None:
        self._driver.start_task(spec, trial=spec.task, attempt=0)
        self._workers[worker].task = spec.task
        self._now.open[spec.task] = _OpenTask(
            spec=spec, worker=worker, since_s=self._clock(), steps=steps
        )

    def _name(self, what: str) -> str:
        """`r003.w1`; `r003.2.w1` after the second restart of a round."""
        revision = f".{self._revision}" if self._revision else ""
        return f"r{len(self.history):03d}{revision}.{what}"
