"""Tune's class Trainable around a `TaskRun`: one Tune iteration is one acknowledged segment."""

import json
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.train._internal.session import _TrainingResult

from gensyn_ray.operators.agent_client import AgentClient
from workloads.core.data_cache import DataCache
from workloads.numerics.pinned import numerics_class
from workloads.ray_jobs.search.tune.inline_checkpoint import (
    inline_checkpoint,
    read_inline_checkpoint,
)
from workloads.ray_jobs.tasks.node_store import store_of_node
from workloads.ray_jobs.tasks.task_run import TaskRun

LEAF, RECEIPT, IS_LAST = "gensyn_leaf", "gensyn_receipt", "gensyn_is_last"
"""Result keys: the leaf and the receipt as JSON text, and whether the run is complete."""

START_TOGETHER_S = 20.0
"""How long the first actors wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """What every trial of a job is told."""

    job: str
    blobs: str


class SegmentTrainable(tune.Trainable):
    """Runs on a volunteer node. The trial's config comes from the authority's record of the task,
    not from Tune, so that what is trained is what will be replayed."""

    def setup(self, config: dict[str, Any], facts: TrialFacts, line: Any) -> None:
        self._facts = facts
        self._agent = AgentClient.of_this_node()
        self._data_cache = DataCache()
        self._run: TaskRun | None = None
        self._grow_from = ""
        self._checkpoint: dict[str, Any] = {}
        self._wait_for_the_others(line)

    def step(self) -> dict[str, Any]:
        if self._run is None:
            self._run = TaskRun(
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
        done = self._run.advance()
        self._checkpoint = done.checkpoint
        return {
            **done.leaf["metrics"],
            "training_iteration": done.segments_done,
            "segment": done.leaf["segment"],
            "operator": done.leaf["operator"],
            "task": done.leaf["task"],
            LEAF: json.dumps(done.leaf),
            RECEIPT: json.dumps(done.receipt),
            IS_LAST: done.is_last,
        }

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:
        """A reference into the network's store; the state itself is there already.

        Tune's own `save` would write to the run's storage from this node, which has no credentials
        for it: this checkpoint brings its few bytes along.
        """
        reference = {"trial": self.trial_id, **self._checkpoint}
        return _TrainingResult(inline_checkpoint(reference), dict(self._last_result or {}))

    def load_checkpoint(self, checkpoint: str | None) -> None:
        """The authority knows this trial's last good state better than any checkpoint does; only
        another trial's state (PBT's exploit) is taken from here, and only as a new task's base."""
        self._forget()
        reference = read_inline_checkpoint(checkpoint) if checkpoint else {}
        if reference.get("trial", self.trial_id) != self.trial_id:
            self._grow_from = reference.get("state", "")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._forget()
        return True

    def cleanup(self) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._run is not None:
            self._run.close()
        self._run, self._grow_from, self._checkpoint = None, "", {}

    def _wait_for_the_others(self, line: Any) -> None:
        ray.get(line.arrive.remote())
        deadline = time.monotonic() + START_TOGETHER_S
        while not ray.get(line.is_open.remote()):
            if time.monotonic() > deadline:
                ray.get(line.open.remote())
            time.sleep(0.1)
