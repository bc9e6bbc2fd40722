"""Snaps to grids and rounds back for matrix products in float64, which any library multiplies
exactly while K * 2^(2 bits) <= 2^53."""

import numpy as np
from numba import prange

from workloads.numerics.fused.kernel import kernel
from workloads.numerics.fused.slices import exponent_of, larger, scale_of, unit_of

MAGIC32 = np.float32(1.5 * 2.0**23)


@kernel
def snap_rows(x, bits, out, units):
    """Rows of x, (n, K) float32 contiguous, as whole float64 numbers; units float64 (n,).

    Returns the number of rows that are not finite."""
    broken = 0
    for i in prange(x.shape[0]):
        line, snapped = x[i], out[i]
        largest = np.int32(0)
        for k in range(line.size):
            largest = larger(largest, line[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        units[i] = unit_of(exponent, bits)
        scale = scale_of(exponent, bits)
        for k in range(line.size):
            snapped[k] = np.float64((line[k] * scale + MAGIC32) - MAGIC32)
    return broken


@kernel
def snap_columns(x, scales, out):
    """Columns of x, (K, n) float32 contiguous, by the scales of `slices.column_scales`."""
    for k in prange(x.shape[0]):
        line, snapped = x[k], out[k]
        for i in range(line.size):
            snapped[i] = np.float64((line[i] * scales[i] + MAGIC32) - MAGIC32)


@kernel
def finish(total, left_units, right_units, bias, alpha, beta, out):
    """float32((C * unit * unit + 0.0) * alpha + bias * beta) of exact products C, (M, N) float64.

    bias: float32 (1, N) or (M, N)."""
    for i in prange(total.shape[0]):
        line, unit, row = total[i], left_units[i], out[i]
        added = bias[np.int64(i) % bias.shape[0]]
        for j in range(line.size):
            value = line[j] * (unit * right_units[j]) + 0.0
            row[j] = np.float32(value * alpha + added[j] * beta)
