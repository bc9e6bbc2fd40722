"""The kernels of sums over rows, columns and channels. Each vector is snapped to its own grid, and
integers are added."""

from collections.abc import Sequence

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.kernels.primitives.grid import (
    channel_exponent,
    exponent_of,
    larger_magnitude,
    power,
    snap,
)
from workloads.numerics.reference.operators import reductions as reference
from workloads.numerics.reference.primitives.grid import NotFinite, sum_bits
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor


@kernel
def sum_rows(x, bits, out):
    """Fill `out`, float64 (n,), with the sums of the rows of x, (n, K) float32. Returns how many
    rows are not finite."""
    broken = 0
    for i in prange(x.shape[0]):
        line = x[i]
        largest = np.int32(0)
        for k in range(line.size):
            largest = larger_magnitude(largest, line[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        scale = power(bits - exponent)
        total = np.int64(0)
        for k in range(line.size):
            total += snap(np.float64(line[k]), scale)
        out[i] = np.float64(total) * power(exponent - bits)
    return broken


@kernel
def sum_columns(x, bits, out):
    """Fill `out`, float64 (n,), with the sums of the columns of x, (K, n) float32. Returns how many
    columns are not finite."""
    depth, n = x.shape
    parts = max(1, min(64, depth // 16))
    largest = np.zeros((parts, n), dtype=np.int32)
    for part in prange(parts):
        mine = largest[part]
        for k in range(part * depth // parts, (part + 1) * depth // parts):
            line = x[k]
            for i in range(n):
                mine[i] = larger_magnitude(mine[i], line[i])
    broken = 0
    scales, units = np.empty(n, dtype=np.float64), np.empty(n, dtype=np.float64)
    for i in range(n):
        top = largest[0, i]
        for part in range(1, parts):
            top = max(top, largest[part, i])
        exponent = exponent_of(top)
        if exponent > 128:
            broken += 1
        scales[i] = power(bits - exponent)
        units[i] = power(exponent - bits)
    totals = np.zeros((parts, n), dtype=np.int64)
    for part in prange(parts):
        sums = totals[part]
        for k in range(part * depth // parts, (part + 1) * depth // parts):
            line = x[k]
            for i in range(n):
                sums[i] += snap(np.float64(line[i]), scales[i])
    for i in range(n):
        total = totals[0, i]
        for part in range(1, parts):
            total += totals[part, i]
        out[i] = np.float64(total) * units[i]
    return broken


@kernel
def sum_channels(x, bits, out):
    """Fill `out`, float64 (C,), with the sums of the channels of x, (N, C, L) float32. Returns how
    many channels are not finite."""
    broken = 0
    for channel in prange(x.shape[1]):
        exponent = channel_exponent(x, channel)
        if exponent > 128:
            broken += 1
        scale, total = power(bits - exponent), np.int64(0)
        for n in range(x.shape[0]):
            line = x[n, channel]
            for k in range(line.size):
                total += snap(np.float64(line[k]), scale)
        out[channel] = np.float64(total) * power(exponent - bits)
    return broken


def exact_sums(x: Tensor, dims: list[int]) -> Tensor | None:
    """Exact sums of a contiguous float32 tensor, flat float64. `dims` are its first dimensions, its
    last dimensions, or all but the second.

    Returns None for other dtypes, layouts and dimensions. Raises `NotFinite`.
    """
    kept = x.dim() - len(dims)
    if x.dtype != torch.float32 or not x.is_contiguous() or not dims or x.numel() == 0:
        return None
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    if dims == list(range(kept, x.dim())):
        rows, run = x.view(-1, count), sum_rows
    elif dims == list(range(len(dims))):
        rows, run = x.view(count, -1), sum_columns
    elif kept == 1 and 1 not in dims:
        rows, run = x.view(x.shape[0], x.shape[1], -1), sum_channels
    else:
        return None
    out = torch.empty(x.numel() // count, dtype=torch.float64)
    if run(array(rows), sum_bits(count), array(out)):
        raise NotFinite(f"a tensor of shape {tuple(x.shape)} holds NaN or infinity")
    return out


def _shape(x: Tensor, dims: list[int], keepdim: bool) -> list[int]:
    """The shape of a reduction of x over `dims`."""
    if keepdim:
        return [1 if at in dims else size for at, size in enumerate(x.shape)]
    return [size for at, size in enumerate(x.shape) if at not in dims]


@kernel_for(aten.sum.dim_IntList)
def sum_over(
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sum over `dim`, float32. Raises `NotFinite`. Other layouts and dtypes go to the reference
    definition."""
    dims = reference.dimensions(x, dim)
    sums = exact_sums(x, dims) if dtype in (None, torch.float32) else None
    if sums is None:
        return reference.sum_over(x, dim, keepdim, dtype=dtype)
    return sums.to(torch.float32).reshape(_shape(x, dims, keepdim))


@kernel_for(aten.sum.default)
def sum_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Sum of all elements. Raises `NotFinite`."""
    return sum_over(x, None, dtype=dtype)


@kernel_for(aten.mean.dim)
def mean_over(
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Mean over `dim`, float32. Raises `NotFinite`. Other layouts and dtypes go to the reference
    definition."""
    dims = reference.dimensions(x, dim)
    sums = exact_sums(x, dims) if dtype in (None, torch.float32) else None
    if sums is None:
        return reference.mean_over(x, dim, keepdim, dtype=dtype)
    means = sums / reference.count_of(x, dims)
    return means.to(torch.float32).reshape(_shape(x, dims, keepdim))


@kernel_for(aten.mean.default)
def mean_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Mean of all elements. Raises `NotFinite`."""
    return mean_over(x, None, dtype=dtype)
