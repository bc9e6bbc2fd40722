"""Programs that train in milliseconds, one for each kind of state that a program can have."""

import torch
from torch import nn
from torch.nn import functional

from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.state import State


class Small(Program):
    """Two linear layers under SGD with momentum. Config: `lr`."""

    steps_per_segment = 3
    segments = 4

    def load_data(self) -> State:
        rng = Rng("small data")
        return {"x": rng.uniform((24, 5), -1, 1), "y": rng.integers((24,), 3)}

    def init(self, config: Config, data: State, rng: Rng) -> None:
        self.model = self.make_model()
        rng.init_linear_(self.model)
        self.optimizer = self.make_optimizer(float(config["lr"]))

    def make_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, nesterov=True)

    def step(self, data: State, rng: Rng) -> None:
        batch = rng.integers((8,), len(data["y"]))
        self.model.train()
        loss = functional.cross_entropy(self.model(data["x"][batch]), data["y"][batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, data: State) -> dict[str, float]:
        self.model.eval()
        logits = self.model(data["x"])
        right = int((logits.argmax(1) == data["y"]).sum())
        loss = functional.cross_entropy(logits, data["y"])
        return {"accuracy": right / len(logits), "loss": float(loss)}


class InPlace(Small):
    """Changes its data in place, so a second run on the same data would differ."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        data["x"].mul_(2.0)
        super().init(config, data, rng)


class Adam(Small):
    """AdamW: two moments and a step count for each parameter, in two groups."""

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        first, _, last = self.model.children()
        groups = [
            {"params": list(first.parameters()), "weight_decay": 0.1},
            {"params": list(last.parameters()), "lr": lr / 2},
        ]
        return torch.optim.AdamW(groups, lr=lr, betas=(0.8, 0.95), amsgrad=True)


class Scheduled(Small):
    """A warm-up followed by a cosine: nested schedulers that change the optimizer's own state."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        warm = torch.optim.lr_scheduler.LinearLR(self.optimizer, 0.1, total_iters=4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=9)
        self.schedule = torch.optim.lr_scheduler.SequentialLR(self.optimizer, [warm, cosine], [4])

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.schedule.step()


class Stepped(Scheduled):
    """A schedule with milestones, which torch stores in a `Counter` with integer keys."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        Small.init(self, config, data, rng)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 5, 7], gamma=0.3)


class Dropout(Small):
    """Dropout draws from torch's global generator; batch norm keeps buffers."""

    def make_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.4), nn.Linear(8, 3))


class Averaged(Small):
    """An exponential moving average of the weights, kept as a plain tensor."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.average = self._weights()

    def step(self, data: State, rng: Rng) -> None:
        super().step(data, rng)
        self.average = 0.9 * self.average + 0.1 * self._weights()

    def evaluate(self, data: State) -> dict[str, float]:
        return {**super().evaluate(data), "average": float(self.average.sum())}

    def _weights(self) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])


class Poisoned(Small):
    """Config: `poison`, a value that it writes into its weights; `metric`, the value it reports."""

    def step(self, data: State, rng: Rng) -> None:
        with torch.no_grad():
            self.model[0].weight.fill_(self.poison)

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init({"lr": 0.1}, data, rng)
        self.poison, self.metric = float(config["poison"]), float(config["metric"])

    def evaluate(self, data: State) -> dict[str, float]:
        return {"fine": 1.0, "score": self.metric}


class Raising(Small):
    """Fails in its first step."""

    def step(self, data: State, rng: Rng) -> None:
        raise ArithmeticError("this program never works")


ALL: tuple[type[Program], ...] = (Small, Adam, Scheduled, Stepped, Dropout, Averaged)
