"""What a quote is made from: how long the program takes here, and which nodes there are.

The program runs for a few steps in this process, at the speed that the self-test finds here, so
that its seconds can be compared with other machines'.

Not defended: a node's speed is what its operator's label says. One that claims too much makes
quotes early, and earns nothing by it.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.search.sample import Domain

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.jobs.request import Search, Together
from workloads.core.quote import REFERENCE_SPEED, JobSize, Pool, mean_stay_s
from workloads.core.segment import Runner

TIMED_STEPS = 5
MILLISECONDS = 1000


def search_work(search: Search, runner: Runner, *, steps: int, own_speed: float) -> JobSize:
    """A search in which every trial is as long as the one of `runner`, a fresh task; `steps`: of
    a segment."""
    step_s, finish_s = _timed(runner)
    trials = max(1, search.tune_config.num_samples) * _grid_points(search.param_space)
    return JobSize(
        tasks=trials,
        segments=runner.segments,
        reference_s=_reference_s(steps * step_s + finish_s, own_speed),
        at_once=search.tune_config.max_concurrent_trials or trials,
        paid=trials * runner.segments,
    )


def rounds_work(together: Together, runner: Runner, *, nodes: int, own_speed: float) -> JobSize:
    """Rounds one after the other, each as long as its steps and two evaluations, its own and the
    merge's; every worker's part is paid, and every merge."""
    step_s, finish_s = _timed(runner)
    plan, workers = together.plan, min(together.workers[1], nodes)
    return JobSize(
        tasks=1,
        segments=plan.rounds,
        reference_s=_reference_s(plan.steps * step_s + 2 * finish_s, own_speed),
        at_once=1,
        paid=plan.rounds * (workers + 1) + 1,
    )


def pool_of(nodes: Sequence[Mapping[str, Any]], *, together: bool) -> Pool:
    """The pool of volunteers' nodes, as the desk lists them. `together`: they go at the pace of the
    slower of the faster half. Raises `OperationError` if none is there."""
    speeds = [one["speed"] for one in nodes if not one["gone"]]
    if not speeds:
        raise OperationError("no volunteer's node is there to do this job: nothing to quote from")
    if together:
        speeds = [statistics.median_high(speeds)] * len(speeds)
    return Pool(
        speeds=[speed / REFERENCE_SPEED for speed in speeds],
        mean_stay_s=mean_stay_s([(one["seconds"], one["gone"]) for one in nodes]),
    )


def point_of(space: Mapping[str, Any]) -> dict[str, Any]:
    """Some point of Tune's search space."""
    return {name: _point(value) for name, value in space.items()}


def nodes_of(states: Sequence[Any], now_s: Callable[[], float]) -> list[dict[str, Any]]:
    """Volunteers among Ray's `NodeState`s: speed by their label, seconds there, whether gone."""
    found: list[dict[str, Any]] = []
    for one in states:
        speed = float(one.labels.get("gensyn.speed", 0.0))
        if one.labels.get("gensyn.role") != "volunteer" or speed <= 0.0:
            continue
        gone = one.state != "ALIVE"
        end_s = one.end_time_ms / MILLISECONDS if gone else now_s()
        seconds = max(0.0, end_s - one.start_time_ms / MILLISECONDS)
        found.append({"speed": speed, "seconds": seconds, "gone": gone})
    return found


def _timed(runner: Runner) -> tuple[float, float]:
    """Seconds of a step and of a segment's end."""
    runner.train(1)  # compiles
    begun = time.perf_counter()
    runner.train(TIMED_STEPS)
    trained = time.perf_counter()
    runner.finish()
    return (trained - begun) / TIMED_STEPS, time.perf_counter() - trained


def _reference_s(seconds: float, own_speed: float) -> float:
    return seconds * own_speed / REFERENCE_SPEED


def _point(value: Any) -> Any:
    if isinstance(value, Domain):
        return value.sample()
    grid = _grid(value)
    return grid[0] if grid else value


def _grid_points(space: Mapping[str, Any]) -> int:
    return math.prod(len(_grid(value)) or 1 for value in space.values())


def _grid(value: Any) -> list[Any]:
    return list(value["grid_search"]) if isinstance(value, dict) and "grid_search" in value else []
