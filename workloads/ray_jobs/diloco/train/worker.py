"""A worker of a DiLoCo run, on a volunteer's node: runs the tasks that the head assigns."""

import time
import traceback
import uuid
from typing import Any

import ray
from ray import train
from ray.exceptions import RayError

from gensyn_ray.domain.errors import Refused, Unreachable
from gensyn_ray.operators.agent_client import AgentClient
from ledger.core.refusals import Reason
from workloads.core.data_cache import DataCache
from workloads.core.program_errors import AUTHORS_FAULTS
from workloads.core.segment import Abandoned
from workloads.numerics.pinned import numerics_class
from workloads.ray_jobs.diloco.core.still_assigned import StillAssigned
from workloads.ray_jobs.kind.context import JobFacts
from workloads.ray_jobs.tasks.node_store import store_of_node
from workloads.ray_jobs.tasks.task_run import TaskRun

POLL_S = 0.1
REFUSED_WAIT_S = 1.0


def run_worker(config: dict[str, Any]) -> None:
    """Ray Train's loop of a worker: one `TaskRun` for each assigned task, until the run is over.

    `config`: "facts" (`JobFacts`) and "exchange" (the run's `Exchange` actor)."""
    worker = _Worker(config["facts"], config["exchange"])
    worker.run()
    train.report({"rank": train.get_context().get_world_rank()})


class _Worker:
    def __init__(self, facts: JobFacts, exchange: Any) -> None:
        self._facts, self._exchange = facts, exchange
        self._agent, self._cache = AgentClient.of_this_node(), DataCache()
        self._id, self._context = uuid.uuid4().hex, train.get_context()
        self._reason = ""

    def run(self) -> None:
        rank, size = self._context.get_world_rank(), self._context.get_world_size()
        ray.get(self._exchange.enter.remote(self._id, rank, size))
        done = ""
        while True:
            task, is_over = ray.get(self._exchange.assignment.remote(self._id))
            if is_over:
                return
            if task is None or task == done:
                time.sleep(POLL_S)
            elif self._try(task):
                done = task

    def _try(self, task: str) -> bool:
        """Run a task. True if this worker is done with it and waits for the next one."""
        try:
            self._compute(task)
        except Refused as refusal:
            return self._is_final(task, refusal)
        except Abandoned:  # the round is over, or the run went back
            return True
        except Unreachable:
            raise
        except AUTHORS_FAULTS as error:
            self._id, rank = uuid.uuid4().hex, self._context.get_world_rank()
            ray.get(self._exchange.report_error_and_rejoin.remote(str(error), rank, self._id))
            return False
        except Exception:
            ray.get(self._exchange.report_error.remote(traceback.format_exc(limit=-8)))
            raise
        return True

    def _compute(self, task: str) -> None:
        facts, agent = self._facts, self._agent
        run = TaskRun(
            job=facts.job,
            trial=task,
            agent=agent,
            store=store_of_node(facts.blobs, agent, job=facts.job, trial=task),
            pinned_class=numerics_class,
            data_cache=self._cache,
            is_wanted=self._still_assigned(task),
        )
        run.advance()
        run.close()

    def _is_final(self, task: str, refusal: Refused) -> bool:
        """Whether a refused task is over, because its round is over or the run went back. Raises
        the refusal if this operator is excluded."""
        if refusal.reason == Reason.OPERATOR_TOMBSTONED:
            raise refusal
        if refusal.reason == Reason.TASK_FINISHED:
            return True
        reason = f"{task} waits: {refusal}"
        if self._reason != reason:
            self._reason = reason
            print(reason, flush=True)  # once, in Ray's log, for the operator
        time.sleep(REFUSED_WAIT_S)  # budget or stake may be added
        return False

    def _still_assigned(self, task: str) -> StillAssigned:
        """The check between two steps. An unreachable head counts as still assigned."""
        me, assignment = self._id, self._exchange.assignment

        def receive(question: Any) -> tuple[str | None, bool] | None:
            if not ray.wait([question], timeout=0)[0]:
                return None
            try:
                return ray.get(question)
            except RayError:
                return task, False

        return StillAssigned(
            task, send=lambda: assignment.remote(me), receive=receive, clock=time.monotonic
        )
