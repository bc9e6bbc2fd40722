"""Examples drawn by hypothesis, and equality of bits."""

from typing import Any

import torch
from hypothesis import strategies as st

from workloads.numerics.examples import Drawn


class Explored(Drawn):
    """Shapes, strides and kinds of values are hypothesis' choice, so that it can shrink them."""

    def __init__(self, data: Any) -> None:
        super().__init__("explored", data.draw(st.integers(0, 2**32 - 1), label="seed"))
        self._data = data

    def whole(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor of a result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [one for item in value for one in tensors_in(item)]
    return []


def bits_of(value: Any) -> list[tuple[Any, ...]]:
    """What two results must share: shapes, dtypes and bits. NaN is NaN, whatever its payload."""
    found: list[tuple[Any, ...]] = []
    for one in tensors_in(value):
        flat = torch.empty(one.numel(), dtype=one.dtype).copy_(one.detach().reshape(-1))
        missing = torch.isnan(flat)
        flat[missing] = 0
        data = flat.numpy().tobytes()
        found.append((one.dtype, tuple(one.shape), missing.tolist(), data))
    return found
