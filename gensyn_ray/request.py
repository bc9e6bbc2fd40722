"""What a job is to do, as it travels from the submitter to the driver: pickled, like any Ray job's
code. In a module of its own, because the driver runs as `__main__`, whose classes are others."""

from dataclasses import dataclass
from typing import Any

from ray import tune

from workloads.ray_jobs.rounds import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Trials of a program, chosen by Tune: a sweep, or a single run where the space is a point."""

    param_space: dict[str, Any]
    tune_config: tune.TuneConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """One model, trained by several loosely coupled workers: at least and at most so many."""

    config: dict[str, Any]
    plan: Plan
    workers: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a driver needs to run a job; travels pickled, like any Ray job's code."""

    job: str
    facts: dict[str, str]
    bundle: str
    data: str
    numerics: str
    seed: int
    driver_seed: bytes
    secret_seed: bytes
    work: Search | Together
