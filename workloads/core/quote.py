"""What a job may cost and when it may be done, before it begins.

Work is counted in *reference seconds*: a machine that takes `REFERENCE_SPEED` steps a second of the
self-test's training does one of them in a second, a faster one more. The end is drawn many times
over: whoever is free takes the next task and keeps it, segment by segment; a node stays for an
exponential time with the mean that this network's nodes have had, then it is gone, and the segment
that it was at is done again elsewhere.

Not covered: starting up, judgements, other jobs on the same nodes, nodes that join meanwhile. Every
task is taken to run to its end: a search that stops trials early costs less.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REFERENCE_SPEED = 100.0
"""Steps a second of the self-test's training, by which speeds are divided."""
DRAWS = 400
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """`tasks` of `segments` each, at most `at_once` of them at a time. `paid`: segments that are
    paid, where they are more than tasks times segments. `reference_s`: of one segment."""

    tasks: int
    segments: int
    reference_s: float
    at_once: int
    paid: int

    @property
    def total_s(self) -> float:
        """Reference seconds of all of it."""
        return self.tasks * self.segments * self.reference_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """`speeds`: reference seconds that each node does in a second. `mean_stay_s`: how long nodes
    stay, infinite if none was seen to leave."""

    speeds: Sequence[float]
    mean_stay_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """`cost_micro`: if every segment is done once and found good. `p50_s`, `p90_s`: until the last
    segment is computed; infinite where half or a tenth of the draws run out of nodes."""

    nodes: int
    segments: int
    cost_micro: int
    reference_s: float
    mean_stay_s: float
    p50_s: float
    p90_s: float

    def cloud(self, price_per_hour: float) -> float:
        """What as many reference seconds cost at this price for an hour of a reference machine."""
        return self.reference_s / SECONDS_PER_HOUR * price_per_hour


def quote(work: Work, pool: Pool, price_micro: int, *, seed: int = 0, draws: int = DRAWS) -> Quote:
    """The cost and the middle and late ends of a job. `price_micro`: of a segment."""
    rng = np.random.default_rng(seed)
    ends = sorted(finish_s(work, pool, rng) for _ in range(draws))
    return Quote(
        nodes=len(pool.speeds),
        segments=work.paid,
        cost_micro=work.paid * price_micro,
        reference_s=work.total_s,
        mean_stay_s=pool.mean_stay_s,
        p50_s=ends[math.ceil(0.5 * draws) - 1],
        p90_s=ends[math.ceil(0.9 * draws) - 1],
    )


def finish_s(work: Work, pool: Pool, rng: np.random.Generator) -> float:
    """One draw of the end, in seconds; infinite if all nodes left before."""
    speeds = sorted(pool.speeds, reverse=True)
    leaves = [
        rng.exponential(pool.mean_stay_s) if math.isfinite(pool.mean_stay_s) else math.inf
        for _ in speeds
    ]
    spare = list(range(min(work.at_once, len(speeds)), len(speeds)))
    free = [(0.0, node) for node in range(min(work.at_once, len(speeds)))]
    waiting = [(0.0, work.segments) for _ in range(work.tasks)]
    end_s = 0.0
    while waiting:
        if not free:
            return math.inf
        since_s, node = heapq.heappop(free)
        ready_s, left = heapq.heappop(waiting)
        begin_s, segment_s = max(since_s, ready_s), work.reference_s / speeds[node]
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
    """The mean stay of nodes of which some are still there, (seconds so far, whether it has left):
    all seconds over all departures, as for any exponential seen in part."""
    left = sum(gone for _, gone in stays)
    return sum(seconds for seconds, _ in stays) / left if left else math.inf
