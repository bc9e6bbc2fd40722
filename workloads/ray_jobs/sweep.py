"""A hyperparameter search under Ray Tune whose trials are verified tasks."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig
from ray.tune.execution.class_cache import DEFAULT_ENV_VARS
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from workloads.numerics.pinned import numerics_class
from workloads.ray_jobs.gate import Gate
from workloads.ray_jobs.search import GateCallback, GatedScheduler, GatedSearcher, JobStopper
from workloads.ray_jobs.trainable import SegmentTrainable, TrialFacts

MAX_FAILURES = 8
"""Starts that a trial may lose to dying or refused nodes."""
WARM_UP_S = 30.0
VOLUNTEER = {"gensyn.role": "volunteer"}


def warm_up(timeout_s: float = WARM_UP_S) -> int:
    """Have every volunteer node import what a trial needs; returns how many did in time.

    Ray keeps the warmed process for the actor that comes next. Without it, the first node that is
    ready takes the trials of the others: Tune prefers a cached actor to one that still starts.
    """
    nodes = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["Labels"].get("gensyn.role") == VOLUNTEER["gensyn.role"]
    ]
    # A process serves an actor only if it was started in the same runtime environment.
    task = ray.remote(runtime_env={"env_vars": dict(DEFAULT_ENV_VARS)})(_import_all)
    pending = [
        task.options(name="warm up", num_cpus=1, label_selector={"ray.io/node-id": node}).remote()
        for node in nodes
    ]
    ready, late = ray.wait(pending, num_returns=len(pending), timeout=timeout_s)
    for one in late:
        ray.cancel(one)
    return len(ready)


def _import_all() -> None:
    """Importing this module has loaded Tune and torch; the self-test loads torch's kernels."""
    numerics_class()


def run_sweep(
    *,
    facts: TrialFacts,
    gate: Gate,
    param_space: dict[str, Any],
    tune_config: tune.TuneConfig,
    storage_path: str,
    watch: Callable[[], None],
    is_over: Callable[[], bool],
) -> tune.ResultGrid:
    """Run `tune.Tuner.fit()` with the user's own `TuneConfig` on volunteer nodes alone.

    `watch` is called a few times a second; `is_over` ends the search early.
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
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(SegmentTrainable, facts=facts),
            PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[VOLUNTEER]),
        ),
        param_space=param_space,
        tune_config=gated,
        run_config=RunConfig(
            name=facts.job,
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[GateCallback(gate, watch, time.monotonic)],
            stop=JobStopper(is_over),
            verbose=0,
        ),
    )
    warm_up()
    return tuner.fit()
