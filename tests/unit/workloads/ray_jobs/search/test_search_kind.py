"""The kind `search`: its checks, estimates and sections of a job file."""

from collections.abc import Mapping
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler
from ray.tune.schedulers import PopulationBasedTraining as Pbt
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Categorical, Float, Integer

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.quote import Pool
from workloads.ray_jobs.kind.interface import States, Timing
from workloads.ray_jobs.search.kind import SearchOutcome, SearchRequest

STATES: States = {}.__getitem__
TABLE: Mapping[str, Any] = {"metric": "accuracy", "mode": "max"}
SEVERAL = {"metric": ["accuracy", "parameters"], "mode": ["max", "min"]}


def request_of(
    table: Mapping[str, Any] = TABLE,
    space: Mapping[str, Any] | None = None,
    job_kind: str = "sweep",
) -> SearchRequest:
    written = {"search": table, "space": space or {}}
    return SearchRequest.from_tables(job_kind, written, seed=1, segments=8)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("asha", ASHAScheduler), ("hyperband", HyperBandScheduler), ("none", FIFOScheduler)],
)
def test_schedulers_by_name(name: str, kind: Any) -> None:
    assert isinstance(request_of({**TABLE, "scheduler": name}).tune_config.scheduler, kind)


def test_population_based_training_mutates_what_can_be_drawn() -> None:
    space = {"lr": {"uniform": [0.1, 1.0]}, "width": 8}
    scheduler = request_of({**TABLE, "scheduler": "pbt"}, space).tune_config.scheduler
    assert isinstance(scheduler, Pbt)
    assert list(scheduler._hyperparam_mutations) == ["lr"]


@pytest.mark.parametrize(
    ("name", "kind"), [("tpe", OptunaSearch), ("random", BasicVariantGenerator)]
)
def test_searchers_by_name(name: str, kind: Any) -> None:
    assert isinstance(request_of({**TABLE, "searcher": name}).tune_config.search_alg, kind)


def test_domains_by_name() -> None:
    written = {
        "model": {"choice": ["cnn", "mlp"]},
        "width": {"randint": [8, 25]},
        "lr": {"loguniform": [1e-4, 0.1]},
        "depth": {"grid": [1, 2]},
        "fixed": 3,
    }
    space = request_of(space=written).param_space
    kinds = {name: type(space[name]) for name in ("model", "width", "lr")}
    assert kinds == {"model": Categorical, "width": Integer, "lr": Float}
    assert (space["depth"], space["fixed"]) == ({"grid_search": [1, 2]}, 3)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"lr": {"normal": [0, 1]}},
            "space.lr: unknown domain 'normal': choose from choice, grid",
        ),
        ({"lr": {"uniform": [1]}}, "space.lr: uniform takes two numbers"),
    ],
)
def test_a_bad_domain_is_named(space: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        request_of(space=space)


def test_several_metrics_are_the_searchers_and_tune_shows_the_first() -> None:
    request = request_of(SEVERAL)
    assert (request.tune_config.metric, request.tune_config.mode) == ("accuracy", "max")
    request.check()
    assert request.objectives == {"accuracy": "max", "parameters": "min"}


@pytest.mark.parametrize(
    ("change", "job_kind", "said"),
    [
        ({"mode": "max"}, "sweep", "one of min and max for each"),
        ({"mode": ["max", "least"]}, "sweep", "Invalid enum value 'least'"),
        ({"metric": ["loss", "loss"]}, "sweep", "one of min and max for each"),
        ({"searcher": "random"}, "sweep", "a sweep with the searcher tpe"),
        ({}, "finetune", "a sweep with the searcher tpe"),
    ],
)
def test_several_metrics_need_as_many_modes_and_tpe(
    change: Mapping[str, Any], job_kind: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        request_of({**SEVERAL, **change}, job_kind=job_kind)


def test_tunes_metric_must_be_an_objective() -> None:
    searcher = OptunaSearch(metric=["accuracy", "size"], mode=["max", "min"])
    for metric, mode in (("loss", "min"), ("size", "max")):
        shown = tune.TuneConfig(metric=metric, mode=mode, search_alg=searcher)
        with pytest.raises(UsageError, match=r"choose from accuracy \(max\), size \(min\)"):
            SearchRequest(param_space={}, tune_config=shown).check()


def test_a_finetuning_is_one_run_of_its_config() -> None:
    written = {"search": TABLE, "config": {"lr": 0.1}}
    request = SearchRequest.from_tables("finetune", written, seed=1, segments=8)
    assert request.param_space == {"lr": 0.1}
    assert request.tune_config.num_samples == 1


def test_a_point_of_a_space() -> None:
    space = {"lr": tune.uniform(0.1, 0.2), "width": tune.grid_search([8, 16]), "fixed": "x"}
    config = tune.TuneConfig(metric="x", mode="max")
    point = SearchRequest(param_space=space, tune_config=config).sample_config()
    assert 0.1 <= point["lr"] <= 0.2
    assert point["width"] == 8
    assert point["fixed"] == "x"


def test_a_search_is_estimated_as_all_its_trials() -> None:
    space = {"lr": tune.uniform(0.1, 0.2), "width": tune.grid_search([8, 16])}
    config = tune.TuneConfig(metric="x", mode="max", num_samples=3, max_concurrent_trials=2)
    request = SearchRequest(param_space=space, tune_config=config)
    timing, pool = Timing(step_s=0.02, end_s=0.08, segments=8, segment_steps=6), Pool(speeds=[1.5])
    size, same = request.estimate(timing, pool)
    assert (size.tasks, size.segments, size.paid, size.at_once) == (6, 8, 48, 2)
    assert size.reference_s == pytest.approx(6 * 0.02 + 0.08)
    assert same == pool


def test_a_searchers_own_space_gives_the_point() -> None:
    def by_run(trial: Any) -> dict[str, Any]:
        trial.suggest_float("lr", 0.1, 0.2)
        return {"width": 8}

    searcher = OptunaSearch(space=by_run, metric="x", mode="max", seed=1)
    config = tune.TuneConfig(metric="x", mode="max", search_alg=searcher)
    request = SearchRequest(param_space={}, tune_config=config)
    points = [request.sample_config() for _ in range(2)]
    assert points[0] == points[1], "the searcher itself is not asked"
    assert 0.1 <= points[0].pop("lr") <= 0.2
    assert points[0] == {"width": 8}


def test_a_searcher_that_suggests_nothing_is_refused() -> None:
    config = tune.TuneConfig(metric="x", mode="max", search_alg=OptunaSearch())
    with pytest.raises(UsageError, match="the searcher suggests no config"):
        SearchRequest(param_space={}, tune_config=config).sample_config()


@pytest.mark.parametrize(
    ("space", "settings", "at_once"),
    [
        ({"lr": 0.1}, {}, 1),
        ({"lr": 0.1}, {"num_samples": 3}, 3),
        ({"lr": tune.grid_search([0.1, 0.2])}, {}, 2),
        ({"model": {"lr": tune.grid_search([0.1, 0.2])}}, {"num_samples": 2}, 4),
        ({"lr": tune.grid_search([0.1, 0.2, 0.3])}, {"max_concurrent_trials": 2}, 2),
        ({"lr": tune.uniform(0.1, 0.2)}, {"num_samples": -1}, 4),
        ({"lr": tune.uniform(0.1, 0.2)}, {"num_samples": 9}, 4),
    ],
)
def test_trials_that_can_start_together_on_four_nodes(
    space: dict[str, Any], settings: dict[str, Any], at_once: int
) -> None:
    config = tune.TuneConfig(metric="x", mode="max", **settings)
    request = SearchRequest(param_space=space, tune_config=config)
    assert request.trials_at_once(4) == at_once
    assert request.trials_at_once(0) == 1


def test_a_search_without_results_has_no_grid_and_no_state() -> None:
    outcome = SearchOutcome(
        trials=0, failed_trials=2, metric="x", mode="max", objectives={"x": "max"}
    )
    assert outcome.grid("job", dict, STATES) is None
    assert outcome.describe(None) == "0 trials and 2 that failed"
    with pytest.raises(OperationError):
        outcome.trained(None, "")
