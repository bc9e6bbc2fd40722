"""One start of a task: requested slots, commitments, and causes of its end."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.numerics import PINNED, REPRODUCIBLE
from gensyn_ray.operators.agent_requests import Identity
from gensyn_ray.queries.rows import AssignedTask
from ledger.core.refusals import Reason
from tests.kits import small_programs
from tests.kits.memory_store import MemoryStore
from workloads.core import own_data
from workloads.core.bundle import Bundle, bundle_of, load_program
from workloads.core.data_cache import DataCache
from workloads.core.program_errors import ProgramFailed
from workloads.core.segment import STEP, Abandoned, Computed, Runner, always
from workloads.core.state import State
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.ray_jobs.tasks.task_run import (
    JUDGED_POLL_S,
    JUDGED_POLLS,
    REFUSED_WAIT_S,
    Acknowledged,
    TaskRun,
)

BUNDLE = bundle_of(small_programs.Small)
OWN = own_data.pack(small_programs.Small().load_data())
DATA_DIGEST = OWN.manifest.digest
SPEC = TaskSpec(bundle=BUNDLE.digest, config={"lr": 0.2}, seed=3, task="t001", data=DATA_DIGEST)
NUMERICS, OPERATOR = "c0ffee", "0p"
WAIT_S = 30.0


class FakeAgent:
    """A fake agent. It issues all slots and accepts all leaves, unless a test sets a refusal."""

    def __init__(self, *, joined: str = NUMERICS, **task: Any) -> None:
        self._joined = joined
        self.events: list[tuple[str, int]] = []
        self.slots: list[Slot] = []
        self.leaves: list[Leaf] = []
        self.refuse_slot: dict[int, Exception] = {}
        self.refuse_commit: dict[int, Exception] = {}
        self.slot_asked: dict[int, threading.Event] = {n: threading.Event() for n in range(9)}
        self.commit_waits_for_slot: dict[int, int] = {}
        self._task = {
            "task": "t001",
            "spec": SPEC.digest,
            "attempt": 2,
            "good": 0,
            "state": "",
            "bundle": BUNDLE.digest,
            "data_digest": DATA_DIGEST,
            "numerics": PINNED,
            "vetted": True,
            "leaf": None,
            **task,
        }

    def fits(self, *, spec: str, bundle: str) -> None:
        """Set the spec and the bundle of the task."""
        self._task = {**self._task, "spec": spec, "bundle": bundle}

    def will_say(self, **task: Any) -> None:
        self._task = {**self._task, **task}

    def identity(self) -> Identity:
        return Identity(party=OPERATOR, role="operator", numerics=self._joined)

    def task(self, *, job: str, trial: str) -> AssignedTask:
        assert (job, trial) == ("job", "trial")
        return AssignedTask(**self._task)

    def slot(self, slot: Slot) -> None:
        segment = slot.segment
        self.events.append(("slot", segment))
        self.slot_asked[segment].set()
        if segment in self.refuse_slot:
            raise self.refuse_slot[segment]
        self.slots.append(slot)

    def commit(self, leaf: Leaf) -> dict[str, Any]:
        segment = leaf.segment
        if segment in self.commit_waits_for_slot:
            ahead = self.slot_asked[self.commit_waits_for_slot[segment]]
            assert ahead.wait(WAIT_S), "the next slot is asked for while this one is committed"
        self.events.append(("commit", segment))
        if segment in self.refuse_commit:
            raise self.refuse_commit[segment]
        self.leaves.append(leaf)
        return {"for": segment}


def make_store() -> MemoryStore:
    """A store with the program and the spec of a task."""
    store = MemoryStore()
    store.put_bundle(BUNDLE)
    store.put_prepared(OWN)
    store.put_spec(SPEC)
    return store


def start(
    agent: FakeAgent,
    store: MemoryStore | None = None,
    *,
    numerics: str = NUMERICS,
    cache: Any = None,
    grow_from: str = "",
    slept: list[float] | None = None,
    is_wanted: Callable[[], bool] = always,
) -> TaskRun:
    return TaskRun(
        job="job",
        trial="trial",
        agent=agent,
        store=store or make_store(),
        pinned_class=lambda: numerics,
        data_cache=cache or DataCache(),
        grow_from=grow_from,
        is_wanted=is_wanted,
        sleep=[].append if slept is None else slept.append,
    )


def run_to_end(run: TaskRun) -> list[Acknowledged]:
    done: list[Acknowledged] = []
    while not done or not done[-1].is_last:
        done.append(run.advance())
    run.close()
    return done


def by_hand(segments: int, spec: TaskSpec = SPEC, state: State | None = None) -> list[Computed]:
    program = small_programs.Small()
    runner = Runner(program, spec, program.load_data(), arithmetic)
    if state is not None:
        runner.load(state)
    return [runner.run_segment() for _ in range(segments)]


def test_a_whole_run_acknowledges_every_segment_in_order() -> None:
    agent, store = FakeAgent(), make_store()
    done = run_to_end(start(agent, store))
    assert [slot.segment for slot in agent.slots] == [0, 1, 2, 3]
    assert {(slot.job, slot.task, slot.attempt) for slot in agent.slots} == {("job", "t001", 2)}
    before = ""
    for segment, (one, computed) in enumerate(zip(done, by_hand(4), strict=True)):
        assert one.leaf.to_json() == {
            "job": "job",
            "task": "t001",
            "segment": segment,
            "attempt": 2,
            "state_before": before,
            "state_after": computed.state_after,
            "metrics": computed.metrics,
            "data_digest": DATA_DIGEST,
            "numerics": NUMERICS,
            "operator": OPERATOR,
        }
        assert one.receipt == {"for": segment}
        assert one.segments_done == segment + 1
        assert one.is_last == (segment == 3)
        assert one.checkpoint == {"task": "t001", "state": computed.state_after}
        before = computed.state_after
    assert agent.leaves == [one.leaf for one in done]
    assert set(store.names("states")) == {one.leaf.state_after for one in done}


def _finished_elsewhere() -> tuple[FakeAgent, MemoryStore, dict[str, Any]]:
    """The row of a finished task whose last segment is not judged yet."""
    store = make_store()
    leaf = run_to_end(start(FakeAgent(), store))[-1].leaf
    return FakeAgent(good=4, state=leaf.state_after, attempt=3), store, leaf


def test_a_finished_run_reports_its_end_again_once_it_is_judged() -> None:
    agent, store, leaf = _finished_elsewhere()

    class Judged(list[float]):
        def append(self, seconds: float) -> None:
            super().append(seconds)
            agent.will_say(leaf=leaf)

    slept = Judged()
    (done,) = run_to_end(start(agent, store, slept=slept))
    assert done == Acknowledged(leaf=leaf, receipt={}, segments_done=4, is_last=True)
    assert slept == [JUDGED_POLL_S]
    assert agent.events == [], "nothing is computed, committed or paid again"


def test_an_end_that_is_not_judged_is_left_to_another_start() -> None:
    agent, store, _ = _finished_elsewhere()
    slept: list[float] = []
    with pytest.raises(OperationError, match="not judged"):
        start(agent, store, slept=slept).advance()
    assert len(slept) == JUDGED_POLLS


def test_a_state_is_stored_before_it_is_committed() -> None:
    store = make_store()

    class Checking(FakeAgent):
        def commit(self, leaf: Leaf) -> dict[str, Any]:
            assert leaf.state_after in store.names("states")
            return super().commit(leaf)

    agent = Checking()
    run_to_end(start(agent, store))
    assert len(agent.leaves) == 4


def test_no_slot_is_requested_before_the_first_advance() -> None:
    agent = FakeAgent()
    start(agent).close()
    assert agent.events == []


def test_the_next_segment_is_computed_while_one_is_committed() -> None:
    agent = FakeAgent()
    agent.commit_waits_for_slot = {0: 1, 1: 2, 2: 3}
    assert len(run_to_end(start(agent))) == 4
    for segment in range(3):
        asked, sent = agent.events.index(("slot", segment + 1)), ("commit", segment)
        assert asked < agent.events.index(sent)


def test_the_run_is_at_most_one_segment_ahead() -> None:
    agent = FakeAgent()
    run = start(agent)
    run.advance()
    assert [segment for what, segment in agent.events if what == "slot"] == [0, 1]
    assert [segment for what, segment in agent.events if what == "commit"] == [0]
    run.close()


def test_the_last_segment_computes_nothing_ahead() -> None:
    agent = FakeAgent()
    run_to_end(start(agent))
    assert [segment for what, segment in agent.events if what == "slot"] == [0, 1, 2, 3]


def test_a_task_continues_from_its_last_good_state() -> None:
    store, computed = make_store(), by_hand(4)
    store.put_state(computed[1].state_after, computed[1].state)
    agent = FakeAgent(good=2, state=computed[1].state_after, attempt=5)
    done = run_to_end(start(agent, store))
    assert [one.leaf.segment for one in done] == [2, 3]
    assert done[0].leaf.state_before == computed[1].state_after
    assert done[0].leaf.attempt == 5
    assert [one.segments_done for one in done] == [3, 4]
    assert [one.leaf.state_after for one in done] == [one.state_after for one in computed[2:]]


def test_a_task_whose_state_is_lost_fails_at_its_start() -> None:
    with pytest.raises(OperationError, match="no state"):
        start(FakeAgent(good=1, state="f" * 64))


def test_a_new_task_starts_from_the_state_of_another() -> None:
    store = make_store()
    parent = by_hand(2, replace(SPEC, config={"lr": 0.9}, task="t000"))[1]
    store.put_state(parent.state_after, parent.state)
    agent = FakeAgent()
    done = run_to_end(start(agent, store, grow_from=parent.state_after))
    assert [one.leaf.segment for one in done] == [0, 1]
    assert done[0].leaf.state_before == parent.state_after
    assert [one.segments_done for one in done] == [3, 4]
    grown = by_hand(2, state=parent.state)
    assert [one.leaf.state_after for one in done] == [one.state_after for one in grown]
    assert int(store.get_state(done[-1].leaf.state_after)[STEP]) == 12


def test_a_task_prefers_its_own_state_to_that_of_another() -> None:
    store, computed = make_store(), by_hand(3)
    for one in computed:
        store.put_state(one.state_after, one.state)
    agent = FakeAgent(good=1, state=computed[0].state_after)
    run = start(agent, store, grow_from=computed[2].state_after)
    assert run.advance().leaf.state_before == computed[0].state_after
    run.close()


def test_a_refused_first_slot_stops_the_run() -> None:
    agent = FakeAgent()
    agent.refuse_slot[0] = Refused(Reason.BUDGET_EXHAUSTED)
    run = start(agent)
    with pytest.raises(Refused, match="budget exhausted"):
        run.advance()
    assert agent.leaves == []
    run.close()


def test_a_refusal_for_the_slot_ahead_loses_nothing_acknowledged() -> None:
    agent, slept = FakeAgent(), []
    agent.refuse_slot[1] = Refused(Reason.BUDGET_EXHAUSTED)
    run = start(agent, slept=slept)
    first = run.advance()
    assert (first.leaf.segment, first.receipt, first.is_last) == (0, {"for": 0}, False)
    with pytest.raises(Refused, match="budget exhausted"):
        run.advance()
    assert [leaf.segment for leaf in agent.leaves] == [0]
    assert slept == []
    run.close()


def test_a_refused_commitment_is_raised_by_its_own_advance() -> None:
    agent = FakeAgent()
    agent.refuse_commit[1] = Refused(Reason.WRONG_PREDECESSOR, "0 are good")
    run = start(agent)
    run.advance()
    with pytest.raises(Refused, match="0 are good"):
        run.advance()
    run.close()


@pytest.mark.parametrize("where", ["slot ahead", "commitment"])
def test_a_caught_operators_trial_waits_before_it_fails(where: str) -> None:
    agent, slept = FakeAgent(), []
    refusal = Refused(Reason.OPERATOR_TOMBSTONED)
    if where == "slot ahead":
        agent.refuse_slot[1] = refusal
    else:
        agent.refuse_commit[0] = refusal
    run = start(agent, slept=slept)
    with pytest.raises(Refused, match="tombstoned"):
        run_to_end(run)
    assert slept == [REFUSED_WAIT_S]
    run.close()


def test_an_unreachable_agent_is_no_refusal() -> None:
    agent, slept = FakeAgent(), []
    agent.refuse_commit[0] = Unreachable("no agent answers")
    run = start(agent, slept=slept)
    with pytest.raises(Unreachable):
        run.advance()
    assert slept == []
    run.close()


def test_a_node_of_another_numerics_class_is_stopped_before_it_asks_for_work() -> None:
    agent = FakeAgent()
    with pytest.raises(OperationError, match="c0ffee"):
        start(agent, numerics="decade")
    assert agent.events == []


def reproducible(store: MemoryStore) -> TaskSpec:
    """The same task in canonical arithmetic, stored."""
    spec = replace(SPEC, numerics=REPRODUCIBLE)
    store.put_spec(spec)
    return spec


def test_a_reproducible_task_is_committed_in_its_mode_by_a_node_of_any_class() -> None:
    store = make_store()
    spec = reproducible(store)
    agent = FakeAgent(joined=f"other,{REPRODUCIBLE}", spec=spec.digest, numerics=REPRODUCIBLE)
    done = run_to_end(start(agent, store))
    assert {one.leaf.numerics for one in done} == {REPRODUCIBLE}
    expected = [one.state_after for one in by_hand(4, spec)]
    assert [one.leaf.state_after for one in done] == expected
    assert expected != [one.state_after for one in by_hand(4)]


def test_a_node_that_did_not_join_as_reproducible_is_stopped() -> None:
    store = make_store()
    agent = FakeAgent(spec=reproducible(store).digest, numerics=REPRODUCIBLE)
    with pytest.raises(OperationError, match="join again"):
        start(agent, store)
    assert agent.events == []


@pytest.mark.parametrize("job", [PINNED, "reproducible/v1/high"])
def test_a_spec_of_other_numerics_than_the_job_is_refused(job: str) -> None:
    store = make_store()
    joined = f"{NUMERICS},{REPRODUCIBLE},{job}"
    agent = FakeAgent(joined=joined, spec=reproducible(store).digest, numerics=job)
    with pytest.raises(OperationError, match="other numerics than the job"):
        start(agent, store)
    assert agent.events == []


@pytest.mark.parametrize(
    ("named", "said"),
    [("0" * 64, "other data than the job"), ("", "names other data")],
)
def test_a_spec_of_other_data_than_the_job_is_refused(named: str, said: str) -> None:
    store = make_store()
    spec = replace(SPEC, data=named)
    store.put_spec(spec)
    agent = FakeAgent(spec=spec.digest)
    with pytest.raises(OperationError, match=said):
        start(agent, store)
    assert agent.events == []


def test_a_spec_that_names_another_bundle_than_the_job_is_refused() -> None:
    with pytest.raises(OperationError, match="another bundle"):
        start(FakeAgent(bundle="1" * 64))


def test_a_node_never_calls_load_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: each node computed the data, and nodes of another class got other numbers."""

    def forbidden(self: Any) -> State:
        raise AssertionError("a node loads data")

    program = load_program(BUNDLE)
    monkeypatch.setattr(program, "load_data", forbidden)
    assert run_to_end(start(FakeAgent()))[-1].is_last


def test_steps_that_are_no_longer_wanted_are_given_up_and_nothing_is_committed() -> None:
    agent, answers = FakeAgent(), [True, True, False]
    run = start(agent, is_wanted=lambda: answers.pop(0))
    with pytest.raises(Abandoned):
        run.advance()
    run.close()
    assert answers == [], "no step is taken without asking"
    assert agent.leaves == []


def test_giving_up_the_segment_ahead_keeps_the_segment_before() -> None:
    agent, answers = FakeAgent(), [True] * small_programs.Small.steps_per_segment + [False]
    run = start(agent, is_wanted=lambda: answers.pop(0))
    assert run.advance().segments_done == 1
    with pytest.raises(Abandoned):
        run.advance()
    run.close()
    assert len(agent.leaves) == 1


def test_closing_lets_a_commitment_under_way_finish() -> None:
    agent = FakeAgent()
    agent.refuse_slot[1] = Refused(Reason.TASK_FINISHED)
    run = start(agent)
    run.advance()
    run.close()
    assert [leaf.segment for leaf in agent.leaves] == [0]


RAISING = """
import torch
from workloads.core.program import Program

class Raising(Program):
    steps_per_segment, segments = 1, 3
    def init(self, config, data, rng):
        self.done = torch.zeros(()) if not FAILS == "init" else 1 / 0
    def step(self, data, rng):
        self.done += 1
        if FAILS == "step" and self.done == 2:
            1 / 0
    def evaluate(self, data):
        if FAILS == "evaluate":
            1 / 0
        return {"loss": float("nan") if FAILS == "nan" else 1.0}
"""


def start_raising(where: str, agent: FakeAgent) -> TaskRun:
    bundle = Bundle(entry="Raising", source=f"FAILS = {where!r}\n{RAISING}", libraries={})
    spec = replace(SPEC, bundle=bundle.digest, config={})
    store = make_store()
    store.put_bundle(bundle)
    store.put_spec(spec)
    agent.fits(spec=spec.digest, bundle=bundle.digest)
    return start(agent, store)


@pytest.mark.parametrize("where", ["init", "evaluate"])
def test_an_error_of_the_program_is_reported_with_its_own_frames(where: str) -> None:
    with pytest.raises(ProgramFailed) as caught:
        start_raising(where, FakeAgent()).advance()
    told = str(caught.value)
    assert told.endswith("ZeroDivisionError: division by zero")
    assert f", in {where}\n" in told
    assert "1 / 0" in told, "with the source line"
    assert "task_run" not in told


def test_a_metric_that_is_no_number_is_named() -> None:
    with pytest.raises(ProgramFailed, match="the metric 'loss' is nan"):
        start_raising("nan", FakeAgent()).advance()


def test_a_segment_that_is_done_is_reported_before_the_error_after_it() -> None:
    agent = FakeAgent()
    run = start_raising("step", agent)
    assert run.advance().leaf.segment == 0
    with pytest.raises(ProgramFailed, match="in step"):
        run.advance()
    assert len(agent.leaves) == 1


def test_a_caught_operators_trial_waits_when_its_first_slot_is_refused() -> None:
    """Regression: a refusal of the first slot failed the trial without the wait."""
    agent, slept = FakeAgent(), []
    agent.refuse_slot[0] = Refused(Reason.OPERATOR_TOMBSTONED)
    run = start(agent, slept=slept)
    with pytest.raises(Refused, match="tombstoned"):
        run.advance()
    assert slept == [REFUSED_WAIT_S]
