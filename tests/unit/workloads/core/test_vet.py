"""The check of a program names what a replay would not see, and passes programs that replay."""

import time
from typing import Any

import pytest
import torch

from gensyn_ray.domain.errors import UsageError
from tests.kits import faulty_programs, small_programs, stateful_programs
from workloads.core.program import Program
from workloads.core.state import state_digest
from workloads.core.task_spec import InnerSteps, TaskSpec
from workloads.core.vet import Finding, uncaptured
from workloads.numerics.arithmetic import arithmetic

SPEC = TaskSpec(bundle="b" * 64, config={"lr": 0.2}, seed=11, task="t003")


def vet(program: type[Program], **settings: Any) -> list[Finding]:
    return uncaptured(program, SPEC, program().load_data(), arithmetic, **settings)


@pytest.mark.parametrize(
    "program", [*small_programs.ALL, small_programs.InPlace, *stateful_programs.ALL]
)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_program_that_replays_has_no_finding(program: type[Program], steps: int) -> None:
    assert vet(program, steps=steps) == []


@pytest.mark.parametrize("program", faulty_programs.ALL)
def test_a_fault_is_named_with_its_remedy(program: type[Program]) -> None:
    name, sentence = faulty_programs.ALL[program]
    (found,) = vet(program)
    assert found.name == name
    assert sentence in found.sentence
    assert "\n" not in found.sentence


class Logging(small_programs.Small):
    """Remembers what no step reads."""

    def step(self, data: Any, rng: Any) -> None:
        super().step(data, rng)
        self.last = f"seed {rng.seed()}"
        self._log = [*getattr(self, "_log", []), self.last]


def test_what_no_step_reads_is_no_fault() -> None:
    assert vet(Logging) == []


class TwoFaults(faulty_programs.Hidden):
    """Forgets a count and a phase."""

    def init(self, config: Any, data: Any, rng: Any) -> None:
        super().init(config, data, rng)
        self.phase = "even"

    def step(self, data: Any, rng: Any) -> None:
        super().step(data, rng)
        self.phase = "odd" if self.phase == "even" else "other"


def test_each_attribute_that_differs_is_named() -> None:
    assert [one.name for one in vet(TwoFaults)] == ["self._count", "self.phase"]


def test_the_data_stay_as_they_were() -> None:
    data = small_programs.InPlace().load_data()
    before = state_digest(data)
    uncaptured(small_programs.InPlace, SPEC, data, arithmetic)
    assert state_digest(data) == before


def test_the_inner_steps_of_a_round_are_vetted_as_a_whole_run() -> None:
    inner = TaskSpec(
        bundle="b" * 64,
        config={"lr": 0.2},
        seed=11,
        task="t003",
        inputs={"global": "0" * 64},
        inner_steps=InnerSteps(steps=5, first_step=10, bits=8),
    )
    data = small_programs.Small().load_data()
    assert uncaptured(small_programs.Small, inner, data, arithmetic) == []
    assert uncaptured(faulty_programs.Hidden, inner, data, arithmetic) != []


def test_what_the_program_raises_is_raised() -> None:
    with pytest.raises(ArithmeticError):
        vet(small_programs.Raising)


def test_a_late_parameter_group_is_refused_by_name() -> None:
    class Grown(small_programs.Small):
        def step(self, data: Any, rng: Any) -> None:
            super().step(data, rng)
            if len(self.optimizer.param_groups) == 1:
                self.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})

    with pytest.raises(UsageError, match=r"`self\.optimizer` gets a parameter group"):
        vet(Grown)


@pytest.mark.parametrize("numerics", ["reproducible/v1/highest", "pinned"])
def test_the_check_holds_in_each_arithmetic(numerics: str) -> None:
    spec = TaskSpec(bundle="b", config={"lr": 0.2}, seed=1, task="t000", numerics=numerics)
    for program, expected in ((small_programs.Dropout, 0), (faulty_programs.Hidden, 1)):
        found = uncaptured(program, spec, program().load_data(), arithmetic)
        assert len(found) == expected


class ThreeSteps(small_programs.Small):
    """A run of three steps, whose schedule raises in a fourth."""

    segments, steps_per_segment = 1, 3

    def init(self, config: Any, data: Any, rng: Any) -> None:
        super().init(config, data, rng)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 0.1, total_steps=self.segments * self.steps_per_segment
        )

    def step(self, data: Any, rng: Any) -> None:
        super().step(data, rng)
        self.schedule.step()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_no_run_is_longer_than_the_programs(steps: int) -> None:
    program = type("Short", (ThreeSteps,), {"steps_per_segment": steps})
    assert vet(program, steps=4) == []


class Lazy(small_programs.Small):
    """A layer that takes its width from the first batch."""

    def init(self, config: Any, data: Any, rng: Any) -> None:
        self.model = torch.nn.Sequential(torch.nn.LazyLinear(6), torch.nn.Linear(6, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)


def test_a_lazy_layer_is_no_fault() -> None:
    assert vet(Lazy) == []


class Late(small_programs.Small):
    """Makes a weight of shape () and dtype float64, a number to a state, in the last vetted step.
    No step reads it."""

    def init(self, config: Any, data: Any, rng: Any) -> None:
        super().init(config, data, rng)
        self.n = 0

    def step(self, data: Any, rng: Any) -> None:
        super().step(data, rng)
        self.n += 1
        if self.n == 4:
            self.held = torch.ones((), dtype=torch.float64, requires_grad=True)


def test_a_state_that_loads_as_another_one_is_named() -> None:
    (found,) = vet(Late)
    assert found.name == "self.held"
    assert "`self.held` loads as something else" in found.sentence


def test_a_small_program_is_vetted_in_a_fraction_of_a_second() -> None:
    vet(small_programs.Small)
    began = time.process_time()
    vet(small_programs.Small)
    assert time.process_time() - began < 0.5
