"""The kind `diloco`: its checks, estimates and sections of a job file."""

from typing import Any

import pytest

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.quote import Pool
from workloads.ray_jobs.diloco.core.global_state import GlobalState
from workloads.ray_jobs.diloco.core.plan import Plan
from workloads.ray_jobs.diloco.kind import DilocoOutcome, DilocoRequest
from workloads.ray_jobs.diloco.train.run_rounds import check_first_driver
from workloads.ray_jobs.kind.interface import TaskEnd, Timing


def test_a_plan_workers_and_a_config_are_read() -> None:
    written = {
        "plan": {"rounds": 3, "steps": 7},
        "workers": [2, 3],
        "config": {"lr": 0.1},
    }
    request = DilocoRequest.from_tables("pretrain", written, seed=1, segments=8)
    assert request == DilocoRequest(
        plan=Plan(rounds=3, steps=7), workers=(2, 3), config={"lr": 0.1}
    )
    assert request.sample_config() == {"lr": 0.1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": {"rounds": 3}}, "plan: missing required field `steps`"),
        ({"plan": {"rounds": 3, "steps": "7"}}, r"plan.steps: Expected `int`, got `str`"),
        ({"plan": {"rounds": 3, "steps": 7, "bit": 8}}, "unknown plan.bit: choose from rounds"),
        ({"plan": 3}, r"plan must be a table: write \[plan\]"),
        ({"workers": 2}, "workers: Expected `array`"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], said: str) -> None:
    written = {"plan": {"rounds": 3, "steps": 7}, **change}
    with pytest.raises(UsageError, match=said):
        DilocoRequest.from_tables("pretrain", written, seed=1, segments=8)


@pytest.mark.parametrize("workers", [(0, 2), (3, 2)])
def test_workers_are_least_and_most(workers: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="workers are"):
        DilocoRequest(plan=Plan(rounds=1, steps=1), workers=workers).check()


def test_rounds_follow_each_other_and_every_part_is_paid() -> None:
    request = DilocoRequest(plan=Plan(rounds=5, steps=20), workers=(1, 4))
    timing = Timing(step_s=0.01, end_s=0.04, segments=8, segment_steps=6)
    size, pool = request.estimate(timing, Pool(speeds=[4.0, 1.0, 2.0], mean_stay_s=9.0))
    assert (size.tasks, size.segments, size.at_once) == (1, 5, 1)
    assert size.paid == 5 * (3 + 1) + 1, "inner steps, outer steps, the first state"
    assert size.reference_s == pytest.approx(20 * 0.01 + 2 * 0.04)
    assert pool == Pool(speeds=[2.0, 2.0, 2.0], mean_stay_s=9.0), "all at the upper median"


def test_the_last_round_has_the_trained_state() -> None:
    rounds = tuple(
        GlobalState(task=f"r{at:03d}.merge", state=f"s{at}", metrics={"loss": 1.5}) for at in (0, 1)
    )
    outcome = DilocoOutcome(rounds=rounds)
    assert outcome.trained(None, "") == TaskEnd(task="r001.merge", state="s1")
    with pytest.raises(UsageError, match="no trial 'a1'"):
        outcome.trained(None, "a1")
    assert outcome.describe(None) == "1 rounds, loss 1.5000"
    with pytest.raises(OperationError, match="without a state"):
        DilocoOutcome(rounds=()).trained(None, "")


class Driver:
    def __init__(self, **tasks: Any) -> None:
        self._tasks = tasks

    def tasks(self) -> dict[str, Any]:
        return self._tasks


class Context:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver


def test_a_second_driver_of_a_run_says_that_the_run_cannot_continue() -> None:
    first: Any = Context(Driver())
    check_first_driver(first)
    second: Any = Context(Driver(r000={}))
    with pytest.raises(OperationError, match="submit the job again"):
        check_first_driver(second)
