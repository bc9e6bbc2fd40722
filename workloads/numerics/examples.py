"""Arguments for operators: the same shapes and values serve golden vectors, self-test and tests.

Values come in kinds that break careless kernels: denormals, both zeros, ties, the largest and the
smallest floats, exact powers of two and neighbours of them, rows of very different size.
"""

import math
from typing import Any

import numpy as np
import torch

from workloads.core.rng import Rng

EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, 1e-40, -1e-45, 2.0**-126, 2.0**-150 * 3, 1e-30, 3e38)
"""Values placed among ordinary ones. 3e38 is near the largest float32."""


class Drawn:
    """A `registry.Source` drawn from a seed."""

    def __init__(self, *seed: str | int) -> None:
        self._rng = Rng("numerics-example", *seed)

    def whole(self, low: int, high: int) -> int:
        return low + int(self._rng.raw(1)[0] % np.uint64(high - low + 1))

    def choose(self, *options: Any) -> Any:
        return options[self.whole(0, len(options) - 1)]

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        return tuple(
            self.choose(0, 1, 2, 3, 5, 8, 17) if self.whole(0, 9) == 0 else self.whole(1, 12)
            for _ in range(self.whole(low, high))
        )

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> torch.Tensor:
        kind = "spread" if spread is not None else self.choose(*KINDS)
        values = _values(self._rng, kind, math.prod(shape), spread or 4.0)
        return _strided(self, torch.from_numpy(values).reshape(shape))

    def integers(self, shape: tuple[int, ...], high: int) -> torch.Tensor:
        return self._rng.integers(shape, high)


KINDS = ("ordinary", "ordinary", "rows", "edges", "ties", "tiny", "huge", "zeros")


def _values(rng: Rng, kind: str, count: int, spread: float) -> "np.ndarray[Any, Any]":
    values = rng.uniform((count,), -spread, spread).numpy()
    if kind == "rows":  # magnitudes over 60 binary orders
        values = np.ldexp(values, (rng.raw(count) % np.uint64(61)).astype(np.int32) - 30)
    elif kind == "edges":
        chosen = (rng.raw(count) % np.uint64(2 * len(EDGES))).astype(np.int64)
        edges = np.array(EDGES, dtype=np.float32)
        values = np.where(chosen < len(EDGES), edges[chosen % len(EDGES)], values)
    elif kind == "ties":  # halves of a coarse grid, so that rounding to even decides
        values = np.round(values * 4) / 8
    elif kind == "tiny":
        values = values * np.float32(2.0**-130)
    elif kind == "huge":
        values = values * np.float32(2.0**120)
    elif kind == "zeros":
        values = np.copysign(np.float32(0), values)
    return np.ascontiguousarray(values, dtype=np.float32)


def _strided(source: Drawn, x: torch.Tensor) -> torch.Tensor:
    """The same values behind other strides: transposed, with gaps, or as they are."""
    layout = source.whole(0, 3)
    if layout == 1 and x.dim() >= 2:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == 2 and x.dim() >= 1:
        gaps = torch.zeros((*x.shape[:-1], 2 * x.shape[-1]))
        gaps[..., ::2] = x
        return gaps[..., ::2]
    return x


def arguments(example: Any, source: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments that an example draws."""
    drawn = example(source)
    if drawn and isinstance(drawn[-1], dict):
        return tuple(drawn[:-1]), drawn[-1]
    return tuple(drawn), {}
