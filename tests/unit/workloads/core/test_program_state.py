"""What a step changes is in the state; what `init` makes again is not."""

import copy
import time
from collections import OrderedDict, deque
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
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
        ({"a": 1}, [1, 2]),
        ([], {"a": 1}),
        ([], torch.ones(2)),
        (None, {0: 1, 1: 2}),
        ({}, {"007": 1, -1: 2, True: 3, "\u00b2": 4}),
        ([], [None, 1]),
        (0, torch.tensor(5, dtype=torch.int32)),
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
    if isinstance(then, torch.Tensor) or isinstance(again.held, torch.Tensor):
        assert torch.equal(again.held, torch.as_tensor(then))
    else:
        assert again.held == then
        assert repr(again.held) == repr(then)
    assert loaded.finish().state_after == computed.state_after


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([], [np.float64(1.5)]),
        ([0.5], [0.5, np.float64(1.5)]),
        ([], deque([np.float64(1.5), 2.0])),
        (1.0, np.float64(1.0)),
        ([1.0], [np.float64(1.0)]),
        ([], [torch.tensor(3)]),
        ([0], [torch.tensor(0), torch.tensor(1)]),
        ([], [torch.tensor(3), 4]),
        (None, [torch.tensor(3), torch.tensor(4)]),
        (0, torch.tensor(0)),
        (0, torch.tensor(1)),
        (None, torch.tensor(0)),
        ({"a": 0}, {"a": torch.tensor(0)}),
        (None, {0: 1, 1: 2}),
        ({}, {"confusion": {0: 1, 1: 2}}),
        ({}, {"confusion": {0: np.float64(1), 1: 2.0}}),
        ([], ["text", 1]),
        ([], [("loss", 1.0)]),
        ([0.0, 0.0], torch.zeros(2, dtype=torch.float64)),
    ],
    ids=repr,
)
def test_the_layout_depends_on_what_is_stored_alone(first: Any, then: Any) -> None:
    """An operator that goes on and a verifier that loads name the state alike, then and later."""
    kind = type("Shapes", (Shapes,), {"VALUES": (first, then, then)})
    runner, again = fresh(kind), fresh(kind)
    computed = runner.run_segment()
    again.load(dict(sorted(computed.state.items())))
    assert again.finish().state_after == computed.state_after
    assert again.run_segment().state_after == runner.run_segment().state_after


def test_numbers_and_tensors_in_a_list_come_back_as_such() -> None:
    kind = type("Shapes", (Shapes,), {"VALUES": ([], [torch.tensor(3), torch.tensor(4)])})
    computed = fresh(kind).run_segment()
    assert {name for name in computed.state if "held" in name} == {"held/0", "held/1"}
    program = kind()
    Runner(program, SPEC, program.load_data(), arithmetic).load(computed.state)
    assert torch.stack(program.held).tolist() == [3, 4]


class Growing(small_programs.Small):
    """Changes its log in every fifth step."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.n, self.losses, self.right, self.stats = 0, [], [], {}

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.n += 1
        if self.n % 5 == 0:
            self.losses.append(np.mean([self.n, 2.0]))
            self.right.append((data["y"] == self.n % 3).sum())
            self.stats["confusion"] = {0: self.n, 1: 2}


class Restored(small_programs.Small):
    """Two equal constant tuples, which Python makes one object."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.best_a = (0, 0.0)
        self.best_b = (0, 0.0)
        self.n = 0

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.n += 1
        self.best_a = (self.n, 0.5)
        self.best_b = (2 * self.n, self.best_b[1] + self.best_b[0])


@pytest.mark.parametrize("program", [Growing, Restored])
def test_each_segment_after_a_load_is_the_one_run_live(program: type[Program]) -> None:
    for before, after in pairwise(live(program, 4)):
        runner = fresh(program)
        runner.load(dict(sorted(before.state.items())))
        assert runner.run_segment().state_after == after.state_after


class Aliasing(small_programs.Small):
    """Keeps its best weights without a copy. `WHAT`: what of them."""

    WHAT: ClassVar[Any] = staticmethod(lambda model: model.state_dict())

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.zbest: Any = None
        self.n = 0

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.n += 1
        if self.n == 5:
            self.zbest = type(self).WHAT(self.model)


@pytest.mark.parametrize(
    "what",
    [
        lambda model: model.state_dict(),
        lambda model: model,
        lambda model: {"first": [model[0].weight.detach()]},
        lambda model: model[0].bias[:2].detach(),
    ],
)
def test_weights_kept_without_a_copy_are_refused_by_name(what: Any) -> None:
    kind = type("Aliasing", (Aliasing,), {"WHAT": staticmethod(what)})
    runner = fresh(kind)
    runner.run_segment()
    with pytest.raises(UsageError, match=r"`self\.zbest` .*`copy\.deepcopy\(self\.model"):
        runner.run_segment()


def test_a_copy_of_the_weights_is_no_alias() -> None:
    what = staticmethod(lambda model: copy.deepcopy(model.state_dict()))
    live(type("Aliasing", (Aliasing,), {"WHAT": what}), 3)


class Lazy(small_programs.Small):
    """A layer that takes its width from the first batch, also in a list."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        self.model = nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.Linear(6, 3))
        self.layers = [self.model[0]]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)


def test_a_lazy_layer_is_in_the_state_once_it_has_tensors() -> None:
    program = Lazy()
    Runner(program, SPEC, program.load_data(), arithmetic)
    assert "model/0.weight" not in program.get_state()
    for before, after in pairwise(live(Lazy, 3)):
        assert before.state["model/0.weight"].shape == (6, 5)
        runner = fresh(Lazy)
        runner.load(before.state)
        assert runner.run_segment().state_after == after.state_after


def test_a_strangers_state_cannot_make_a_long_list() -> None:
    kind = type("Shapes", (Shapes,), {"VALUES": ([], [None, 1])})
    state = fresh(kind).run_segment().state
    state[f"held/{10**12}"] = state.pop("held/1")
    with pytest.raises(ValueError, match=f"an item {10**12} of `held`"):
        fresh(kind).load(state)


COUNTERS = [f"k{i}" for i in range(20_000)]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([], [(float(i), i) for i in range(4000)]),
        (dict.fromkeys(COUNTERS, 0), dict.fromkeys(COUNTERS, 1)),
    ],
    ids=["tuples", "counters"],
)
def test_loading_takes_time_in_proportion_to_the_names(first: Any, then: Any) -> None:
    kind = type("Shapes", (Shapes,), {"VALUES": (first, then)})
    state = fresh(kind).run_segment().state
    runner = fresh(kind)
    began = time.process_time()
    runner.load(state)
    assert time.process_time() - began < 0.8


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
