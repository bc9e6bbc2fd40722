"""DiLoCo rounds: assignment of tasks, ends of rounds, effects of rulings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gensyn_ray.queries.rows import TaskRow
from tests.kits.task_rows import task_row
from workloads.core.task_spec import InnerSteps, OuterStep, TaskSpec
from workloads.ray_jobs.diloco.core.exchange import Exchange
from workloads.ray_jobs.diloco.core.group_start import GROUP_WAIT_S, GroupStart
from workloads.ray_jobs.diloco.core.plan import Plan
from workloads.ray_jobs.diloco.core.rounds import FIRST_S, Rounds
from workloads.ray_jobs.diloco.core.still_assigned import ASK_EVERY_S, StillAssigned

TEMPLATE = TaskSpec(bundle="b", config={"lr": 0.1}, seed=3, task="")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeDriver:
    """A fake authority. Tests set which tasks are acknowledged, judged and ruled."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[Mapping[str, str], InnerSteps | None, OuterStep | None]] = {}
        self.attempts: dict[str, int] = {}
        self.finished: list[str] = []
        self.fully_audited: list[list[str]] = []
        self.flushes = 0
        self.seen: dict[str, TaskRow] = {}

    def start_task(self, spec: TaskSpec, *, trial: str, attempt: int) -> None:
        task = spec.task
        assert trial == task
        assert replace(spec, task="", inputs={}, inner_steps=None, outer_step=None) == TEMPLATE
        part = (spec.inputs, spec.inner_steps, spec.outer_step)
        if attempt == 0:
            assert task not in self.parts, "a name is used once"
            self.parts[task] = part
            self.seen[task] = task_row()
        else:
            assert attempt == self.attempts[task] + 1
            assert part == self.parts[task], "another attempt at the same task"
        self.attempts[task] = attempt

    def finish_task(self, task: str) -> None:
        self.finished.append(task)

    def full_audit(self, tasks: list[str]) -> None:
        self.fully_audited.append(tasks)

    def flush(self) -> None:
        self.flushes += 1

    def config_of(self, spec: str) -> dict[str, Any]:
        raise NotImplementedError

    def tasks(self) -> dict[str, TaskRow]:
        return self.seen

    def acknowledge(self, task: str, *, judged: bool = False) -> None:
        self.seen[task] = task_row(
            good=1,
            unjudged=0 if judged else 1,
            state=f"state of {task}",
            metrics={"loss": 1.0} if judged else {},
        )

    def judge(self, task: str) -> None:
        self.acknowledge(task, judged=True)

    def rule_bad(self, task: str) -> None:
        self.seen[task] = replace(self.seen[task], good=0)


class Run:
    """A run with its driver and its clock."""

    def __init__(self, *workers: str, rounds: int = 2, steps: int = 100) -> None:
        self.driver, self.clock = FakeDriver(), Clock()
        self.rounds = Rounds(self.driver, TEMPLATE, Plan(rounds=rounds, steps=steps), self.clock)
        self.rounds.set_workers(list(workers))

    def look(self, seconds: float = 1.0) -> dict[str, str]:
        """Advance the clock and the run; returns worker -> task."""
        self.clock.now_s += seconds
        self.rounds.advance()
        return self.assigned

    @property
    def assigned(self) -> dict[str, str]:
        known = ("a", "b", "c")
        return {name: task for name in known if (task := self.rounds.task_of(name))}

    def outer_step(self) -> str:
        """Compute and judge the due outer step."""
        task = next(one for one in self.look().values() if one.endswith("merge"))
        self.driver.acknowledge(task)
        self.look()
        self.driver.judge(task)
        self.look()
        return task


def test_a_run_from_its_first_state_to_its_last() -> None:
    run = Run("a", "b")
    assert list(run.look().values()) == ["r000.merge"]
    inputs, _, first = run.driver.parts["r000.merge"]
    assert first is not None
    assert not inputs
    assert not first.weights
    run.driver.acknowledge("r000.merge")
    assert run.look() == {}, "the next round starts from a judged state"
    assert run.driver.fully_audited == [["r000.merge"]]
    run.driver.judge("r000.merge")
    run.look()
    assert run.look() == {"a": "r001.w0", "b": "r001.w1"}
    for task in ("r001.w0", "r001.w1"):
        inputs, steps, _ = run.driver.parts[task]
        assert inputs == {"global": "state of r000.merge"}
        assert steps == InnerSteps(steps=100, first_step=0, bits=8)
        run.driver.acknowledge(task)
    assert run.outer_step() == "r001.merge"
    inputs, _, step = run.driver.parts["r001.merge"]
    assert step is not None
    assert step.weights == {"pseudo-gradient-000": 100, "pseudo-gradient-001": 100}
    assert inputs == {
        "global": "state of r000.merge",
        "pseudo-gradient-000": "state of r001.w0",
        "pseudo-gradient-001": "state of r001.w1",
    }
    for task in run.look().values():
        assert run.driver.parts[task][1] == InnerSteps(steps=100, first_step=100, bits=8)
        run.driver.acknowledge(task)
    assert run.outer_step() == "r002.merge"
    run.look()
    assert not run.rounds.is_over, "pseudo-gradients wait for their draws"
    assert run.driver.flushes == 1
    for task in list(run.driver.parts):
        run.driver.judge(task)
    run.look()
    assert run.rounds.is_over
    assert [one.state for one in run.rounds.history][-1] == "state of r002.merge"
    assert run.rounds.history[-1].metrics == {"loss": 1.0}
    times = [one.at_s for one in run.rounds.history]
    assert times == sorted(set(times)), "each global state has its own time"
    assert times[-1] <= run.clock.now_s


def test_a_slow_worker_takes_fewer_steps_next_time() -> None:
    run = Run("a", "b")
    run.outer_step()
    run.look()
    run.look(9.0)
    run.driver.acknowledge("r001.w0")
    run.look(1.0)
    run.look(9.0)
    run.driver.acknowledge("r001.w1")
    run.outer_step()
    assigned = run.look()
    steps = {name: run.driver.parts[task][1] for name, task in assigned.items()}
    assert steps["a"] is not None
    assert steps["b"] is not None
    assert steps["a"].steps == 100
    assert steps["b"].steps < 70


def test_a_slow_worker_that_misses_a_round_is_in_the_next() -> None:
    run = Run("a", "b", rounds=4)
    run.outer_step()
    speeds, working, ends_s = {"a": 1.9, "b": 0.8}, {"a": "", "b": ""}, {"a": 0.0, "b": 0.0}
    while not any(part.startswith("r004") for part in run.driver.parts):
        for name, task in run.look().items():
            if working[name] == task:
                if run.clock.now_s >= ends_s[name]:
                    run.driver.acknowledge(task, judged=True)
            elif run.driver.parts[task][1] is not None:
                working[name] = task
                ends_s[name] = run.clock.now_s + run.driver.parts[task][1].steps / speeds[name]
            else:
                run.driver.acknowledge(task, judged=True)
    in_rounds = [len(state.pseudo_gradients) for state in run.rounds.history[1:]]
    assert in_rounds == [1, 2, 2]


def test_a_worker_that_never_answers_does_not_stall_the_round() -> None:
    run = Run("a", "b", "c")
    run.outer_step()
    run.look()
    run.look(10.0)
    run.driver.acknowledge("r001.w0")
    run.driver.acknowledge("r001.w1")
    run.look(0.1)
    assert "r001.merge" not in run.driver.parts
    run.look(20.0)
    assert "r001.merge" not in run.driver.parts, "it may have to load what the others have"
    run.look(FIRST_S)
    assert run.assigned.get("c") is None
    assert "r001.w2" in run.driver.finished
    step = run.driver.parts["r001.merge"][2]
    assert step is not None
    assert list(step.weights.values()) == [100, 100]


def test_a_worker_that_leaves_costs_its_own_steps_and_one_that_joins_takes_part_at_once() -> None:
    run = Run("a", "b")
    run.outer_step()
    run.look()
    run.rounds.set_workers(["a", "c"])
    assert run.look() == {"a": "r001.w0", "c": "r001.w2"}
    assert "r001.w1" in run.driver.finished
    run.driver.acknowledge("r001.w0")
    run.driver.acknowledge("r001.w2")
    run.outer_step()
    assert len(run.rounds.history[-1].pseudo_gradients) == 2


def test_the_outer_step_of_a_worker_that_left_goes_to_another() -> None:
    run = Run("a", "b")
    (worker,) = run.look()
    other = "b" if worker == "a" else "a"
    run.rounds.set_workers([other])
    assert run.look() == {other: "r000.merge"}
    assert run.driver.attempts["r000.merge"] == 1


def test_without_workers_the_outer_step_waits() -> None:
    run = Run("a")
    run.look()
    run.rounds.set_workers([])
    assert run.look() == {}
    run.rounds.set_workers(["b"])
    assert run.look() == {"b": "r000.merge"}


def test_a_bad_pseudo_gradient_is_left_out_before_the_outer_step() -> None:
    run = Run("a", "b")
    run.outer_step()
    run.look()
    run.driver.acknowledge("r001.w0")
    run.look()
    run.driver.rule_bad("r001.w0")
    run.driver.acknowledge("r001.w1")
    run.look()
    run.outer_step()
    assert [one.task for one in run.rounds.history[-1].pseudo_gradients] == ["r001.w1"]


def test_a_bad_pseudo_gradient_that_was_applied_takes_the_run_back() -> None:
    run = Run("a", "b", rounds=3)
    run.outer_step()
    for number in (1, 2):
        run.look()
        for task in list(run.look().values()):
            run.driver.acknowledge(task)
        run.outer_step()
        assert run.rounds.round == number + 1
    run.look()
    run.driver.rule_bad("r001.w1")
    assigned = run.look()
    assert run.rounds.round == 1
    assert assigned == {"a": "r001.1.w0", "b": "r001.1.w1"}
    assert run.driver.parts["r001.1.w0"][0] == {"global": "state of r000.merge"}


def test_a_rejected_outer_step_is_computed_again() -> None:
    run = Run("a", "b")
    run.look()
    run.driver.acknowledge("r000.merge")
    run.look()
    run.driver.rule_bad("r000.merge")
    run.look()
    assert list(run.look().values()) == ["r000.1.merge"]


def test_a_late_ruling_reopens_a_run_that_was_about_to_end() -> None:
    run = Run("a", "b", rounds=1)
    run.outer_step()
    for task in run.look().values():
        run.driver.acknowledge(task)
    run.outer_step()
    run.look()
    assert not run.rounds.is_over
    run.driver.rule_bad("r001.w0")
    run.driver.judge("r001.w1")
    run.look()
    assert not run.rounds.is_over
    assert run.rounds.round == 1


def test_a_ruling_that_settles_the_last_question_takes_the_run_back_at_once() -> None:
    run = Run("a", "b", rounds=1)
    run.outer_step()
    for task in run.look().values():
        run.driver.acknowledge(task)
    run.outer_step()
    run.driver.judge("r001.w1")
    run.look()
    run.driver.rule_bad("r001.w0")
    run.look(0.1)
    assert not run.rounds.is_over, "no question is open, but a pseudo-gradient is bad"
    assert run.rounds.round == 1


def test_one_inflated_speed_does_not_raise_the_usual_speed() -> None:
    run = Run("a", "b", "c")
    run.outer_step()
    run.look()
    run.look(0.1)
    run.driver.acknowledge("r001.w0")
    run.look(10.0)
    run.driver.acknowledge("r001.w1")
    run.driver.acknowledge("r001.w2")
    run.look()
    run.outer_step()
    for task in run.look().values():
        steps = run.driver.parts[task][1]
        assert steps is not None
        assert steps.steps == 100


def test_a_worker_whose_program_raised_returns_as_a_new_worker() -> None:
    exchange = Exchange()
    for rank, name in enumerate(("a", "b")):
        exchange.enter(name, rank, 2)
    exchange.report_error_and_rejoin("the program failed", 1, "c")
    assert exchange.post({"b": "r000.merge"}, False) == (["a", "c"], 0, ["the program failed"])
    assert exchange.assignment("c") == (None, False), "it gets tasks under its new id"


def test_the_first_workers_of_a_group_wait_a_limited_time_for_the_others() -> None:
    now_s = 0.0
    exchange, group = Exchange(), GroupStart(lambda: now_s)

    def ready() -> list[str]:
        started, missing, _ = exchange.post({}, False)
        return group.ready(started, missing)

    exchange.enter("a", 0, 2)
    assert ready() == []
    exchange.enter("b", 1, 2)
    assert ready() == ["a", "b"]
    exchange.enter("c", 0, 2)
    assert ready() == [], "a new group"
    now_s = GROUP_WAIT_S
    assert ready() == ["c"]


def test_steps_are_given_up_once_the_driver_assigns_another_task() -> None:
    clock, exchange, asked = Clock(), Exchange(), list[int]()
    answers: list[tuple[str | None, bool] | None] = []

    def send() -> int:
        asked.append(len(asked))
        return asked[-1]

    def receive(question: int) -> tuple[str | None, bool] | None:
        assert question == asked[-1], "one question at a time"
        return answers.pop(0)

    wanted = StillAssigned("r001.w0", send=send, receive=receive, clock=clock)
    exchange.post({"me": "r001.w0"}, False)
    assert wanted()
    assert asked == [], "not at each step"
    clock.now_s += ASK_EVERY_S
    answers += [None, None, exchange.assignment("me")]
    assert [wanted() for _ in range(4)] == [True] * 4, "steps do not wait for an answer"
    assert (asked, answers) == ([0], [])
    exchange.post({"me": "r002.w0"}, False)
    clock.now_s += ASK_EVERY_S
    answers += [exchange.assignment("me")]
    assert [wanted(), wanted()] == [True, False]


def test_steps_are_given_up_when_the_run_is_over() -> None:
    clock, exchange = Clock(), Exchange()
    exchange.post({"me": "r001.w0"}, True)
    wanted = StillAssigned(
        "r001.w0", send=str, receive=lambda _: exchange.assignment("me"), clock=clock
    )
    clock.now_s += ASK_EVERY_S
    assert [wanted(), wanted()] == [True, False]
