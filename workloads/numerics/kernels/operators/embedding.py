"""The kernel of the gradient of an embedding table. Each thread adds the columns of its own
strip."""

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.kernels.primitives.grid import exponent_of, larger_magnitude, power, snap
from workloads.numerics.reference.operators import embedding as reference
from workloads.numerics.reference.primitives.grid import NotFinite, sum_bits
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor
STRIP = 32
"""Columns that a thread adds at a time."""


@kernel
def add_rows(g, indices, bits, totals, out):
    """Add the rows of g, (rows, width) float32, at `indices`, int64 (rows,). Returns how many
    columns are not finite.

    `totals`: int64 (entries, width), zeros. `out`: float32 (entries, width), filled.
    """
    rows, width = g.shape
    broken = 0
    for strip in prange((width + STRIP - 1) // STRIP):
        first = np.int64(strip) * STRIP
        last = min(first + STRIP, width)
        largest = np.zeros(last - first, dtype=np.int32)
        for row in range(rows):
            line = g[row, first:last]
            for j in range(line.size):
                largest[j] = larger_magnitude(largest[j], line[j])
        scales, units = np.empty(last - first), np.empty(last - first)
        for j in range(last - first):
            exponent = exponent_of(largest[j])
            broken += exponent > 128
            scales[j], units[j] = power(bits - exponent), power(exponent - bits)
        for row in range(rows):
            line, sums = g[row, first:last], totals[indices[row], first:last]
            for j in range(line.size):
                sums[j] += snap(np.float64(line[j]), scales[j])
        for entry in range(out.shape[0]):
            sums, result = totals[entry, first:last], out[entry, first:last]
            for j in range(sums.size):
                result[j] = np.float32(np.float64(sums[j]) * units[j])
    return broken


@kernel_for(aten.embedding_dense_backward.default)
def embedding_backward(
    gradient: Tensor, indices: Tensor, num_weights: int, padding_idx: int, by_frequency: bool
) -> Tensor:
    """Sums of the gradient's rows by index, float32 (num_weights, width). The row `padding_idx`, if
    not negative, is 0.

    Raises `IndexError` for an index outside the table, and `NotFinite`. Other dtypes and
    `by_frequency` go to the reference definition.
    """
    if by_frequency or gradient.dtype != torch.float32 or gradient.numel() == 0:
        return reference.embedding_backward(
            gradient, indices, num_weights, padding_idx, by_frequency
        )
    width = gradient.shape[-1]
    flat = indices.reshape(-1).to(torch.int64)
    if int(flat.min()) < 0 or int(flat.max()) >= num_weights:
        raise IndexError(f"an index is not one of {num_weights} rows")
    totals = np.zeros((num_weights, width), dtype=np.int64)
    out = torch.empty((num_weights, width), dtype=torch.float32)
    rows = array(gradient).reshape(-1, width)
    if add_rows(rows, array(flat), sum_bits(len(flat)), totals, array(out)):
        raise NotFinite(f"a gradient of shape {tuple(gradient.shape)} holds NaN or infinity")
    if padding_idx >= 0:
        out[padding_idx] = 0.0
    return out
