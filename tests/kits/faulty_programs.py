"""Programs whose replay differs, or whose two runs differ. Each has one fault.

`ALL`: program -> (name of the finding, a part of its sentence).
"""

import itertools
import random
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.kits.small_programs import Dropout, Small
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.state import State


def shift(program: Any, by: float) -> None:
    """Change the program's weights by what it remembers."""
    with torch.no_grad():
        program.model[0].bias.add_(0.1 * by)


class Hidden(Small):
    """Counts under an underscore."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self._count = 0

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self._count += 1
        shift(self, self._count)


class Phases(Small):
    """Remembers a phase as text."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.phase = "warm"

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, 1.0 if self.phase == "warm" else -1.0)
        self.phase = "cold"


class Iterating(Small):
    """Takes the next batch from an iterator that `init` makes."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.numbers = itertools.count()

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, next(self.numbers))


class Arrays(Small):
    """Keeps an array of NumPy."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.history = np.zeros(3)

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.history += 1
        shift(self, float(self.history[0]))


class Generators(Small):
    """Draws from a generator of NumPy."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.draws = np.random.default_rng(3)

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, float(self.draws.random()))


class Ema:
    """An object without `state_dict`."""

    def __init__(self, model: Any) -> None:
        self.shadow = [one.detach().clone() for one in model.parameters()]

    def update(self, model: Any) -> None:
        for own, one in zip(self.shadow, model.parameters(), strict=True):
            own.mul_(0.9).add_(one.detach(), alpha=0.1)


class Objects(Small):
    """Holds such an object."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.ema = Ema(self.model)

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.ema.update(self.model)
        shift(self, float(self.ema.shadow[0].sum()))


class Calls(nn.Module):
    """Counts its calls in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return x * (1 + 0.1 * self.calls)


class Layers(Small):
    """Has such a module."""

    def make_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), Calls(), nn.Linear(6, 3))


class Added(Small):
    """Accumulates gradients over eight steps and does not say so."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.count = 0

    def step(self, data: State, rng: Rng) -> None:
        functional.cross_entropy(self.model(data["x"]), data["y"]).backward()
        self.count += 1
        if self.count % 8 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


class Rewriting(Small):
    """Changes its data in each step."""

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        data["x"].mul_(0.9)


class Seeded(Small):
    """Seeds NumPy's global generator in `init`."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        np.random.seed(1)

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, float(np.random.random()))


class SeededRandom(Small):
    """Seeds Python's global generator in `init`."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        random.seed(1)

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, random.random())


class Late(Small):
    """Sets a list that `init` left as None."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.history: list[float] | None = None

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.history = [*(self.history or []), 1.0]
        shift(self, float(len(self.history)))


class Clock(Small):
    """Reads a clock."""

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, time.perf_counter())


class Unseeded(Small):
    """Draws from Python's global generator, which nobody seeds."""

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        shift(self, random.random())


class Shared(Small):
    """Keeps a list on the class."""

    history: list[int] = []  # noqa: RUF012 the fault

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.history.append(1)
        shift(self, float(len(self.history)))


class StartsAtRandom(Small):
    """Initialises with NumPy's global generator."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        shift(self, float(np.random.random()))


class Evaluating(Dropout):
    """Evaluates in training mode: batch norm changes, and dropout draws."""

    def evaluate(self, data: State) -> dict[str, float]:
        return {"sum": float(self.model(data["x"]).sum())}


class Noisy(Small):
    """Evaluates with random numbers."""

    def evaluate(self, data: State) -> dict[str, float]:
        return {"sum": float(self.model(data["x"] + torch.rand(5)).sum())}


class Remembering(Small):
    """Keeps the best metric in `evaluate`."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.calls = 0

    def evaluate(self, data: State) -> dict[str, float]:
        self.calls += 1
        return super().evaluate(data)


class Opening(Small):
    """Replaces a part of its model in a step, so its state does not load."""

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.model.add_module("last", nn.Linear(3, 3))


class Remembers(Small):
    """LBFGS: its state has a list of None and tensors."""

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.model.parameters(), lr=lr, max_iter=2)

    def step(self, data: State, rng: Rng) -> None:
        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.model(data["x"]), data["y"])
            loss.backward()
            return loss

        self.optimizer.step(closure)


ALL: dict[type[Program], tuple[str, str]] = {
    Hidden: ("self._count", "call it `self.count`"),
    Phases: ("self.phase", "keep a number instead"),
    Iterating: ("self.numbers", "`rng.permutation`"),
    Arrays: ("self.history", "`torch.from_numpy`"),
    Generators: ("self.draws", "draw from `rng`"),
    Objects: ("self.ema", "`self.ema.shadow[0]` changes in `step`"),
    Layers: ("self.model", "buffer of a module"),
    Added: (".grad", "`keeps_gradients = True`"),
    Rewriting: ("data", "`data['x']` changes in `step`"),
    Seeded: ("numpy.random", "NumPy's global generator is seeded in `init`"),
    SeededRandom: ("step", "(it uses `random`)"),
    Late: ("self.history", "an empty list"),
    Clock: ("step", "(it uses `time`)"),
    Unseeded: ("step", "two runs with the same seed differ"),
    Shared: ("step", "a variable outside of `self`"),
    StartsAtRandom: ("step", "`numpy.random`"),
    Evaluating: ("evaluate", "`model/1.num_batches_tracked`"),
    Noisy: ("evaluate", "another `sum` the second time"),
    Remembering: ("evaluate", "`evaluate` changes `self.calls`"),
    Remembers: ("self.optimizer", "LBFGS"),
    Opening: ("self.model", "`self.model.last"),
}
