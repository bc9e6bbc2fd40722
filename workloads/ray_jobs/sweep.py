"""A hyperparameter search under Ray Tune whose trials are verified tasks."""

import dataclasses
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

from workloads.ray_jobs.gate import Gate
from workloads.ray_jobs.search import GateCallback, GatedScheduler, GatedSearcher, JobStopper
from workloads.ray_jobs.trainable import SegmentTrainable, StartingLine, TrialFacts

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
) -> tune.ResultGrid:
    """Run `tune.Tuner.fit()` with the user's own `TuneConfig` on volunteer nodes alone.

    `storage`: file system and path of Tune's own files, used on the head alone. `watch` is called
    a few times a second; `is_over` ends the search early.
    """
    limit, search = tune_config.max_concurrent_trials, tune_config.search_alg
    if isinstance(search, Searcher):
        search, limit = GatedSearcher(search, gate, limit), None
    gated = dataclasses.replace(
        tune_config,
        search_alg=search,
        scheduler=GatedScheduler(tune_config.scheduler or FIFOScheduler(), gate, time.monotonic),
        max_concurrent_trials=limit,
        reuse_actors=True,
    )
    nodes = sum(
        node["Alive"] and VOLUNTEER.items() <= node["Labels"].items() for node in ray.nodes()
    )
    at_once = min(nodes, tune_config.max_concurrent_trials or nodes, tune_config.num_samples)
    # Unasked, Tune starts the actors of a searcher's trials one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    line = ray.remote(StartingLine).options(num_cpus=0, label_selector=here).remote(at_once)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(SegmentTrainable, facts=facts, line=line),
            PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[VOLUNTEER]),
        ),
        param_space=param_space,
        tune_config=gated,
        run_config=RunConfig(
            name=facts.job,
            storage_path=storage[1],
            storage_filesystem=storage[0],
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[GateCallback(gate, watch, time.monotonic)],
            stop=JobStopper(is_over),
            verbose=0,
        ),
    )
    return tuner.fit()
