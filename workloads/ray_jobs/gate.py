"""What may pass between a job's trials and the user's searcher and scheduler. Plain: no Ray.

Two rules. No metric passes whose receipt does not check. No searcher hears of a trial's end before
every segment that it stands on is judged, and no trial is complete before the search is: then all
trials with the best value are audited whole. A trial that a ruling takes states from, at any time
until then, goes back to work at its last good one; if it was the leader, the next one is audited.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.records import BadRecord, from_json
from ledger.client import check_receipt


class Driver(Protocol):
    """What the gate asks of the job's driver."""

    def start_task(
        self, *, task: str, trial: str, config: dict[str, Any], attempt: int
    ) -> None: ...
    def finish_task(self, task: str) -> None: ...
    def harden(self, tasks: list[str]) -> None: ...
    def tasks(self) -> dict[str, dict[str, Any]]: ...


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
    value: float | None = None
    held: bool = False
    judged: bool = False
    hardened: bool = False

    @property
    def task(self) -> str:
        """`t007`; with a number behind it once the trial's config was changed (PBT)."""
        return f"t{self.number:03d}" + (f".{self.revision}" if self.revision else "")


class Gate:
    """State of all trials of one job. `higher_is_better` is the sense of `metric`."""

    def __init__(
        self,
        *,
        job: str,
        network_key: bytes,
        genesis: str,
        driver: Driver,
        metric: str,
        higher_is_better: bool,
    ) -> None:
        self._job, self._network_key, self._genesis = job, network_key, genesis
        self._driver, self._metric = driver, metric
        self._sign = 1.0 if higher_is_better else -1.0
        self._trials: dict[str, _Trial] = {}
        self._flushed = False

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
        """Why this result must not pass; empty if its receipt stands for exactly these metrics."""
        trial = self._trials.get(trial_id)
        if trial is None:
            return "the trial was never started"
        try:
            body = check_receipt(receipt, self._network_key)
            slot = from_json(Slot, {key: leaf[key] for key in Slot.__slots__})
        except (ValueError, TypeError, KeyError, BadRecord) as error:
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
        value = leaf["metrics"].get(self._metric)
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"the receipt has no {self._metric}"
        if any(result.get(name) != value for name, value in leaf["metrics"].items()):
            return "the metrics are not those of the receipt"
        trial.segment = slot.segment
        trial.value = leaf["metrics"][self._metric]
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

    def value(self, trial_id: str) -> float | None:
        """A trial's last acknowledged value of the metric."""
        trial = self._trials.get(trial_id)
        return None if trial is None else trial.value

    def judge(self, names: list[str], *, is_idle: bool, is_over: bool) -> dict[str, Judgement]:
        """What to do with each of these held trials.

        `is_idle`: nothing else runs, so what waits may be drawn now. `is_over`: the search has no
        more trials to begin; then, and only then, the leader is audited whole and all are released.
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
            trial.held, trial.value = False, None
            return Judgement.RERUN
        if trial.judged or task["unjudged"]:
            return Judgement.WAIT
        trial.judged = True
        self._driver.finish_task(trial.task)
        return Judgement.KEEP

    def _leaders_stand(self, names: list[str], tasks: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether every segment of the best trials was audited; has them drawn if not.

        Several trials may share the best value: which of them Tune calls the best is Tune's affair.
        """
        values = {
            name: self._sign * value for name in names if (value := self.value(name)) is not None
        }
        leaders = [
            self._trials[name] for name, value in values.items() if value == max(values.values())
        ]
        missing = [leader for leader in leaders if tasks[leader.task]["unaudited"]]
        if fresh := [leader for leader in missing if not leader.hardened]:
            self._driver.harden([leader.task for leader in fresh])
            for leader in fresh:
                leader.hardened = True
        return not missing


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers; everything else as it is."""
    return value.item() if hasattr(value, "item") else value
