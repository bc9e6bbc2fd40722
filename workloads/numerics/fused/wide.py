"""Matrix products in float64, exact while K * 2^(2 bits) <= 2^53: snaps to grids, multiplies,
rounds back. A library may multiply in between, or the kernel here, which also rounds.

Every sum is of integers below 2^53, so a fused multiply-add gives what two instructions give.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils

from workloads.numerics.fused.kernel import hold, inlined, instruction, kernel
from workloads.numerics.fused.pairs import LANES, MAGIC32, ROWS, finish_tile, read, spread
from workloads.numerics.fused.slices import exponent_of, larger, scale_of, unit_of

COLUMNS = LANES
"""Of the right factor that are multiplied together: float64 in two registers."""


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


@instruction
def add_wide_products(
    context: Any, left: Any, stride: Any, right: Any, count: Any, out: Any
) -> Any:
    """Adds to float64 (ROWS, COLUMNS) at `out` the products of `count` float64 of ROWS lines,
    `stride` bytes apart at `left`, with (count, COLUMNS) at `right`. All but `count` are addresses.
    """
    address = ir.IntType(64)
    wide = ir.VectorType(ir.DoubleType(), COLUMNS)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, step, panel, number, totals = args
        name = f"llvm.fmuladd.v{COLUMNS}f64"
        kind = ir.FunctionType(wide, [wide, wide, wide])
        multiply = cgutils.get_or_insert_function(builder.module, kind, name)
        lines = [builder.add(at, builder.mul(step, address(row))) for row in range(ROWS)]
        sums = [
            cgutils.alloca_once_value(
                builder, read(builder, totals, wide, offset=8 * COLUMNS * row)
            )
            for row in range(ROWS)
        ]
        with cgutils.for_range(builder, number, intp=address) as loop:
            here = builder.add(panel, builder.mul(loop.index, address(8 * COLUMNS)))
            factors = read(builder, here, wide)
            for line, total in zip(lines, sums, strict=True):
                place = builder.add(line, builder.mul(loop.index, address(8)))
                factor = spread(builder, read(builder, place, ir.DoubleType()), COLUMNS)
                added = builder.call(multiply, [factor, factors, builder.load(total)])
                builder.store(added, total)
        for row, total in enumerate(sums):
            where = builder.add(totals, address(8 * COLUMNS * row))
            pointer = builder.inttoptr(where, wide.as_pointer())
            builder.store(builder.load(total), pointer, align=8)
        return context.get_dummy_value()

    number = types.int64
    return types.void(number, number, number, number, number), generate


@inlined
def panel_of(x, turned, at, panel):
    """Columns `at` and on of x, (K, n) or, if `turned`, (n, K), as float64 (K, COLUMNS)."""
    n = x.shape[0] if turned else x.shape[1]
    width = min(COLUMNS, n - at)
    if width < COLUMNS:
        panel[:] = 0.0
    for k in range(panel.shape[0]):
        line = panel[k]
        for j in range(width):
            line[j] = x[at + j, k] if turned else x[k, at + j]


@kernel
def lay_panels(x, turned, panels):
    """`panel_of` for all columns: float64 (n / COLUMNS, K, COLUMNS)."""
    for panel in prange(panels.shape[0]):
        panel_of(x, turned, np.int64(panel) * COLUMNS, panels[panel])


@kernel
def multiply_numbers(left, right, left_units, right_units, first, bias, alpha, beta, out):
    """out[:, first * COLUMNS ...] = left x right, as `pairs.multiply_words` does it.

    left: whole float64 (M, K), and as much after it as ROWS more lines take; right: float64
    (panels, K, COLUMNS)."""
    m = out.shape[0]
    depth, stride, size = left.shape[1], left.strides[0], right.strides[0]
    for panel in prange(-(-m // ROWS)):
        row = np.int64(panel) * ROWS
        totals, edge = np.empty((ROWS, COLUMNS)), np.empty(COLUMNS, dtype=np.float32)
        sums, lines = totals.ctypes.data, left.ctypes.data + row * stride
        for block in range(right.shape[0]):
            totals[:] = 0.0
            add_wide_products(lines, stride, right.ctypes.data + block * size, depth, sums)
            at = (first + block) * COLUMNS
            finish_tile(totals, edge, row, at, left_units, right_units, bias, alpha, beta, out)
        hold(totals)
        hold(edge)
