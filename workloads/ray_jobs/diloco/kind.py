"""The kind `diloco`: one model, trained in rounds by several volunteers under Ray Train.

`core/rounds.py` decides which worker runs which task; `train/` has the workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.quote import JobSize, Pool
from workloads.ray_jobs.diloco.core.global_state import GlobalState
from workloads.ray_jobs.diloco.core.plan import Plan
from workloads.ray_jobs.diloco.core.speeds import usual_speed
from workloads.ray_jobs.kind.interface import KindRequest, Outcome, TaskEnd, Timing
from workloads.ray_jobs.kind.tables import filled, typed

if TYPE_CHECKING:
    from ray import tune

    from workloads.ray_jobs.kind.context import JobContext
    from workloads.ray_jobs.kind.summary import JobSummary

GROUP_START_S = 10
"""How long Ray Train waits to place a new group of workers. Train counts nodes from a list that is
up to 20 s old. After a loss it asks for one node too many, and by default waits a minute for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DilocoOutcome(Outcome):
    """The result of a DiLoCo run. `rounds`: the global state after each round; the first one is the
    state before the first round."""

    rounds: tuple[GlobalState, ...]

    def trained(self, grid: "tune.ResultGrid | None", trial: str) -> TaskEnd:
        """The last global state."""
        if trial:
            raise UsageError(f"a DiLoCo run has one model and no trial {trial!r}: leave it out")
        if not self.rounds:
            raise OperationError("the job ended without a state")
        return TaskEnd(task=self.rounds[-1].task, state=self.rounds[-1].state)

    def describe(self, grid: "tune.ResultGrid | None") -> str:
        if not self.rounds:
            return "no rounds"
        last = self.rounds[-1].metrics
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in last.items())
        return f"{len(self.rounds) - 1} rounds, {metrics}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DilocoRequest(KindRequest):
    """One model, trained by several loosely coupled workers.

    `config`: of the program. `workers`: (least, most) number of workers at a time."""

    name: ClassVar[str] = "diloco"
    job_kinds: ClassVar[tuple[str, ...]] = ("finetune", "pretrain")
    tables: ClassVar[tuple[str, ...]] = ("plan", "config", "workers")
    outcome: ClassVar[type[Outcome]] = DilocoOutcome
    driver_env: ClassVar[Mapping[str, str]] = {
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(GROUP_START_S),
    }

    config: dict[str, Any] = field(default_factory=dict[str, Any])
    plan: Plan
    workers: tuple[int, int] = (1, 4)

    @classmethod
    def from_tables(
        cls, job_kind: str, written: Mapping[str, Any], *, seed: int, segments: int
    ) -> Self:
        given: dict[str, Any] = {"plan": filled(Plan, written["plan"], where="plan")}
        for name, kind in (("config", dict[str, Any]), ("workers", tuple[int, int])):
            if name in written:
                given[name] = typed(written[name], kind, name)
        return cls(**given)

    def check(self) -> None:
        if not 1 <= self.workers[0] <= self.workers[1]:
            raise UsageError("workers are (least, most), from 1")

    def sample_config(self) -> dict[str, Any]:
        return self.config

    def estimate(self, timing: Timing, pool: Pool) -> tuple[JobSize, Pool]:
        """Rounds follow each other, at the usual speed of the nodes.

        A round takes its inner steps and two segment ends, the worker's and the outer step's. Each
        worker's part is paid, and so is each outer step."""
        workers = min(self.workers[1], len(pool.speeds))
        size = JobSize(
            tasks=1,
            segments=self.plan.rounds,
            reference_s=self.plan.steps * timing.step_s + 2 * timing.end_s,
            at_once=1,
            paid=self.plan.rounds * (workers + 1) + 1,
        )
        return size, replace(pool, speeds=[usual_speed(pool.speeds)] * len(pool.speeds))

    def run(self, context: "JobContext") -> "JobSummary":
        from workloads.ray_jobs.diloco.train.run_rounds import run_rounds

        return run_rounds(self, context)
