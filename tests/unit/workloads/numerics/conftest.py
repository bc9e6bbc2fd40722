"""Fills reused memory, so that no test passes by chance."""

from typing import Any

import numpy as np
import pytest

from workloads.numerics.kernels.attention import float64_route
from workloads.numerics.kernels.matmul import routes
from workloads.numerics.kernels.primitives import scratch


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill reused memory with NaN or -1. Fresh pages are 0 and would hide reads before writes."""

    def poison(name: str, shape: tuple[int, ...], dtype: Any, *, spare: int = 0) -> Any:
        array = scratch.scratch(name, shape, dtype, spare=spare)
        array.view(np.uint8)[...] = 0xFF
        return array

    for module in (routes, float64_route):
        monkeypatch.setattr(module, "scratch", poison)
