"""Runs a search under Ray Tune, whose trials are tasks of the network, on volunteers' nodes."""

import dataclasses
import importlib
import json
import os
import sys
import time
from typing import Any

import ray
from pyarrow import fs
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig
from ray.tune.execution import class_cache
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from gensyn_ray.domain.errors import OperationError
from workloads.ray_jobs.kind.context import VOLUNTEER, JobContext
from workloads.ray_jobs.kind.job_end import JobEnd
from workloads.ray_jobs.kind.summary import JobSummary
from workloads.ray_jobs.search.core.gate import Gate
from workloads.ray_jobs.search.core.start_barrier import StartBarrier
from workloads.ray_jobs.search.kind import SearchOutcome, SearchRequest
from workloads.ray_jobs.search.tune.gate_callback import GateCallback
from workloads.ray_jobs.search.tune.gated_scheduler import GatedScheduler
from workloads.ray_jobs.search.tune.gated_searcher import GatedSearcher
from workloads.ray_jobs.search.tune.trainable import SegmentTrainable
from workloads.ray_jobs.search.tune.trial_errors import TrialErrors

MAX_FAILURES = 8
"""Starts that a trial may lose to nodes that die or that the authority refuses."""


def run_search(request: SearchRequest, context: JobContext) -> JobSummary:
    """Run the search to its end. A search whose driver died continues from its saved state.

    Raises `OperationError` if every trial failed, or the program fails in each trial."""
    gate = Gate(
        template=context.template,
        job=context.facts.job,
        network_key=context.network_key,
        genesis=context.genesis,
        driver=context.driver,
        objectives=request.objectives,
    )
    gate.resume()
    errors = TrialErrors()
    results = fit(request, context, gate, errors)
    early_end, failed = context.watch.early_end(), results.num_errors
    if errors.is_hopeless or (failed == len(results) and not early_end):
        raise OperationError(errors.last or "every trial failed: see the driver's log")
    return JobSummary(
        state=early_end or (JobEnd.PARTLY_FAILED if failed else JobEnd.DONE),
        error=errors.last if failed else "",
        outcome=SearchOutcome(
            trials=len(results) - failed,
            failed_trials=failed,
            metric=str(request.tune_config.metric),
            mode=str(request.tune_config.mode),
            objectives=dict(request.objectives),
        ),
    )


def fit(
    request: SearchRequest, context: JobContext, gate: Gate, errors: TrialErrors
) -> tune.ResultGrid:
    """`tune.Tuner.fit()` with the user's own `TuneConfig`, gated, on volunteers' nodes.

    Ends early if the watch has a reason, or if `errors`, which this function fills, shows that the
    program fails in every trial."""
    storage, job = context.storage, context.facts.job
    tune_config, run_config = _gated(request.tune_config, context, gate, errors)
    at_once = request.trials_at_once(_volunteers())
    # Without this variable, Tune starts the actors of a searcher's trials one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    keep_environment_here()
    load_tensorboard_without_torch()
    is_saved = has_saved_run(storage, job)
    trainable = tune.with_resources(
        tune.with_parameters(
            SegmentTrainable,
            facts=context.facts,
            # The trials that are left of a restored search may be too few to wait for each other.
            barrier=StartBarrier(job=job, expected=0 if is_saved else at_once),
        ),
        PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[VOLUNTEER]),
    )
    if not is_saved:
        return tune.Tuner(
            trainable,
            param_space=request.param_space,
            tune_config=tune_config,
            run_config=run_config,
        ).fit()
    tuner = tune.Tuner.restore(
        f"{storage[1]}/{job}",
        trainable=trainable,
        param_space=request.param_space,
        storage_filesystem=storage[0],
    )
    # Tune pickled the hooks of the former driver without their connections. It gets this driver's
    # hooks instead, and passes its last saved state to them.
    inside: Any = tuner._local_tuner
    inside._tune_config, inside._run_config = tune_config, run_config
    return tuner.fit()


def _gated(
    tune_config: tune.TuneConfig, context: JobContext, gate: Gate, errors: TrialErrors
) -> tuple[tune.TuneConfig, RunConfig]:
    """The user's configuration with the gate's hooks around its searcher and scheduler."""
    watch = context.watch
    limit, search = tune_config.max_concurrent_trials, tune_config.search_alg
    if isinstance(search, Searcher):
        search, limit = GatedSearcher(search, gate, limit), None
    scheduler = GatedScheduler(
        tune_config.scheduler or FIFOScheduler(),
        gate,
        lambda: watch.is_over() or errors.is_hopeless,
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
        name=context.facts.job,
        storage_path=context.storage[1],
        storage_filesystem=context.storage[0],
        failure_config=FailureConfig(max_failures=MAX_FAILURES),
        callbacks=[GateCallback(gate, scheduler, errors, watch, time.monotonic)],
        verbose=0,
    )
    return gated, run_config


def keep_environment_here() -> None:
    """Stop Tune from setting variables of this process in the trials' workers on volunteers' nodes:
    an object store's credentials are among them. Without variables a trial also takes a worker that
    its node has started already."""
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE = set[str]()


def load_tensorboard_without_torch() -> None:
    """Import the writer of Tune's TensorBoard files. It imports torch where it can, to accept
    tensors. Tune writes numbers only, and torch takes two seconds to load."""
    if "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it now fails
    try:
        importlib.import_module("tensorboardX")
    finally:
        del sys.modules["torch"]


def _volunteers() -> int:
    """Number of volunteers' nodes that are in the cluster now."""
    return sum(
        node["Alive"] and VOLUNTEER.items() <= node["Labels"].items() for node in ray.nodes()
    )


def has_saved_run(storage: tuple[fs.FileSystem, str], job: str) -> bool:
    """Whether an earlier driver of the job left a complete state of Tune with trials in it.

    A driver can die while it writes the state."""
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
