"""Mistakes that would fail on every volunteer are refused in the submitter's process."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune

from gensyn_ray.api import submission
from gensyn_ray.api.dry_run import dry_run
from gensyn_ray.api.submission import submission_of
from gensyn_ray.api.terms import Budget, JobSpec, Terms
from gensyn_ray.domain.errors import GensynError, UsageError
from gensyn_ray.domain.numerics import PINNED
from tests.kits.memory_store import MemoryStore
from tests.kits.small_programs import Raising, Small
from workloads.core import own_data
from workloads.core.program import Config, Program
from workloads.core.program_errors import ProgramFailed
from workloads.core.rng import Rng
from workloads.core.state import State
from workloads.ray_jobs.search.kind import SearchRequest

BUDGET = Budget.from_credits(10)


class GlobalRandom(Small):
    """Trains on numbers from Python's global generator."""

    def step(self, data: State, rng: Rng) -> None:
        data["x"][0, 0] = random.random()
        super().step(data, rng)


class Accumulating(Small):
    """Steps its optimizer every fourth time."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.taken = 0

    def step(self, data: State, rng: Rng) -> None:
        self.model(data["x"]).sum().backward()
        self.taken += 1
        if self.taken % 4 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


class OtherData(Small):
    """Its data differ from one load to the next."""

    def load_data(self) -> State:
        return {**super().load_data(), "x": torch.from_numpy(np.random.rand(24, 5)).float()}


class NoMetrics(Small):
    """Forgets to return its metrics."""

    def evaluate(self, data: State) -> Any:
        super().evaluate(data)


class Broken(Small):
    """Its step has a typo."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init({"lr": config["learning_rate"]}, data, rng)


class NoSteps(Small):
    steps_per_segment = 0


class HalfSegments(Small):
    segments = 2.5  # type: ignore[assignment]


class NoEvaluate(Program):
    """Lacks a method."""

    steps_per_segment = segments = 1

    def load_data(self) -> State:
        return {"x": torch.zeros(1)}

    def init(self, config: Config, data: State, rng: Rng) -> None: ...
    def step(self, data: State, rng: Rng) -> None: ...


class Unknown:
    """No value of a config."""


def loop(config: dict[str, Any]) -> None:
    """A function trainable."""


def try_out(
    program: Any = Small,
    *,
    space: dict[str, Any] | None = None,
    metric: str = "accuracy",
    mode: str = "max",
    budget: Any = BUDGET,
    **terms: Any,
) -> None:
    request = SearchRequest(
        param_space={"lr": tune.loguniform(1e-3, 1)} if space is None else space,
        tune_config=tune.TuneConfig(metric=metric, mode=mode),
    )
    spec = JobSpec(
        kind="sweep",
        program=program,
        request=request,
        budget=budget,
        terms=Terms(**{"numerics": PINNED, **terms}),
    )
    spec.check()
    dry_run(spec, submission_of(spec), MemoryStore())


def test_a_good_program_passes_in_both_numerics() -> None:
    try_out()
    try_out(numerics=Terms().numerics)


def test_numpy_numbers_tuples_and_nested_values_of_a_space_pass() -> None:
    space = {
        "lr": tune.choice([np.float64(0.1)]),
        "shape": tune.choice([(1, 2), None, True]),
        "deep": {"width": tune.grid_search([np.int64(8)])},
    }
    try_out(space=space)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"metric": "acuracy"}, "evaluate gives 'accuracy', 'loss', and the job asks for 'acur"),
        ({"mode": "maximum"}, "mode"),
        ({"program": NoSteps}, "NoSteps.steps_per_segment is 0: set it to a whole number"),
        ({"program": HalfSegments}, "HalfSegments.segments is 2.5"),
        ({"program": loop}, "loop is no program: give a class derived from gensyn_ray.Program"),
        ({"program": Small()}, "is no program"),
        ({"budget": Budget.from_credits(0.5)}, "pays for no segment at 1"),
        ({"budget": Budget.from_credits(-5, -1)}, "both must be positive"),
        ({"budget": 200}, "the budget is 200: write gensyn_ray.Budget.from_credits"),
        ({"seed": "1"}, "the seed is '1': give a whole number"),
        ({"program": OtherData}, "OtherData.load_data gives other data each time"),
        ({"program": GlobalRandom}, "no verifier could replay GlobalRandom: "),
        ({"program": Accumulating}, "`.grad` of the parameters is read by the next step"),
        ({"space": {"lr": 0.1, "kind": Unknown}}, "the config's 'kind' is <class"),
        ({"space": {"lr": 0.1, "table": {1: 2}}}, "the config's 'table' is {1: 2}, a dict"),
        ({"space": {"lr": 0.1, "grid": np.arange(3)}}, "the config's 'grid' is array"),
        ({"space": {"lr": 0.1, "rule": lambda spec: 3}}, "the config's 'rule' is <function"),
        ({"space": {"lr": float("nan")}}, "the config's 'lr' is nan"),
    ],
)
def test_a_mistake_is_refused_in_a_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        try_out(**wrong)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (Raising, "this program never works"),
        (Broken, "KeyError: 'learning_rate'"),
        (NoMetrics, "evaluate gives None: return a dict of numbers"),
        (NoEvaluate, "abstract"),
    ],
)
def test_what_the_program_raises_is_shown_with_its_lines(program: type[Program], said: str) -> None:
    with pytest.raises(ProgramFailed) as caught:
        try_out(program)
    assert said in str(caught.value)


def test_data_beyond_the_limit_are_refused_before_they_are_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "MOST_BYTES", 100)
    monkeypatch.setattr(own_data, "pack", None)
    with pytest.raises(UsageError, match="use `gensyn-ray data prepare`"):
        try_out()


def test_no_mistake_is_a_raw_traceback() -> None:
    for program in (Raising, NoSteps, loop, None, OtherData, 3):
        with pytest.raises(GensynError):
            try_out(program)
