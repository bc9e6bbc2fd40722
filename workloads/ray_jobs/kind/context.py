"""The interface between the job driver and the kind that it runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyarrow import fs

    from gensyn_ray.queries.rows import TaskRow
    from workloads.core.task_spec import TaskSpec
    from workloads.ray_jobs.kind.job_end import JobEnd

VOLUNTEER = {"gensyn.role": "volunteer"}
"""Ray's label selector of volunteers' nodes."""


class Driver(Protocol):
    """Commands of one job, signed with its driver's key, and readings of its tasks.

    Each call raises `Refused` if the authority refuses, and `Unreachable`."""

    def start_task(self, spec: "TaskSpec", *, trial: str, attempt: int) -> None:
        """Start attempt `attempt` (from 0) of the task that `spec` defines. `trial`: the name under
        which a node asks for the task."""
        ...

    def finish_task(self, task: str) -> None:
        """Finish a task: it gets no further slots."""
        ...

    def full_audit(self, tasks: list[str]) -> None:
        """Have every segment of these tasks audited."""
        ...

    def flush(self) -> None:
        """Have all open batches of the job closed and drawn."""
        ...

    def tasks(self) -> "dict[str, TaskRow]":
        """Task name -> the task's row at the authority."""
        ...

    def config_of(self, spec: str) -> dict[str, Any]:
        """The config in the task spec with this digest. Raises `OperationError`."""
        ...


class Watch(Protocol):
    """Called between steps of a run, a few times a second."""

    def __call__(self) -> None:
        """Drain the nodes of tombstoned operators, and look at the job's budget."""
        ...

    def early_end(self) -> "JobEnd | None":
        """Why the job must end now; None while it may continue."""
        ...

    def is_over(self) -> bool:
        """Whether `early_end` has a reason."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """Facts of a job that each of its worker processes gets. `blobs`: URI of the object store."""

    job: str
    blobs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """Connections and facts of a running job.

    `template`: the job's task spec without task, config and inputs. `network_key`, `genesis`: what
    receipts are checked against. `storage`: file system and path of Ray's own files of runs."""

    facts: JobFacts
    template: "TaskSpec"
    network_key: bytes
    genesis: str
    storage: "tuple[fs.FileSystem, str]"
    driver: Driver
    watch: Watch
