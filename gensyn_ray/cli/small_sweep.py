"""The sweep over a catalog program that `submit` and `demo` open. Imports torch and Tune."""

from typing import Any

from optuna.samplers import TPESampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from gensyn_ray.api.terms import Audit, Budget, JobSpec, Terms
from gensyn_ray.cli.submitter import AUDIT_PPM, METRIC
from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from workloads.core.program import Program
from workloads.programs.catalog import PROGRAMS
from workloads.ray_jobs.search.kind import SearchRequest

AUDIT = Audit(rate_ppm=AUDIT_PPM, draw_batch=12)


def program_called(name: str) -> type[Program]:
    """A program of the catalog. Raises `UsageError` that lists the names."""
    if name not in PROGRAMS:
        raise UsageError(f"unknown program {name!r}: choose from {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def digits_space() -> dict[str, Any]:
    """The search space of the digits sweep."""
    return {
        "lr": tune.loguniform(1e-3, 0.3),
        "momentum": tune.uniform(0.0, 0.95),
        "width": tune.randint(8, 25),
    }


def tpe_with_asha(seed: int, trials: int, at_once: int) -> tune.TuneConfig:
    """Optuna's TPE with early stopping, for a metric that is maximised."""
    return tune.TuneConfig(
        metric=METRIC,
        mode="max",
        search_alg=OptunaSearch(sampler=TPESampler(n_startup_trials=4, seed=seed)),
        scheduler=ASHAScheduler(max_t=8, grace_period=2, reduction_factor=2),
        num_samples=trials,
        max_concurrent_trials=at_once,
    )


def small_sweep(
    program: str, *, trials: int, at_once: int, budget: int, seed: int, numerics: str
) -> JobSpec:
    """A search over a program of the catalog. Raises `UsageError` for an unknown one."""
    return JobSpec(
        kind="sweep",
        program=program_called(program),
        request=SearchRequest(
            param_space=digits_space(), tune_config=tpe_with_asha(seed, trials, at_once)
        ),
        budget=Budget(total_micro=budget * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT),
        terms=Terms(audit=AUDIT, numerics=numerics, seed=seed),
    )
