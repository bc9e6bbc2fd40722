"""The kernels of softmax and log-softmax over the last dimension: one row at a time."""

import math
from typing import Any

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives import functions as f
from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.kernels.primitives.grid import exponent_of, larger_magnitude, power, snap
from workloads.numerics.kernels.primitives.softmax import exponentials, row_maximum
from workloads.numerics.reference.operators import losses as reference
from workloads.numerics.reference.primitives.grid import NotFinite, sum_bits
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor


@kernel
def softmax_rows(x, bits, empty, out):
    """Fill `out` with the softmax of each row of x, (n, K) float32. A row of -inf only becomes
    `empty`. Returns how many rows are invalid: NaN, +inf, or -inf only if `empty` is NaN."""
    scale, unit = power(bits - 1), power(1 - bits)
    broken = 0
    for i in prange(x.shape[0]):
        line, row = x[i], out[i]
        largest = row_maximum(line)
        if largest == -math.inf:
            for k in range(line.size):
                row[k] = empty
            if empty != empty:  # noqa: PLR0124 - NaN
                broken += 1
            continue
        if not largest < math.inf:
            broken += 1
        grown = np.empty(line.size, dtype=np.float64)
        total = np.float64(exponentials(line, largest, scale, grown)) * unit
        for k in range(line.size):
            row[k] = np.float32(grown[k] / total)
    return broken


@kernel
def log_softmax_rows(x, bits, out):
    """Fill `out` with the log-softmax of each row of x, (n, K) float32. Returns how many rows have
    NaN or +inf."""
    scale, unit = power(bits - 1), power(1 - bits)
    broken = 0
    for i in prange(x.shape[0]):
        line, row = x[i], out[i]
        largest = row_maximum(line)
        if not largest < math.inf:
            broken += 1
        grown = np.empty(line.size, dtype=np.float64)
        logarithm = f.log(np.float64(exponentials(line, largest, scale, grown)) * unit)
        for k in range(line.size):
            row[k] = np.float32((np.float64(line[k]) - largest) - logarithm)
    return broken


@kernel
def softmax_backward_rows(g, y, bits, out):
    """Fill `out` with y * (g - sum(g * y)) for each row of (n, K) float32. Returns how many rows of
    g are not finite."""
    broken = 0
    for i in prange(y.shape[0]):
        gradient, line, row = g[i], y[i], out[i]
        largest = np.int32(0)
        for k in range(line.size):
            largest = larger_magnitude(largest, gradient[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        scale = power(bits - exponent)
        total = np.int64(0)
        for k in range(line.size):
            total += snap(np.float64(gradient[k]) * np.float64(line[k]), scale)
        along = np.float64(total) * power(exponent - bits)
        for k in range(line.size):
            row[k] = np.float32(np.float64(line[k]) * (np.float64(gradient[k]) - along))
    return broken


@kernel
def log_softmax_backward_rows(g, y, bits, out):
    """Fill `out` with g - exp(y) * sum(g) for each row of (n, K) float32. Returns how many rows of
    g are not finite."""
    broken = 0
    for i in prange(y.shape[0]):
        gradient, line, row = g[i], y[i], out[i]
        largest = np.int32(0)
        for k in range(line.size):
            largest = larger_magnitude(largest, gradient[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        scale = power(bits - exponent)
        total = np.int64(0)
        for k in range(line.size):
            total += snap(np.float64(gradient[k]), scale)
        along = np.float64(total) * power(exponent - bits)
        for k in range(line.size):
            row[k] = np.float32(np.float64(gradient[k]) - f.exp(np.float64(line[k])) * along)
    return broken


def _fits(dim: int, *tensors: Tensor) -> bool:
    """Whether all tensors are float32, of one shape and not empty, and `dim` is the last
    dimension."""
    x = tensors[0]
    same = all(one.dtype == torch.float32 and one.shape == x.shape for one in tensors)
    return same and x.dim() > 0 and x.numel() > 0 and dim % x.dim() == x.dim() - 1


def _by_rows(run: Any, *tensors: Tensor, arguments: tuple[Any, ...] = ()) -> Tensor:
    """Run a kernel over the rows of tensors of one shape. Raises `NotFinite` if a row is
    invalid."""
    x = tensors[0]
    width = x.shape[-1]
    out = torch.empty(x.shape, dtype=torch.float32)
    rows = [array(one).reshape(-1, width) for one in tensors]
    if run(*rows, sum_bits(width), *arguments, array(out).reshape(-1, width)):
        raise NotFinite(f"a softmax over a tensor of shape {tuple(x.shape)} met NaN or infinity")
    return out


@kernel_for(aten._softmax.default)
def softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """Softmax over `dim`, float32 of the shape of x. Raises `NotFinite` for NaN, +inf, or a row of
    -inf only."""
    if not _fits(dim, x):
        return reference.softmax(x, dim, half_to_float)
    return _by_rows(softmax_rows, x, arguments=(math.nan,))


@kernel_for(aten._safe_softmax.default)
def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax over `dim`, float32 of the shape of x. A row of -inf only becomes zeros. Raises
    `NotFinite` for NaN and +inf."""
    if not _fits(dim, x):
        return reference.safe_softmax(x, dim, dtype)
    return _by_rows(softmax_rows, x, arguments=(0.0,))


@kernel_for(aten._log_softmax.default)
def log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """Log-softmax over `dim`, float32 of the shape of x. Raises `NotFinite` for NaN and +inf."""
    if not _fits(dim, x):
        return reference.log_softmax(x, dim, half_to_float)
    return _by_rows(log_softmax_rows, x)


@kernel_for(aten._softmax_backward_data.default)
def softmax_backward(gradient: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    """y * (g - sum(g * y)) over `dim`, float32 of the shape of y. Raises `NotFinite`."""
    if not _fits(dim, gradient, y) or input_dtype != torch.float32:
        return reference.softmax_backward(gradient, y, dim, input_dtype)
    return _by_rows(softmax_backward_rows, gradient, y)


@kernel_for(aten._log_softmax_backward_data.default)
def log_softmax_backward(gradient: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    """g - exp(y) * sum(g) over `dim`, float32 of the shape of y. Raises `NotFinite`."""
    if not _fits(dim, gradient, y) or input_dtype != torch.float32:
        return reference.log_softmax_backward(gradient, y, dim, input_dtype)
    return _by_rows(log_softmax_backward_rows, gradient, y)
