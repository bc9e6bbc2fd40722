"""Products of 13-bit integers on AVX2 and AVX-512: 16-bit numbers, multiplied and added in pairs.

A *word* is two neighbours along K, int16 each, in one int32. The left factor's words are used
whole; the right one's are cut into digits, q = h * 128 + l with -64 <= l < 64 and |h| <= 64. One
instruction (`pmaddwd`, Intel SDM volume 2) multiplies a word of the left with as many columns'
words as a register holds, and adds each pair: at most 2^20 in magnitude, so an int32 carries 2047
of them.

Twice the instructions of float32, each with twice the factors: at best its time, where float64
takes at least twice as long. 20 bits would need four digit products, as much time as float64 takes:
they have no route here, nor have longer sums. Integers are exact, so nothing here can change a bit.
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
LONGEST = 2047
"""Words whose products an int32 can add up."""
_BLOCK = 32
"""Numbers that are turned at a time, in either direction."""


@kernel
def snap_rows(x, halves, units):
    """Rows of x, (n, K) float32 contiguous, as int16 (n, K or K + 1), the halves of words; units
    float64 (n,).

    Returns the number of rows that are not finite."""
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
    """Columns of x, (K, n) float32 contiguous, by the scales of `grid.column_scales`, as words
    int32 (K / 2, n) whose halves come from two lines of x."""
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
    """Transposes (m, n) into (n, m), block by block."""
    m, n = words.shape
    for block in prange(-(-m // _BLOCK)):
        top = np.int64(block) * _BLOCK
        rows = min(_BLOCK, m - top)
        # By way of a buffer: lines that lie a power of two apart would drive each other from the
        # cache before they are full.
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
    """LANES words at one address as two lines of digits at another: higher, then lower."""
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
    """Words (T, n) as digits, int32 (n / LANES, T, 2, LANES): the higher ones, then the lower."""
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
    """Of each lane's words the sum of both halves' products."""
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
    """Registers of LANES float64, one for each of ROWS rows: the products of `count` words, up to
    LONGEST, of lines `stride` bytes apart with as many of one panel. left, right: addresses."""
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
    """ROWS lines of LANES results: `accumulate`, then `epilogue`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        epilogue(builder, accumulate(builder, *args[:4]), args[4:])
        return context.get_dummy_value()

    number, real = types.int64, types.float64
    return types.void(*(number,) * 8, real, real, number, number), generate


@kernel
def multiply_panels(left, right, several, left_units, right_units, first, bias, alpha, beta, out):
    """out[:, first * LANES ...] = left x right, float32 (M, N).

    left: words int32 (M, count), and as much after it as ROWS more lines take; right: int32
    (panels, count, 2, LANES) of a block of columns that begins at panel `first`. `several`: how
    many times ROWS lines of the left factor meet a panel, one after the other. units float64 and
    bias float32 of 1 or M rows, with as much behind them as fills the last ROWS or LANES."""
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
