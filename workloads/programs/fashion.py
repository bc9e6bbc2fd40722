"""Classifies images of 28 x 28 pixels in ten classes with a small CNN or a perceptron.

Config: `model`, which is "cnn" with `width` or "mlp" with `hidden`; `lr`; optional: `weight_decay`,
`dropout`. So a search can choose the model. Data: the splits `train` and `test` with the columns
`pixels` (784 bytes per row) and `label`. The recipe `fashion-mnist` prepares them.
"""

from typing import Any

import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import DataSet, tensor
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.numerics.optim import AdamW

BATCH, EVAL_BATCH = 64, 250
EVAL_ROWS = 2500
CLASSES = 10


def _cnn(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(98 * width, CLASSES),
    )


def _mlp(hidden: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, CLASSES),
    )


class Fashion(Program):
    """Minimizes the cross-entropy with AdamW.

    Metrics: `accuracy` and `loss` on held-out rows; `parameters`, the size of the model."""

    steps_per_segment = 100
    segments = 8

    def init(self, config: Config, data: DataSet, rng: Rng) -> None:
        dropout = float(config.get("dropout", 0.1))
        match config["model"]:
            case "cnn":
                self.model = _cnn(int(config["width"]), dropout)
            case "mlp":
                self.model = _mlp(int(config["hidden"]), dropout)
            case other:
                raise UsageError(f"`model` is cnn or mlp, not {other!r}")
        rng.init_linear_(self.model)
        self.optimizer = AdamW(
            self.model.parameters(),
            lr=float(config["lr"]),
            weight_decay=float(config.get("weight_decay", 0.0)),
        )

    def step(self, data: DataSet, rng: Rng) -> None:
        images, labels = _batch(data["train"].draw(rng, BATCH))
        loss = functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, data: DataSet) -> dict[str, float]:
        self.model.eval()
        right, loss, rows = 0, 0.0, 0
        for table in data["test"].batches(EVAL_BATCH):
            images, labels = _batch(table)
            logits = self.model(images)
            loss += float(functional.cross_entropy(logits, labels)) * len(labels)
            right += int((logits.argmax(1) == labels).sum())
            rows += len(labels)
            if rows >= EVAL_ROWS:
                break
        size = sum(one.numel() for one in self.model.parameters())
        return {"accuracy": right / rows, "loss": loss / rows, "parameters": float(size)}


def _batch(table: pa.Table) -> tuple[Any, Any]:
    """Images float32 (n, 1, 28, 28) in 0..1 and labels int64 (n,)."""
    images = tensor(table, "pixels").to(torch.float32) / 256
    return images.reshape(-1, 1, 28, 28), tensor(table, "label").to(torch.int64)
