"""A hyperparameter search under Ray Tune whose trials are verified tasks."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from typing import Any

import ray
from pyarrow import fs
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from workloads.ray_jobs.search.core.gate import Gate
from workloads.ray_jobs.search.core.start_barrier import StartBarrier
from workloads.ray_jobs.search.tune.gated_search import GateCallback, GatedScheduler, GatedSearcher
from workloads.ray_jobs.search.tune.trainable import SegmentTrainable, TrialFacts
from workloads.ray_jobs.search.tune.trial_errors import TrialErrors

MAX_FAILURES = 8
"""Starts that a trial may lose to dying or refused nodes."""
VOLUNTEER = {"gensyn.role": "volunteer"}


def run_sweep(
    *,
    facts: TrialFacts,
    gate: Gate,
    param_space: dict[str, Any],
    tune_config: tune.TuneConfig,
    storage: tuple[fs.FileSystem, str],
    watch: Callable[[], None],
    is_over: Callable[[], bool],
    complaints: TrialErrors,
) -> tune.ResultGrid:
    """Run `tune.Tuner.fit()` with the user's own `TuneConfig` on volunteer nodes alone.

    `storage`: file system and path of Tune's own files, used on the head alone. `watch` is called
    a few times a second; `is_over` ends the search early, and so do `complaints`
    about the program, which are gathered there. A search whose driver died goes on from what Tune
    saved of it.
    """
    limit, search = tune_config.max_concurrent_trials, tune_config.search_alg
    if isinstance(search, Searcher):
        search, limit = GatedSearcher(search, gate, limit), None
    scheduler = GatedScheduler(
        tune_config.scheduler or FIFOScheduler(),
        gate,
        lambda: is_over() or complaints.is_hopeless,
        time.monotonic,
    )
    gated = dataclasses.replace(
        tune_config,
        search_alg=search,
        scheduler=scheduler,
        max_concurrent_trials=limit,
        reuse_actors=True,
    )
    run_config = RunConfig(
        name=facts.job,
        storage_path=storage[1],
        storage_filesystem=storage[0],
        failure_config=FailureConfig(max_failures=MAX_FAILURES),
        callbacks=[GateCallback(gate, scheduler, complaints, watch, time.monotonic)],
        verbose=0,
    )
    at_once = _at_once(tune_config)
    # Unasked, Tune starts the actors of a searcher's trials one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    is_saved = has_saved_run(storage, facts.job)
    # The trials that are left of a restored search may be too few to wait for each other.
    expected = 0 if is_saved else at_once
    line = ray.remote(StartBarrier).options(num_cpus=0, label_selector=here).remote(expected)
    trainable = tune.with_resources(
        tune.with_parameters(SegmentTrainable, facts=facts, line=line),
        PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[VOLUNTEER]),
    )
    if not is_saved:
        return tune.Tuner(
            trainable, param_space=param_space, tune_config=gated, run_config=run_config
        ).fit()
    tuner = tune.Tuner.restore(
        f"{storage[1]}/{facts.job}",
        trainable=trainable,
        param_space=param_space,
        storage_filesystem=storage[0],
    )
    # Tune pickled the hooks when the search began, cut from their driver. It gets living ones, and
    # gives them what it saved last.
    inside: Any = tuner._local_tuner
    inside._tune_config, inside._run_config = gated, run_config
    return tuner.fit()


def _at_once(tune_config: tune.TuneConfig) -> int:
    """How many trials can begin together: at least one, for volunteers who are still to come."""
    nodes = sum(
        node["Alive"] and VOLUNTEER.items() <= node["Labels"].items() for node in ray.nodes()
    )
    limit = tune_config.max_concurrent_trials or nodes
    return max(1, min(nodes, limit, tune_config.num_samples))


def has_saved_run(storage: tuple[fs.FileSystem, str], job: str) -> bool:
    """Whether an earlier driver of a job left a state of Tune's with trials in it, and whole: a
    driver can die while it writes."""
    filesystem, root = storage
    listed = filesystem.get_file_info(fs.FileSelector(f"{root}/{job}", allow_not_found=True))
    states = [info.path for info in listed if info.base_name.startswith("experiment_state-")]
    if not states or not tune.Tuner.can_restore(f"{root}/{job}", filesystem):
        return False
    with filesystem.open_input_stream(max(states)) as newest:
        try:
            return bool(json.loads(newest.readall())["trial_data"])
        except ValueError:
            return False
