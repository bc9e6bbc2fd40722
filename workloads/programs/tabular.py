"""Classifies rows of numbers with a small perceptron.

Data: the splits `train` and `test` with the columns `features` (fixed-size lists) and `label`. The
recipe `table` prepares them. Config: `lr`, `hidden`, `layers`; optional: `dropout`,
`weight_decay`; `classes`, if the data set keeps no names of its labels.
"""

import torch
from torch import nn
from torch.nn import functional

from workloads.core.dataset import DataSet, tensor
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.numerics.optim import AdamW

BATCH, EVAL_BATCH = 64, 1000


class Tabular(Program):
    """Minimizes the cross-entropy with AdamW. Metrics on held-out rows: `accuracy`, `loss`."""

    steps_per_segment = 50
    segments = 8

    def init(self, config: Config, data: DataSet, rng: Rng) -> None:
        width = tensor(next(data["test"].batches(1)), "features").shape[1]
        layers: list[nn.Module] = []
        for _ in range(int(config["layers"])):
            hidden = int(config["hidden"])
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            layers.append(nn.Dropout(float(config.get("dropout", 0.0))))
            width = hidden
        self.model = nn.Sequential(
            *layers, nn.Linear(width, data.class_count(config.get("classes")))
        )
        rng.init_linear_(self.model)
        decay = float(config.get("weight_decay", 0.0))
        self.optimizer = AdamW(self.model.parameters(), lr=float(config["lr"]), weight_decay=decay)

    def step(self, data: DataSet, rng: Rng) -> None:
        table = data["train"].draw(rng, BATCH)
        loss = functional.cross_entropy(
            self.model(tensor(table, "features")), tensor(table, "label")
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, data: DataSet) -> dict[str, float]:
        self.model.eval()
        parts = list(data["test"].batches(EVAL_BATCH))
        labels = torch.cat([tensor(one, "label") for one in parts])
        logits = torch.cat([self.model(tensor(one, "features")) for one in parts])
        right = int((logits.argmax(1) == labels).sum())
        return {
            "accuracy": right / len(labels),
            "loss": float(functional.cross_entropy(logits, labels)),
        }
