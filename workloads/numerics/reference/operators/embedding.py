"""Reference definitions of scatters that add: rows of gradients into a table, values into places.

Values are added as integers on a grid. The order of values for one place therefore does not matter.
"""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.operators.elementwise import widened
from workloads.numerics.reference.primitives.grid import exponents, power, snap, sum_bits
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor


def _lookups(s: Source) -> tuple[Any, ...]:
    rows, width, entries = s.whole(0, 40), s.whole(1, 9), s.whole(1, 7)
    shape = s.choose((rows,), (1, rows))
    indices = s.integers(shape, entries)
    return s.tensor((*shape, width)), indices, entries, s.choose(-1, 0), s.choose(False, True)


@define(aten.embedding_dense_backward.default, example=_lookups)
def embedding_backward(
    gradient: Tensor, indices: Tensor, num_weights: int, padding_idx: int, by_frequency: bool
) -> Tensor:
    """Sums of the gradient's rows by index, (num_weights, width), in the dtype of the gradient.
    Each column has its own grid.

    `by_frequency`: divide each sum by the number of its rows. The row `padding_idx`, if not
    negative, is 0. Raises `NotFinite`.
    """
    width = gradient.shape[-1]
    rows, flat = gradient.reshape(-1, width), indices.reshape(-1).to(torch.int64)
    bits = sum_bits(len(flat))
    exponent = exponents(rows, [0])
    totals = torch.zeros((num_weights, width), dtype=torch.int64, device=gradient.device)
    totals = totals.index_add(0, flat, snap(rows, exponent, bits))
    sums = totals.to(torch.float64) * power(exponent - bits)
    if by_frequency:
        ones = torch.ones_like(flat)
        counts = torch.zeros(num_weights, dtype=torch.int64, device=gradient.device)
        sums = sums / counts.index_add(0, flat, ones).clamp_min(1)[:, None]
    if padding_idx >= 0:
        sums[padding_idx] = 0.0
    return sums.to(gradient.dtype)


def _places(s: Source) -> tuple[Any, ...]:
    size, count = s.whole(1, 6), s.whole(0, 30)
    return s.tensor((size, 3)), [s.integers((count,), size)], s.tensor((count, 3)), True


@define(aten.index_put.default, example=_places)
def index_put(
    x: Tensor,
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
) -> Tensor:
    """x with `values` set or added at `indices`. Raises `ValueError` if two values are set in one
    place, and `NotFinite`."""
    places, put = list(indices), aten.index_put.default
    if not accumulate:
        zeros = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
        _refuse_twice(put(zeros, places, torch.ones(1, dtype=torch.int64, device=x.device), True))
    if not accumulate or not x.is_floating_point():
        return put(x, places, values, accumulate)
    return _added(x, values, lambda zeros, whole: put(zeros, places, whole, True))


def _refuse_twice(counts: Tensor) -> None:
    """Raises `ValueError` if any count exceeds 1."""
    if bool((counts > 1).any()):
        raise ValueError("two values are set in one place: the result depends on their order")


@define(
    aten.scatter.src,
    example=lambda s: (s.tensor((4, 3)), 0, s.integers((1, 3), 4), s.tensor((1, 3))),
)
def scatter(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """x with `source` set at `index` along `dim`. Raises `ValueError` if two values are set in one
    place."""
    ones = torch.ones_like(index)
    _refuse_twice(torch.zeros(x.shape, dtype=torch.int64).scatter_add(dim, index, ones))
    return aten.scatter.src(x, dim, index, source)


def _added(x: Tensor, values: Tensor, scatter: Any) -> Tensor:
    """x plus the exact sum of `values` by place, in the dtype of x. All values share one grid.
    `scatter` adds integers by place. Raises `NotFinite`."""
    bits = sum_bits(max(values.numel(), x.numel()))
    exponent = exponents(values, list(range(values.dim())))
    whole = snap(values, exponent, bits)
    zeros = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    unit = power(exponent - bits).reshape(())
    return (widened(x) + scatter(zeros, whole).to(torch.float64) * unit).to(x.dtype)


def _added_rows(s: Source) -> tuple[Any, ...]:
    x, (index,), values, _ = _places(s)
    return x, 0, index, values, {"alpha": s.choose(1, 1, -0.5)}


@define(aten.index_add.default, example=_added_rows)
def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """x plus the rows of source * alpha at `index` along `dim`. Raises `NotFinite`."""
    if not x.is_floating_point():
        return aten.index_add.default(x, dim, index, source, alpha=alpha)
    scaled = source * alpha if alpha != 1 else source
    return _added(x, scaled, lambda zeros, whole: zeros.index_add(dim, index, whole))


def _gathered(s: Source) -> tuple[Any, ...]:
    size, count = s.whole(1, 6), s.whole(1, 9)
    return s.tensor((size, 3)), 0, s.integers((count, 3), size), s.tensor((count, 3))


@define(aten.scatter_add.default, example=_gathered)
def scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """x plus `source` at `index` along `dim`. Raises `NotFinite`."""
    if not x.is_floating_point():
        return aten.scatter_add.default(x, dim, index, source)
    # `source` may be larger than `index`; the surplus values are not added.
    used = source[tuple(slice(0, size) for size in index.shape)]
    return _added(x, used, lambda zeros, whole: zeros.scatter_add(dim, index, whole))
