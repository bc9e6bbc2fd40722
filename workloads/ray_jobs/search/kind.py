"""The kind `search`: trials of a program, chosen by Ray Tune. A sweep, or a single run.

`core/gate.py` decides which results and ends of trials Tune sees; `tune/` has Tune's hooks.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.objectives import Objectives, leaders
from workloads.core.quote import JobSize, Pool
from workloads.ray_jobs.kind.interface import (
    KindRequest,
    Outcome,
    RunFiles,
    States,
    TaskEnd,
    Timing,
)

if TYPE_CHECKING:
    from ray import tune

    from workloads.ray_jobs.kind.context import JobContext
    from workloads.ray_jobs.kind.summary import JobSummary
    from workloads.ray_jobs.search.tune.result_grid import SearchGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome(Outcome):
    """The result of a search. `trials`: how many ended well. `failed_trials`: how many did not.
    `metric`, `mode`: what `grid` ranks trials by. `objectives`: metric -> "min" or "max"."""

    trials: int
    failed_trials: int
    metric: str
    mode: str
    objectives: dict[str, str]

    def grid(self, job: str, files: RunFiles, states: States) -> "SearchGrid | None":
        from workloads.ray_jobs.search.tune.result_grid import grid_of

        found = files()
        return grid_of(found, states, job, self.metric, self.mode) if found else None

    def trained(self, grid: "tune.ResultGrid | None", trial: str) -> TaskEnd:
        """The end of a trial, or of the best one."""
        if grid is None or not self.trials:
            raise OperationError("no trial of this job ended well: it has no trained state")
        leaves = cast("SearchGrid", grid).leaves
        name = trial or str((grid.get_best_result().metrics or {})["trial_id"])
        if name not in leaves:
            raise UsageError(
                f"no trial {name!r} has a trained state: choose from {', '.join(leaves)}"
            )
        return TaskEnd(task=leaves[name].task, state=leaves[name].state_after)

    def describe(self, grid: "tune.ResultGrid | None") -> str:
        count = f"{self.trials} trials"
        if self.failed_trials:
            count += f" and {self.failed_trials} that failed"
        if grid is None or not self.trials:
            return count
        best = grid.get_best_result()
        value = (best.metrics or {})[self.metric]
        lines = [f"{count}, best {self.metric} {value:.4f} with {best.config}"]
        if len(self.objectives) > 1:
            lines += self._describe_front(grid)
        return "\n".join(lines)

    def _describe_front(self, grid: "tune.ResultGrid") -> list[str]:
        ends = {str(one.path): one for one in grid if self.metric in (one.metrics or {})}
        values = {path: one.metrics or {} for path, one in ends.items()}
        lines = [f"the front, by {', '.join(self.objectives)}:"]
        for path in leaders(values, self.objectives):
            numbers = ", ".join(f"{values[path][name]:.6g}" for name in self.objectives)
            lines.append(f"  {numbers} with {ends[path].config}")
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest(KindRequest):
    """A search by Tune's own means.

    `param_space`: config name -> value or domain of Tune. `tune_config`: with any searcher and
    scheduler; it names a metric and a mode. A single run is a space of one point."""

    name: ClassVar[str] = "search"
    job_kinds: ClassVar[tuple[str, ...]] = ("sweep", "finetune")
    tables: ClassVar[tuple[str, ...]] = ("search", "space", "config")
    outcome: ClassVar[type[Outcome]] = SearchOutcome
    # Tune's `error.pkl` is left out: it would bring an object that a volunteer made into the
    # client's process.
    result_files: ClassVar[tuple[str, ...]] = (
        "experiment_state-",
        "result.json",
        "params.json",
        "error.txt",
    )

    param_space: dict[str, Any] = field(default_factory=dict[str, Any])
    tune_config: "tune.TuneConfig"

    @classmethod
    def from_tables(
        cls, job_kind: str, written: Mapping[str, Any], *, seed: int, segments: int
    ) -> Self:
        from workloads.ray_jobs.search.tune.tables import search_of

        space, config = search_of(job_kind, written, seed=seed, segments=segments)
        return cls(param_space=space, tune_config=config)

    @property
    def objectives(self) -> Objectives:
        """Metric -> "min" or "max": of a searcher with several metrics of its own, as Optuna's may
        have, or else the metric of `tune_config`."""
        searcher: Any = self.tune_config.search_alg
        if isinstance(getattr(searcher, "metric", None), list):
            return dict(zip(searcher.metric, searcher.mode, strict=True))
        return {str(self.tune_config.metric): str(self.tune_config.mode)}

    @property
    def grid_points(self) -> int:
        """Combinations of the space's `tune.grid_search` values. Tune draws a sample for each."""
        from ray.tune.search.variant_generator import parse_spec_vars

        _, _, grids = parse_spec_vars(self.param_space)
        return math.prod(len(values) for _, values in grids)

    @property
    def planned_trials(self) -> int | None:
        """The number of trials; None if the samples go on until the search is stopped (-1)."""
        samples = self.tune_config.num_samples
        return samples * self.grid_points if samples >= 0 else None

    def trials_at_once(self, nodes: int) -> int:
        """The number of trials that can start together on `nodes`. At least one: volunteers may
        join later."""
        limits = (self.tune_config.max_concurrent_trials, self.planned_trials)
        return max(1, min([nodes, *(limit for limit in limits if limit)]))

    def check(self) -> None:
        metric, mode = self.tune_config.metric, self.tune_config.mode
        if not metric or mode not in ("min", "max"):
            raise UsageError("tune_config needs a metric and a mode ('min' or 'max')")
        if self.objectives.get(metric) != mode:
            known = ", ".join(f"{name} ({mode})" for name, mode in self.objectives.items())
            raise UsageError(
                f"tune_config names {metric} ({mode}), which is no objective of its searcher: "
                f"choose from {known}"
            )

    def sample_config(self) -> dict[str, Any]:
        """A point of the search space: as Tune resolves it, or as a searcher with a space of its
        own suggests it.

        Raises `UsageError` if the searcher suggests nothing."""
        from ray.tune.search import Searcher
        from ray.tune.search.variant_generator import generate_variants, parse_spec_vars

        searcher = self.tune_config.search_alg
        _, domains, grids = parse_spec_vars(self.param_space)
        if isinstance(searcher, Searcher) and not domains and not grids:
            return {**self.param_space, **self._suggested(searcher)}
        _, point = next(generate_variants({"config": self.param_space}))
        return point["config"]

    def _suggested(self, searcher: Any) -> dict[str, Any]:
        """What a copy of the searcher suggests first. The searcher itself does not change."""
        asked = copy.deepcopy(searcher)
        try:
            asked.set_search_properties(
                self.tune_config.metric, self.tune_config.mode, self.param_space
            )
            suggested = asked.suggest("sample")
        except (RuntimeError, ValueError, TypeError) as error:
            raise UsageError(f"the searcher suggests no config: {error}") from None
        if not isinstance(suggested, dict):
            raise UsageError(
                "the searcher suggests no config: give it a space, or fill `param_space`"
            )
        return suggested

    @property
    def needed_metrics(self) -> tuple[str, ...]:
        return tuple(self.objectives)

    def estimate(self, timing: Timing, pool: Pool) -> tuple[JobSize, Pool]:
        """Every trial runs to its end and takes as long as the timed one."""
        trials = self.grid_points if self.planned_trials is None else self.planned_trials
        size = JobSize(
            tasks=trials,
            segments=timing.segments,
            reference_s=timing.segment_steps * timing.step_s + timing.end_s,
            at_once=self.tune_config.max_concurrent_trials or trials,
            paid=trials * timing.segments,
        )
        return size, pool

    def run(self, context: "JobContext") -> "JobSummary":
        from workloads.ray_jobs.search.tune.run_search import run_search

        return run_search(self, context)
