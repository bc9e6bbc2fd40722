"""Chains of states: allowed successors, and the states that a bad state invalidates."""

from itertools import pairwise

from verifier_actors.core.lineage import Lineage, Link, Task


def lineage(**tasks: list[str]) -> Lineage:
    """Task name -> states of its segments, the base first."""
    made = Lineage()
    for name, states in tasks.items():
        made.start(name, Task(trial=name, spec="spec", attempt=0))
        for number, (before, after) in enumerate(pairwise(states)):
            link = Link(task=name, state_before=before, state_after=after)
            made.extend(f"{name}/{number}", link)
    return made


def test_the_tip_is_the_last_good_state() -> None:
    made = lineage(a=["", "a1", "a2"])
    assert made.tip("a") == "a2"
    assert made.cut("a/1") == ["a/1"]
    assert made.tip("a") == "a1"
    made.cut("a/0")
    assert made.tip("a") == ""
    assert not made.is_good_state("a1")


def test_states_derived_from_a_bad_state_fall_in_all_tasks() -> None:
    made = lineage(a=["", "a1", "a2"], b=["a1", "b1", "b2"], c=["b1", "c1"], d=["", "d1"])
    assert set(made.grown_from(["a/0"])) == {"a/0", "a/1", "b/0", "b/1", "c/0"}
    assert set(made.grown_from(["a/1"])) == {"a/1"}
    assert set(made.cut("b/0")) == {"b/0", "b/1", "c/0"}
    good = {name: task.good for name, task in made.tasks.items()}
    assert good == {"a": ["a/0", "a/1"], "b": [], "c": [], "d": ["d/0"]}


def test_an_input_ties_a_task_to_a_state_like_a_base_does() -> None:
    made = lineage(a=["", "a1"])
    made.start("m", Task(trial="m", spec="spec", attempt=0, inputs=["a1", "x"]))
    made.extend("m/0", Link(task="m", state_before="", state_after="m1"))
    assert set(made.grown_from(["a/0"])) == {"a/0", "m/0"}


def test_a_void_slot_invalidates_no_other() -> None:
    made = lineage(a=["", "a1", "a2"])
    made.cut("a/1")
    assert made.grown_from(["a/1"]) == []
    assert made.cut("a/1") == []


def test_a_second_start_changes_the_attempt_alone() -> None:
    made = lineage(a=["", "a1"])
    made.start("a", Task(trial="other", spec="other", attempt=3))
    task = made.tasks["a"]
    assert (task.trial, task.spec, task.attempt, task.good) == ("a", "spec", 3, ["a/0"])
