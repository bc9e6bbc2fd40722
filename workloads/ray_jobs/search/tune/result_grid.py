"""Tune's own result of a job, in a client's process.

Needs no access to the head's folders or credentials. The network's own columns are left out of
frames and metrics; the receipts stand in each trial's `result.json` on the grid's file system.

Not defended: Tune's experiment state is a pickle. A member of the Ray cluster that answers in the
gateway's place can run code in the client's process, as any member can in the cluster's clients.
"""

import json
from collections.abc import Mapping
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs
from ray import tune
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Trial

from gensyn_ray.domain.leaf import Leaf
from workloads.ray_jobs.kind.interface import States
from workloads.ray_jobs.search.core.result_keys import LEAF, RECEIPT
from workloads.ray_jobs.search.tune.state_checkpoint import state_checkpoint
from workloads.ray_jobs.search.tune.trainable import SegmentTrainable

RESULTS = "/gensyn-ray/runs"


class SearchGrid(tune.ResultGrid):
    """Tune's result grid. `leaves`: trial id -> leaf of the trial's last reported segment; without
    the trials that reported none."""

    def __init__(self, analysis: tune.ExperimentAnalysis, leaves: Mapping[str, Leaf]) -> None:
        super().__init__(analysis)
        self.leaves = leaves


def grid_of(
    files: Mapping[str, bytes], states: States, job: str, metric: str, mode: str
) -> SearchGrid:
    """The result grid of a job, from Tune's own files, which are held in this process's memory.

    `files`: path below the folder of all runs -> content. `states`: read when a checkpoint is
    opened. `metric`, `mode`: what the grid ranks by."""
    memory = MemoryFileSystem()
    for path, content in files.items():
        memory.makedirs(f"{RESULTS}/{path}".rpartition("/")[0], exist_ok=True)
        memory.pipe_file(f"{RESULTS}/{path}", content)
    _ = SegmentTrainable  # unpickling the trials needs the class
    analysis = tune.ExperimentAnalysis(
        f"{RESULTS}/{job}",
        storage_filesystem=fs.PyFileSystem(fs.FSSpecHandler(memory)),
        trials=None,
        default_metric=metric,
        default_mode=mode,
    )
    for frame in analysis.trial_dataframes.values():
        for column in {LEAF, RECEIPT} & set(frame.columns):
            del frame[column]
    leaves = {trial.trial_id: leaf for trial in analysis.trials if (leaf := _leaf_of(trial))}
    for trial in analysis.trials:
        _complete(trial, leaves.get(trial.trial_id), states)
    return SearchGrid(analysis, leaves)


def _leaf_of(trial: Trial) -> Leaf | None:
    """The leaf of a trial's last result. None if it has no result, or one that is no leaf: a node
    can report any text, and a job can end before the driver has refused it."""
    try:
        return Leaf.parse(json.loads(trial.run_metadata.last_result.get(LEAF, "")))
    except ValueError:
        return None


def _complete(trial: Trial, leaf: Leaf | None, states: States) -> None:
    """Make a trial what it is at the end of its search.

    Tune saves no status of a trial that ends without an actor, as all trials here do, no config
    of a trial without results, and paths of checkpoints that only nodes can read."""
    if trial.status != Trial.ERROR:
        trial.set_status(Trial.TERMINATED)
    told: dict[str, Any] = {
        name: value
        for name, value in trial.run_metadata.last_result.items()
        if name not in (LEAF, RECEIPT)
    }
    told.setdefault("config", trial.config)
    trial.run_metadata.last_result = told
    trial.run_metadata.checkpoint_manager = _CheckpointManager(None)
    if leaf is not None:
        checkpoint = state_checkpoint(leaf.state_after, told["config"], states)
        trial.run_metadata.checkpoint_manager.register_checkpoint(
            _TrainingResult(checkpoint, dict(told))
        )
