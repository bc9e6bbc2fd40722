"""Decides which results and ends of trials reach the user's searcher and scheduler. Imports no Ray.

1. Tune's scheduler sees a metric only with a valid receipt.
2. The searcher gets a trial's end once all segments of the trial's chain are judged.
3. A trial is complete only when the search is over. Then every leading trial gets a full audit.

A ruling can take states from a trial at any time before that. The trial then runs again from its
last good state; if it was leading, the next leading trial gets the full audit.

A restarted driver takes tasks, attempts and configs from the authority, and the rest from the state
that Tune saved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.queries.rows import TaskRow
from ledger.client import check_receipt
from workloads.core.objectives import Objectives, leaders
from workloads.core.task_spec import TaskSpec, plain_config
from workloads.ray_jobs.kind.context import Driver


class Judgement(Enum):
    """The decision about a trial that is held at its end."""

    WAIT = auto()
    """It has segments that are not judged, or the search is not over."""
    KEEP = auto()
    """All its segments are judged now, and good: tell the searcher. A later ruling can still take
    segments from it."""
    RELEASE = auto()
    """The search is over and this end is final."""
    RERUN = auto()
    """It lost segments: run it again from its last good state."""


@dataclass(slots=True, kw_only=True)
class _Trial:
    number: int
    config: dict[str, Any]
    revision: int = 0
    attempt: int = -1
    segment: int = -1
    values: dict[str, float] | None = None
    held: bool = False
    judged: bool = False
    fully_audited: bool = False
    """Whether the full audit was requested."""

    @property
    def task(self) -> str:
        """The task's name: `t007`; `t007.1` after the first change of the trial's config (PBT)."""
        return f"t{self.number:03d}" + (f".{self.revision}" if self.revision else "")


class Gate:
    """State of all trials of one job. `template`: the job's task spec without task and config."""

    def __init__(
        self,
        *,
        template: TaskSpec,
        job: str,
        network_key: bytes,
        genesis: str,
        driver: Driver,
        objectives: Objectives,
    ) -> None:
        self._template, self._job = template, job
        self._network_key, self._genesis = network_key, genesis
        self._driver, self._objectives = driver, objectives
        self._trials: dict[str, _Trial] = {}
        self._flushed = False

    def resume(self) -> None:
        """Take over the tasks that an earlier driver of this job has started.

        Flushes open batches: the trials cannot continue before their segments are judged."""
        for name, task in self._driver.tasks().items():
            number, _, revision = name.removeprefix("t").partition(".")
            begun = _Trial(
                number=int(number),
                revision=int(revision or 0),
                attempt=task.attempt,
                config=self._driver.config_of(task.spec),
            )
            known = self._trials.setdefault(task.trial, begun)
            if known.revision < begun.revision:
                self._trials[task.trial] = begun
        if self._trials:
            self._driver.flush()

    def memory(self) -> dict[str, Any]:
        """The part of the trials' state that the authority does not have, as JSON values."""
        return {
            name: {
                "start": (trial.task, trial.attempt),
                "segment": trial.segment,
                "values": trial.values,
                "held": trial.held,
                "judged": trial.judged,
            }
            for name, trial in self._trials.items()
        }

    def remember(self, memory: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what `memory` gave, except for trials that have started again since."""
        for name, kept in memory.items():
            trial = self._trials.get(name)
            if trial is None or (trial.task, trial.attempt) != tuple(kept["start"]):
                continue
            trial.segment, trial.values = kept["segment"], kept["values"]
            trial.held, trial.judged = kept["held"], kept["judged"]

    def started(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Tune starts a trial on a node. Starts the next attempt of its task.

        A new config (PBT) ends the trial's task and starts another one."""
        plain = plain_config(config)
        trial = self._trials.get(trial_id)
        if trial is None:
            trial = self._trials[trial_id] = _Trial(number=len(self._trials), config=plain)
        elif trial.config != plain:
            self._driver.finish_task(trial.task)
            trial.config, trial.attempt = plain, -1
            trial.revision += 1
        trial.attempt += 1
        trial.held = trial.judged = trial.fully_audited = False
        spec = replace(self._template, task=trial.task, config=trial.config)
        self._driver.start_task(spec, trial=trial_id, attempt=trial.attempt)

    def check(self, trial_id: str, result: Mapping[str, Any], leaf: Any, receipt: Any) -> str:
        """The reason to reject a result; empty if its receipt proves exactly these metrics.

        `leaf`, `receipt`: JSON values from a node, not trusted. A node sends an empty receipt if
        the real one was lost with a node or a driver. Then the leaf must be the authority's last
        judged leaf of the task."""
        trial = self._trials.get(trial_id)
        if trial is None:
            return "the trial was never started"
        try:
            reported = Leaf.parse(leaf)
        except ValueError as error:
            return f"no valid leaf: {error}"
        if receipt == {}:
            known = self._driver.tasks().get(trial.task)
            if known is None or known.leaf != reported:
                return "no receipt, and the authority knows no such end of the task"
        elif problem := self._check_receipt(trial, reported, receipt):
            return problem
        for name in self._objectives:
            if name not in reported.metrics:
                return f"the receipt has no {name}"
        if any(result.get(name) != value for name, value in reported.metrics.items()):
            return "the metrics are not those of the receipt"
        trial.segment = reported.segment
        trial.values = {name: reported.metrics[name] for name in self._objectives}
        return ""

    def _check_receipt(self, trial: _Trial, leaf: Leaf, receipt: Any) -> str:
        try:
            body = check_receipt(receipt, self._network_key)
        except (ValueError, TypeError, KeyError) as error:
            return f"no valid receipt: {error}"
        acknowledged = any(
            (event["type"], event.get("slot"), event.get("leaf"))
            == ("SlotCommitted", str(leaf.slot), leaf.to_json())
            for event in body["events"]
        )
        if body["network"] != self._genesis or not acknowledged:
            return "the receipt is for something else"
        if (leaf.job, leaf.task, leaf.attempt) != (self._job, trial.task, trial.attempt):
            return "the receipt is for another task or attempt"
        return ""

    def hold(self, trial_id: str) -> None:
        """The trial is at its end and waits for `judge`."""
        self._trials[trial_id].held = True
        self._flushed = False

    def ended(self, trial_id: str) -> None:
        """The trial ended with an error."""
        if (trial := self._trials.get(trial_id)) is not None:
            self._driver.finish_task(trial.task)
            trial.held = False

    @property
    def held(self) -> list[str]:
        """Trials that wait at their end."""
        return [name for name, trial in self._trials.items() if trial.held]

    def values(self, trial_id: str) -> dict[str, float] | None:
        """Objective -> the trial's last acknowledged value; None before there is one."""
        trial = self._trials.get(trial_id)
        return None if trial is None else trial.values

    def judge(self, names: list[str], *, is_idle: bool, is_over: bool) -> dict[str, Judgement]:
        """The decision about each of these held trials.

        `is_idle`: no trial runs, so open batches may be flushed. `is_over`: the search has no more
        trials to start. Only then the leading trials get their full audit, and all are released,
        each after its `KEEP`.
        """
        if not names:
            return {}
        tasks = self._driver.tasks()
        judged = {name: self._judge_one(self._trials[name], tasks) for name in names}
        if not is_idle or Judgement.RERUN in judged.values():
            return judged
        stands = is_over and self._leaders_stand(names, tasks)
        if not all(self._trials[name].judged for name in names):
            if not self._flushed:
                self._flushed = True
                self._driver.flush()
            return judged
        if stands and Judgement.KEEP not in judged.values():
            for name in names:
                self._trials[name].held = False
            return dict.fromkeys(names, Judgement.RELEASE)
        return judged

    def _judge_one(self, trial: _Trial, tasks: Mapping[str, TaskRow]) -> Judgement:
        task = tasks[trial.task]
        if task.good <= trial.segment:
            trial.held, trial.values = False, None
            return Judgement.RERUN
        if trial.judged or task.unjudged:
            return Judgement.WAIT
        trial.judged = True
        self._driver.finish_task(trial.task)
        return Judgement.KEEP

    def _leaders_stand(self, names: list[str], tasks: Mapping[str, TaskRow]) -> bool:
        """Whether every segment of each leading trial is audited. Requests the full audit if not:
        also while drawn segments wait for their verdicts, so that all replays run together.

        Trials that share the best value all lead: Tune may report any one of them as the best."""
        values = {name: found for name in names if (found := self.values(name)) is not None}
        leading = [self._trials[name] for name in leaders(values, self._objectives)]
        missing = [leader for leader in leading if tasks[leader.task].unaudited]
        if fresh := [leader for leader in missing if not leader.fully_audited]:
            self._driver.full_audit([leader.task for leader in fresh])
            for leader in fresh:
                leader.fully_audited = True
        return not missing
