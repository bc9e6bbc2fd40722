"""The summary of a job's end, which its driver stores for the client."""

from dataclasses import dataclass

from workloads.ray_jobs.kind.interface import Outcome
from workloads.ray_jobs.kind.job_end import JobEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """How a job ended.

    `error`: the last error of the program or of the run, with a traceback; empty if there is none.
    `outcome`: of its kind; None if the job ended before it had one. `wall_s`: seconds from the
    driver's start to the job's close."""

    state: JobEnd
    error: str = ""
    outcome: Outcome | None = None
    wall_s: float = 0.0
