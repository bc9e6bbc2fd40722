"""Examples that hypothesis draws, and comparison of bits."""

from typing import Any

import torch
from hypothesis import strategies as st

from workloads.numerics.examples import Drawn


class Explored(Drawn):
    """Hypothesis chooses shapes, strides and kinds of values, so it can shrink them."""

    def __init__(self, data: Any) -> None:
        super().__init__("explored", data.draw(st.integers(0, 2**32 - 1), label="seed"))
        self._data = data

    def whole(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors of a result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [one for item in value for one in tensors_in(item)]
    return []


def bits_of(value: Any) -> list[tuple[Any, ...]]:
    """The shapes, dtypes and bits of a result. All NaNs are equal."""
    found: list[tuple[Any, ...]] = []
    for one in tensors_in(value):
        flat = torch.empty(one.numel(), dtype=one.dtype).copy_(one.detach().reshape(-1))
        missing = torch.isnan(flat)
        flat[missing] = 0
        data = flat.numpy().tobytes()
        found.append((one.dtype, tuple(one.shape), missing.tolist(), data))
    return found
