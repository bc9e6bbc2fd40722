"""The gate between trials and scheduler passes only acknowledged metrics and judged ends."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gensyn_ray.domain import records, signing
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.queries.rows import TaskRow
from ledger.core.events import Event, SlotCommitted, SlotIssued
from tests.kits.task_rows import task_row
from workloads.core.task_spec import TaskSpec
from workloads.ray_jobs.search.core.gate import Gate, Judgement

JOB, GENESIS = "sweep-1", "9e" * 32
KEY, OTHER_KEY = SigningKey(b"n" * 32), SigningKey(b"o" * 32)
CONFIG = {"lr": 0.1}
TEMPLATE = TaskSpec(bundle="b", config={}, seed=3, task="")


class FakeDriver:
    """Records the calls of the gate. `table`: the authority's rows of the tasks."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.table: dict[str, TaskRow] = {}

    def start_task(self, spec: TaskSpec, *, trial: str, attempt: int) -> None:
        assert replace(spec, task="", config={}) == TEMPLATE
        self.asked.append(("start", spec.task, trial, spec.config, attempt))

    def finish_task(self, task: str) -> None:
        self.asked.append(("finish", task))

    def full_audit(self, tasks: list[str]) -> None:
        self.asked.append(("full audit", tasks))

    def flush(self) -> None:
        self.asked.append(("flush",))

    def tasks(self) -> dict[str, TaskRow]:
        return self.table

    def config_of(self, spec: str) -> dict[str, Any]:
        return {"lr": float(spec)}

    def has_begun(self, task: str, *, trial: str, attempt: int, spec: str) -> None:
        self.table[task] = task_row(trial=trial, attempt=attempt, spec=spec)

    def says(self, task: str, *, good: int, unjudged: int = 0, unaudited: int = 0) -> None:
        self.table[task] = task_row(good=good, unjudged=unjudged, unaudited=unaudited)

    @property
    def audits(self) -> list[tuple[Any, ...]]:
        """The requested flushes and full audits."""
        return [one for one in self.asked if one[0] in ("flush", "full audit")]

    def asked_for(self, what: str) -> list[tuple[Any, ...]]:
        return [one for one in self.asked if one[0] == what]


def make_gate(driver: FakeDriver, **objectives: str) -> Gate:
    return Gate(
        template=TEMPLATE,
        job=JOB,
        network_key=KEY.public,
        genesis=GENESIS,
        driver=driver,
        objectives=objectives or {"accuracy": "max"},
    )


def make_leaf(
    *,
    job: str = JOB,
    task: str = "t000",
    segment: int = 0,
    attempt: int = 0,
    accuracy: float = 0.5,
) -> dict[str, Any]:
    return {
        "job": job,
        "task": task,
        "segment": segment,
        "attempt": attempt,
        "state_before": "",
        "state_after": "5a" * 32,
        "metrics": {"accuracy": accuracy, "loss": 2.0},
        "data_digest": "d0" * 32,
        "numerics": "c0ffee",
        "operator": "0p",
    }


def slot_of(leaf: dict[str, Any]) -> str:
    return f"{leaf['job']}/{leaf['task']}/{leaf['segment']}/{leaf['attempt']}"


def committed(leaf: dict[str, Any]) -> Event:
    return SlotCommitted(slot=slot_of(leaf), operator="0p", root="00" * 32, index=0, leaf=leaf)


def make_receipt(
    leaf: dict[str, Any],
    *,
    key: SigningKey = KEY,
    network: str = GENESIS,
    events: list[Event] | None = None,
    tag: bytes = signing.RECEIPT,
) -> dict[str, str]:
    """A receipt as `Authority._receipt` builds it."""
    body = {
        "network": network,
        "index": 7,
        "time_ms": 1_000,
        "command": "ab" * 32,
        "events": [records.to_tagged(event) for event in events or [committed(leaf)]],
    }
    return signing.seal(key, tag, body).to_json()


def report(gate: Gate, trial: str, leaf: dict[str, Any]) -> str:
    return gate.check(trial, {**leaf["metrics"], "extra": 1}, leaf, make_receipt(leaf))


def held(gate: Gate, driver: FakeDriver, trial: str, leaf: dict[str, Any], **task: int) -> None:
    """Complete a trial with one acknowledged result."""
    assert report(gate, trial, leaf) == ""
    gate.hold(trial)
    driver.says(leaf["task"], **{"good": leaf["segment"] + 1, **task})


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def gate(driver: FakeDriver) -> Gate:
    """A gate with one trial `a`, at task t000, attempt 0."""
    gate = make_gate(driver)
    gate.started("a", CONFIG)
    return gate


def test_a_result_with_its_receipt_passes(gate: Gate) -> None:
    assert report(gate, "a", make_leaf(accuracy=0.75)) == ""
    assert gate.values("a") == {"accuracy": 0.75}


def test_a_receipt_for_several_segments_lets_each_of_them_pass(gate: Gate) -> None:
    leaves = [make_leaf(segment=0, accuracy=0.1), make_leaf(segment=1, accuracy=0.2)]
    issued = SlotIssued(slot=slot_of(leaves[1]), operator="0p", price_micro=5)
    receipt = make_receipt(leaves[0], events=[issued, *(committed(leaf) for leaf in leaves)])
    for leaf in leaves:
        assert gate.check("a", leaf["metrics"], leaf, receipt) == ""


def _flipped(receipt: dict[str, str]) -> dict[str, str]:
    body = receipt["body"].replace('"index":7', '"index":8')
    assert body != receipt["body"]
    return {**receipt, "body": body}


BAD_RECEIPTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "none": lambda leaf: None,
    "an empty one": lambda leaf: {},
    "text": lambda leaf: "receipt",
    "only a body": lambda leaf: {"body": make_receipt(leaf)["body"]},
    "an unsigned body": lambda leaf: {**make_receipt(leaf), "signature": ""},
    "a changed body": lambda leaf: _flipped(make_receipt(leaf)),
    "another's signature": lambda leaf: {
        **make_receipt(leaf),
        "signature": make_receipt(leaf, key=OTHER_KEY)["signature"],
    },
    "another key": lambda leaf: make_receipt(leaf, key=OTHER_KEY),
    "another purpose": lambda leaf: make_receipt(leaf, tag=signing.COMMAND),
    "another network": lambda leaf: make_receipt(leaf, network="00" * 32),
    "no commitment": lambda leaf: make_receipt(
        leaf, events=[SlotIssued(slot=slot_of(leaf), operator="0p", price_micro=5)]
    ),
    "another slot": lambda leaf: make_receipt(leaf, events=[committed({**leaf, "segment": 1})]),
    "another leaf": lambda leaf: make_receipt(
        leaf, events=[committed({**leaf, "state_after": "00" * 32})]
    ),
    "a leaf under another slot": lambda leaf: make_receipt(
        leaf,
        events=[
            SlotCommitted(slot=f"{JOB}/t000/9/0", operator="0p", root="00", index=0, leaf=leaf)
        ],
    ),
}


@pytest.mark.parametrize("case", BAD_RECEIPTS)
def test_a_result_with_a_bad_receipt_does_not_pass(gate: Gate, case: str) -> None:
    leaf = make_leaf()
    assert gate.check("a", leaf["metrics"], leaf, BAD_RECEIPTS[case](leaf)) != ""
    assert gate.values("a") is None


@pytest.mark.parametrize("leaf", [None, {}, [], "leaf", {"job": JOB, "task": "t000"}])
def test_a_result_without_a_whole_leaf_does_not_pass(gate: Gate, leaf: Any) -> None:
    assert gate.check("a", {"accuracy": 0.5}, leaf, make_receipt(make_leaf())) != ""


def test_a_leaf_with_mistyped_fields_does_not_pass(gate: Gate) -> None:
    leaf = {**make_leaf(), "segment": "0"}
    assert gate.check("a", leaf["metrics"], leaf, make_receipt(make_leaf())) != ""


@pytest.mark.parametrize(
    "change", [{"job": "sweep-2"}, {"task": "t001"}, {"attempt": 1}, {"attempt": -1}]
)
def test_a_receipt_for_another_task_or_attempt_does_not_pass(
    gate: Gate, change: dict[str, Any]
) -> None:
    leaf = make_leaf(**change)
    assert "another task or attempt" in report(gate, "a", leaf)


def test_a_receipt_of_an_earlier_attempt_does_not_pass(gate: Gate) -> None:
    gate.started("a", CONFIG)
    assert "attempt" in report(gate, "a", make_leaf(attempt=0))
    assert report(gate, "a", make_leaf(attempt=1)) == ""


@pytest.mark.parametrize(
    "change", [{"accuracy": 0.9}, {"accuracy": None}, {"loss": 1.9}, {"accuracy": "0.5"}]
)
def test_a_metric_other_than_the_receipts_does_not_pass(gate: Gate, change: dict[str, Any]) -> None:
    leaf = make_leaf()
    result = {**leaf["metrics"], **change}
    assert "metrics" in gate.check("a", result, leaf, make_receipt(leaf))


def test_a_result_that_lacks_a_metric_of_the_receipt_does_not_pass(gate: Gate) -> None:
    leaf = make_leaf()
    assert "metrics" in gate.check("a", {"accuracy": 0.5}, leaf, make_receipt(leaf))


def test_a_leaf_changed_with_its_result_does_not_pass(gate: Gate) -> None:
    leaf = make_leaf()
    forged = deepcopy(leaf)
    forged["metrics"]["accuracy"] = 0.99
    assert gate.check("a", forged["metrics"], forged, make_receipt(leaf)) != ""


def test_a_trial_that_was_never_started_does_not_pass(gate: Gate) -> None:
    assert "never started" in report(gate, "stranger", make_leaf())


def test_each_trial_is_a_task_and_each_start_an_attempt(gate: Gate, driver: FakeDriver) -> None:
    gate.started("b", CONFIG)
    gate.started("a", CONFIG)
    assert driver.asked == [
        ("start", "t000", "a", CONFIG, 0),
        ("start", "t001", "b", CONFIG, 0),
        ("start", "t000", "a", CONFIG, 1),
    ]


def test_a_changed_config_is_a_new_task_and_ends_the_old(gate: Gate, driver: FakeDriver) -> None:
    gate.started("a", CONFIG)
    gate.started("a", {"lr": 0.2})
    gate.started("a", {"lr": 0.2})
    gate.started("a", {"lr": 0.3})
    assert driver.asked[2:] == [
        ("finish", "t000"),
        ("start", "t000.1", "a", {"lr": 0.2}, 0),
        ("start", "t000.1", "a", {"lr": 0.2}, 1),
        ("finish", "t000.1"),
        ("start", "t000.2", "a", {"lr": 0.3}, 0),
    ]
    assert "another task" in report(gate, "a", make_leaf(task="t000", attempt=0))
    assert report(gate, "a", make_leaf(task="t000.2", attempt=0)) == ""


def test_a_config_is_stored_as_plain_numbers(driver: FakeDriver) -> None:
    gate = make_gate(driver)
    gate.started("a", {"lr": np.float64(0.5), "width": np.int64(4), "name": "x"})
    gate.started("a", {"lr": 0.5, "width": 4, "name": "x"})
    ((_, _, _, config, _), again) = driver.asked
    assert {name: type(value) for name, value in config.items()} == {
        "lr": float,
        "width": int,
        "name": str,
    }
    assert again[-1] == 1, "the same values are the same task"


def judge(gate: Gate, *names: str, idle: bool = False, over: bool = False) -> list[Judgement]:
    """Judgements in the order of the names."""
    judged = gate.judge(list(names), is_idle=idle, is_over=over)
    return [judged[name] for name in names]


WAIT, KEEP, RELEASE, RERUN = Judgement.WAIT, Judgement.KEEP, Judgement.RELEASE, Judgement.RERUN


def test_a_trial_waits_while_segments_are_unjudged(gate: Gate, driver: FakeDriver) -> None:
    held(gate, driver, "a", make_leaf(), unjudged=1, unaudited=1)
    for _ in range(3):
        assert judge(gate, "a") == [WAIT]
    assert gate.held == ["a"]
    assert driver.asked_for("finish") == []


def test_a_judged_trial_is_kept_until_the_search_is_over(gate: Gate, driver: FakeDriver) -> None:
    held(gate, driver, "a", make_leaf())
    assert judge(gate, "a") == [KEEP]
    assert judge(gate, "a") == [WAIT], "the searcher hears of an end once"
    assert judge(gate, "a", idle=True) == [WAIT], "the search may begin more trials"
    assert gate.held == ["a"]
    assert driver.asked_for("finish") == [("finish", "t000")]
    assert judge(gate, "a", idle=True, over=True) == [RELEASE]
    assert gate.held == []
    assert gate.values("a") == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("mode", "second", "leader"),
    [("max", 0.6, "t001"), ("max", 0.4, "t000"), ("min", 0.4, "t001"), ("min", 0.6, "t000")],
)
def test_only_the_leading_trial_gets_a_full_audit(
    driver: FakeDriver, mode: str, second: float, leader: str
) -> None:
    gate = make_gate(driver, accuracy=mode)
    for trial in ("a", "b"):
        gate.started(trial, CONFIG)
    held(gate, driver, "a", make_leaf(accuracy=0.5), unaudited=1)
    held(gate, driver, "b", make_leaf(task="t001", accuracy=second), unaudited=1)
    assert judge(gate, "a", "b") == [KEEP, KEEP]
    assert driver.audits == []
    for _ in range(2):
        assert judge(gate, "a", "b", idle=True, over=True) == [WAIT, WAIT]
    assert driver.audits == [("full audit", [leader])]
    driver.says(leader, good=1)
    assert judge(gate, "a", "b", idle=True, over=True) == [RELEASE, RELEASE]


def test_with_two_objectives_all_trials_of_the_front_get_a_full_audit(driver: FakeDriver) -> None:
    gate = make_gate(driver, accuracy="max", loss="min")
    ends = {"a": (0.9, 2.0), "b": (0.5, 1.0), "c": (0.4, 3.0), "d": (0.9, 4.0)}
    for trial in ends:
        gate.started(trial, CONFIG)
    for number, (trial, (accuracy, loss)) in enumerate(ends.items()):
        leaf = make_leaf(task=f"t{number:03d}", accuracy=accuracy)
        leaf["metrics"]["loss"] = loss
        held(gate, driver, trial, leaf, unaudited=1)
    for _ in range(2):
        judge(gate, *ends, idle=True, over=True)
    assert driver.audits == [("full audit", ["t000", "t001", "t003"])]
    assert gate.values("b") == {"accuracy": 0.5, "loss": 1.0}


def test_a_result_without_one_of_the_objectives_does_not_pass(driver: FakeDriver) -> None:
    gate = make_gate(driver, accuracy="max", size="min")
    gate.started("a", CONFIG)
    assert "no size" in report(gate, "a", make_leaf())


def test_all_trials_with_the_best_value_get_a_full_audit(driver: FakeDriver) -> None:
    gate = make_gate(driver)
    tasks = {"a": "t000", "b": "t001", "c": "t002"}
    for trial in tasks:
        gate.started(trial, CONFIG)
    for trial, value in (("a", 0.9), ("b", 0.5), ("c", 0.9)):
        held(gate, driver, trial, make_leaf(task=tasks[trial], accuracy=value), unaudited=1)
    judge(gate, *tasks)
    for _ in range(2):
        assert judge(gate, *tasks, idle=True, over=True) == [WAIT] * 3
    assert driver.audits == [("full audit", ["t000", "t002"])]
    driver.says("t000", good=1)
    assert judge(gate, *tasks, idle=True, over=True) == [WAIT] * 3
    driver.says("t002", good=1)
    assert judge(gate, *tasks, idle=True, over=True) == [RELEASE] * 3


def test_a_rejected_leader_runs_again_and_the_next_gets_a_full_audit(
    driver: FakeDriver,
) -> None:
    gate = make_gate(driver)
    for trial in ("a", "b"):
        gate.started(trial, CONFIG)
    held(gate, driver, "a", make_leaf(accuracy=0.9), unaudited=1)
    held(gate, driver, "b", make_leaf(task="t001", accuracy=0.5), unaudited=1)
    judge(gate, "a", "b")
    judge(gate, "a", "b", idle=True, over=True)
    driver.says("t000", good=0)
    assert judge(gate, "a", "b", idle=True, over=True) == [RERUN, WAIT]
    gate.started("a", CONFIG)
    held(gate, driver, "a", make_leaf(attempt=1, accuracy=0.4), unaudited=1)
    assert judge(gate, "a", "b", idle=True, over=True) == [KEEP, WAIT]
    assert driver.audits == [("full audit", ["t000"]), ("full audit", ["t001"])]


def test_a_trial_that_lost_its_last_state_is_run_again(gate: Gate, driver: FakeDriver) -> None:
    held(gate, driver, "a", make_leaf(segment=3), good=2)
    assert judge(gate, "a") == [RERUN]
    assert gate.held == []
    assert gate.values("a") is None, "a value that a ruling took away is nobody's result"
    assert driver.asked_for("finish") == []


def test_a_kept_trial_can_still_lose_its_states(gate: Gate, driver: FakeDriver) -> None:
    held(gate, driver, "a", make_leaf())
    assert judge(gate, "a") == [KEEP]
    driver.says("t000", good=0)
    assert judge(gate, "a") == [RERUN]


def test_an_idle_job_has_its_last_segments_drawn_once(gate: Gate, driver: FakeDriver) -> None:
    held(gate, driver, "a", make_leaf(), unjudged=1)
    judge(gate, "a")
    assert driver.audits == []
    for _ in range(3):
        judge(gate, "a", idle=True)
    assert driver.audits == [("flush",)]


def test_the_leader_is_audited_in_full_while_drawn_segments_wait(
    gate: Gate, driver: FakeDriver
) -> None:
    held(gate, driver, "a", make_leaf(), unjudged=1, unaudited=1)
    for _ in range(3):
        assert judge(gate, "a", idle=True, over=True) == [WAIT]
    assert driver.audits == [("full audit", ["t000"]), ("flush",)]
    driver.says("t000", good=1)
    assert judge(gate, "a", idle=True, over=True) == [KEEP], "the searcher hears of it first"
    assert judge(gate, "a", idle=True, over=True) == [RELEASE]


def test_nothing_is_read_without_held_trials(gate: Gate, driver: FakeDriver) -> None:
    assert gate.judge([], is_idle=True, is_over=True) == {}
    assert driver.audits == []


def test_a_trial_that_failed_is_finished_and_no_longer_held(gate: Gate, driver: FakeDriver) -> None:
    gate.hold("a")
    gate.ended("a")
    gate.ended("stranger")
    assert gate.held == []
    assert driver.asked_for("finish") == [("finish", "t000")]
    assert gate.values("stranger") is None


def test_a_new_start_ends_the_hold(gate: Gate, driver: FakeDriver) -> None:
    held(gate, driver, "a", make_leaf())
    assert judge(gate, "a") == [KEEP]
    gate.started("a", CONFIG)
    assert gate.held == []
    held(gate, driver, "a", make_leaf(attempt=1))
    assert judge(gate, "a") == [KEEP], "what a new attempt gave is judged anew"


def test_an_end_whose_receipt_was_lost_passes_as_the_authority_knows_it(
    gate: Gate, driver: FakeDriver
) -> None:
    leaf = make_leaf(segment=3, attempt=7)
    for known in (None, make_leaf(segment=2), make_leaf(task="t001", segment=3)):
        driver.table["t000"] = task_row(leaf=Leaf.parse(known) if known else None)
        assert "authority" in gate.check("a", leaf["metrics"], leaf, {})
    driver.table["t000"] = task_row(leaf=Leaf.parse(leaf))
    assert "metrics" in gate.check("a", {"accuracy": 0.9}, leaf, {})
    assert gate.check("a", leaf["metrics"], leaf, {}) == ""
    assert gate.values("a") == {"accuracy": 0.5}


def test_the_next_driver_continues_the_authoritys_tasks(driver: FakeDriver) -> None:
    driver.has_begun("t000", trial="a", attempt=2, spec="0.1")
    # The authority's answer is in the order of the names.
    driver.has_begun("t001", trial="b", attempt=0, spec="0.1")
    driver.has_begun("t001.10", trial="b", attempt=4, spec="0.3")
    driver.has_begun("t001.2", trial="b", attempt=0, spec="0.2")
    gate = make_gate(driver)
    gate.resume()
    assert driver.asked == [("flush",)], "open batches are flushed at once"
    gate.started("b", {"lr": 0.3})
    gate.started("a", CONFIG)
    gate.started("c", CONFIG)
    assert driver.asked[1:] == [
        ("start", "t001.10", "b", {"lr": 0.3}, 5),
        ("start", "t000", "a", CONFIG, 3),
        ("start", "t002", "c", CONFIG, 0),
    ]


def test_a_first_driver_restores_nothing(driver: FakeDriver) -> None:
    make_gate(driver).resume()
    assert driver.asked == []


def test_a_restored_gate_holds_the_trials_that_were_not_restarted(
    gate: Gate, driver: FakeDriver
) -> None:
    gate.started("b", CONFIG)
    held(gate, driver, "a", make_leaf())
    held(gate, driver, "b", make_leaf(task="t001"))
    judge(gate, "a")
    driver.has_begun("t000", trial="a", attempt=0, spec="0.1")
    driver.has_begun("t001", trial="b", attempt=1, spec="0.1")
    other = make_gate(driver)
    other.resume()
    other.remember(gate.memory())
    assert other.held == ["a"]
    assert (other.values("a"), other.values("b")) == ({"accuracy": 0.5}, None)
    driver.says("t000", good=1)
    assert judge(other, "a") == [WAIT], "it was judged before, and its searcher knows"


def test_a_config_with_a_tuple_is_the_same_after_it_was_stored(
    gate: Gate, driver: FakeDriver
) -> None:
    gate.started("b", {"betas": (0.9, 0.99)})
    gate.started("b", {"betas": [0.9, 0.99]})
    assert [one[1] for one in driver.asked_for("start")] == ["t000", "t001", "t001"]


@pytest.mark.parametrize("metrics", [{}, {"loss": 2.0}])
def test_a_metric_that_is_not_in_the_receipt_does_not_pass(metrics: dict[str, float]) -> None:
    """Regression: a metric passed although the receipt lacked it."""
    gate = make_gate(FakeDriver())
    gate.started("a", {})
    leaf = {**make_leaf(), "metrics": metrics}
    result = {**metrics, "accuracy": 0.99}
    assert gate.check("a", result, leaf, make_receipt(leaf)) != ""


@pytest.mark.parametrize("value", ["0.5", None, [1], True])
def test_a_metric_that_is_no_number_does_not_pass(value: Any) -> None:
    """Regression: every JSON value passed."""
    gate = make_gate(FakeDriver())
    gate.started("a", {})
    leaf = {**make_leaf(), "metrics": {"accuracy": value}}
    assert report(gate, "a", leaf) != ""
