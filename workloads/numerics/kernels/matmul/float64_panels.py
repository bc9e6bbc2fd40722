"""Matrix products in float64, exact while K * 2^(2 bits) <= 2^53. The module snaps factors to
grids, multiplies them, and rounds the scaled result. Either the kernel here or the BLAS library
multiplies.

A *panel* holds the vectors that are multiplied together, element by element: float64 (K, ROWS) of
the left factor, (K, COLUMNS) of the right factor. The sums of a left and a right panel fill the
processor's registers. Several left panels stay in a core's cache and are multiplied with every
right panel. Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, ACM
TOMS 34(3), 2008; here the factors have exchanged roles.

Every sum is a sum of integers below 2^53. A fused multiply-add therefore gives the same bits as a
product and a sum.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils

from workloads.numerics.kernels.matmul.micro_kernel import (
    FLOAT64S,
    INT64,
    LANES,
    ROWS,
    broadcast,
    copy_edge,
    epilogue,
    load,
    output_address,
    store,
)
from workloads.numerics.kernels.primitives.compilation import inlined, intrinsic, keep_alive, kernel
from workloads.numerics.kernels.primitives.grid import MAGIC32, snap_float32

COLUMNS = LANES
"""Columns of the right factor that are multiplied together: two registers of float64."""


@kernel
def snap_rows(x, scales, out):
    """Fill `out`, float64 (n, K), with the integers of the rows of x, (n, K) float32 contiguous.
    `scales`: float32 (n,) from `grid.row_scales`."""
    for i in prange(x.shape[0]):
        line, snapped, scale = x[i], out[i], scales[i]
        for k in range(line.size):
            snapped[k] = np.float64(snap_float32(line[k], scale))


@kernel
def snap_columns(x, scales, out):
    """Fill `out`, float64 (K, n), with the integers of the columns of x, (K, n) float32 contiguous.
    `scales`: float32 (n,) from `grid.column_scales`."""
    for k in prange(x.shape[0]):
        line, snapped = x[k], out[k]
        for i in range(line.size):
            snapped[i] = np.float64(snap_float32(line[i], scales[i]))


@kernel
def scale_and_round(total, left_units, right_units, bias, alpha, beta, out):
    """Fill `out`, float32 (M, N), with float32((C * unit * unit + 0.0) * alpha + bias * beta).
    `total`: exact products C, float64 (M, N). `bias`: float32 (1, N) or (M, N)."""
    for i in prange(total.shape[0]):
        line, unit, row = total[i], left_units[i], out[i]
        added = bias[np.int64(i) % bias.shape[0]]
        for j in range(line.size):
            value = line[j] * (unit * right_units[j]) + 0.0
            row[j] = np.float32(value * alpha + added[j] * beta)


@intrinsic
def snap_line(context: Any, x: Any, scales: Any, out: Any, width: Any) -> Any:
    """Snap `width` float32 at address `x` by the float32 scales at `scales`, and store the integers
    as float64 at `out`."""
    lanes = width.literal_value
    narrow = ir.VectorType(ir.FloatType(), lanes)
    wide = ir.VectorType(ir.DoubleType(), lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        magic = ir.Constant(narrow, [float(MAGIC32)] * lanes)
        scaled = builder.fmul(load(builder, args[0], narrow), load(builder, args[1], narrow))
        whole = builder.fsub(builder.fadd(scaled, magic), magic)
        pointer = builder.inttoptr(args[2], wide.as_pointer())
        builder.store(builder.fpext(whole, wide), pointer, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, width), generate


@inlined
def pack_columns(x, first, scales, panel):
    """Fill a panel, float64 (K, width), with the integers of columns x[:, first : first + width].
    x: (K, n) float32. Missing columns are 0."""
    depth, width = panel.shape
    count, size = min(width, x.shape[1] - first), 8 * width
    if count < width:
        panel[:] = 0.0
        for k in range(depth):
            for j in range(count):
                panel[k, j] = np.float64(snap_float32(x[k, first + j], scales[first + j]))
        return
    source, target = x.ctypes.data + 4 * first, panel.ctypes.data
    by = scales.ctypes.data + 4 * first
    for _ in range(depth):
        if width == ROWS:
            snap_line(source, by, target, ROWS)
        else:
            snap_line(source, by, target, COLUMNS)
        source += x.strides[0]
        target += size


@inlined
def pack_rows(x, first, scales, panel):
    """Fill a panel, float64 (K, width), with the integers of rows x[first : first + width]. x: (n,
    K) float32. Missing rows are 0."""
    count = min(panel.shape[1], x.shape[0] - first)
    if count < panel.shape[1]:
        panel[:] = 0.0
    for j in range(count):
        line, scale = x[first + j], scales[first + j]
        for k in range(line.size):
            panel[k, j] = np.float64(snap_float32(line[k], scale))


@inlined
def pack(x, in_columns, first, scales, panel):
    """`pack_columns` if `in_columns`, else `pack_rows`."""
    if in_columns:
        pack_columns(x, first, scales, panel)
    else:
        pack_rows(x, first, scales, panel)


@kernel
def pack_panels(x, in_columns, first, scales, panels):
    """Fill `panels`, float64 (panels, K, COLUMNS), with the vectors of x from panel number `first`
    on.

    x: float32 contiguous, (K, n) if `in_columns`, else (n, K). `scales`: float32, one per vector,
    padded to whole panels.
    """
    for panel in prange(panels.shape[0]):
        at = (first + np.int64(panel)) * COLUMNS
        pack(x, in_columns, at, scales, panels[panel])


def accumulate(
    builder: Any, left: Any, row: Any, step: Any, right: Any, stride: Any, count: Any
) -> list[Any]:
    """Exact products of ROWS rows with COLUMNS columns, as ROWS registers of COLUMNS float64.

    `left`, `right`: addresses of the first elements. `row`: bytes from left row to left row.
    `step`: bytes from element to element of a left row. `stride`: bytes from row to row of the
    right factor. `count`: elements of each vector.
    """
    kind = ir.FunctionType(FLOAT64S, [FLOAT64S, FLOAT64S, FLOAT64S])
    name = f"llvm.fmuladd.v{COLUMNS}f64"
    multiply = cgutils.get_or_insert_function(builder.module, kind, name)
    rows = [builder.add(left, builder.mul(row, INT64(one))) for one in range(ROWS)]
    totals = [cgutils.alloca_once_value(builder, ir.Constant(FLOAT64S, None)) for _ in rows]
    with cgutils.for_range(builder, count, intp=INT64) as loop:
        factors = load(builder, builder.add(right, builder.mul(loop.index, stride)), FLOAT64S)
        offset = builder.mul(loop.index, step)
        for one, total in zip(rows, totals, strict=True):
            factor = load(builder, builder.add(one, offset), ir.DoubleType())
            terms = [broadcast(builder, factor), factors, builder.load(total)]
            builder.store(builder.call(multiply, terms), total)
    return [builder.load(total) for total in totals]


@intrinsic
def multiply_block(
    context: Any,
    left: Any,
    row: Any,
    step: Any,
    right: Any,
    stride: Any,
    count: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    """Store ROWS rows of COLUMNS float64 products of `accumulate` at `out`, `out_stride` bytes from
    row to row."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = args[6]
        for total in accumulate(builder, *args[:6]):
            store(builder, total, target, 8)
            target = builder.add(target, args[7])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 8), generate


@intrinsic
def multiply_tile(
    context: Any,
    left: Any,
    right: Any,
    count: Any,
    left_units: Any,
    right_units: Any,
    bias: Any,
    bias_stride: Any,
    alpha: Any,
    beta: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    """A tile of ROWS x COLUMNS results from a left and a right panel of `count` elements:
    `accumulate`, then `epilogue`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, panel, number, *rest = args
        steps = INT64(8), INT64(8 * ROWS), panel, INT64(8 * COLUMNS)
        epilogue(builder, accumulate(builder, at, *steps, number), rest)
        return context.get_dummy_value()

    number, real = types.int64, types.float64
    return types.void(*(number,) * 7, real, real, number, number), generate


@kernel
def multiply_panels(
    x,
    in_columns,
    scales,
    left_units,
    packed_rows,
    right,
    right_units,
    first,
    bias,
    alpha,
    beta,
    out,
):
    """Fill out[:, first * COLUMNS ...], float32 (M, N), with x times `right`.

    x: the left factor, as in `pack_panels`. `packed_rows`: float64 (threads, panels, K, ROWS),
    scratch for the panels that a thread packs at a time. `right`: float64 (panels, K, COLUMNS),
    from panel `first` on. Units are float64. `bias`: float32 with 1 row or M rows. Units and bias
    are padded to whole panels.

    The inner loop uses addresses instead of views, because numba counts references to every view.
    """
    m = out.shape[0]
    workers, several, depth = packed_rows.shape[:3]
    bias_stride = bias.strides[0] if bias.shape[0] > 1 else 0
    for thread in prange(workers):
        mine = np.int64(thread)
        buffer = packed_rows.ctypes.data + mine * packed_rows.strides[0]
        edge = np.empty((ROWS, COLUMNS), dtype=np.float32)
        for top in range(mine * several * ROWS, m, workers * several * ROWS):
            count = min(several, -(-(m - top) // ROWS))
            for one in range(count):
                pack(x, in_columns, top + one * ROWS, scales, packed_rows[mine, one])
            for panel in range(right.shape[0]):
                at = (first + panel) * COLUMNS
                for one in range(count):
                    row = top + one * ROWS
                    target, stride = output_address(out, edge, row, at)
                    multiply_tile(
                        buffer + one * packed_rows.strides[1],
                        right.ctypes.data + panel * right.strides[0],
                        depth,
                        left_units.ctypes.data + 8 * row,
                        right_units.ctypes.data + 8 * at,
                        bias.ctypes.data + row * bias_stride + 4 * at,
                        bias_stride,
                        alpha,
                        beta,
                        target,
                        stride,
                    )
                    copy_edge(out, edge, row, at)
        keep_alive(edge)
