"""A scheduler around the user's own, which decides on acknowledged and judged results only.

The user's scheduler sees what it sees in bare Tune, without results that have no receipt, and
without the end of a trial before it is judged. A trial at its end is paused, which frees its node,
until the search is over and the gate releases it, or until the gate has it run again.

Tune saves the state of these hooks with the run: before a new trial starts, and every few seconds.
`tune.Tuner.restore` passes it to the hooks of the next driver. Results that were acknowledged after
the last save are kept by the authority, and the trial continues from them.

Not covered: a rung that ASHA filled with a value which later proves forged keeps that value. The
trial itself is run again.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from workloads.ray_jobs.search.core.gate import Gate, Judgement
from workloads.ray_jobs.search.core.result_keys import IS_LAST, LEAF, RECEIPT
from workloads.ray_jobs.search.tune.inline_checkpoint import inline_checkpoint_at
from workloads.ray_jobs.search.tune.saved_scheduler import load_scheduler, save_scheduler

JUDGE_EVERY_S = 0.2
SAVE_EVERY_S = 2.0
SAVE_SHARE = 0.1
"""Largest share of the driver's time for saving, without the saves before new trials."""


class _Visible:
    """Tune's controller without the trials that wait at their end. The user's scheduler gets it."""

    def __init__(self, controller: Any, gate: Gate) -> None:
        self._controller = controller
        self._gate = gate

    def get_trials(self) -> list[Trial]:
        held = set(self._gate.held)
        return [trial for trial in self._controller.get_trials() if trial.trial_id not in held]

    def get_live_trials(self) -> list[Trial]:
        held = set(self._gate.held)
        return [trial for trial in self._controller.get_live_trials() if trial.trial_id not in held]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)


class GatedScheduler(TrialScheduler):
    """Decides like the user's scheduler, on acknowledged results only.

    `is_over`: ends the whole search, for instance when the budget is spent. (A stopper of Tune's
    cannot do this: Tune restores an old copy of it.) `monotonic_s`: a clock in seconds.

    After `set_state` the former driver's scheduler takes over, as soon as Tune has added the trials
    that it refers to."""

    def __init__(
        self,
        scheduler: TrialScheduler,
        gate: Gate,
        is_over: Callable[[], bool],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._inner = scheduler
        self._gate = gate
        self._is_over = is_over
        self._clock = monotonic_s
        self._next_judgement_s = 0.0
        self._rerun: list[str] = []
        self._kept: set[str] = set()
        self._added: list[str] = []
        self._paused_by_user: dict[str, Trial | None] = {}
        """Trials that the user's scheduler has paused; None before Tune has added them again."""
        self._saved_inner = b""
        """The former driver's scheduler, pickled, until its trials are there."""
        self._has_new_trial = self._has_news = False
        self._next_save_s = 0.0

    def get_state(self) -> dict[str, Any]:
        """The state for `set_state` of the next driver's scheduler."""
        return {
            "kept": sorted(self._kept),
            "added": list(self._added),
            "paused": sorted(
                name
                for name, trial in self._paused_by_user.items()
                if trial is not None and trial.status == Trial.PAUSED
            ),
            "inner": self._saved_inner or save_scheduler(self._inner),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a former driver's scheduler."""
        self._kept, self._saved_inner = set(state["kept"]), state["inner"]
        if self._saved_inner:
            self._added, self._paused_by_user = list(state["added"]), dict.fromkeys(state["paused"])
        else:
            print("the scheduler could not be saved and starts afresh", flush=True)

    @property
    def metric(self) -> str | None:
        return self._inner.metric

    @property
    def supports_buffered_results(self) -> bool:
        return False

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return self._inner.set_search_properties(metric, mode, **spec)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._has_new_trial = True
        saved = trial.latest_checkpoint_result
        if saved is not None and saved.checkpoint is not None:
            saved.checkpoint = inline_checkpoint_at(saved.checkpoint.path)
        if trial.trial_id in self._paused_by_user:
            self._paused_by_user[trial.trial_id] = trial
        paused = {*self._gate.held, *self._paused_by_user}
        if trial.status == Trial.PENDING and trial.trial_id in paused:
            # Tune restores it as pending, but it has nothing to run.
            trial.set_status(Trial.PAUSED)
        if not self._saved_inner:
            self._add(tune_controller, trial)

    def _add(self, controller: Any, trial: Trial) -> None:
        self._added.append(trial.trial_id)
        self._inner.on_trial_add(self._seen(controller), trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._inner.on_trial_error(self._seen(tune_controller), trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        problem = self._gate.check(
            trial.trial_id, result, _json(result.get(LEAF)), _json(result.get(RECEIPT))
        )
        if problem:
            print(f"result of {trial.trial_id} rejected: {problem}", flush=True)
            self._rerun.append(trial.trial_id)
            return TrialScheduler.PAUSE
        self._has_news = True
        decision = self._inner.on_trial_result(self._seen(tune_controller), trial, result)
        if decision == TrialScheduler.STOP or result.get(IS_LAST):
            self._gate.hold(trial.trial_id)
            return TrialScheduler.PAUSE
        if decision == TrialScheduler.PAUSE:
            self._paused_by_user[trial.trial_id] = trial
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._inner.on_trial_complete(self._seen(tune_controller), trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if trial.trial_id not in self._kept:  # a kept trial's end is reported already
            self._inner.on_trial_remove(self._seen(tune_controller), trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        self._load_saved(tune_controller)
        self._save(tune_controller)
        if self._is_over():
            tune_controller.request_stop_experiment()
        self._judge(tune_controller)
        waiting = [
            trial
            for trial in tune_controller.get_trials()
            if trial.trial_id in self._rerun and trial.status == Trial.PAUSED
        ]
        if waiting:
            self._rerun.remove(waiting[0].trial_id)
            return waiting[0]
        return self._inner.choose_trial_to_run(self._seen(tune_controller))

    def debug_string(self) -> str:
        return f"{self._inner.debug_string()}; {len(self._gate.held)} wait at their end"

    def save(self, checkpoint_path: str) -> None:
        self._inner.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self._inner.restore(checkpoint_path)

    def _load_saved(self, controller: Any) -> None:
        if not self._saved_inner:
            return
        trials = {trial.trial_id: trial for trial in controller.get_trials()}
        self._inner, self._saved_inner = load_scheduler(self._saved_inner, trials), b""
        for name, trial in trials.items():
            if name not in self._added and not trial.is_finished():
                self._add(controller, trial)

    def _save(self, controller: Any) -> None:
        """Have Tune save the run: before new trials start, and every few seconds with results.

        Tune asks for a trial to run before it starts new ones. So no trial runs that the saved
        state does not have."""
        begun = self._clock()
        if self._has_new_trial or (self._has_news and begun >= self._next_save_s):
            self._has_new_trial = self._has_news = False
            controller.checkpoint(force=True, wait=True)
            took = self._clock() - begun
            self._next_save_s = begun + took + max(SAVE_EVERY_S, took / SAVE_SHARE)

    def _seen(self, controller: Any) -> Any:
        return _Visible(controller, self._gate)

    def _judge(self, controller: Any) -> None:
        now = self._clock()
        if now < self._next_judgement_s:
            return
        self._next_judgement_s = now + JUDGE_EVERY_S
        trials: Mapping[str, Trial] = {t.trial_id: t for t in controller.get_trials()}
        # A trial is held before Tune has paused it, and judged afterwards.
        paused = [name for name in self._gate.held if trials[name].status == Trial.PAUSED]
        active = (Trial.RUNNING, Trial.PENDING)
        is_idle = not any(trial.status in active for trial in trials.values())
        is_over = controller.search_alg.is_finished()
        judged = self._gate.judge(paused, is_idle=is_idle, is_over=is_over)
        if Judgement.KEEP in judged.values():  # the last one kept may release all
            self._next_judgement_s = now
        for name, judgement in judged.items():
            self._apply(controller, trials[name], judgement)

    def _apply(self, controller: Any, trial: Trial, judgement: Judgement) -> None:
        self._has_news |= judgement is not Judgement.WAIT
        match judgement:
            case Judgement.KEEP:
                self._kept.add(trial.trial_id)
                seen = self._seen(controller)
                self._inner.on_trial_complete(seen, trial, trial.last_result)
                controller.search_alg.on_trial_complete(trial.trial_id, result=trial.last_result)
            case Judgement.RERUN:
                if trial.trial_id in self._kept:
                    self._kept.discard(trial.trial_id)
                    self._inner.on_trial_add(self._seen(controller), trial)
                self._rerun.append(trial.trial_id)
            case Judgement.RELEASE:
                controller.stop_trial(trial)
            case Judgement.WAIT:
                pass


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None
