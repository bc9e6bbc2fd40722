"""Runs DiLoCo rounds on the head; Ray Train runs the workers on volunteers' nodes.

Train places the workers, restarts the group when one dies and resizes it when nodes join
(`num_workers=(least, most)`). `core/rounds.py` decides which worker runs which task. Workers and
head exchange names of tasks only. Tensors travel through the network's object store, where
verifiers find them, too. So workers need no collective operation, and Train makes no process group:
volunteers' nodes cannot reach each other.

A run does not continue after its driver died. Not covered: Torchft's replica groups, which Train
2.60 runs with a fixed number of workers.
"""

import threading
import time
from dataclasses import replace
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from gensyn_ray.domain.errors import OperationError
from workloads.core.program_errors import ProgramFailed
from workloads.ray_jobs.diloco.core.exchange import Exchange
from workloads.ray_jobs.diloco.core.group_start import GroupStart
from workloads.ray_jobs.diloco.core.rounds import Rounds
from workloads.ray_jobs.diloco.kind import DilocoOutcome, DilocoRequest
from workloads.ray_jobs.diloco.train.worker import POLL_S, run_worker
from workloads.ray_jobs.kind.context import VOLUNTEER, JobContext
from workloads.ray_jobs.kind.job_end import JobEnd
from workloads.ray_jobs.kind.summary import JobSummary

RESIZE_S = 10.0
"""How often Train looks for nodes that joined."""
MAX_FAILURES = 50
"""Workers that a run may lose."""
END_S = 60.0
"""How long workers may take to end after the run is over."""
MAX_ERRORS = 3
"""Reported errors of the program that end the job. One volunteer's report does not."""


class NoProcessGroup(TorchConfig):
    """Train's set-up of torch without its collectives."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def run_rounds(request: DilocoRequest, context: JobContext) -> JobSummary:
    """Run all rounds, or as many as the watch lets start.

    Raises `OperationError` if an earlier driver of this job has started tasks or Train gives up,
    and `ProgramFailed` with what the program raised on the volunteers."""
    check_first_driver(context)
    template = replace(context.template, config=request.config)
    rounds = Rounds(context.driver, template, request.plan, time.monotonic)
    exchange = _exchange()
    _drive(rounds, _Fit(_trainer(request, context, exchange)), exchange, context)
    early_end = context.watch.early_end()
    return JobSummary(
        state=JobEnd.DONE if rounds.is_over else early_end or JobEnd.FAILED,
        outcome=DilocoOutcome(rounds=tuple(rounds.history)),
    )


def check_first_driver(context: JobContext) -> None:
    """Raises `OperationError` if another driver of this job has started tasks."""
    if context.driver.tasks():
        raise OperationError(
            "the job's driver died, and a training by several volunteers at once cannot continue "
            "without it: what was committed is paid, the rest of the budget returns; submit the "
            "job again"
        )


def _drive(rounds: Rounds, fit: "_Fit", exchange: Any, context: JobContext) -> None:
    """Move tasks between rounds and workers until the run is over or must end."""
    workers: list[str] = []
    group = GroupStart(time.monotonic)
    fit.start()
    try:
        while not (rounds.is_over or context.watch.is_over()):
            fit.check()
            rounds.set_workers(workers)
            rounds.advance()
            context.watch()
            assignments = {worker: rounds.task_of(worker) for worker in workers}
            started, missing, errors = ray.get(exchange.post.remote(assignments, False))
            workers = group.ready(started, missing)
            if len(errors) >= MAX_ERRORS:
                raise ProgramFailed(errors[-1])
            time.sleep(POLL_S)
    finally:
        # This also runs after an error: a worker that still waits would block its node for the next
        # job.
        ray.get(exchange.post.remote({}, True))
        fit.join(END_S)


class _Fit(threading.Thread):
    """`TorchTrainer.fit()` in a thread of its own."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(daemon=True)
        self._trainer = trainer
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # raised by `check`, in the driver's thread
            self._error = error

    def check(self) -> None:
        """Raises `OperationError` if Train has ended."""
        if not self.is_alive():
            raise OperationError(f"Ray Train gave up: {self._error or 'no reason given'}")


def _exchange() -> Any:
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    return ray.remote(Exchange).options(num_cpus=0, label_selector=here).remote()


def _trainer(request: DilocoRequest, context: JobContext, exchange: Any) -> TorchTrainer:
    least, most = request.workers
    return TorchTrainer(
        run_worker,
        train_loop_config={"facts": context.facts, "exchange": exchange},
        torch_config=NoProcessGroup(),
        scaling_config=ScalingConfig(
            num_workers=request.workers if least < most else most,
            resources_per_worker={"CPU": 1},
            label_selector=VOLUNTEER,
            placement_strategy="SPREAD",
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        run_config=RunConfig(
            name=context.facts.job,
            storage_path=context.storage[1],
            storage_filesystem=context.storage[0],
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
