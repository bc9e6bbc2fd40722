"""The interface of a kind of job: the two records that each kind defines.

A kind is a folder of `workloads/ray_jobs/`. Its `kind.py` has a `KindRequest` (the settings of a
job) and an `Outcome` (its result). Its `core/` has the logic that imports no Ray, and another
folder has the Ray glue. To add a kind, add its folder and a line in `registry.py`.

Job file, API, gateway and driver call these methods and name no kind. `kind.py` is imported in all
of these processes, so it imports Ray Tune and Ray Train only within methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workloads.core.quote import JobSize, Pool

if TYPE_CHECKING:
    from ray import tune

    from workloads.core.state import State
    from workloads.ray_jobs.kind.context import JobContext
    from workloads.ray_jobs.kind.summary import JobSummary

RunFiles = Callable[[], Mapping[str, bytes]]
"""Fetches Ray's own files of a job from the head: path -> content."""
States = Callable[[str], "State"]
"""Fetches a state by its digest from the object store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations of the program, measured on the submitter's machine, in reference seconds.

    `step_s`: of one training step. `end_s`: of a segment's evaluation and state digest. `segments`:
    of a whole run. `segment_steps`: steps of a segment."""

    step_s: float
    end_s: float
    segments: int
    segment_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """A trained state. `task`: the name of the task that ended in it. `state`: its digest."""

    task: str
    state: str


class Outcome(ABC):
    """The result of a job of one kind. A frozen record of JSON values: the driver stores it in the
    job's summary and the client reads it."""

    __slots__ = ()

    def grid(self, job: str, files: RunFiles, states: States) -> "tune.ResultGrid | None":
        """Tune's own result, made from `files`; its checkpoints read `states` when they are opened.
        None if Tune did not run or left no result."""
        return None

    @abstractmethod
    def trained(self, grid: "tune.ResultGrid | None", trial: str) -> TaskEnd:
        """The trained state. `grid`: as `grid` gave it. `trial`: Tune's id of a trial; empty for
        the job's best one.

        Raises `OperationError` if the job ended before there was a state, and `UsageError` for an
        unknown trial."""

    @abstractmethod
    def describe(self, grid: "tune.ResultGrid | None") -> str:
        """The outcome in a line or more, for a person."""


class KindRequest(ABC):
    """The settings of a job of one kind. A frozen record: the submitter pickles it, the driver runs
    it.

    `name`: the kind's own. `job_kinds`: the values of `kind` in job files and in `OpenJob` that
    such a job can have. `tables`: the names in a job file that this kind reads; the first one
    selects the kind. `outcome`: its `Outcome` class. `result_files`: name prefixes of the Ray files
    that `Outcome.grid` needs. `driver_env`: environment variables of a driver's process."""

    __slots__ = ()

    name: ClassVar[str]
    job_kinds: ClassVar[tuple[str, ...]]
    tables: ClassVar[tuple[str, ...]]
    outcome: ClassVar[type[Outcome]]
    result_files: ClassVar[tuple[str, ...]] = ()
    driver_env: ClassVar[Mapping[str, str]] = {}

    @classmethod
    @abstractmethod
    def from_tables(
        cls, job_kind: str, written: Mapping[str, Any], *, seed: int, segments: int
    ) -> Self:
        """The request that a job file describes.

        `job_kind`: one of `job_kinds`. `written`: the whole parsed file. `segments`: of a whole run
        of the program. Raises `UsageError` that names the field."""

    @abstractmethod
    def check(self) -> None:
        """Raises `UsageError` if the request contradicts itself."""

    @abstractmethod
    def sample_config(self) -> dict[str, Any]:
        """A config of the program that this job could use, for a timed run."""

    @property
    def needed_metrics(self) -> tuple[str, ...]:
        """The metrics that the program's `evaluate` must give."""
        return ()

    @abstractmethod
    def estimate(self, timing: Timing, pool: Pool) -> tuple[JobSize, Pool]:
        """The job's size, and the nodes of `pool` with the speeds at which they compute it."""

    @abstractmethod
    def run(self, context: "JobContext") -> "JobSummary":
        """Run the job on the head until it ends. The driver closes it afterwards.

        Raises `ProgramFailed` for what the program raises on the volunteers, `OperationError` if
        Ray gives up, `Refused` if the authority refuses a task."""
