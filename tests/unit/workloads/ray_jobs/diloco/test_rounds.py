"""Rounds of loosely coupled training: who gets what, when a round is over, what a ruling undoes."""

from collections.abc import Mapping
from typing import Any

from workloads.core.segment import InnerSteps, OuterStep
from workloads.ray_jobs.diloco.core.exchange import MUSTER_S, WANTED_S, Exchange, Muster, Wanted
from workloads.ray_jobs.diloco.core.rounds import FIRST_S, Plan, Rounds


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeDriver:
    """The authority as the rounds see it: tests say when a task is acknowledged, judged, ruled."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[Mapping[str, str], InnerSteps | None, OuterStep | None]] = {}
        self.attempts: dict[str, int] = {}
        self.finished: list[str] = []
        self.hardened: list[list[str]] = []
        self.seen: dict[str, dict[str, Any]] = {}

    def start_part(
        self,
        *,
        task: str,
        inputs: Mapping[str, str],
        round: InnerSteps | None,
        merge: OuterStep | None,
    ) -> None:
        assert task not in self.parts, "a name is used once"
        self.parts[task] = (inputs, round, merge)
        self.attempts[task] = 0
        self.seen[task] = {"good": 0, "unjudged": 0, "state": "", "metrics": {}}

    def start_again(self, *, task: str, attempt: int) -> None:
        assert attempt == self.attempts[task] + 1
        self.attempts[task] = attempt

    def finish_task(self, task: str) -> None:
        self.finished.append(task)

    def harden(self, tasks: list[str]) -> None:
        self.hardened.append(tasks)

    def tasks(self) -> dict[str, dict[str, Any]]:
        return self.seen

    def acknowledge(self, task: str, *, judged: bool = False) -> None:
        self.seen[task] = {
            "good": 1,
            "unjudged": 0 if judged else 1,
            "state": f"state of {task}",
            "metrics": {"loss": 1.0} if judged else {},
        }

    def judge(self, task: str) -> None:
        self.acknowledge(task, judged=True)

    def rule_bad(self, task: str) -> None:
        self.seen[task]["good"] = 0


class Run:
    """A run, its driver and its clock."""

    def __init__(self, *workers: str, rounds: int = 2, steps: int = 100) -> None:
        self.driver, self.clock = FakeDriver(), Clock()
        self.rounds = Rounds(self.driver, Plan(rounds=rounds, steps=steps), self.clock)
        self.rounds.present(list(workers))

    def turn(self, seconds: float = 1.0) -> dict[str, str]:
        """Let time pass and look; what each worker is to do."""
        self.clock.now_s += seconds
        self.rounds.turn()
        return self.orders

    @property
    def orders(self) -> dict[str, str]:
        known = ("a", "b", "c")
        return {name: order for name in known if (order := self.rounds.order_of(name))}

    def merge(self) -> str:
        """Have the merge that is due made and judged."""
        task = next(one for one in self.turn().values() if one.endswith("merge"))
        self.driver.acknowledge(task)
        self.turn()
        self.driver.judge(task)
        self.turn()
        return task


def test_a_run_from_its_first_state_to_its_last() -> None:
    run = Run("a", "b")
    assert list(run.turn().values()) == ["r000.merge"]
    inputs, _, first = run.driver.parts["r000.merge"]
    assert first is not None
    assert not inputs
    assert not first.weights
    run.driver.acknowledge("r000.merge")
    assert run.turn() == {}, "nothing grows from a merge that is not judged"
    assert run.driver.hardened == [["r000.merge"]]
    run.driver.judge("r000.merge")
    run.turn()
    assert run.turn() == {"a": "r001.w0", "b": "r001.w1"}
    for task in ("r001.w0", "r001.w1"):
        inputs, steps, _ = run.driver.parts[task]
        assert inputs == {"global": "state of r000.merge"}
        assert steps == InnerSteps(steps=100, first_step=0, bits=8)
        run.driver.acknowledge(task)
    assert run.merge() == "r001.merge"
    inputs, _, merge = run.driver.parts["r001.merge"]
    assert merge is not None
    assert merge.weights == {"change-000": 100, "change-001": 100}
    assert inputs == {
        "global": "state of r000.merge",
        "change-000": "state of r001.w0",
        "change-001": "state of r001.w1",
    }
    for task in run.turn().values():
        assert run.driver.parts[task][1] == InnerSteps(steps=100, first_step=100, bits=8)
        run.driver.acknowledge(task)
    assert run.merge() == "r002.merge"
    run.turn()
    assert not run.rounds.is_over, "changes wait for their draws"
    for task in list(run.driver.parts):
        run.driver.judge(task)
    run.turn()
    assert run.rounds.is_over
    assert [one.state for one in run.rounds.history][-1] == "state of r002.merge"
    assert run.rounds.history[-1].metrics == {"loss": 1.0}
    times = [one.at_s for one in run.rounds.history]
    assert times == sorted(set(times)), "each global state has its own time"
    assert times[-1] <= run.clock.now_s


def test_a_slow_worker_takes_fewer_steps_next_time() -> None:
    run = Run("a", "b")
    run.merge()
    run.turn()
    run.turn(9.0)
    run.driver.acknowledge("r001.w0")
    run.turn(1.0)
    run.turn(9.0)
    run.driver.acknowledge("r001.w1")
    run.merge()
    orders = run.turn()
    steps = {name: run.driver.parts[task][1] for name, task in orders.items()}
    assert steps["a"] is not None
    assert steps["b"] is not None
    assert steps["a"].steps == 100
    assert steps["b"].steps < 70


def test_a_slow_worker_that_misses_a_round_is_in_the_next() -> None:
    run = Run("a", "b", rounds=4)
    run.merge()
    speeds, working, ends_s = {"a": 1.9, "b": 0.8}, {"a": "", "b": ""}, {"a": 0.0, "b": 0.0}
    while not any(part.startswith("r004") for part in run.driver.parts):
        for name, order in run.turn().items():
            if working[name] == order:
                if run.clock.now_s >= ends_s[name]:
                    run.driver.acknowledge(order, judged=True)
            elif run.driver.parts[order][1] is not None:
                working[name] = order
                ends_s[name] = run.clock.now_s + run.driver.parts[order][1].steps / speeds[name]
            else:
                run.driver.acknowledge(order, judged=True)
    in_rounds = [len(merged.changes) for merged in run.rounds.history[1:]]
    assert in_rounds == [1, 2, 2]


def test_a_worker_that_never_answers_does_not_stall_the_round() -> None:
    run = Run("a", "b", "c")
    run.merge()
    run.turn()
    run.turn(10.0)
    run.driver.acknowledge("r001.w0")
    run.driver.acknowledge("r001.w1")
    run.turn(0.1)
    assert "r001.merge" not in run.driver.parts
    run.turn(20.0)
    assert "r001.merge" not in run.driver.parts, "it may have to load what the others have"
    run.turn(FIRST_S)
    assert run.orders.get("c") is None
    assert "r001.w2" in run.driver.finished
    merge = run.driver.parts["r001.merge"][2]
    assert merge is not None
    assert list(merge.weights.values()) == [100, 100]


def test_a_worker_that_leaves_costs_its_own_steps_and_one_that_joins_takes_part_at_once() -> None:
    run = Run("a", "b")
    run.merge()
    run.turn()
    run.rounds.present(["a", "c"])
    assert run.turn() == {"a": "r001.w0", "c": "r001.w2"}
    assert "r001.w1" in run.driver.finished
    run.driver.acknowledge("r001.w0")
    run.driver.acknowledge("r001.w2")
    run.merge()
    assert len(run.rounds.history[-1].changes) == 2


def test_the_merge_of_a_worker_that_left_goes_to_another() -> None:
    run = Run("a", "b")
    (worker,) = run.turn()
    other = "b" if worker == "a" else "a"
    run.rounds.present([other])
    assert run.turn() == {other: "r000.merge"}
    assert run.driver.attempts["r000.merge"] == 1


def test_without_workers_a_merge_waits() -> None:
    run = Run("a")
    run.turn()
    run.rounds.present([])
    assert run.turn() == {}
    run.rounds.present(["b"])
    assert run.turn() == {"b": "r000.merge"}


def test_a_bad_change_is_left_out_before_the_merge() -> None:
    run = Run("a", "b")
    run.merge()
    run.turn()
    run.driver.acknowledge("r001.w0")
    run.turn()
    run.driver.rule_bad("r001.w0")
    run.driver.acknowledge("r001.w1")
    run.turn()
    run.merge()
    assert [one.task for one in run.rounds.history[-1].changes] == ["r001.w1"]


def test_a_bad_change_that_was_merged_takes_the_run_back() -> None:
    run = Run("a", "b", rounds=3)
    run.merge()
    for number in (1, 2):
        run.turn()
        for task in list(run.turn().values()):
            run.driver.acknowledge(task)
        run.merge()
        assert run.rounds.round == number + 1
    run.turn()
    run.driver.rule_bad("r001.w1")
    orders = run.turn()
    assert run.rounds.round == 1
    assert orders == {"a": "r001.1.w0", "b": "r001.1.w1"}
    assert run.driver.parts["r001.1.w0"][0] == {"global": "state of r000.merge"}


def test_a_merge_that_is_ruled_bad_is_made_again() -> None:
    run = Run("a", "b")
    run.turn()
    run.driver.acknowledge("r000.merge")
    run.turn()
    run.driver.rule_bad("r000.merge")
    run.turn()
    assert list(run.turn().values()) == ["r000.1.merge"]


def test_a_late_ruling_reopens_a_run_that_was_about_to_end() -> None:
    run = Run("a", "b", rounds=1)
    run.merge()
    for task in run.turn().values():
        run.driver.acknowledge(task)
    run.merge()
    run.turn()
    assert not run.rounds.is_over
    run.driver.rule_bad("r001.w0")
    run.driver.judge("r001.w1")
    run.turn()
    assert not run.rounds.is_over
    assert run.rounds.round == 1


def test_a_worker_that_is_much_too_fast_hurries_nobody() -> None:
    run = Run("a", "b", "c")
    run.merge()
    run.turn()
    run.turn(0.1)
    run.driver.acknowledge("r001.w0")
    run.turn(10.0)
    run.driver.acknowledge("r001.w1")
    run.driver.acknowledge("r001.w2")
    run.turn()
    run.merge()
    for task in run.turn().values():
        steps = run.driver.parts[task][1]
        assert steps is not None
        assert steps.steps == 100


def test_a_worker_whose_program_raised_is_another_one_from_then_on() -> None:
    exchange = Exchange()
    for rank, name in enumerate(("a", "b")):
        exchange.enter(name, rank, 2)
    exchange.failed_and_stays("the program failed", 1, "c")
    assert exchange.post({"b": "r000.merge"}, False) == (["a", "c"], 0, ["the program failed"])
    assert exchange.order("c") == (None, False), "its order is given out again, under its new name"


def test_the_first_of_a_group_wait_for_the_rest_but_not_for_ever() -> None:
    now_s = 0.0
    exchange, muster = Exchange(), Muster(lambda: now_s)

    def ready() -> list[str]:
        there, missing, _ = exchange.post({}, False)
        return muster.ready(there, missing)

    exchange.enter("a", 0, 2)
    assert ready() == []
    exchange.enter("b", 1, 2)
    assert ready() == ["a", "b"]
    exchange.enter("c", 0, 2)
    assert ready() == [], "a new group"
    now_s = MUSTER_S
    assert ready() == ["c"]


def test_steps_are_given_up_once_the_driver_wants_something_else() -> None:
    clock, exchange, asked = Clock(), Exchange(), list[int]()
    answers: list[tuple[str | None, bool] | None] = []

    def ask() -> int:
        asked.append(len(asked))
        return asked[-1]

    def answer(question: int) -> tuple[str | None, bool] | None:
        assert question == asked[-1], "one question at a time"
        return answers.pop(0)

    wanted = Wanted("r001.w0", ask=ask, answer=answer, clock=clock)
    exchange.post({"me": "r001.w0"}, False)
    assert wanted()
    assert asked == [], "not at each step"
    clock.now_s += WANTED_S
    answers += [None, None, exchange.order("me")]
    assert [wanted() for _ in range(4)] == [True] * 4, "nobody waits for an answer"
    assert (asked, answers) == ([0], [])
    exchange.post({"me": "r002.w0"}, False)
    clock.now_s += WANTED_S
    answers += [exchange.order("me")]
    assert [wanted(), wanted()] == [True, False]


def test_steps_are_given_up_when_the_run_is_over() -> None:
    clock, exchange = Clock(), Exchange()
    exchange.post({"me": "r001.w0"}, True)
    wanted = Wanted("r001.w0", ask=str, answer=lambda _: exchange.order("me"), clock=clock)
    clock.now_s += WANTED_S
    assert [wanted(), wanted()] == [True, False]
