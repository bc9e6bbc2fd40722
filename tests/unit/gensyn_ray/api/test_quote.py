"""Quotes: the measurement on this machine, and the pool of nodes."""

from typing import Any

import pytest

from gensyn_ray.api.quote import pool_of, timing_of
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.jobs.nodes import VolunteerNode
from workloads.core.quote import REFERENCE_SPEED, Pool


def test_the_pool_has_the_nodes_that_are_there_and_counts_the_stays_of_all() -> None:
    nodes = [
        VolunteerNode(speed=150.0, seconds=90.0, gone=False),
        VolunteerNode(speed=50.0, seconds=30.0, gone=True),
    ]
    assert pool_of(nodes) == Pool(speeds=[1.5], mean_stay_s=120.0)
    with pytest.raises(OperationError, match="no volunteer"):
        pool_of([])


class FakeRunner:
    """A program with steps of 10 ms and evaluations of 40 ms."""

    segments = 8

    def __init__(self) -> None:
        self.now_s = 0.0

    def train(self, steps: int) -> None:
        self.now_s += 0.01 * steps

    def finish(self) -> None:
        self.now_s += 0.04


def test_seconds_here_become_reference_seconds() -> None:
    runner: Any = FakeRunner()
    speed = 2 * REFERENCE_SPEED
    found = timing_of(runner, segment_steps=6, speed=speed, clock=lambda: runner.now_s)
    assert (found.segments, found.segment_steps) == (8, 6)
    assert found.step_s == pytest.approx(2 * 0.01)
    assert found.end_s == pytest.approx(2 * 0.04)
