"""A program with a mistake at the place that the config names."""

from collections.abc import Mapping
from typing import Any

import torch

from workloads.core.program import Program


class Raises(Program):
    steps_per_segment = 1
    segments = 2

    def load_data(self) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(2)}

    def init(self, config: Mapping[str, Any], data: Any, rng: Any) -> None:
        self.model = torch.nn.Linear(2, 1)
        self._where = config["where"]

    def step(self, data: Any, rng: Any) -> None:
        if self._where == "step":
            self._divide(0)

    def evaluate(self, data: Any) -> dict[str, float]:
        return {"loss": float("nan") if self._where == "nan" else 1.0}

    def _divide(self, by: int) -> float:
        return 1 / by  # the mistake
