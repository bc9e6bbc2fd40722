"""What a job is to do, as it travels from the submitter to the driver: pickled, like any Ray job's
code. In a module of its own, because the driver runs as `__main__`, whose classes are others."""

from dataclasses import dataclass
from typing import Any

import cloudpickle
from ray import tune

from gensyn_ray.domain.errors import UsageError
from workloads.core.objectives import Objectives
from workloads.ray_jobs.diloco.core.rounds import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Trials of a program, chosen by Tune: a sweep, or a single run where the space is a point."""

    param_space: dict[str, Any]
    tune_config: tune.TuneConfig

    def check(self) -> None:
        """Raises `UsageError`."""
        metric, mode = self.tune_config.metric, self.tune_config.mode
        if not metric or mode not in ("min", "max"):
            raise UsageError("tune_config needs a metric and a mode ('min' or 'max')")
        if self.objectives.get(metric) != mode:
            wanted = ", ".join(f"{name} ({mode})" for name, mode in self.objectives.items())
            raise UsageError(
                f"tune_config shows {metric} ({mode}), which its searcher does not look for: "
                f"choose from {wanted}"
            )

    @property
    def objectives(self) -> Objectives:
        """What the search is for: the metrics of a searcher that has several of its own, as
        Optuna's may, else the one of `tune_config`."""
        searcher: Any = self.tune_config.search_alg
        if isinstance(getattr(searcher, "metric", None), list):
            return dict(zip(searcher.metric, searcher.mode, strict=True))
        return {str(self.tune_config.metric): str(self.tune_config.mode)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """One model, trained by several loosely coupled workers: at least and at most so many."""

    config: dict[str, Any]
    plan: Plan
    workers: tuple[int, int]

    def check(self) -> None:
        """Raises `UsageError`."""
        if not 1 <= self.workers[0] <= self.workers[1]:
            raise UsageError("workers are (least, most), from 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a driver needs to run a job; travels pickled, like any Ray job's code. `packed`: the
    work, pickled apart, because it may refer to modules that the head does not have: its driver
    still can close the job."""

    job: str
    facts: dict[str, str]
    bundle: str
    data: str
    numerics: str
    seed: int
    driver_seed: bytes
    secret_seed: bytes
    packed: bytes

    @property
    def work(self) -> Search | Together:
        """What is to be done. Raises whatever unpickling raises."""
        return cloudpickle.loads(self.packed)
