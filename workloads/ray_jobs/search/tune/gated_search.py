"""Tune's hooks on a `Gate`: a searcher, a scheduler and a callback around the user's own.

The user's searcher and scheduler see what they would see in bare Tune, only less of it: nothing
without a receipt, and no end of a trial before it is judged. A trial at its end is paused, which
frees its node, until the search is over and the gate releases it, or sends it back to work.

All of it survives the driver: Tune saves it with the run, before a new trial begins to work and at
least every few seconds, and `tune.Tuner.restore` gives it to the hooks of the next driver. What is
acknowledged in between is not lost to the books: a trial goes on where the authority says.

Not covered: a rung that ASHA filled with a value which later proves forged keeps that value; the
trial itself is run again.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from workloads.ray_jobs.search.core.gate import Gate, Judgement
from workloads.ray_jobs.search.tune.inline_checkpoint import inline_checkpoint_at
from workloads.ray_jobs.search.tune.saved_scheduler import load_scheduler, save_scheduler
from workloads.ray_jobs.search.tune.trainable import IS_LAST, LEAF, RECEIPT
from workloads.ray_jobs.search.tune.trial_errors import TrialErrors

JUDGE_EVERY_S = 0.2
SAVE_EVERY_S = 2.0
SAVE_SHARE = 0.1
"""The most of the driver's time that saving takes, new trials apart."""


class GatedSearcher(Searcher):
    """Suggests what the user's searcher suggests; at most `max_concurrent` trials work at once.

    Trials that only wait for a judgement do not count: their nodes are free.
    """

    def __init__(self, searcher: Searcher, gate: Gate, max_concurrent: int | None) -> None:
        self.searcher = searcher
        self._gate = gate
        self._max_concurrent = max_concurrent
        self._open: set[str] = set()
        self._reported: dict[str, int] = {}
        super().__init__(metric=searcher.metric, mode=searcher.mode)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        if isinstance(self.searcher.metric, list):
            metric = mode = None  # it knows its own; Tune's are what people are shown
        done = self.searcher.set_search_properties(metric, mode, config, **spec)
        self._metric, self._mode = self.searcher.metric, self.searcher.mode
        return done

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        working = len(self._open.difference(self._gate.held))
        if self._max_concurrent is not None and working >= self._max_concurrent:
            return None
        config = self.searcher.suggest(trial_id)
        if isinstance(config, dict):
            self._open.add(trial_id)
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        # A trial that is run again repeats iterations, and a searcher hears of each once.
        iteration = result["training_iteration"]
        if trial_id in self._open and iteration > self._reported.get(trial_id, 0):
            self._reported[trial_id] = iteration
            self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # Told once, when the trial is judged; Tune says it again when it stops the paused trial.
        if trial_id not in self._open:
            return
        self._open.discard(trial_id)
        known = None if error else self._gate.values(trial_id)
        self.searcher.on_trial_complete(trial_id, known, error)

    def get_state(self) -> dict[str, Any]:
        return {"open": sorted(self._open), "reported": dict(self._reported)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._open, self._reported = set(state["open"]), dict(state["reported"])

    def save(self, checkpoint_path: str) -> None:
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self.searcher.restore(checkpoint_path)


class _Visible:
    """The controller as the user's scheduler sees it: without trials that wait for a judgement."""

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
    """Decides what the user's scheduler decides, on acknowledged results alone, and ends the whole
    search when the job cannot go on: `is_over` (its budget is spent). A stopper of Tune's would not
    do, because Tune restores a dead copy of it.

    After `set_state` the user's scheduler is the former driver's, as soon as Tune has added the
    trials that it knows."""

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
        self._asleep: dict[str, Trial | None] = {}
        """Trials that the user's scheduler has paused, if they still are; None before Tune has
        added them again."""
        self._former = b""
        self._has_new_trial = self._has_news = False
        self._next_save_s = 0.0

    def get_state(self) -> dict[str, Any]:
        """For `set_state` of the next driver's."""
        return {
            "kept": sorted(self._kept),
            "added": list(self._added),
            "asleep": sorted(
                name
                for name, trial in self._asleep.items()
                if trial is not None and trial.status == Trial.PAUSED
            ),
            "inner": self._former or save_scheduler(self._inner),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where a former driver's scheduler stood."""
        self._kept, self._former = set(state["kept"]), state["inner"]
        if self._former:
            self._added, self._asleep = list(state["added"]), dict.fromkeys(state["asleep"])
        else:
            print("the scheduler could not be saved and begins afresh", flush=True)

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
        if trial.trial_id in self._asleep:
            self._asleep[trial.trial_id] = trial
        if trial.status == Trial.PENDING and trial.trial_id in {*self._gate.held, *self._asleep}:
            # Restored: Tune would have it work, and it has nothing to do.
            trial.set_status(Trial.PAUSED)
        if not self._former:
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
            print(f"result of {trial.trial_id} not let through: {problem}", flush=True)
            self._rerun.append(trial.trial_id)
            return TrialScheduler.PAUSE
        self._has_news = True
        decision = self._inner.on_trial_result(self._seen(tune_controller), trial, result)
        if decision == TrialScheduler.STOP or result.get(IS_LAST):
            self._gate.hold(trial.trial_id)
            return TrialScheduler.PAUSE
        if decision == TrialScheduler.PAUSE:
            self._asleep[trial.trial_id] = trial
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._inner.on_trial_complete(self._seen(tune_controller), trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if trial.trial_id not in self._kept:  # else it was told of the end already
            self._inner.on_trial_remove(self._seen(tune_controller), trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        self._thaw(tune_controller)
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
        return f"{self._inner.debug_string()}; {len(self._gate.held)} wait for a judgement"

    def save(self, checkpoint_path: str) -> None:
        self._inner.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self._inner.restore(checkpoint_path)

    def _thaw(self, controller: Any) -> None:
        if not self._former:
            return
        trials = {trial.trial_id: trial for trial in controller.get_trials()}
        self._inner, self._former = load_scheduler(self._former, trials), b""
        for name, trial in trials.items():
            if name not in self._added and not trial.is_finished():
                self._add(controller, trial)

    def _save(self, controller: Any) -> None:
        """Have Tune save the run, if need be. Tune asks for a trial to run before it starts those
        that are new: none works that a next driver would not know."""
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
        # A trial is held before Tune has finished pausing it; it is judged when it stands still.
        paused = [name for name in self._gate.held if trials[name].status == Trial.PAUSED]
        active = (Trial.RUNNING, Trial.PENDING)
        is_idle = not any(trial.status in active for trial in trials.values())
        is_over = controller.search_alg.is_finished()
        judged = self._gate.judge(paused, is_idle=is_idle, is_over=is_over)
        for name, judgement in judged.items():
            self._carry_out(controller, trials[name], judgement)

    def _carry_out(self, controller: Any, trial: Trial, judgement: Judgement) -> None:
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


class GateCallback(Callback):
    """Registers every start of a trial, and keeps an eye on the job between steps. What Tune saves
    of it is what the gate and the scheduler would lose with the driver."""

    def __init__(
        self,
        gate: Gate,
        scheduler: GatedScheduler,
        complaints: TrialErrors,
        watch: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._gate, self._watch, self._clock = gate, watch, monotonic_s
        self._scheduler, self._complaints = scheduler, complaints
        self._next_watch_s = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._gate.started(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        self._complaints.worked()

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        if self._complaints.failed(trial):
            trial.max_failures = trial.run_metadata.num_failures

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._complaints.failed(trial)
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


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None
