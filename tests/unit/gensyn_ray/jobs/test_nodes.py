"""The volunteers among Ray's nodes, and the times that they stayed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gensyn_ray.jobs.nodes import VolunteerNode, volunteer_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The used part of Ray's `NodeState`."""

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
        volunteer(0.0),  # serves only pinned jobs
    ]
    assert volunteer_nodes(seen, lambda: 100.0) == [
        VolunteerNode(speed=150.0, seconds=90.0, gone=False),
        VolunteerNode(speed=50.0, seconds=30.0, gone=True),
    ]


def test_a_node_can_say_that_it_takes_vetted_programs_only() -> None:
    labels = {"gensyn.role": "volunteer", "gensyn.speed": "9"}
    said = ("vetted", "more", "")
    seen = [Seen(labels={**labels, "gensyn.programs": one}) for one in said] + [Seen(labels=labels)]
    found = [one.takes_vetted_only for one in volunteer_nodes(seen, lambda: 100.0)]
    assert found == [True, False, False, False]
