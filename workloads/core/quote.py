"""What a job costs and when it ends, estimated before it starts.

The unit of computation is the *reference second*: one second of a machine that takes
`REFERENCE_SPEED` steps per second in the self-test's training.

The end is simulated `DRAWS` times. A free node takes the next task and keeps it, segment by
segment. A node stays for an exponentially distributed time, whose mean is that of this network's
nodes. When it leaves, another node computes the unfinished segment again.

Not covered: start-up times, audits, other jobs on the same nodes, nodes that join later, trials
that a scheduler stops early (such a search costs less).
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REFERENCE_SPEED = 100.0
"""Steps per second of the reference machine in the self-test's training."""
DRAWS = 400
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSize:
    """What a job computes: `tasks` of `segments` each, at most `at_once` tasks at a time.

    `reference_s`: reference seconds of one segment. `paid`: number of segments that are paid; it is
    more than `tasks * segments` where several workers compute one round."""

    tasks: int
    segments: int
    reference_s: float
    at_once: int
    paid: int

    @property
    def total_s(self) -> float:
        """Reference seconds of the whole job."""
        return self.tasks * self.segments * self.reference_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The nodes that can compute a job. `speeds`: of each node, in reference seconds per second.
    `mean_stay_s`: mean time that a node stays, in seconds; infinite if none has left so far."""

    speeds: Sequence[float]
    mean_stay_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """An estimate of a job's cost and end.

    `cost_micro`: in micro-credits, if each segment is computed once and accepted. `segments`: how
    many are paid. `reference_s`: reference seconds of the whole job. `p50_s`, `p90_s`: seconds
    until the last segment is computed, median and 90th percentile of the simulated ends; infinite
    if half, or a tenth, of the simulations run out of nodes."""

    nodes: int
    segments: int
    cost_micro: int
    reference_s: float
    mean_stay_s: float
    p50_s: float
    p90_s: float

    def cloud(self, price_per_hour: float) -> float:
        """The cost of the same reference seconds on rented machines, in the price's currency.

        `price_per_hour`: of one reference machine."""
        return self.reference_s / SECONDS_PER_HOUR * price_per_hour


def quote(
    size: JobSize, pool: Pool, price_micro: int, *, seed: int = 0, draws: int = DRAWS
) -> Quote:
    """The cost of a job, and the median and 90th percentile of its end.

    `price_micro`: micro-credits for each segment. `seed`: of the simulation."""
    rng = np.random.default_rng(seed)
    ends = sorted(finish_s(size, pool, rng) for _ in range(draws))
    return Quote(
        nodes=len(pool.speeds),
        segments=size.paid,
        cost_micro=size.paid * price_micro,
        reference_s=size.total_s,
        mean_stay_s=pool.mean_stay_s,
        p50_s=ends[math.ceil(0.5 * draws) - 1],
        p90_s=ends[math.ceil(0.9 * draws) - 1],
    )


def finish_s(size: JobSize, pool: Pool, rng: np.random.Generator) -> float:
    """One simulated end, in seconds from now; infinite if all nodes leave before it."""
    speeds = sorted(pool.speeds, reverse=True)
    leaves = [
        rng.exponential(pool.mean_stay_s) if math.isfinite(pool.mean_stay_s) else math.inf
        for _ in speeds
    ]
    spare = list(range(min(size.at_once, len(speeds)), len(speeds)))
    free = [(0.0, node) for node in range(min(size.at_once, len(speeds)))]
    waiting = [(0.0, size.segments) for _ in range(size.tasks)]
    end_s = 0.0
    while waiting:
        if not free:
            return math.inf
        since_s, node = heapq.heappop(free)
        ready_s, left = heapq.heappop(waiting)
        begin_s, segment_s = max(since_s, ready_s), size.reference_s / speeds[node]
        done_s = begin_s + left * segment_s
        if done_s <= leaves[node]:
            heapq.heappush(free, (done_s, node))
            end_s = max(end_s, done_s)
            continue
        stayed_s = max(0.0, leaves[node] - begin_s)
        heapq.heappush(waiting, (begin_s + stayed_s, left - int(stayed_s / segment_s)))
        if spare:
            heapq.heappush(free, (begin_s + stayed_s, spare.pop(0)))
    return end_s


def mean_stay_s(stays: Sequence[tuple[float, bool]]) -> float:
    """Maximum-likelihood mean of exponential stays, some of which have not ended.

    `stays`: (seconds so far, whether the node has left). The result is in seconds: all seconds
    divided by the number of departures. It is infinite without a departure."""
    left = sum(gone for _, gone in stays)
    return sum(seconds for seconds, _ in stays) / left if left else math.inf
