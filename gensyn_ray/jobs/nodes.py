"""The volunteers' nodes, as a quote uses them.

Not defended: a node's speed is what its operator's label says. A false label makes quotes wrong and
earns nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MILLISECONDS = 1000
VETTED = "vetted"
"""Value of a node's label `gensyn.programs` if its agent takes vetted programs only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolunteerNode:
    """A volunteer's node, present or gone. `speed`: steps per second in the self-test, by its
    label. `seconds`: time in the cluster, until now or until the node left. `takes_vetted_only`:
    whether its label says that it runs no other programs than the network's vetted ones."""

    speed: float
    seconds: float
    gone: bool
    takes_vetted_only: bool = False


def volunteer_nodes(states: Sequence[Any], now_s: Callable[[], float]) -> list[VolunteerNode]:
    """The volunteers among Ray's `NodeState`s. `now_s`: wall clock, seconds since 1970."""
    found: list[VolunteerNode] = []
    for one in states:
        speed = float(one.labels.get("gensyn.speed", 0.0))
        if one.labels.get("gensyn.role") != "volunteer" or speed <= 0.0:
            continue
        gone = one.state != "ALIVE"
        end_s = one.end_time_ms / MILLISECONDS if gone else now_s()
        seconds = max(0.0, end_s - one.start_time_ms / MILLISECONDS)
        found.append(
            VolunteerNode(
                speed=speed,
                seconds=seconds,
                gone=gone,
                takes_vetted_only=one.labels.get("gensyn.programs") == VETTED,
            )
        )
    return found
