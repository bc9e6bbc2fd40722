"""What may pass between a job's trials and the user's searcher and scheduler. Plain: no Ray.

Two rules. No metric passes whose receipt does not check. No searcher hears of a trial's end before
every segment that it stands on is judged, and no trial is complete before the search is: then all
trials that lead are audited whole. A trial that a ruling takes states from, at any time
until then, goes back to work at its last good one; if it was the leader, the next one is audited.

A driver that dies is started again: tasks, attempts and configs are taken from the authority, what
trials wait for from what Tune saved.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.records import BadRecord, from_json
from ledger.client import check_receipt
from workloads.core.objectives import Objectives, leaders


class Driver(Protocol):
    """What the gate asks of the job's driver."""

    def start_task(
        self, *, task: str, trial: str, config: dict[str, Any], attempt: int
    ) -> None: ...
    def finish_task(self, task: str) -> None: ...
    def harden(self, tasks: list[str]) -> None: ...
    def tasks(self) -> dict[str, dict[str, Any]]: ...
    def config_of(self, spec: str) -> dict[str, Any]: ...


class Judgement(Enum):
    """What to do with a trial that stands at its end."""

    WAIT = auto()
    KEEP = auto()
    """Judged, for the first time: the searcher may know. Until the end it can still fall."""
    RELEASE = auto()
    RERUN = auto()


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
    hardened: bool = False

    @property
    def task(self) -> str:
        """`t007`; with a number behind it once the trial's config was changed (PBT)."""
        return f"t{self.number:03d}" + (f".{self.revision}" if self.revision else "")


class Gate:
    """State of all trials of one job."""

    def __init__(
        self,
        *,
        job: str,
        network_key: bytes,
        genesis: str,
        driver: Driver,
        objectives: Objectives,
    ) -> None:
        self._job, self._network_key, self._genesis = job, network_key, genesis
        self._driver, self._objectives = driver, objectives
        self._trials: dict[str, _Trial] = {}
        self._flushed = False

    def resume(self) -> None:
        """Take up the tasks that an earlier driver of this job has begun, and have what waits for
        a draw drawn: its trials cannot go on before."""
        for name, task in self._driver.tasks().items():
            number, _, revision = name.removeprefix("t").partition(".")
            begun = _Trial(
                number=int(number),
                revision=int(revision or 0),
                attempt=task["attempt"],
                config=self._driver.config_of(task["spec"]),
            )
            known = self._trials.setdefault(task["trial"], begun)
            if known.revision < begun.revision:
                self._trials[task["trial"]] = begun
        if self._trials:
            self._driver.harden([])

    def memory(self) -> dict[str, Any]:
        """What the authority does not know of the trials, as plain data, for `remember`."""
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
        """Go on with an earlier `memory`, but for trials that were started again after it."""
        for name, kept in memory.items():
            trial = self._trials.get(name)
            if trial is None or (trial.task, trial.attempt) != tuple(kept["start"]):
                continue
            trial.segment, trial.values = kept["segment"], kept["values"]
            trial.held, trial.judged = kept["held"], kept["judged"]

    def started(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """A trial begins to run somewhere: its task's next attempt."""
        plain = {name: _plain(value) for name, value in config.items()}
        trial = self._trials.get(trial_id)
        if trial is None:
            trial = self._trials[trial_id] = _Trial(number=len(self._trials), config=plain)
        elif trial.config != plain:
            self._driver.finish_task(trial.task)
            trial.config, trial.attempt = plain, -1
            trial.revision += 1
        trial.attempt += 1
        trial.held = trial.judged = trial.hardened = False
        self._driver.start_task(
            task=trial.task, trial=trial_id, config=trial.config, attempt=trial.attempt
        )

    def check(self, trial_id: str, result: Mapping[str, Any], leaf: Any, receipt: Any) -> str:
        """Why this result must not pass; empty if its receipt stands for exactly these metrics.

        An empty receipt is one that got lost with a node or a driver: then the leaf must be the one
        that the authority shows as the task's last, judged one."""
        trial = self._trials.get(trial_id)
        if trial is None:
            return "the trial was never started"
        try:
            slot = from_json(Slot, {key: leaf[key] for key in Slot.__slots__})
        except (TypeError, KeyError, BadRecord) as error:
            return f"no valid leaf: {error}"
        if receipt == {}:
            if self._driver.tasks().get(trial.task, {}).get("leaf") != leaf:
                return "no receipt, and the authority knows no such end of the task"
        elif problem := self._check_receipt(trial, slot, leaf, receipt):
            return problem
        values = {name: leaf["metrics"].get(name) for name in self._objectives}
        for name, value in values.items():
            if type(value) not in (int, float) or not math.isfinite(value):
                return f"the receipt has no {name}"
        if any(result.get(name) != value for name, value in leaf["metrics"].items()):
            return "the metrics are not those of the receipt"
        trial.segment, trial.values = slot.segment, values
        return ""

    def _check_receipt(self, trial: _Trial, slot: Slot, leaf: Any, receipt: Any) -> str:
        try:
            body = check_receipt(receipt, self._network_key)
        except (ValueError, TypeError, KeyError) as error:
            return f"no valid receipt: {error}"
        acknowledged = any(
            (event["type"], event.get("slot"), event.get("leaf"))
            == ("SlotCommitted", str(slot), leaf)
            for event in body["events"]
        )
        if body["network"] != self._genesis or not acknowledged:
            return "the receipt is for something else"
        if (slot.job, slot.task, slot.attempt) != (self._job, trial.task, trial.attempt):
            return "the receipt is for another task or attempt"
        return ""

    def hold(self, trial_id: str) -> None:
        """The trial stands at its end; `judge` says when it is over."""
        self._trials[trial_id].held = True
        self._flushed = False

    def ended(self, trial_id: str) -> None:
        """The trial is over for other reasons, an error for one."""
        if (trial := self._trials.get(trial_id)) is not None:
            self._driver.finish_task(trial.task)
            trial.held = False

    @property
    def held(self) -> list[str]:
        """Trials that wait for a judgement."""
        return [name for name, trial in self._trials.items() if trial.held]

    def values(self, trial_id: str) -> dict[str, float] | None:
        """A trial's last acknowledged value of each objective."""
        trial = self._trials.get(trial_id)
        return None if trial is None else trial.values

    def judge(self, names: list[str], *, is_idle: bool, is_over: bool) -> dict[str, Judgement]:
        """What to do with each of these held trials.

        `is_idle`: nothing else runs, so what waits may be drawn now. `is_over`: the search has no
        more trials to begin; then, and only then, who leads is audited whole and all are released.
        """
        if not names:
            return {}
        tasks = self._driver.tasks()
        judged = {name: self._judge_one(self._trials[name], tasks) for name in names}
        if not is_idle or Judgement.RERUN in judged.values():
            return judged
        if not all(self._trials[name].judged for name in names):
            if not self._flushed:
                self._flushed = True
                self._driver.harden([])
            return judged
        if is_over and self._leaders_stand(names, tasks):
            for name in names:
                self._trials[name].held = False
            return dict.fromkeys(names, Judgement.RELEASE)
        return judged

    def _judge_one(self, trial: _Trial, tasks: Mapping[str, Mapping[str, Any]]) -> Judgement:
        task = tasks[trial.task]
        if task["good"] <= trial.segment:
            trial.held, trial.values = False, None
            return Judgement.RERUN
        if trial.judged or task["unjudged"]:
            return Judgement.WAIT
        trial.judged = True
        self._driver.finish_task(trial.task)
        return Judgement.KEEP

    def _leaders_stand(self, names: list[str], tasks: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether every segment of the trials that lead was audited; has them drawn if not.

        Several trials may share the best value: which of them Tune calls the best is Tune's affair.
        """
        values = {name: found for name in names if (found := self.values(name)) is not None}
        leading = [self._trials[name] for name in leaders(values, self._objectives)]
        missing = [leader for leader in leading if tasks[leader.task]["unaudited"]]
        if fresh := [leader for leader in missing if not leader.hardened]:
            self._driver.harden([leader.task for leader in fresh])
            for leader in fresh:
                leader.hardened = True
        return not missing


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers, tuples as the lists that JSON makes of them."""
    if isinstance(value, tuple):
        return list(value)
    return value.item() if hasattr(value, "item") else value
