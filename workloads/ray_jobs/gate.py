"""What may pass between a job's trials and the user's searcher and scheduler. Plain: no Ray.

Two rules. No metric passes whose receipt does not check. No trial is complete before every segment
that it stands on is judged; and a trial that leads the search is audited whole before it may.
A trial that a ruling takes states from goes back to work at its last good one.
"""

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
        self._best: float | None = None
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
        trial.held = trial.hardened = False
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
        if any(result.get(name) != value for name, value in leaf["metrics"].items()):
            return "the metrics are not those of the receipt"
        trial.segment = slot.segment
        if self._metric in leaf["metrics"]:
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

    def judge(self, names: list[str], *, is_idle: bool) -> dict[str, Judgement]:
        """What to do with each of these held trials. `is_idle`: nothing else runs, so draw now."""
        if not names:
            return {}
        tasks = self._driver.tasks()
        judged = {
            name: self._judge_one(self._trials[name], tasks[self._trials[name].task])
            for name in names
        }
        waits = all(one is Judgement.WAIT for one in judged.values())
        if is_idle and waits and not self._flushed:
            self._flushed = True
            self._driver.harden([])
        return judged

    def _judge_one(self, trial: _Trial, task: Mapping[str, Any]) -> Judgement:
        if task["good"] <= trial.segment:
            trial.held, trial.value = False, None
            return Judgement.RERUN
        if task["unjudged"]:
            return Judgement.WAIT
        score = None if trial.value is None else self._sign * trial.value
        leads = score is not None and (self._best is None or score > self._best)
        if leads and task["unaudited"]:
            if not trial.hardened:
                trial.hardened = True
                self._driver.harden([trial.task])
            return Judgement.WAIT
        if leads:
            self._best = score
        trial.held = False
        self._driver.finish_task(trial.task)
        return Judgement.RELEASE


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers; everything else as it is."""
    return value.item() if hasattr(value, "item") else value
