"""What comes back from a job: a plain `state_dict`, a trained program, of any trial."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from gensyn_ray.api.job import JobResult
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.object_store.blobs import Missing
from tests.kits.memory_store import ProgramStore
from tests.kits.search_files import JOB, ended, leaf_of, run_files
from tests.kits.small_programs import Dropout, Small
from tests.kits.task_rows import task_row
from workloads.core import diloco
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.segment import Computed, Runner
from workloads.core.state import state_digest
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.ray_jobs.diloco.core.global_state import GlobalState
from workloads.ray_jobs.diloco.kind import DilocoOutcome
from workloads.ray_jobs.kind.job_end import JobEnd
from workloads.ray_jobs.kind.summary import JobSummary
from workloads.ray_jobs.search.kind import SearchOutcome

BILL: Any = None
RATES = {"a": 0.01, "b": 0.2}


class Pair(Small):
    """A program with two modules."""

    def init(self, config: Config, data: Any, rng: Rng) -> None:
        super().init(config, data, rng)
        self.critic = nn.Linear(2, 2)


def trained(store: ProgramStore, program: type[Program], spec: TaskSpec) -> Computed:
    """The end of one segment, in the store."""
    one = program()
    computed = Runner(one, spec, one.load_data(), arithmetic).run_segment()
    store.put_state(computed.state_after, computed.state)
    return computed


def sweep_of(program: type[Program], folder: Path) -> JobResult:
    """A sweep of two trials; the second one is the best."""
    store = ProgramStore(program)
    trials: list[Any] = []
    tasks: dict[str, Any] = {}
    for at, (name, lr) in enumerate(RATES.items()):
        task = f"t{at:03d}"
        spec = replace(store.spec, config={"lr": lr}, task=task)
        store.put_spec(spec)
        state = trained(store, program, spec).state_after
        tasks[task] = task_row(trial=name, spec=spec.digest, good=1, state=state)
        trials.append(ended(folder, name, spec.config, leaf_of(task, state, 0.5 + at / 10)))
    outcome = SearchOutcome(
        trials=2, failed_trials=0, metric="accuracy", mode="max", objectives={"accuracy": "max"}
    )
    return JobResult(
        summary=JobSummary(state=JobEnd.DONE, outcome=outcome),
        search=outcome.grid(JOB, lambda: run_files(*trials), store.get_state),
        bill=BILL,
        receipts=[],
        tasks=tasks,
        store=store,
    )


def rounds_of(program: type[Program]) -> JobResult:
    """A DiLoCo run with one global state."""
    store = ProgramStore(program)
    one: Any = program()
    Runner(
        one, TaskSpec(bundle="b", config={"lr": 0.1}, seed=9, task="x"), one.load_data(), arithmetic
    )
    state = diloco.first_global({name: p.detach() for name, p in one.parameters().items()})
    digest = state_digest(state)
    store.put_state(digest, state)
    spec = replace(store.spec, config={"lr": 0.1}, task="r001.merge")
    store.put_spec(spec)
    rounds = (GlobalState(task=spec.task, state=digest, metrics={}),)
    return JobResult(
        summary=JobSummary(state=JobEnd.DONE, outcome=DilocoOutcome(rounds=rounds)),
        search=None,
        bill=BILL,
        receipts=[],
        tasks={spec.task: task_row(spec=spec.digest)},
        store=store,
    )


def bare() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def test_plain_torch_loads_the_best_trial_and_any_other(tmp_path: Path) -> None:
    result = sweep_of(Small, tmp_path)
    model = bare()
    model.load_state_dict(result.model_state(), strict=True)
    data = Small().load_data()
    with torch.no_grad():
        loss = float(functional.cross_entropy(model(data["x"]), data["y"]))
    assert loss == pytest.approx(result.program().evaluate(data)["loss"], rel=1e-5)
    weights = {name: result.model_state(name)["0.weight"] for name in RATES}
    assert torch.equal(weights["b"], model.state_dict()["0.weight"])
    assert not torch.equal(weights["a"], weights["b"])
    assert torch.equal(result.model_state(result.grid[0])["0.weight"], weights["a"])


@pytest.mark.parametrize("kind", [Small, Dropout])
def test_a_trained_program_is_in_the_trials_state(kind: type[Program], tmp_path: Path) -> None:
    result = sweep_of(kind, tmp_path)
    for name, end in (("", result.state), ("a", result.tasks["t000"].state)):
        state = result.program(name).get_state()
        stored = result.store.get_state(end)
        assert set(state) == {one for one in stored if not one.startswith("progress/")}
        assert all(torch.equal(state[one], stored[one]) for one in state)


def test_one_of_several_modules_is_named(tmp_path: Path) -> None:
    result = sweep_of(Pair, tmp_path)
    nn.Linear(2, 2).load_state_dict(result.model_state(module="critic"), strict=True)
    with pytest.raises(UsageError, match=r"name one module: .* takes 'critic', 'model'"):
        result.model_state()
    with pytest.raises(UsageError, match="the program has no module 'head'"):
        result.model_state(module="head")


def test_an_unknown_trial_is_named(tmp_path: Path) -> None:
    result = sweep_of(Small, tmp_path)
    for call in (result.model_state, result.program):
        with pytest.raises(UsageError, match="no trial 'zz' has a trained state: choose from a, b"):
            call("zz")


def test_the_last_round_of_a_pretraining_is_the_trained_program() -> None:
    result = rounds_of(Small)
    bare().load_state_dict(result.model_state(), strict=True)
    program: Any = result.program()
    weights = result.model_state()["2.weight"]
    assert torch.equal(program.model.state_dict()["2.weight"], weights)
    with pytest.raises(UsageError, match="leave it out"):
        result.program("a")


def test_a_lost_task_is_named() -> None:
    result = rounds_of(Small)
    result.tasks.clear()
    with pytest.raises(Missing, match=r"no task 'r001\.merge'"):
        result.program()


def test_a_program_without_a_hugging_face_model_is_told_so(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(UsageError, match=r"needs one Hugging Face model .* here are none"):
        sweep_of(Small, tmp_path).save_pretrained(tmp_path / "out")


def test_a_job_without_an_outcome_has_no_state() -> None:
    ended_early = JobSummary(state=JobEnd.OUT_OF_BUDGET)
    result = JobResult(
        summary=ended_early,
        search=None,
        bill=BILL,
        receipts=[],
        tasks={},
        store=ProgramStore(Small),
    )
    for call in (result.model_state, result.program):
        with pytest.raises(OperationError, match="without an outcome"):
            call()
