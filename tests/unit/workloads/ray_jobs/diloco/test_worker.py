"""A DiLoCo worker runs assigned tasks, reports errors of the program, and ends with the run."""

from types import SimpleNamespace
from typing import Any

import pytest

from gensyn_ray.domain.errors import Refused
from ledger.core.refusals import Reason
from workloads.core.program_errors import ProgramFailed
from workloads.core.segment import Abandoned
from workloads.ray_jobs.diloco.core.exchange import Exchange
from workloads.ray_jobs.diloco.train import worker
from workloads.ray_jobs.kind.context import JobFacts


class Actor:
    """An object whose methods have `remote`, like those of a Ray actor."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._inner, name))


class ScriptedExchange(Exchange):
    """Assigns the tasks in order to the workers that ask."""

    def __init__(self, *tasks: str) -> None:
        super().__init__()
        self.left = list(tasks)

    def assignment(self, worker: str) -> tuple[str | None, bool]:
        return (self.left[0], False) if self.left else (None, True)


class Node:
    """A factory of task runs. Tests set their ends."""

    def __init__(self, exchange: ScriptedExchange, *ends: Exception | None) -> None:
        self.exchange, self.ends = exchange, list(ends)
        self.runs: list[str] = []

    def start(self, *, trial: str, **_: Any) -> Any:
        self.runs.append(trial)
        return SimpleNamespace(advance=self.advance, close=lambda: None)

    def advance(self) -> None:
        end = self.ends.pop(0)
        if not isinstance(end, ProgramFailed):
            self.exchange.left.pop(0)
        if end is not None:
            raise end


def run(monkeypatch: pytest.MonkeyPatch, node: Node) -> list[dict[str, Any]]:
    """The worker's reports to Train."""
    reports: list[dict[str, Any]] = []
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    train = SimpleNamespace(get_context=lambda: context, report=reports.append)
    monkeypatch.setattr(worker, "ray", SimpleNamespace(get=lambda value: value))
    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(worker, "AgentClient", SimpleNamespace(of_this_node=lambda: None))
    monkeypatch.setattr(worker, "store_of_node", lambda *_, **__: None)
    monkeypatch.setattr(worker, "TaskRun", node.start)
    monkeypatch.setattr(worker, "REFUSED_WAIT_S", 0.0)
    facts = JobFacts(job="job", blobs="file:///blobs")
    worker.run_worker({"facts": facts, "exchange": Actor(node.exchange)})
    return reports


def test_each_assigned_task_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ScriptedExchange("r001.w0", "r002.w0"), None, None)
    assert run(monkeypatch, node) == [{"rank": 0}]
    assert node.runs == ["r001.w0", "r002.w0"]


def test_a_task_that_is_no_longer_needed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [Abandoned("late"), Refused(Reason.TASK_FINISHED), None]
    node = Node(ScriptedExchange("r001.w0", "r002.w0", "r003.w0"), *ends)
    run(monkeypatch, node)
    assert node.runs == ["r001.w0", "r002.w0", "r003.w0"]


def test_what_the_program_raises_is_reported_and_the_worker_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = ScriptedExchange("r001.w0")
    node = Node(exchange, ProgramFailed("the program failed"), None)
    run(monkeypatch, node)
    workers, missing, errors = exchange.post({}, True)
    assert (len(workers), missing, errors) == (1, 0, ["the program failed"])
    assert node.runs == ["r001.w0", "r001.w0"]


def test_an_excluded_operators_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ScriptedExchange("r001.w0"), Refused(Reason.OPERATOR_TOMBSTONED))
    with pytest.raises(Refused):
        run(monkeypatch, node)
