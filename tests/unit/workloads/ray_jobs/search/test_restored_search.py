"""The next driver of a search restores the scheduler, the trials and Tune's saved state."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs
from ray import tune
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator

from workloads.ray_jobs.search.core.gate import Gate
from workloads.ray_jobs.search.tune.gated_scheduler import GatedScheduler
from workloads.ray_jobs.search.tune.inline_checkpoint import (
    inline_checkpoint,
    read_inline_checkpoint,
)
from workloads.ray_jobs.search.tune.run_search import has_saved_run
from workloads.ray_jobs.search.tune.saved_scheduler import load_scheduler, save_scheduler

METRIC, MODE = "value", "max"


class FakeGate(Gate):
    """A gate that passes everything. `held`: the trials that it was told to hold."""

    def __init__(self, *held: str) -> None:
        self._held = list(held)

    @property
    def held(self) -> list[str]:
        return self._held

    def hold(self, trial_id: str) -> None:
        self._held.append(trial_id)

    def check(self, trial_id: str, result: Any, leaf: Any, receipt: Any) -> str:
        return ""


class FakeController:
    """The part of Tune's controller that schedulers use."""

    def __init__(self, *trials: Trial) -> None:
        self.trials = list(trials)
        self.saves = 0
        self.is_stopping = False
        self.search_alg = BasicVariantGenerator()

    def get_trials(self) -> list[Trial]:
        return self.trials

    def checkpoint(self, *, force: bool, wait: bool) -> None:
        self.saves += 1

    def request_stop_experiment(self) -> None:
        self.is_stopping = True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def trial_of(name: str) -> Trial:
    return Trial("stub", trial_id=name, stub=True)


def gated(
    inner: TrialScheduler, *held: str, clock: Clock | None = None, is_over: bool = False
) -> GatedScheduler:
    scheduler = GatedScheduler(inner, FakeGate(*held), lambda: is_over, clock or Clock())
    scheduler.set_search_properties(METRIC, MODE)
    return scheduler


def report(scheduler: GatedScheduler, controller: FakeController, trial: Trial, at: int) -> str:
    result = {"training_iteration": at, METRIC: float(trial.trial_id)}
    return scheduler.on_trial_result(controller, trial, result)


def asha() -> ASHAScheduler:
    return ASHAScheduler(max_t=8, grace_period=2, reduction_factor=2)


def test_asha_continues_with_its_rungs() -> None:
    trials = [trial_of(name) for name in ("1", "2", "3")]
    controller, before = FakeController(*trials), gated(asha())
    for trial in trials:
        before.on_trial_add(controller, trial)
    for trial in trials[1:]:
        assert report(before, controller, trial, 2) == TrialScheduler.CONTINUE
    again = [trial_of(name) for name in ("1", "2", "3", "4")]
    controller, after = FakeController(*again), gated(asha())
    after.set_state(before.get_state())
    for trial in again:
        after.on_trial_add(controller, trial)
        trial.status = Trial.RUNNING
    after.choose_trial_to_run(controller)
    assert report(after, controller, again[0], 2) == TrialScheduler.PAUSE, "it is the worst of 3"
    assert report(after, controller, again[3], 2) == TrialScheduler.CONTINUE, "nobody knew it"


def test_a_restored_trial_that_waits_for_its_judgement_does_not_work_again() -> None:
    waiting, working = trial_of("1"), trial_of("2")
    scheduler = gated(FIFOScheduler(), "1")
    controller = FakeController(waiting, working)
    for trial in controller.trials:
        scheduler.on_trial_add(controller, trial)
    assert (waiting.status, working.status) == (Trial.PAUSED, Trial.PENDING)


def test_a_trial_that_the_users_scheduler_paused_stays_so() -> None:
    class Sleepy(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Trial, result: Any) -> str:
            return TrialScheduler.PAUSE

    trials = [trial_of("1"), trial_of("2")]
    before = gated(Sleepy())
    for trial in trials:
        before.on_trial_add(FakeController(), trial)
        report(before, FakeController(), trial, 1)
    trials[0].status = Trial.PAUSED
    trials[1].status = Trial.PENDING  # the scheduler has resumed it
    again, after = [trial_of("1"), trial_of("2")], gated(FIFOScheduler())
    after.set_state(before.get_state())
    for trial in again:
        after.on_trial_add(FakeController(), trial)
    assert [trial.status for trial in again] == [Trial.PAUSED, Trial.PENDING]
    assert after.get_state()["paused"] == ["1"]


def test_a_restored_checkpoint_has_its_content_again() -> None:
    trial, controller = trial_of("1"), FakeController()
    path = inline_checkpoint({"trial": "1", "state": "5a"}).path
    elsewhere = tune.Checkpoint(path, fs.LocalFileSystem())
    trial.run_metadata.checkpoint_manager.register_checkpoint(
        _TrainingResult(checkpoint=elsewhere, metrics={})
    )
    gated(FIFOScheduler()).on_trial_add(controller, trial)
    assert trial.checkpoint is not None
    with trial.checkpoint.as_directory() as folder:
        assert read_inline_checkpoint(folder) == {"trial": "1", "state": "5a"}


def test_the_search_is_saved_before_a_new_trial_runs_and_periodically() -> None:
    clock, trial = Clock(), trial_of("1")
    scheduler, controller = gated(FIFOScheduler(), clock=clock), FakeController(trial)
    scheduler.choose_trial_to_run(controller)
    assert controller.saves == 0
    trial.status = Trial.RUNNING
    scheduler.on_trial_add(controller, trial)
    scheduler.choose_trial_to_run(controller)
    assert controller.saves == 1
    report(scheduler, controller, trial, 1)
    scheduler.choose_trial_to_run(controller)
    assert controller.saves == 1, "not for every result"
    clock.now_s += 10
    for _ in range(2):
        scheduler.choose_trial_to_run(controller)
    assert controller.saves == 2


@pytest.mark.parametrize("is_over", [False, True])
def test_a_job_that_cannot_continue_ends_its_search(is_over: bool) -> None:
    controller = FakeController()
    gated(FIFOScheduler(), is_over=is_over).choose_trial_to_run(controller)
    assert controller.is_stopping == is_over


def test_trials_are_frozen_as_their_ids() -> None:
    scheduler, trial = HyperBandScheduler(metric=METRIC, mode=MODE), trial_of("1")
    scheduler.on_trial_add(FakeController(trial), trial)
    other = trial_of("1")
    again = load_scheduler(save_scheduler(scheduler), {"1": other})
    assert isinstance(again, HyperBandScheduler)
    assert list(again._trial_info) == [other]
    with pytest.raises(KeyError):
        load_scheduler(save_scheduler(scheduler), {})


def test_a_scheduler_that_cannot_be_pickled_starts_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Odd(FIFOScheduler):
        def __init__(self) -> None:
            super().__init__()
            self.generator = (number for number in range(3))

    assert save_scheduler(Odd()) == b""
    trial, after = trial_of("1"), gated(asha())
    after.set_state(gated(Odd()).get_state())
    assert "afresh" in capsys.readouterr().out
    controller = FakeController(trial)
    after.on_trial_add(controller, trial)
    assert report(after, controller, trial, 1) == TrialScheduler.CONTINUE


def test_a_saved_run_has_trials_and_is_whole(tmp_path: Path) -> None:
    storage = (fs.LocalFileSystem(), str(tmp_path))
    folder = tmp_path / "job-1"
    assert not has_saved_run(storage, "job-1")
    folder.mkdir()
    (folder / "tuner.pkl").write_bytes(b"")
    (folder / "experiment_state-2026-01-01.json").write_text('{"trial_data": []}')
    assert not has_saved_run(storage, "job-1")
    (folder / "experiment_state-2026-01-02.json").write_text('{"trial_data": [["{}", "{}"]]}')
    assert has_saved_run(storage, "job-1")
    (folder / "experiment_state-2026-01-03.json").write_text('{"trial_data": [["{')
    assert not has_saved_run(storage, "job-1")
