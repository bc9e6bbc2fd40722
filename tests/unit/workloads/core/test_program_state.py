"""What a step changes is in the state; what `init` makes again is not."""

import copy
from collections import OrderedDict, deque
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from gensyn_ray.domain.errors import UsageError
from tests.kits import small_programs, stateful_programs
from tests.kits.memory_store import MemoryStore
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.segment import Computed, Runner
from workloads.core.state import State
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic

SPEC = TaskSpec(bundle="b" * 64, config={"lr": 0.2}, seed=11, task="t003")

each_program = pytest.mark.parametrize("program", stateful_programs.ALL)


def fresh(program: type[Program], spec: TaskSpec = SPEC) -> Runner:
    one = program()
    return Runner(one, spec, one.load_data(), arithmetic)


def live(program: type[Program], segments: int) -> list[Computed]:
    runner = fresh(program)
    return [runner.run_segment() for _ in range(segments)]


@each_program
def test_a_segment_from_the_stored_state_is_the_one_run_live(program: type[Program]) -> None:
    store = MemoryStore()
    for before, after in pairwise(live(program, 4)):
        store.put_state(before.state_after, before.state)
        runner = fresh(program)
        runner.load(store.get_state(before.state_after))
        again = runner.run_segment()
        assert (again.state_after, again.metrics) == (after.state_after, after.metrics)


@each_program
def test_a_loaded_state_is_the_state_of_its_program(program: type[Program]) -> None:
    for computed in live(program, 3):
        runner = fresh(program)
        runner.load(computed.state)
        assert runner.finish().state_after == computed.state_after


def value(program: type[Program], name: str) -> torch.Tensor:
    return live(program, 2)[-1].state[name]


def test_numbers_have_the_dtype_of_their_type() -> None:
    assert value(stateful_programs.Accumulating, "count").dtype == torch.int64
    assert int(value(stateful_programs.Accumulating, "count")) == 6
    assert value(stateful_programs.Patient, "best").dtype == torch.float64
    assert int(value(stateful_programs.Scaled, "scaler/good")) == 6
    assert float(value(stateful_programs.Scaled, "scaler/scale")) == 8.0 * 1.5**6


def test_a_list_of_numbers_is_one_tensor() -> None:
    losses = value(stateful_programs.Averages, "losses")
    assert (losses.dtype, losses.shape) == (torch.float64, (3,))
    counts = value(stateful_programs.Averages, "seen/by%2Flabel")
    assert counts.shape == (3,)
    assert int(counts.sum()) == 6


def test_a_kept_gradient_has_its_parameters_name() -> None:
    first, second = live(stateful_programs.Accumulating, 2)
    names = {f"parameters.grad/model/{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert {name for name in first.state if "grad" in name} == names
    assert {name for name in second.state if "grad" in name} == names
    eighth = fresh(stateful_programs.Accumulating)
    eighth.train(8)
    assert not {name for name in eighth.finish().state if "grad" in name}, "zero_grad ran last"


def test_a_parameter_that_trains_later_is_named() -> None:
    runner = fresh(stateful_programs.Thawing)
    runner.train(2)
    assert not {name for name in runner.finish().state if "requires_grad" in name}
    runner.train(1)
    state = runner.finish().state
    assert {name for name in state if "requires_grad" in name} == {
        "parameters.requires_grad/model/0.weight",
        "parameters.requires_grad/model/0.bias",
    }


class Constants(small_programs.Small):
    """Attributes that no step changes, or that only name what the state has already."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.classes, self.names, self.missing = 3, ["a", "b", "c"], float("nan")
        self.masks = {"x": torch.ones(3)}
        self.teacher = [nn.Linear(2, 2)]
        self.trained = [one for one in self.model.parameters() if one.requires_grad]
        self.layers = list(self.model.children())
        self.everything = {"model": self.model, "optimizer": self.optimizer}
        self.data = data


def test_what_no_step_changes_is_not_in_the_state() -> None:
    """The digests of programs that have such attributes stay as they were."""
    assert [one.state_after for one in live(Constants, 2)] == [
        one.state_after for one in live(small_programs.Small, 2)
    ]


class Named(small_programs.Small):
    """Gives its attributes the names that the platform uses for its own functions."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.gradients, self._parts, self._groups, self._start = [], {}, 3, "s"
        self.begin = self.holdings = 7


def test_a_programs_own_names_do_not_matter() -> None:
    assert live(Named, 1)[0].state_after == live(small_programs.Small, 1)[0].state_after


class Grown(small_programs.Small):
    """Adds a group of parameters in its second step."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.optimizer = torch.optim.SGD(self.model[0].parameters(), lr=0.1)
        self.steps = 0

    def step(self, data: State, rng: Rng) -> None:
        self.steps += 1
        if self.steps == 2:
            self.optimizer.add_param_group({"params": self.model[2].parameters()})
        super().step(data, rng)


def test_a_late_parameter_group_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"`self\.optimizer` gets a parameter group after `init`"):
        fresh(Grown).run_segment()


class Pair(NamedTuple):
    low: float
    high: int


class Shapes(Program):
    """Each step gives `held` the next of the values in `VALUES`."""

    steps_per_segment, segments = 1, 20
    VALUES: tuple[Any, ...] = ()

    def load_data(self) -> State:
        return {"x": torch.zeros(1)}

    def init(self, config: Config, data: Any, rng: Rng) -> None:
        self.at, self.held = 0, copy.deepcopy(self.VALUES[0])

    def step(self, data: Any, rng: Rng) -> None:
        self.at += 1
        self.held = self.VALUES[self.at]

    def evaluate(self, data: Any) -> dict[str, float]:
        return {"at": float(self.at)}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (0, 7),
        (0.5, -0.0),
        (False, True),
        (None, 3),
        (None, {"a": 1.5, "b": [1.0, 2]}),
        (None, [True, 2]),
        (0.0, torch.ones(2)),
        ([], [1, 2, 3]),
        ([1, 2, 3], []),
        ([1, 2, 3], [4]),
        ([1, 2.5], [1, 2.5, True]),
        ((1, 2), (3, 4, 5)),
        (Pair(0.5, 1), Pair(1.5, 2)),
        (deque([1.0], maxlen=2), deque([2.0, 3.0], maxlen=2)),
        ({"a": 1, "b": 2}, {"a": 3}),
        ({"a": 1}, {}),
        ({}, {4: 2, "a": {"b/c": 1.5}}),
        ({"%2F": 1}, {"%2F": 2, "/": 3}),
        (OrderedDict(a=[1, "text"]), OrderedDict(a=[2, "text"])),
        ([{"w": 1}, "x"], [{"w": 2}, "x", 5]),
        ([], 0.25),
        ({}, 4),
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(first: Any, then: Any) -> None:
    kind = type("Shapes", (Shapes,), {"VALUES": (first, then)})
    program = kind()
    runner = Runner(program, SPEC, program.load_data(), arithmetic)
    computed = runner.run_segment()
    again = kind()
    loaded = Runner(again, SPEC, again.load_data(), arithmetic)
    loaded.load(dict(sorted(computed.state.items())))
    if isinstance(then, torch.Tensor):
        assert torch.equal(again.held, then)
    else:
        assert again.held == then
        assert repr(again.held) == repr(then)
    assert loaded.finish().state_after == computed.state_after


class Compiled(small_programs.Small):
    """A compiled model, as a whole and in a part of it."""

    def make_model(self) -> nn.Module:
        model = super().make_model()
        model[0] = torch.compile(model[0], backend="eager")
        return torch.compile(model, backend="eager")


@pytest.mark.parametrize("numerics", ["pinned", "reproducible/v1/highest"])
def test_torch_compile_changes_no_name_and_no_bit(numerics: str) -> None:
    spec = TaskSpec(bundle="b" * 64, config={"lr": 0.2}, seed=11, task="t003", numerics=numerics)
    runner, plain = fresh(Compiled, spec), fresh(small_programs.Small, spec)
    first = runner.run_segment()
    assert first.state_after == plain.run_segment().state_after
    again = fresh(Compiled, spec)
    again.load(first.state)
    assert again.run_segment().state_after == plain.run_segment().state_after
    assert set(Compiled.parameters(again._program)) == {
        f"model/{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
