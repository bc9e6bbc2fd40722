"""Job files: a job in TOML, for people who submit from a shell.

    kind = "sweep"                      # or "finetune", "pretrain"
    program = "fashion"                 # of the catalog, or "my_file.py:MyProgram"
    data = "8c3f..."                    # what `gensyn-ray data prepare` printed

    [budget]
    credits = 300

    [search]                            # a sweep
    metric = "accuracy"
    mode = "max"
    trials = 20
    [space]
    model = { choice = ["cnn", "mlp"] }
    lr = { loguniform = [1e-4, 1e-1] }

Examples of each kind: docs/examples. Unknown names are refused, with the names that there are.
"""

import importlib.util
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import msgspec
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
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.domain.numerics import REPRODUCIBLE
from gensyn_ray.jobs.request import Search, Together
from workloads.core.objectives import Objectives
from workloads.core.program import Program
from workloads.core.program_errors import told_to_its_author
from workloads.programs.catalog import PROGRAMS
from workloads.ray_jobs.diloco.core.rounds import Plan

DOMAINS: Mapping[str, Callable[..., Any]] = {
    "uniform": tune.uniform,
    "loguniform": tune.loguniform,
    "randint": tune.randint,
    "lograndint": tune.lograndint,
}
"""Of two numbers, the second of which is never reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """In credits: the most that the job may cost, and what a segment pays."""

    credits: float
    per_segment: float = 1.0

    @property
    def total_micro(self) -> int:
        return round(self.credits * MICRO_PER_CREDIT)

    @property
    def per_segment_micro(self) -> int:
        return round(self.per_segment * MICRO_PER_CREDIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditing:
    """`rate`: chance of each segment to be replayed. `draw_batch`: commitments to a draw."""

    rate: float = 0.2
    draw_batch: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Searching:
    """How trials are chosen and stopped. A list of metrics, with a mode for each, makes a sweep
    look for their Pareto front; trials are stopped by the first. `first_random`: trials before TPE
    models anything."""

    metric: str | list[str]
    mode: Literal["min", "max"] | list[Literal["min", "max"]]
    trials: int = 10
    at_once: int = 3
    searcher: Literal["tpe", "random"] = "tpe"
    scheduler: Literal["asha", "hyperband", "pbt", "none"] = "asha"
    first_random: int = 4
    grace: int = 2
    """Segments that every trial gets."""

    @property
    def objectives(self) -> Objectives:
        """The metrics with their modes. Raises `UsageError` if their numbers differ."""
        metrics = [self.metric] if isinstance(self.metric, str) else self.metric
        modes = [self.mode] if isinstance(self.mode, str) else self.mode
        if len(metrics) != len(modes) or len(set(metrics)) != len(metrics) or not metrics:
            raise UsageError(f"search.mode needs one of min and max for each of {metrics}")
        return dict(zip(metrics, modes, strict=True))

    @property
    def shown(self) -> dict[str, Any]:
        """`metric` and `mode` that people see."""
        metric, mode = next(iter(self.objectives.items()))
        return {"metric": metric, "mode": mode}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """`config`: of a fine-tuning or pretraining. `workers`: least and most, where there is a
    `plan`: of a pretraining, or a fine-tuning that several volunteers share."""

    kind: Literal["sweep", "finetune", "pretrain"]
    program: str
    budget: Money
    data: str = ""
    numerics: str = REPRODUCIBLE
    seed: int = 0
    audit: Auditing = field(default_factory=Auditing)
    search: Searching | None = None
    space: dict[str, Any] = field(default_factory=dict[str, Any])
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    plan: Plan | None = None
    workers: tuple[int, int] = (1, 4)


def read(path: Path) -> JobFile:
    """A job file. Raises `UsageError` that names the file and the line or field at fault."""
    try:
        written = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    _refuse_unknown(path, "", written, JobFile)
    for name, kind in (
        ("budget", Money),
        ("audit", Auditing),
        ("search", Searching),
        ("plan", Plan),
    ):
        _refuse_unknown(path, f"{name}.", written.get(name, {}), kind)
    try:
        job = msgspec.convert(written, JobFile)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}") from None
    ways = {"sweep": ["search"], "finetune": ["search", "plan"], "pretrain": ["plan"]}[job.kind]
    given = [name for name in ("search", "plan") if getattr(job, name) is not None]
    if len(given) != 1 or given[0] not in ways:
        raise UsageError(f"{path}: a {job.kind} needs one section [{'] or ['.join(ways)}]")
    if job.search is not None:
        _check_objectives(path, job.kind, job.search)
    return job


def _check_objectives(path: Path, kind: str, search: Searching) -> None:
    try:
        has_several = len(search.objectives) > 1
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if has_several and (kind != "sweep" or search.searcher != "tpe"):
        raise UsageError(f"{path}: several metrics are for a sweep with the searcher tpe")


def _refuse_unknown(path: Path, where: str, written: Any, kind: type) -> None:
    known = [one.name for one in fields(kind)]
    for name in written if isinstance(written, dict) else ():
        if name not in known:
            raise UsageError(f"{path}: unknown {where}{name}: choose from {', '.join(known)}")


def program_of(job: JobFile, folder: Path) -> type[Program]:
    """The program that a job file names; files are found beside it. Raises `UsageError`,
    and `ProgramFailed` for what the file raises."""
    file, _, name = job.program.rpartition(":")
    if not file:
        if name not in PROGRAMS:
            raise UsageError(f"unknown program {name!r}: choose from {', '.join(PROGRAMS)}")
        return PROGRAMS[name]
    spec = importlib.util.spec_from_file_location(Path(file).stem, folder / file)
    if spec is None or spec.loader is None or not (folder / file).exists():
        raise UsageError(f"{folder / file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with told_to_its_author(str(folder / file)):
        spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Program)):
        raise UsageError(f"{file} has no program called {name}")
    return found


def work_of(job: JobFile, segments: int) -> Search | Together:
    """What is to be done; `segments`: how many a whole run has."""
    if job.plan is not None:
        return Together(config=job.config, plan=job.plan, workers=job.workers)
    if job.kind == "sweep":
        return Search(param_space=space_of(job), tune_config=tune_config_of(job, segments))
    assert job.search is not None
    shown = tune.TuneConfig(**job.search.shown, num_samples=1)
    return Search(param_space=job.config, tune_config=shown)


def space_of(job: JobFile) -> dict[str, Any]:
    """Tune's search space. A table with one known key is a domain; anything else is itself.

    Raises `UsageError` for a domain without its numbers."""
    return {name: _domain(name, value) for name, value in job.space.items()}


def _domain(name: str, value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, numbers),) = value.items()
    if kind in ("choice", "grid"):
        return tune.choice(numbers) if kind == "choice" else tune.grid_search(numbers)
    if kind not in DOMAINS:
        known = ", ".join(("choice", "grid", *DOMAINS))
        raise UsageError(f"space.{name}: unknown domain {kind!r}: choose from {known}")
    if not (isinstance(numbers, list) and len(numbers) == 2):
        raise UsageError(f"space.{name}: {kind} takes two numbers, [from, below]")
    return DOMAINS[kind](*numbers)


def tune_config_of(job: JobFile, segments: int) -> tune.TuneConfig:
    """Tune's own configuration; `segments`: how many a whole run has."""
    search = job.search
    assert search is not None
    return tune.TuneConfig(
        **search.shown,
        search_alg=_searcher(search, job.seed),
        scheduler=_scheduler(search, segments, space_of(job)),
        num_samples=search.trials,
        max_concurrent_trials=search.at_once,
    )


def _searcher(search: Searching, seed: int) -> Searcher | SearchAlgorithm:
    if search.searcher == "random":
        return BasicVariantGenerator(random_state=seed)
    sampler = TPESampler(n_startup_trials=search.first_random, seed=seed)
    several: dict[str, Any] = {}
    if len(search.objectives) > 1:
        several = {"metric": [*search.objectives], "mode": [*search.objectives.values()]}
    return OptunaSearch(sampler=sampler, **several)


def _scheduler(search: Searching, segments: int, space: dict[str, Any]) -> TrialScheduler:
    match search.scheduler:
        case "asha":
            return ASHAScheduler(max_t=segments, grace_period=search.grace, reduction_factor=2)
        case "hyperband":
            return HyperBandScheduler(max_t=segments, reduction_factor=2)
        case "pbt":
            return PopulationBasedTraining(
                time_attr="training_iteration",
                perturbation_interval=search.grace,
                hyperparam_mutations={
                    name: one for name, one in space.items() if hasattr(one, "sample")
                },
            )
        case "none":
            return FIFOScheduler()
