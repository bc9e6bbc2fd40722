"""The files that a search of Tune leaves on the head, as a client fetches them."""

import json
from pathlib import Path
from typing import Any

from ray.train._internal.session import _TrainingResult
from ray.train._internal.storage import StorageContext
from ray.tune import PlacementGroupFactory
from ray.tune.experiment import Trial

from gensyn_ray.domain.leaf import Leaf
from workloads.ray_jobs.search.core.result_keys import IS_LAST, LEAF, RECEIPT
from workloads.ray_jobs.search.tune.inline_checkpoint import inline_checkpoint

JOB = "sweep-1"


def leaf_of(task: str, state: str, value: float) -> Leaf:
    """The leaf of a task's last segment."""
    return Leaf(
        job=JOB,
        task=task,
        segment=3,
        attempt=0,
        state_before="",
        state_after=state,
        metrics={"accuracy": value},
        data_digest="d",
        numerics="pinned",
        operator="op",
    )


def ended(folder: Path, name: str, config: dict[str, Any], leaf: Leaf | None) -> Trial:
    """A trial as Tune saves it at the end of a search: paused after its last result; with an error
    if there is no leaf."""
    storage = StorageContext(folder, experiment_dir_name=JOB, trial_dir_name=f"trial_{name}")
    trial = Trial("stub", trial_id=name, stub=True, config=config, storage=storage)
    trial.placement_group_factory = PlacementGroupFactory([{"CPU": 1}])
    if leaf is None:
        trial.set_status(Trial.ERROR)
        trial.run_metadata.error_filename = "error.txt"
        return trial
    trial.set_status(Trial.PAUSED)
    result = {
        **leaf.metrics,
        "trial_id": name,
        "training_iteration": leaf.segment + 1,
        "config": config,
        "task": leaf.task,
        LEAF: json.dumps(leaf.to_json()),
        RECEIPT: json.dumps({"signed": "x"}),
        IS_LAST: True,
    }
    trial.update_last_result(result)
    checkpoint = inline_checkpoint({"trial": name, "state": leaf.state_after})
    trial.run_metadata.checkpoint_manager.register_checkpoint(_TrainingResult(checkpoint, result))
    return trial


def run_files(*trials: Trial) -> dict[str, bytes]:
    """Path below the runs' folder -> content."""
    saved = {"trial_data": [trial.get_json_state() for trial in trials]}
    files = {f"{JOB}/experiment_state-2026-01-01.json": json.dumps(saved).encode()}
    for trial in trials:
        place = f"{JOB}/trial_{trial.trial_id}"
        is_failed = trial.status == Trial.ERROR
        rows = "" if is_failed else json.dumps(trial.last_result, default=float)
        files[f"{place}/result.json"] = rows.encode()
        if is_failed:
            files[f"{place}/error.txt"] = b"it diverged"
    return files
