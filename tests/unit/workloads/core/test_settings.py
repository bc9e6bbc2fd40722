"""A task that starts from another task's state trains with its own config's settings."""

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from gensyn_ray.domain.leaf import result_digest
from tests.kits.memory_store import ProgramStore
from tests.kits.replay_kit import request
from tests.kits.small_programs import Small
from verifier_actors.replay.replay import replay
from workloads.core.data_cache import DataCache
from workloads.core.program import Config
from workloads.core.rng import Rng
from workloads.core.segment import Computed, Runner
from workloads.core.state import State
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic


class Rates(Small):
    """Its metrics show the optimizer's settings. Config: `lr`, `momentum`, `schedule`, `gamma`."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=config["lr"], momentum=config["momentum"]
        )
        self.temperature, self.steps = float(config["lr"]), 0
        self.schedule: Any = None
        gamma = float(config.get("gamma", 0.5))
        match config.get("schedule"):
            case "lambda":
                self.schedule = lr_scheduler.LambdaLR(self.optimizer, lambda s: 1 / (1 + s))
            case "step":
                self.schedule = lr_scheduler.StepLR(self.optimizer, 3, gamma=gamma)
            case "sequence":
                constant = lr_scheduler.ConstantLR(self.optimizer, 0.5, total_iters=2)
                falling = lr_scheduler.ExponentialLR(self.optimizer, gamma)
                self.schedule = lr_scheduler.SequentialLR(self.optimizer, [constant, falling], [2])
            case "plateau":
                self.schedule = lr_scheduler.ReduceLROnPlateau(
                    self.optimizer, factor=0.5, patience=0
                )

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.steps += 1
        if isinstance(self.schedule, lr_scheduler.ReduceLROnPlateau):
            self.schedule.step(1.0)
        elif self.schedule is not None:
            self.schedule.step()

    def evaluate(self, data: State) -> dict[str, float]:
        (group,) = self.optimizer.param_groups
        rate = self.schedule.get_last_lr()[0] if self.schedule else group["lr"]
        return {
            "lr": group["lr"],
            "last lr": rate,
            "momentum": group["momentum"],
            "temperature": self.temperature,
            "steps": float(self.steps),
        }


def runner(task: str = "t000", **config: Any) -> Runner:
    spec = TaskSpec(bundle="b", config={"momentum": 0.9, **config}, seed=1, task=task)
    return Runner(Rates(), spec, Rates().load_data(), arithmetic)


def exploited(donors: dict[str, Any], own: dict[str, Any]) -> tuple[Computed, Computed]:
    """(the donor's first segment, the state that another task's config makes of it)"""
    donor, trial = runner(**donors), runner("t007.1", **own)
    given = donor.run_segment()
    trial.load(given.state)
    return given, trial.finish()


def test_an_exploited_trial_trains_at_its_own_rate() -> None:
    given, start = exploited({"lr": 0.1}, {"lr": 0.5, "momentum": 0.7})
    assert given.metrics["lr"] == 0.1
    assert start.metrics["lr"] == 0.5
    assert start.metrics["momentum"] == 0.7
    assert start.metrics["temperature"] == 0.5, "a number that no step changes"
    assert start.metrics["steps"] == 3.0, "a number that steps change is the donor's"
    moments = [name for name in given.state if name.endswith("momentum_buffer")]
    assert len(moments) == 4
    for name in (*moments, "model/0.weight"):
        assert torch.equal(start.state[name], given.state[name])


@pytest.mark.parametrize(
    ("schedule", "donors", "own"),
    [
        ("lambda", 0.1 / 4, 0.5 / 4),
        ("step", 0.1 / 2, 0.5 / 2),
        ("sequence", 0.1 / 2, 0.5 / 2),
        ("plateau", 0.1 / 4, 0.5),
    ],
)
def test_a_schedule_goes_on_from_the_donors_step_at_the_own_base_rate(
    schedule: str, donors: float, own: float
) -> None:
    given, start = exploited({"lr": 0.1, "schedule": schedule}, {"lr": 0.5, "schedule": schedule})
    assert given.metrics["lr"] == pytest.approx(donors, rel=1e-12)
    assert start.metrics["lr"] == pytest.approx(own, rel=1e-12)
    assert start.metrics["last lr"] == start.metrics["lr"]


def test_the_next_steps_of_a_schedule_use_the_configs_settings() -> None:
    donor = runner(lr=0.1, schedule="step", gamma=0.5).run_segment()
    trial = runner("t007.1", lr=0.4, schedule="step", gamma=0.25)
    trial.load(donor.state)
    assert trial.run_segment().metrics["lr"] == pytest.approx(0.4 / 2 / 4, rel=1e-12)


def test_a_task_resumes_at_the_rate_of_its_state() -> None:
    live = runner(lr=0.1, schedule="step")
    first, second = live.run_segment(), live.run_segment()
    resumed = runner(lr=0.1, schedule="step")
    resumed.load(first.state)
    again = resumed.run_segment()
    assert again.metrics["lr"] == second.metrics["lr"] == 0.025
    assert again.state_after == second.state_after


@pytest.mark.parametrize("schedule", [None, "lambda", "step", "sequence", "plateau"])
def test_a_replay_of_an_exploited_trial_has_the_claimed_result(schedule: str | None) -> None:
    store = ProgramStore(Rates, lr=0.5, momentum=0.8, schedule=schedule)
    donor = runner("t004", lr=0.1, schedule=schedule).run_segment()
    trial = Runner(Rates(), store.spec, Rates().load_data(), arithmetic)
    trial.load(donor.state)
    before = donor
    store.put_state(donor.state_after, donor.state)
    for _ in range(2):
        computed = trial.run_segment()
        store.put_state(computed.state_after, computed.state)
        claimed = result_digest(computed.state_after, computed.metrics)
        assert replay(request(store, before.state_after), store, DataCache()) == claimed
        before = computed
