"""Loosely coupled training under Ray Train: workers that come, go, and take their orders.

Train places the workers, starts the group again when one dies and resizes it when nodes join
(`num_workers=(least, most)`); who computes what is decided by `rounds`, on the head. Workers and
head exchange names of tasks only; parameters travel through the network's store, where verifiers
find them, too. So no collective operation couples the workers, and Train is kept from making a
process group: volunteers cannot reach each other, and one that is not reached would end the group.

Not covered: Torchft's replica groups, which Train 2.60 runs with a fixed number of workers.
"""

import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import ray
from pyarrow import fs
from ray import train
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.operators.agent_client import AgentClient
from ledger.core.refusals import Reason
from workloads.core.data_cache import DataCache
from workloads.core.program_errors import AUTHORS_FAULTS, ProgramFailed
from workloads.core.segment import Abandoned
from workloads.numerics.pinned import numerics_class
from workloads.ray_jobs.diloco.core.exchange import Exchange, Muster, Wanted
from workloads.ray_jobs.diloco.core.rounds import Rounds
from workloads.ray_jobs.search.tune.run_search import VOLUNTEER
from workloads.ray_jobs.search.tune.trainable import TrialFacts
from workloads.ray_jobs.tasks.node_store import store_of_node
from workloads.ray_jobs.tasks.task_run import TaskRun

POLL_S = 0.1
RESIZE_S = 10.0
"""How often Train looks for nodes that joined."""
MAX_FAILURES = 50
"""Workers that a run may lose."""
GOODBYE_S = 60.0
"""How long workers may take to hear that the run is over."""
REFUSED_WAIT_S = 1.0
MAX_ERRORS = 3
"""Errors that the program may seem to raise: one volunteer's word does not end a job."""


class NoProcessGroup(TorchConfig):
    """Train's set-up of torch without its collectives."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def run_rounds(
    *,
    facts: TrialFacts,
    rounds: Rounds,
    workers: tuple[int, int],
    storage: tuple[fs.FileSystem, str],
    watch: Callable[[], None],
    is_over: Callable[[], bool],
) -> None:
    """Run `TorchTrainer.fit()` on volunteer nodes until the rounds are over, or `is_over`.

    `storage`: file system and path of Train's own files, used on the head alone.

    Raises `OperationError` if Train gives up, `ProgramFailed` with what the program raised."""
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    exchange = ray.remote(Exchange).options(num_cpus=0, label_selector=here).remote()
    least, most = workers
    trainer = TorchTrainer(
        work,
        train_loop_config={"facts": facts, "exchange": exchange},
        torch_config=NoProcessGroup(),
        scaling_config=ScalingConfig(
            num_workers=workers if least < most else most,
            resources_per_worker={"CPU": 1},
            label_selector=VOLUNTEER,
            placement_strategy="SPREAD",
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        run_config=RunConfig(
            name=facts.job,
            storage_path=storage[1],
            storage_filesystem=storage[0],
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    problem: list[Exception] = []
    fitting = threading.Thread(target=_fit, args=(trainer, problem), daemon=True)
    fitting.start()
    present: list[str] = []
    muster = Muster(time.monotonic)
    try:
        while not (rounds.is_over or is_over()):
            if not fitting.is_alive():
                raise OperationError(
                    f"Ray Train gave up: {problem[0] if problem else 'no reason given'}"
                )
            rounds.present(present)
            rounds.turn()
            watch()
            orders = {worker: rounds.order_of(worker) for worker in present}
            there, missing, errors = ray.get(exchange.post.remote(orders, False))
            present = muster.ready(there, missing)
            if len(errors) >= MAX_ERRORS:
                raise ProgramFailed(errors[-1])
            time.sleep(POLL_S)
    finally:
        # After an error, too: workers that hear nothing keep their nodes from the next job.
        ray.get(exchange.post.remote({}, True))
        fitting.join(GOODBYE_S)


def _fit(trainer: TorchTrainer, problem: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # handed to the driver's thread
        problem.append(error)


def work(config: dict[str, Any]) -> None:
    """A worker's loop on a volunteer node: one `TaskRun` for each order."""
    facts: TrialFacts = config["facts"]
    exchange = config["exchange"]
    agent, cache = AgentClient.of_this_node(), DataCache()
    context, me = train.get_context(), uuid.uuid4().hex
    ray.get(exchange.enter.remote(me, context.get_world_rank(), context.get_world_size()))
    done = why = ""
    while True:
        order, is_over = ray.get(exchange.order.remote(me))
        if is_over:
            break
        if order is None or order == done:
            time.sleep(POLL_S)
            continue
        try:
            run = TaskRun(
                job=facts.job,
                trial=order,
                agent=agent,
                store=store_of_node(facts.blobs, agent, job=facts.job, trial=order),
                pinned_class=numerics_class,
                data_cache=cache,
                is_wanted=_wanted(exchange, me, order),
            )
            run.advance()
            run.close()
        except Refused as refusal:
            if refusal.reason == Reason.OPERATOR_TOMBSTONED:
                raise
            if refusal.reason != Reason.TASK_FINISHED:
                if why != f"{order} waits: {refusal}":
                    why = f"{order} waits: {refusal}"
                    print(why, flush=True)  # for the operator, once, in Ray's log
                time.sleep(REFUSED_WAIT_S)  # for want of budget or stake, say: it may come
                continue
            # Too late for this round, or the run went back: the next order counts.
        except Abandoned:
            pass  # the same, found out on the way
        except Unreachable:
            raise
        except AUTHORS_FAULTS as error:
            me = uuid.uuid4().hex
            rank = context.get_world_rank()
            ray.get(exchange.failed_and_stays.remote(str(error), rank, me))
            continue
        except Exception:
            ray.get(exchange.failed.remote(traceback.format_exc(limit=-8)))
            raise
        done = order
    train.report({"rank": context.get_world_rank()})


def _wanted(exchange: Any, me: str, order: str) -> Wanted:
    """Whether the driver still waits for what this worker does. A head that cannot be reached just
    now is no reason to give up, and no fault of the program's."""

    def answer(asked: Any) -> tuple[str | None, bool] | None:
        if not ray.wait([asked], timeout=0)[0]:
            return None
        try:
            return ray.get(asked)
        except RayError:
            return order, False

    return Wanted(order, ask=lambda: exchange.order.remote(me), answer=answer, clock=time.monotonic)
