"""Quotes: the costs of a job, and the time of its end."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.core.quote import JobSize, Pool, finish_s, mean_stay_s, quote

RNG = np.random.default_rng(0)


def size(tasks: int, segments: int, at_once: int = 100, reference_s: float = 2.0) -> JobSize:
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
def test_without_churn_the_end_is_the_sum_of_the_times(
    tasks: int, segments: int, at_once: int, speeds: tuple[float, ...], seconds: float
) -> None:
    assert finish_s(size(tasks, segments, at_once), Pool(speeds=speeds), RNG) == seconds


def test_the_cost_is_exact_and_the_cloud_is_asked_for_the_same_seconds() -> None:
    found = quote(size(3, 4), Pool(speeds=(1.0, 1.0)), 1_500_000)
    assert found.cost_micro == 12 * 1_500_000
    assert found.reference_s == 24.0
    assert found.cloud(36.0) == pytest.approx(0.24)
    assert found.p50_s == found.p90_s == 16.0


def test_churn_delays_the_end_or_prevents_it() -> None:
    steady = quote(size(8, 10), Pool(speeds=(1.0,) * 6), 1)
    restless = quote(size(8, 10), Pool(speeds=(1.0,) * 6, mean_stay_s=120.0), 1)
    hopeless = quote(size(8, 10), Pool(speeds=(1.0,) * 6, mean_stay_s=1.0), 1)
    assert steady.p50_s <= restless.p50_s < restless.p90_s
    assert hopeless.p50_s == math.inf
    assert restless == quote(size(8, 10), Pool(speeds=(1.0,) * 6, mean_stay_s=120.0), 1)


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
    job = size(tasks, segments, at_once)
    end_s = finish_s(job, Pool(speeds=speeds, mean_stay_s=stay), np.random.default_rng(seed))
    assert end_s >= job.total_s / sum(speeds) * (1 - 1e-9)
    assert end_s >= segments * job.reference_s / max(speeds) * (1 - 1e-9)
    if stay == math.inf:
        assert end_s <= job.total_s / min(speeds) * (1 + 1e-9)


def test_stays_of_present_nodes_count() -> None:
    assert mean_stay_s([]) == math.inf
    assert mean_stay_s([(100.0, False)]) == math.inf
    assert mean_stay_s([(100.0, True), (300.0, False), (200.0, True)]) == 300.0
