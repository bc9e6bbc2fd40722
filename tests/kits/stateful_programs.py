"""Programs whose next step depends on something else than tensors, modules and optimizers.

Each would replay wrong if that thing were not in the state.
"""

import copy
from collections import deque

import torch
from torch import nn
from torch.nn import functional

from tests.kits.small_programs import Small
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.state import State


class Patient(Small):
    """Halves its rate when the loss has not improved twice: numbers and a flag."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.best, self.patience, self.lowered = float("inf"), 0, False

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        with torch.no_grad():
            loss = float(functional.cross_entropy(self.model(data["x"]), data["y"]))
        self.patience = 0 if loss < self.best else self.patience + 1
        self.best = min(loss, self.best) * 0.9
        if self.patience > 1 and not self.lowered:
            self.optimizer.param_groups[0]["lr"] *= 0.5
            self.lowered = True


class Averages(Small):
    """A moving average in a dict, made in the first step, and the last losses in a deque."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.average: dict[str, torch.Tensor] = {}
        self.losses: deque[float] = deque(maxlen=3)
        self.seen = {"by/label": [0, 0, 0], 7: (0.5, 1)}

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        with torch.no_grad():
            for name, one in self.model.named_parameters():
                self.average[name] = 0.9 * self.average.get(name, torch.zeros(())) + 0.1 * one
                one.add_(self.average[name], alpha=0.01 * self.seen[7][1])
            self.losses.append(float(functional.cross_entropy(self.model(data["x"]), data["y"])))
        self.seen["by/label"][int(rng.integers((1,), 3))] += 1
        self.seen[7] = (self.seen[7][0] / 2, self.seen[7][1] + 1)
        self.optimizer.param_groups[0]["lr"] = 0.1 + 0.01 * sum(self.losses) / len(self.losses)


class Parts(Small):
    """Modules in a dict, and an optimizer and a schedule for each in lists."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        self.parts = {"body": nn.Linear(5, 6), "head": nn.Linear(6, 3)}
        for one in self.parts.values():
            rng.init_linear_(one)
        self.optimizers = [
            torch.optim.SGD(one.parameters(), lr=float(config["lr"]), momentum=0.9)
            for one in self.parts.values()
        ]
        self.schedules = [
            torch.optim.lr_scheduler.StepLR(one, 2, gamma=0.5) for one in self.optimizers
        ]

    def step(self, data: State, rng: Rng) -> None:
        for one in self.optimizers:
            one.zero_grad()
        functional.cross_entropy(self._logits(data), data["y"]).backward()
        for one in (*self.optimizers, *self.schedules):
            one.step()

    def evaluate(self, data: State) -> dict[str, float]:
        return {"loss": float(functional.cross_entropy(self._logits(data), data["y"]))}

    def _logits(self, data: State) -> torch.Tensor:
        return self.parts["head"](torch.tanh(self.parts["body"](data["x"])))


class Accumulating(Small):
    """Adds up four gradients for each update, three steps a segment."""

    keeps_gradients = True

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.count = 0

    def step(self, data: State, rng: Rng) -> None:
        functional.cross_entropy(self.model(data["x"]), data["y"]).backward()
        self.count += 1
        if self.count % 4 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


class Counting(nn.Module):
    """Scales by a buffer that it does not save."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: torch.Tensor
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.scale.mul_(1.1)
        return x * self.scale


class Unsaved(Small):
    """A buffer with `persistent=False` that every step changes."""

    def make_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), Counting(), nn.Linear(6, 3))


class Generated(Small):
    """A `torch.Generator` of its own, seeded once."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.generator = torch.Generator().manual_seed(rng.seed())

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        with torch.no_grad():
            self.model[0].bias.add_(torch.randn(6, generator=self.generator) * 0.1)


class Scaler:
    """A gradient scaler, which saves itself by `state_dict`. `unit` is no part of it."""

    def __init__(self) -> None:
        self.scale, self.good, self.unit = 8.0, 0, object()

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale, "good": self.good}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale, self.good = state["scale"], state["good"]


class Scaled(Small):
    """An object with `state_dict`, and a plateau schedule that gets the loss."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.scaler = Scaler()
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=0.5, patience=0, threshold=0.5
        )

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.scaler.good += 1
        self.scaler.scale *= 1.5
        with torch.no_grad():
            self.model[0].bias.add_(0.001 * self.scaler.scale)
            self.plateau.step(functional.cross_entropy(self.model(data["x"]), data["y"]))


class Thawing(Small):
    """The first layer begins to train in step 3."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.model[0].requires_grad_(False)
        self.steps = 0

    def step(self, data: State, rng: Rng) -> None:
        self.steps += 1
        if self.steps == 3:
            self.model[0].requires_grad_(True)
        super().step(data, rng)


class Late(Small):
    """Attributes that `init` sets to None or not at all."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.previous: torch.Tensor | None = None
        self.rate: float | torch.Tensor = 0.0

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        with torch.no_grad():
            if self.previous is not None:
                self.model[0].bias.add_(self.previous - self.model[0].bias, alpha=0.3)
            self.previous = self.model[0].bias.clone()
            self.rate = self.rate + self.model[0].bias.sum()
            self.model[2].bias.add_(self.rate, alpha=1e-3)


class Best(Small):
    """Goes back to its best weights, a dict that `init` leaves as None, in every third step."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.best: dict[str, torch.Tensor] | None = None
        self.steps = 0

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.steps += 1
        if self.steps % 3 == 1 and self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.steps % 3 == 2:
            self.best = copy.deepcopy(self.model.state_dict())
            self.last = [self.best["0.bias"], self.best["2.bias"]]


ALL: tuple[type[Program], ...] = (
    *(Patient, Averages, Parts, Accumulating, Unsaved),
    *(Generated, Scaled, Thawing, Late, Best),
)
