"""Environment variables of `ray start`, for nodes whose Ray workers are to start fast.

A volunteer's node starts one Ray worker for each of its CPUs while it waits for its first job, and
each imports what every trial needs. A host that keeps such processes for later jobs can replace
this module.
"""

from collections.abc import Mapping

PRELOADED = (
    "workloads.ray_jobs.search.tune.trainable",
    "workloads.ray_jobs.tasks.task_run",
    "workloads.numerics.guard",
)
"""Modules that a trial imports before it loads its program: torch, Tune, the kernels' compiler."""

VOLUNTEER_ENVIRONMENT: Mapping[str, str] = {
    "RAY_enable_worker_prestart": "1",
    "RAY_preload_python_modules": ",".join(PRELOADED),
    # Ray sets a worker's number of threads with its first task. The modules that are loaded before
    # start their threads earlier.
    "OMP_NUM_THREADS": "1",
}
