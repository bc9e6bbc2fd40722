"""Example arguments of operators. Golden vectors, the self-test and the tests draw the same shapes
and values.

The kinds of values include those that break careless kernels: denormals, both zeros, ties, the
largest and the smallest floats, exact powers of two and their neighbours, rows of very different
magnitude.
"""

import math
from typing import Any

import numpy as np
import torch

from workloads.core.rng import Rng

EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, 1e-40, -1e-45, 2.0**-126, 2.0**-150 * 3, 1e-30, 3e38)
"""Edge values that are mixed with ordinary ones. 3e38 is near the largest float32."""


class Drawn:
    """A `registry.Source` that draws from a seed."""

    def __init__(self, *seed: str | int) -> None:
        self._rng = Rng("numerics-example", *seed)

    def whole(self, low: int, high: int) -> int:
        """An integer n, low <= n <= high."""
        return low + int(self._rng.raw(1)[0] % np.uint64(high - low + 1))

    def choose(self, *options: Any) -> Any:
        """One of the options."""
        return options[self.whole(0, len(options) - 1)]

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        """A shape of `low` to `high` dimensions. One size in ten comes from a list that includes 0
        and 1."""
        return tuple(
            self.choose(0, 1, 2, 3, 5, 8, 17) if self.whole(0, 9) == 0 else self.whole(1, 12)
            for _ in range(self.whole(low, high))
        )

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> torch.Tensor:
        """A float32 tensor of any strides. With `spread`, uniform values within +-spread. Without
        it, values of a random kind of `KINDS`."""
        kind = "spread" if spread is not None else self.choose(*KINDS)
        values = _values(self._rng, kind, math.prod(shape), spread or 4.0)
        return _strided(self, torch.from_numpy(values).reshape(shape))

    def integers(self, shape: tuple[int, ...], high: int) -> torch.Tensor:
        """An int64 tensor, 0 <= value < high."""
        return self._rng.integers(shape, high)


KINDS = ("ordinary", "ordinary", "rows", "edges", "ties", "tiny", "huge", "zeros")
"""Kinds of values. An ordinary value is uniform in -4 .. 4."""


def _values(rng: Rng, kind: str, count: int, spread: float) -> "np.ndarray[Any, Any]":
    """Values of one kind: float32 (count,). `spread`: the largest magnitude of ordinary values."""
    values = rng.uniform((count,), -spread, spread).numpy()
    if kind == "rows":  # magnitudes over 61 powers of two
        values = np.ldexp(values, (rng.raw(count) % np.uint64(61)).astype(np.int32) - 30)
    elif kind == "edges":
        chosen = (rng.raw(count) % np.uint64(2 * len(EDGES))).astype(np.int64)
        edges = np.array(EDGES, dtype=np.float32)
        values = np.where(chosen < len(EDGES), edges[chosen % len(EDGES)], values)
    elif kind == "ties":  # multiples of half a step of a grid: rounding to even decides
        values = np.round(values * 4) / 8
    elif kind == "tiny":
        values = values * np.float32(2.0**-130)
    elif kind == "huge":
        values = values * np.float32(2.0**120)
    elif kind == "zeros":
        values = np.copysign(np.float32(0), values)
    return np.ascontiguousarray(values, dtype=np.float32)


def _strided(source: Drawn, x: torch.Tensor) -> torch.Tensor:
    """The same values with other strides: as they are, transposed, or with gaps."""
    layout = source.whole(0, 3)
    if layout == 1 and x.dim() >= 2:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == 2 and x.dim() >= 1:
        gaps = torch.zeros((*x.shape[:-1], 2 * x.shape[-1]))
        gaps[..., ::2] = x
        return gaps[..., ::2]
    return x


def arguments(example: Any, source: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments that an example draws from a source."""
    drawn = example(source)
    if drawn and isinstance(drawn[-1], dict):
        return tuple(drawn[:-1]), drawn[-1]
    return tuple(drawn), {}
