"""Tune's class Trainable around a `TaskRun`: one Tune iteration is one acknowledged segment."""

import json
import time
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.experimental import internal_kv
from ray.train._internal.session import _TrainingResult

from gensyn_ray.operators.agent_client import AgentClient
from workloads.ray_jobs.kind.context import JobFacts
from workloads.ray_jobs.search.core.result_keys import IS_LAST, LEAF, RECEIPT
from workloads.ray_jobs.search.core.start_barrier import StartBarrier
from workloads.ray_jobs.search.tune.inline_checkpoint import (
    inline_checkpoint,
    read_inline_checkpoint,
)

if TYPE_CHECKING:
    from workloads.ray_jobs.tasks.task_run import TaskRun

BARRIER_S = 20.0
"""How long the first actors wait for each other."""


class SegmentTrainable(tune.Trainable):
    """Runs one trial at a time on a volunteer's node.

    The trial's config comes from the task's spec, not from Tune: verifiers replay the spec.
    `facts`: the job's. `barrier`: where the job's first actors wait for each other."""

    def setup(self, config: dict[str, Any], facts: JobFacts, barrier: StartBarrier) -> None:
        # Modules that need torch are imported on the node only: the driver imports this class and
        # runs without torch.
        from workloads.core.data_cache import DataCache

        self._facts = facts
        self._agent = AgentClient.of_this_node()
        self._data_cache = DataCache()
        self._run: TaskRun | None = None
        self._grow_from = ""
        self._checkpoint: dict[str, Any] = {}
        self._wait_at(barrier)

    def step(self) -> dict[str, Any]:
        if self._run is None:
            self._run = self._start_task()
        done = self._run.advance()
        self._checkpoint = done.checkpoint
        return {
            **done.leaf.metrics,
            "training_iteration": done.segments_done,
            "segment": done.leaf.segment,
            "operator": done.leaf.operator,
            "task": done.leaf.task,
            LEAF: json.dumps(done.leaf.to_json()),
            RECEIPT: json.dumps(done.receipt),
            IS_LAST: done.is_last,
        }

    def _start_task(self) -> "TaskRun":
        from workloads.numerics.pinned import numerics_class
        from workloads.ray_jobs.tasks.node_store import store_of_node
        from workloads.ray_jobs.tasks.task_run import TaskRun

        return TaskRun(
            job=self._facts.job,
            trial=self.trial_id,
            agent=self._agent,
            store=store_of_node(
                self._facts.blobs, self._agent, job=self._facts.job, trial=self.trial_id
            ),
            pinned_class=numerics_class,
            data_cache=self._data_cache,
            grow_from=self._grow_from,
        )

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:
        """A reference to the state, which is in the network's object store already.

        Tune's own `save` writes to the run's storage, for which this node has no credentials."""
        reference = {"trial": self.trial_id, **self._checkpoint}
        return _TrainingResult(inline_checkpoint(reference), dict(self._last_result or {}))

    def load_checkpoint(self, checkpoint: str | None) -> None:
        """Use another trial's state (PBT's exploit) as the start of a new task.

        This trial's own state is ignored: the authority knows its last good one."""
        self._close_run()
        reference = read_inline_checkpoint(checkpoint) if checkpoint else {}
        if reference.get("trial", self.trial_id) != self.trial_id:
            self._grow_from = reference.get("state", "")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._close_run()
        return True

    def cleanup(self) -> None:
        self._close_run()

    def _close_run(self) -> None:
        if self._run is not None:
            self._run.close()
        self._run, self._grow_from, self._checkpoint = None, "", {}

    def _wait_at(self, barrier: StartBarrier) -> None:
        barrier.arrive(CLUSTER_KEYS, self.trial_id)
        deadline = time.monotonic() + BARRIER_S
        while not barrier.is_open(CLUSTER_KEYS):
            if time.monotonic() > deadline:
                barrier.open(CLUSTER_KEYS)
            time.sleep(0.1)


class _ClusterKeys:
    """Ray's internal key-value store as `SharedKeys`. Any member of the cluster can write to it: a
    forged arrival starts a trial early and has no other effect."""

    def add(self, key: str) -> None:
        internal_kv._internal_kv_put(key, b"")

    def count(self, prefix: str) -> int:
        return len(internal_kv._internal_kv_list(prefix))


CLUSTER_KEYS = _ClusterKeys()
