"""Classifies handwritten digits with a small convolutional network.

Data: 1,797 images of 8 x 8 pixels from scikit-learn (UCI ML repository, Optical Recognition of
Handwritten Digits). Every fourth image is held out.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.state import State
from workloads.numerics.optim import SGD

BATCH = 32


class Digits(Program):
    """Two convolutions and a linear layer; SGD with momentum.

    Config: `lr`, `momentum`, `width`. Metrics on held-out images: `accuracy`, `loss`."""

    steps_per_segment = 60
    segments = 8

    def load_data(self) -> State:
        """`train_x` (1347, 1, 8, 8) and `test_x` (450, 1, 8, 8), float32 in 0..1; `train_y` (1347,)
        and `test_y` (450,), int64."""
        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images).to(torch.float32).reshape(-1, 1, 8, 8) / 16
        y = torch.from_numpy(labels).to(torch.int64)
        test = torch.arange(len(y)) % 4 == 0
        return {"train_x": x[~test], "train_y": y[~test], "test_x": x[test], "test_y": y[test]}

    def init(self, config: Config, data: State, rng: Rng) -> None:
        width = int(config["width"])
        self.model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * width, 10),
        )
        rng.init_linear_(self.model)
        self.optimizer = SGD(
            self.model.parameters(), lr=float(config["lr"]), momentum=float(config["momentum"])
        )

    def step(self, data: State, rng: Rng) -> None:
        batch = rng.integers((BATCH,), len(data["train_y"]))
        logits = self.model(data["train_x"][batch])
        loss = functional.cross_entropy(logits, data["train_y"][batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, data: State) -> dict[str, float]:
        logits = self.model(data["test_x"])
        loss = functional.cross_entropy(logits, data["test_y"])
        right = (logits.argmax(1) == data["test_y"]).sum()
        return {"accuracy": int(right) / len(logits), "loss": float(loss)}
