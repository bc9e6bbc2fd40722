"""Tune's callback around a `Gate`: registers starts of trials, and saves the gate's state."""

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from workloads.ray_jobs.search.core.gate import Gate
from workloads.ray_jobs.search.tune.gated_scheduler import JUDGE_EVERY_S, GatedScheduler
from workloads.ray_jobs.search.tune.trial_errors import TrialErrors


class GateCallback(Callback):
    """Registers every start of a trial, and calls `watch` between Tune's steps.

    Tune saves and restores its state: what gate and scheduler would lose with the driver.
    `monotonic_s`: a clock in seconds."""

    def __init__(
        self,
        gate: Gate,
        scheduler: GatedScheduler,
        errors: TrialErrors,
        watch: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._gate, self._watch, self._clock = gate, watch, monotonic_s
        self._scheduler, self._errors = scheduler, errors
        self._next_watch_s = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._gate.started(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        self._errors.worked()

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        if self._errors.failed(trial):
            trial.max_failures = trial.run_metadata.num_failures

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._errors.failed(trial)
        if trial.status == Trial.ERROR:
            self._gate.ended(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        if self._clock() >= self._next_watch_s:
            self._next_watch_s = self._clock() + JUDGE_EVERY_S
            self._watch()

    def get_state(self) -> dict[str, Any]:
        return {"gate": self._gate.memory(), "scheduler": self._scheduler.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self._gate.remember(state["gate"])
        self._scheduler.set_state(state["scheduler"])
