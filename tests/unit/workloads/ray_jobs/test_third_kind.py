"""A new kind of job needs only its two records and a line in the registry."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import cloudpickle
import pytest

from gensyn_ray.api import job_file
from gensyn_ray.api.job import JobResult
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.jobs.driver import run_kind
from gensyn_ray.jobs.request import JobRequest
from gensyn_ray.queries.rows import TaskRow
from tests.kits.memory_store import MemoryStore
from tests.kits.task_rows import task_row
from workloads.core.quote import JobSize, Pool
from workloads.core.task_spec import TaskSpec
from workloads.ray_jobs import registry
from workloads.ray_jobs.kind.context import JobContext, JobFacts
from workloads.ray_jobs.kind.interface import KindRequest, Outcome, TaskEnd, Timing
from workloads.ray_jobs.kind.job_end import JobEnd
from workloads.ray_jobs.kind.summary import JobSummary
from workloads.ray_jobs.kind.tables import filled


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleOutcome(Outcome):
    """The end states of the ensemble's members."""

    states: tuple[str, ...]

    def trained(self, grid: Any, trial: str) -> TaskEnd:
        return TaskEnd(task=f"m{len(self.states) - 1}", state=self.states[-1])

    def describe(self, grid: Any) -> str:
        return f"{len(self.states)} members"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleRequest(KindRequest):
    """Trains the same config `members` times."""

    name: ClassVar[str] = "ensemble"
    job_kinds: ClassVar[tuple[str, ...]] = ("ensemble",)
    tables: ClassVar[tuple[str, ...]] = ("ensemble",)
    outcome: ClassVar[type[Outcome]] = EnsembleOutcome
    driver_env: ClassVar[Mapping[str, str]] = {"ENSEMBLE": "1"}

    members: int
    lr: float = 0.1

    @classmethod
    def from_tables(
        cls, job_kind: str, written: Mapping[str, Any], *, seed: int, segments: int
    ) -> Self:
        return filled(cls, written["ensemble"], where="ensemble")

    def check(self) -> None:
        if self.members < 1:
            raise UsageError("an ensemble has a member at least")

    def sample_config(self) -> dict[str, Any]:
        return {"lr": self.lr}

    def estimate(self, timing: Timing, pool: Pool) -> tuple[JobSize, Pool]:
        size = JobSize(
            tasks=self.members,
            segments=timing.segments,
            reference_s=timing.segment_steps * timing.step_s + timing.end_s,
            at_once=self.members,
            paid=self.members * timing.segments,
        )
        return size, pool

    def run(self, context: JobContext) -> JobSummary:
        driver = context.driver
        for number in range(self.members):
            spec = replace(context.template, task=f"m{number}", config=self.sample_config())
            driver.start_task(spec, trial=spec.task, attempt=0)
        while not context.watch.is_over():
            context.watch()
            tasks = driver.tasks()
            if all(task.good for task in tasks.values()):
                states = tuple(task.state for task in tasks.values())
                return JobSummary(state=JobEnd.DONE, outcome=EnsembleOutcome(states=states))
        return JobSummary(state=context.watch.early_end() or JobEnd.FAILED)


class FakeDriver:
    """All tasks are acknowledged from the second query on."""

    def __init__(self) -> None:
        self.specs: list[TaskSpec] = []
        self.looks = 0

    def start_task(self, spec: TaskSpec, *, trial: str, attempt: int) -> None:
        self.specs.append(spec)

    def finish_task(self, task: str) -> None: ...
    def full_audit(self, tasks: list[str]) -> None: ...
    def flush(self) -> None: ...
    def tasks(self) -> dict[str, TaskRow]:
        self.looks += 1
        good = int(self.looks > 1)
        return {one.task: task_row(good=good, state=f"state of {one.task}") for one in self.specs}

    def config_of(self, spec: str) -> dict[str, Any]:
        raise NotImplementedError


class FakeWatch:
    def __init__(self, end: JobEnd | None = None) -> None:
        self._end = end

    def __call__(self) -> None: ...
    def early_end(self) -> JobEnd | None:
        return self._end

    def is_over(self) -> bool:
        return self._end is not None


BILL: Any = None
TEMPLATE = TaskSpec(bundle="b", config={}, seed=1, task="")


def context_of(driver: FakeDriver, watch: FakeWatch) -> JobContext:
    nowhere: Any = None
    return JobContext(
        facts=JobFacts(job="ensemble-1", blobs="file:///blobs"),
        template=TEMPLATE,
        network_key=b"",
        genesis="g",
        storage=nowhere,
        driver=driver,
        watch=watch,
    )


def sent(packed: bytes) -> JobRequest:
    """The job as its driver finds it."""
    request = JobRequest(
        job="ensemble-1",
        facts={},
        template=TEMPLATE,
        driver_seed=b"",
        secret_seed=b"",
        packed=packed,
    )
    return cloudpickle.loads(cloudpickle.dumps(request))


@pytest.fixture(autouse=True)
def ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the new kind."""
    monkeypatch.setattr(registry, "KINDS", (*registry.KINDS, EnsembleRequest))


def result_of(summary: JobSummary) -> JobResult:
    return JobResult(
        summary=summary, search=None, bill=BILL, receipts=[], tasks={}, store=MemoryStore()
    )


def read(folder: Path, members: str) -> EnsembleRequest:
    path = folder / "job.toml"
    path.write_text(
        'kind = "ensemble"\nprogram = "digits"\n[budget]\ncredits = 1\n'
        f"[ensemble]\nmembers = {members}\n"
    )
    spec = job_file.read(path)
    spec.check()
    assert isinstance(spec.request, EnsembleRequest)
    return spec.request


def test_from_a_job_file_to_a_result(tmp_path: Path) -> None:
    driver = FakeDriver()
    request = sent(cloudpickle.dumps(read(tmp_path, "2")))
    summary = run_kind(request, context_of(driver, FakeWatch()), lambda: False)
    assert [(one.task, one.config) for one in driver.specs] == [
        ("m0", {"lr": 0.1}),
        ("m1", {"lr": 0.1}),
    ]
    stored = canonical.encode(registry.summary_to_json(replace(summary, wall_s=1.5)))
    again = registry.summary_from_json(canonical.decode(stored))
    assert again == replace(summary, wall_s=1.5)
    result = result_of(again)
    assert result.describe() == "done: 2 members"
    assert result.state == "state of m1"
    with pytest.raises(UsageError, match="Tune left no result"):
        _ = result.grid


@pytest.mark.parametrize(
    ("members", "said"),
    [("0", "a member at least"), ('"2"', "ensemble.members: Expected `int`, got `str`")],
)
def test_mistakes_in_its_section_are_named(tmp_path: Path, members: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path, members)


def test_the_drivers_environment_and_the_names_follow_from_the_registry() -> None:
    assert registry.driver_env()["ENSEMBLE"] == "1"
    assert registry.job_kinds() == ["sweep", "finetune", "pretrain", "ensemble"]


def test_a_job_that_ends_early_has_no_outcome() -> None:
    watch = FakeWatch(JobEnd.OUT_OF_BUDGET)
    request = sent(cloudpickle.dumps(EnsembleRequest(members=1)))
    summary = run_kind(request, context_of(FakeDriver(), watch), lambda: False)
    assert summary == JobSummary(state=JobEnd.OUT_OF_BUDGET)
    assert registry.summary_from_json(registry.summary_to_json(summary)) == summary
    result = result_of(summary)
    assert result.describe() == "out of budget"
    with pytest.raises(OperationError, match="without an outcome: out of budget"):
        _ = result.state


@pytest.mark.parametrize(
    ("is_cancelled", "state"), [(False, JobEnd.FAILED), (True, JobEnd.CANCELLED)]
)
def test_an_error_is_a_failure_unless_the_job_was_cancelled(
    is_cancelled: bool, state: JobEnd
) -> None:
    """The packed request may be one that this process cannot unpickle."""
    summary = run_kind(
        sent(b"no pickle"), context_of(FakeDriver(), FakeWatch()), lambda: is_cancelled
    )
    assert summary.state is state
    assert ("UnpicklingError" in summary.error) == (not is_cancelled)
