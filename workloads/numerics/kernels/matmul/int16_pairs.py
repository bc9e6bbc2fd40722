"""Matrix products of 13-bit integers on SSE2, AVX2 and AVX-512: int16 numbers, multiplied and added
in pairs.

A *pair* is two neighbours along K, int16 each, in one int32. The pairs of the left factor are used
whole. The numbers of the right factor are cut into digits, q = h * 128 + l with -64 <= l < 64 and
|h| <= 64, and the digits form pairs of their own. One instruction (`pmaddwd`, Intel SDM volume 2)
multiplies a left pair with the pairs of as many columns as a register holds, and adds the two
products of each pair. That sum is at most 2^20 in magnitude, so int32 holds the total of LONGEST =
2047 pairs.

The route needs twice the instructions of float32, and each instruction multiplies twice as many
factors: at best it takes the time of float32, where float64 takes at least twice that time. 20 bits
would need four digit products, which take as long as float64. The route therefore serves 13 bits
and K <= 2 * LONGEST only. All arithmetic is on integers and exact.
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
    MULTIPLY_ADD_NAME,
    ROWS,
    broadcast,
    copy_edge,
    epilogue,
    load,
    output_address,
)
from workloads.numerics.kernels.primitives.compilation import intrinsic, keep_alive, kernel
from workloads.numerics.kernels.primitives.grid import (
    exponent_of,
    larger_magnitude,
    scale_of,
    snap_float32,
    unit_of,
)

BITS = 13
"""Magnitude bits of each factor."""
LONGEST = 2047
"""Number of pairs whose products an int32 can add up."""
_BLOCK = 32
"""Rows and columns of a block of `transpose`."""


@kernel
def snap_rows(x, halves, units):
    """The rows of x, (n, K) float32 contiguous, as integers of 13 bits.

    `halves`: int16 (n, K or K + 1), the halves of the pairs; an odd K is padded with 0. `units`:
    float64 (n,). Both are filled. Returns how many rows are not finite.
    """
    broken = 0
    depth = x.shape[1]
    for i in prange(x.shape[0]):
        line, whole = x[i], halves[i]
        largest = np.int32(0)
        for k in range(depth):
            largest = larger_magnitude(largest, line[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        units[i] = unit_of(exponent, BITS)
        scale = scale_of(exponent, BITS)
        for k in range(depth):
            whole[k] = np.int16(np.int32(snap_float32(line[k], scale)))
        whole[depth:] = 0
    return broken


@kernel
def snap_columns(x, scales, words):
    """The columns of x, (K, n) float32 contiguous, as pairs. `scales`: float32 (n,) from
    `grid.column_scales`.

    `words`: the pairs, int32 (ceil(K / 2), n), filled. The halves of a pair come from two rows of
    x.
    """
    depth, n = x.shape
    for t in prange(-(-depth // 2)):
        first = np.int64(t) * 2
        line, pair = x[first], words[t]
        for i in range(n):
            pair[i] = np.int32(snap_float32(line[i], scales[i])) & 0xFFFF
        if first + 1 < depth:
            line = x[first + 1]
            for i in range(n):
                pair[i] |= np.int32(snap_float32(line[i], scales[i])) << 16


@kernel
def transpose(words, turned):
    """Fill `turned`, (n, m), with the transpose of `words`, the pairs (m, n), block by block."""
    m, n = words.shape
    for block in prange(-(-m // _BLOCK)):
        top = np.int64(block) * _BLOCK
        rows = min(_BLOCK, m - top)
        # A buffer avoids cache conflicts: rows that lie a power of two apart map to the same cache
        # sets, and would be evicted before they are full.
        buffer = np.empty((_BLOCK, _BLOCK), dtype=words.dtype)
        for left in range(0, n, _BLOCK):
            columns = min(_BLOCK, n - left)
            for i in range(rows):
                for j in range(columns):
                    buffer[i, j] = words[top + i, left + j]
            for j in range(columns):
                for i in range(rows):
                    turned[left + j, top + i] = buffer[i, j]


@intrinsic
def split_digits(context: Any, words: Any, digits: Any) -> Any:
    """Split LANES pairs into two rows of pairs of digits: the high digits, then the low digits.
    `words` and `digits` are the addresses of the pairs and of the digits."""
    kind = ir.VectorType(ir.IntType(32), LANES)

    def splat(value: int) -> Any:
        return ir.Constant(kind, [value] * LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = load(builder, args[0], kind)
        pair = [
            builder.ashr(builder.shl(both, splat(16)), splat(16)),
            builder.ashr(both, splat(16)),
        ]
        high = [builder.ashr(builder.add(one, splat(64)), splat(7)) for one in pair]
        low = [
            builder.sub(one, builder.shl(top, splat(7)))
            for one, top in zip(pair, high, strict=True)
        ]
        for place, (even, odd) in enumerate((high, low)):
            word = builder.or_(builder.and_(even, splat(0xFFFF)), builder.shl(odd, splat(16)))
            where = builder.add(args[1], ir.IntType(64)(4 * LANES * place))
            builder.store(word, builder.inttoptr(where, kind.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@kernel
def pack_digits(words, panels):
    """The pairs of the right factor, `words` int32 (T, n), as digits.

    `panels`: int32 (panels, T, 2, LANES), filled: for each pair, the high digits of LANES columns,
    then the low digits. Columns after the last column are 0.
    """
    count, n = words.shape
    for panel in prange(panels.shape[0]):
        at = np.int64(panel) * LANES
        source = words.ctypes.data + 4 * at
        target = panels.ctypes.data + np.int64(panel) * panels.strides[0]
        edge = np.zeros(LANES, dtype=np.int32)
        for t in range(count):
            if at + LANES > n:
                for j in range(n - at):
                    edge[j] = words[t, at + j]
                source = edge.ctypes.data
            split_digits(source, target)
            source += 4 * n
            target += 8 * LANES
        keep_alive(edge)


def multiply_add_pairs(builder: Any, a: Any, b: Any) -> Any:
    """For each lane, the sum of the products of the low halves and of the high halves of two pairs:
    int32 lanes."""
    if MULTIPLY_ADD_NAME:
        halves = ir.VectorType(ir.IntType(16), 2 * LANES)
        kind = ir.FunctionType(a.type, [halves, halves])
        multiply = cgutils.get_or_insert_function(builder.module, kind, MULTIPLY_ADD_NAME)
        return builder.call(multiply, [builder.bitcast(one, halves) for one in (a, b)])
    half = ir.Constant(a.type, [16] * LANES)
    odd = builder.mul(*(builder.ashr(one, half) for one in (a, b)))
    even = builder.mul(*(builder.ashr(builder.shl(one, half), half) for one in (a, b)))
    return builder.add(odd, even)


def accumulate(builder: Any, left: Any, stride: Any, right: Any, count: Any) -> list[Any]:
    """Exact products of ROWS rows with one panel, as ROWS registers of LANES float64.

    `left`: address of the first row of pairs; `stride`: bytes from row to row; `right`: address of
    the panel; `count`: pairs per row, at most LONGEST.
    """
    word = ir.IntType(32)
    whole = ir.VectorType(word, LANES)
    lines = [builder.add(left, builder.mul(stride, INT64(row))) for row in range(ROWS)]
    sums = [
        [cgutils.alloca_once_value(builder, ir.Constant(whole, None)) for _ in range(2)]
        for _ in lines
    ]
    with cgutils.for_range(builder, count, intp=INT64) as loop:
        here = builder.add(right, builder.mul(loop.index, INT64(8 * LANES)))
        digits = [load(builder, here, whole, offset=4 * LANES * d) for d in range(2)]
        for line, pair in zip(lines, sums, strict=True):
            place = builder.add(line, builder.mul(loop.index, INT64(4)))
            factor = broadcast(builder, load(builder, place, word))
            for digit, total in zip(digits, pair, strict=True):
                product = multiply_add_pairs(builder, factor, digit)
                builder.store(builder.add(builder.load(total), product), total)
    totals: list[Any] = []
    for pair in sums:
        high, low = (builder.sitofp(builder.load(total), FLOAT64S) for total in pair)
        shifted = builder.fmul(high, ir.Constant(FLOAT64S, [128.0] * LANES))
        totals.append(builder.fadd(shifted, low))
    return totals


@intrinsic
def multiply_tile(
    context: Any,
    left: Any,
    stride: Any,
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
    """A tile of ROWS x LANES results: `accumulate`, then `epilogue`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        epilogue(builder, accumulate(builder, *args[:4]), args[4:])
        return context.get_dummy_value()

    number, real = types.int64, types.float64
    return types.void(*(number,) * 8, real, real, number, number), generate


@kernel
def multiply_panels(left, right, several, left_units, right_units, first, bias, alpha, beta, out):
    """Fill out[:, first * LANES ...], float32 (M, N), with left x right.

    `left`: pairs, int32 (M, count), followed by at least ROWS readable rows. `right`: digits, int32
    (panels, count, 2, LANES), a block of columns that begins at panel `first`. `several`: panels of
    ROWS rows of the left factor that a thread multiplies with each right panel in turn. Units are
    float64. `bias`: float32 with 1 row or M rows. Units and bias are padded to whole tiles.
    """
    m = out.shape[0]
    bias_stride = bias.strides[0] if bias.shape[0] > 1 else 0
    for block in prange(-(-m // (several * ROWS))):
        top = np.int64(block) * several * ROWS
        edge = np.empty((ROWS, LANES), dtype=np.float32)
        for panel in range(right.shape[0]):
            at = (first + panel) * LANES
            for row in range(top, min(m, top + several * ROWS), ROWS):
                target, stride = output_address(out, edge, row, at)
                multiply_tile(
                    left.ctypes.data + row * left.strides[0],
                    left.strides[0],
                    right.ctypes.data + panel * right.strides[0],
                    right.shape[1],
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
