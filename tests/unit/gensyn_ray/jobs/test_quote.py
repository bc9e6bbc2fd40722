"""What a job may cost, and when it may be done."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.jobs.quoting import nodes_of, point_of, pool_of, rounds_work, search_work
from gensyn_ray.jobs.request import Search, Together
from workloads.core.quote import REFERENCE_SPEED, JobSize, Pool, finish_s, mean_stay_s, quote
from workloads.ray_jobs.diloco.core.rounds import Plan

RNG = np.random.default_rng(0)


def work(tasks: int, segments: int, at_once: int = 100, reference_s: float = 2.0) -> JobSize:
    return JobSize(
        tasks=tasks,
        segments=segments,
        reference_s=reference_s,
        at_once=at_once,
        paid=tasks * segments,
    )


@pytest.mark.parametrize(
    ("tasks", "segments", "at_once", "speeds", "seconds"),
    [
        (1, 5, 9, (1.0,), 10.0),
        (1, 5, 9, (1.0, 2.0), 5.0),  # the faster one has it
        (4, 5, 9, (1.0, 1.0), 20.0),
        (4, 5, 1, (1.0, 1.0), 40.0),
        (3, 5, 9, (2.0, 1.0), 10.0),  # two by the faster one
    ],
)
def test_without_churn_the_end_is_a_sum(
    tasks: int, segments: int, at_once: int, speeds: tuple[float, ...], seconds: float
) -> None:
    assert finish_s(work(tasks, segments, at_once), Pool(speeds=speeds), RNG) == seconds


def test_the_cost_is_exact_and_the_cloud_is_asked_for_the_same_seconds() -> None:
    found = quote(work(3, 4), Pool(speeds=(1.0, 1.0)), 1_500_000)
    assert found.cost_micro == 12 * 1_500_000
    assert found.reference_s == 24.0
    assert found.cloud(36.0) == pytest.approx(0.24)
    assert found.p50_s == found.p90_s == 16.0


def test_nodes_that_leave_make_the_end_later_and_may_take_it_away() -> None:
    steady = quote(work(8, 10), Pool(speeds=(1.0,) * 6), 1)
    restless = quote(work(8, 10), Pool(speeds=(1.0,) * 6, mean_stay_s=120.0), 1)
    hopeless = quote(work(8, 10), Pool(speeds=(1.0,) * 6, mean_stay_s=1.0), 1)
    assert steady.p50_s <= restless.p50_s < restless.p90_s
    assert hopeless.p50_s == math.inf
    assert restless == quote(work(8, 10), Pool(speeds=(1.0,) * 6, mean_stay_s=120.0), 1)


@given(
    tasks=st.integers(1, 12),
    segments=st.integers(1, 8),
    at_once=st.integers(1, 6),
    speeds=st.lists(st.floats(0.1, 10.0), min_size=1, max_size=6),
    stay_and_seed=st.tuples(st.sampled_from([math.inf, 500.0, 50.0, 5.0]), st.integers(0, 10)),
)
def test_no_end_is_earlier_than_the_work_allows(
    tasks: int, segments: int, at_once: int, speeds: list[float], stay_and_seed: tuple[float, int]
) -> None:
    stay, seed = stay_and_seed
    job = work(tasks, segments, at_once)
    end_s = finish_s(job, Pool(speeds=speeds, mean_stay_s=stay), np.random.default_rng(seed))
    assert end_s >= job.total_s / sum(speeds) * (1 - 1e-9)
    assert end_s >= segments * job.reference_s / max(speeds) * (1 - 1e-9)
    if stay == math.inf:
        assert end_s <= job.total_s / min(speeds) * (1 + 1e-9)


def test_stays_that_go_on_count_too() -> None:
    assert mean_stay_s([]) == math.inf
    assert mean_stay_s([(100.0, False)]) == math.inf
    assert mean_stay_s([(100.0, True), (300.0, False), (200.0, True)]) == 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Ray's `NodeState`, as far as it is asked."""

    labels: Mapping[str, str]
    state: str = "ALIVE"
    start_time_ms: int = 10_000
    end_time_ms: int = 0


def volunteer(speed: float, **more: Any) -> Seen:
    return Seen(labels={"gensyn.role": "volunteer", "gensyn.speed": str(speed)}, **more)


def test_nodes_are_volunteers_that_are_there_or_were() -> None:
    seen = [
        Seen(labels={"gensyn.role": "head"}),
        volunteer(150.0),
        volunteer(50.0, state="DEAD", end_time_ms=40_000),
        volunteer(0.0),  # serves pinned work alone
    ]
    nodes = nodes_of(seen, lambda: 100.0)
    assert nodes == [
        {"speed": 150.0, "seconds": 90.0, "gone": False},
        {"speed": 50.0, "seconds": 30.0, "gone": True},
    ]
    assert pool_of(nodes, together=False) == Pool(speeds=[1.5], mean_stay_s=120.0)


def test_together_all_go_at_the_pace_of_the_slower_of_the_faster_half() -> None:
    nodes = [{"speed": speed, "seconds": 1.0, "gone": False} for speed in (400.0, 100.0, 200.0)]
    assert pool_of(nodes, together=True).speeds == [2.0, 2.0, 2.0]
    with pytest.raises(OperationError, match="no volunteer"):
        pool_of([], together=True)


def test_a_point_of_a_space_and_how_many_a_grid_has() -> None:
    space = {"lr": tune.uniform(0.1, 0.2), "width": tune.grid_search([8, 16]), "fixed": "x"}
    point = point_of(space)
    assert 0.1 <= point["lr"] <= 0.2
    assert point["width"] == 8
    assert point["fixed"] == "x"


class FakeRunner:
    """Steps of 10 ms and ends of 40 ms, in the clock that the quote reads."""

    segments = 8

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now_s)

    def train(self, steps: int) -> None:
        self.now_s += 0.01 * steps

    def finish(self) -> None:
        self.now_s += 0.04


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    return FakeRunner(monkeypatch)


def test_a_search_is_its_trials_on_a_machine_of_the_reference_speed(runner: Any) -> None:
    space = {"lr": tune.uniform(0.1, 0.2), "width": tune.grid_search([8, 16])}
    config = tune.TuneConfig(metric="x", mode="max", num_samples=3, max_concurrent_trials=2)
    search = Search(param_space=space, tune_config=config)
    found = search_work(search, runner, steps=6, own_speed=2 * REFERENCE_SPEED)
    assert (found.tasks, found.segments, found.paid, found.at_once) == (6, 8, 48, 2)
    assert found.reference_s == pytest.approx(2 * (6 * 0.01 + 0.04))


def test_rounds_follow_each_other_and_every_part_is_paid(runner: Any) -> None:
    together = Together(config={}, plan=Plan(rounds=5, steps=20), workers=(1, 4))
    found = rounds_work(together, runner, nodes=3, own_speed=REFERENCE_SPEED)
    assert (found.tasks, found.segments, found.at_once) == (1, 5, 1)
    assert found.paid == 5 * (3 + 1) + 1, "each round of each worker, each merge, the first state"
    assert found.reference_s == pytest.approx(20 * 0.01 + 2 * 0.04)
