"""The user's searcher behind the gate gets acknowledged results with all its metrics."""

from typing import Any

from optuna.samplers import RandomSampler
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from workloads.ray_jobs.search.core.gate import Gate
from workloads.ray_jobs.search.tune.gated_searcher import GatedSearcher

SPACE = {"lr": tune.uniform(0.0, 1.0)}


class FakeGate(Gate):
    """A gate with these values of trials that holds no trial."""

    def __init__(self, known: dict[str, dict[str, float]]) -> None:
        self._known = known

    @property
    def held(self) -> list[str]:
        return []

    def values(self, trial_id: str) -> dict[str, float] | None:
        return self._known.get(trial_id)


def searched(inner: OptunaSearch, known: dict[str, dict[str, float]]) -> Any:
    """Optuna's study after trials with these final values."""
    searcher = GatedSearcher(inner, FakeGate(known), max_concurrent=None)
    assert searcher.set_search_properties("accuracy", "max", SPACE)
    for trial in known:
        assert searcher.suggest(trial)
        forged = {"accuracy": 9.0, "size": -9.0, "training_iteration": 1}
        searcher.on_trial_complete(trial, forged)
    return inner._ot_study


def test_a_searcher_with_its_own_metrics_gets_all_of_them() -> None:
    metrics = {"metric": ["accuracy", "size"], "mode": ["max", "min"]}
    inner = OptunaSearch(sampler=RandomSampler(seed=1), **metrics)
    known = {
        "a": {"accuracy": 0.9, "size": 90.0},
        "b": {"accuracy": 0.5, "size": 5.0},
        "c": {"accuracy": 0.4, "size": 50.0},
    }
    study = searched(inner, known)
    assert [one.values for one in study.trials] == [[0.9, 90.0], [0.5, 5.0], [0.4, 50.0]]
    assert [one.values for one in study.best_trials] == [[0.9, 90.0], [0.5, 5.0]]


def test_a_searcher_without_metrics_gets_the_first_objective() -> None:
    known = {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.75}}
    study = searched(OptunaSearch(sampler=RandomSampler(seed=1)), known)
    assert study.best_value == 0.75
