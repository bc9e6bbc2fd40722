"""The tables of a job file that describe a search: [search], [space] and [config]."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.samplers import TPESampler
from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from gensyn_ray.domain.errors import UsageError
from workloads.core.objectives import Objectives
from workloads.ray_jobs.kind.tables import filled, typed

DOMAINS: Mapping[str, Callable[..., Any]] = {
    "uniform": tune.uniform,
    "loguniform": tune.loguniform,
    "randint": tune.randint,
    "lograndint": tune.lograndint,
}
"""Domains of two numbers, [from, below]. The second one is excluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTable:
    """The table [search] of a job file: how Tune chooses and stops trials.

    A list of metrics, with a mode for each, makes a sweep look for their Pareto front; schedulers
    use the first. `trials`: how many. `at_once`: at most so many run at the same time.
    `first_random`: trials before TPE models the metric. `grace`: segments that no scheduler stops
    before."""

    metric: str | list[str]
    mode: Literal["min", "max"] | list[Literal["min", "max"]]
    trials: int = 10
    at_once: int = 3
    searcher: Literal["tpe", "random"] = "tpe"
    scheduler: Literal["asha", "hyperband", "pbt", "none"] = "asha"
    first_random: int = 4
    grace: int = 2

    @property
    def objectives(self) -> Objectives:
        """Metric -> mode. Raises `UsageError` if their numbers differ."""
        metrics = [self.metric] if isinstance(self.metric, str) else self.metric
        modes = [self.mode] if isinstance(self.mode, str) else self.mode
        if len(metrics) != len(modes) or len(set(metrics)) != len(metrics) or not metrics:
            raise UsageError(f"search.mode needs one of min and max for each of {metrics}")
        return dict(zip(metrics, modes, strict=True))

    @property
    def first_objective(self) -> dict[str, Any]:
        """`metric` and `mode` of Tune's configuration."""
        metric, mode = next(iter(self.objectives.items()))
        return {"metric": metric, "mode": mode}


def search_of(
    job_kind: str, written: Mapping[str, Any], *, seed: int, segments: int
) -> tuple[dict[str, Any], tune.TuneConfig]:
    """(search space, Tune's configuration) of a job file.

    `job_kind`: "sweep" searches [space]; any other runs [config] once. Raises `UsageError`."""
    table = filled(SearchTable, written["search"], where="search")
    is_sweep = job_kind == "sweep"
    if len(table.objectives) > 1 and not (is_sweep and table.searcher == "tpe"):
        raise UsageError("several metrics are for a sweep with the searcher tpe")
    if not is_sweep:
        config = typed(written.get("config", {}), dict[str, Any], "config")
        return config, tune.TuneConfig(**table.first_objective, num_samples=1)
    space = space_of(typed(written.get("space", {}), dict[str, Any], "space"))
    return space, tune.TuneConfig(
        **table.first_objective,
        search_alg=_searcher(table, seed),
        scheduler=_scheduler(table, segments, space),
        num_samples=table.trials,
        max_concurrent_trials=table.at_once,
    )


def space_of(written: Mapping[str, Any]) -> dict[str, Any]:
    """Tune's search space. A table with one known key is a domain; another value is a constant.

    Raises `UsageError` for an unknown domain, or one without its numbers."""
    return {name: _domain(name, value) for name, value in written.items()}


def _domain(name: str, value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((domain, numbers),) = value.items()
    if domain in ("choice", "grid"):
        return tune.choice(numbers) if domain == "choice" else tune.grid_search(numbers)
    if domain not in DOMAINS:
        known = ", ".join(("choice", "grid", *DOMAINS))
        raise UsageError(f"space.{name}: unknown domain {domain!r}: choose from {known}")
    if not (isinstance(numbers, list) and len(numbers) == 2):
        raise UsageError(f"space.{name}: {domain} takes two numbers, [from, below]")
    return DOMAINS[domain](*numbers)


def _searcher(table: SearchTable, seed: int) -> Searcher | SearchAlgorithm:
    if table.searcher == "random":
        return BasicVariantGenerator(random_state=seed)
    sampler = TPESampler(n_startup_trials=table.first_random, seed=seed)
    objectives: dict[str, Any] = {}
    if len(table.objectives) > 1:
        objectives = {"metric": [*table.objectives], "mode": [*table.objectives.values()]}
    return OptunaSearch(sampler=sampler, **objectives)


def _scheduler(table: SearchTable, segments: int, space: dict[str, Any]) -> TrialScheduler:
    match table.scheduler:
        case "asha":
            return ASHAScheduler(max_t=segments, grace_period=table.grace, reduction_factor=2)
        case "hyperband":
            return HyperBandScheduler(max_t=segments, reduction_factor=2)
        case "pbt":
            return PopulationBasedTraining(
                time_attr="training_iteration",
                perturbation_interval=table.grace,
                hyperparam_mutations={
                    name: one for name, one in space.items() if hasattr(one, "sample")
                },
            )
        case "none":
            return FIFOScheduler()
