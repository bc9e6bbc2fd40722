"""Products of 13-bit integers on AVX2 and AVX-512: 16-bit numbers, multiplied and added in pairs.

A *word* is two neighbours along K, int16 each, in one int32. The left factor's words are used
whole; the right one's are cut into digits, q = h * 128 + l with -64 <= l < 64 and |h| <= 64. One
instruction (`pmaddwd`, Intel SDM volume 2) multiplies a word of the left with as many columns'
words as a register holds, and adds each pair: at most 2^20 in magnitude, so an int32 carries 2047
of them.

Twice the instructions of float32, each with twice the factors: exact products in about its time,
where float64 takes more than twice as long. 20 bits would need four digit products, as much time as
float64 takes: they have no route here. Integers are exact, so nothing here can change a bit.
"""

from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.registry import cpu_target

from workloads.numerics.fused.kernel import hold, inlined, instruction, kernel
from workloads.numerics.fused.slices import exponent_of, larger, scale_of, unit_of


def _widest() -> tuple[int, str]:
    """int32 of the widest register that multiplies pairs, and LLVM's name for that: empty where a
    processor has no such instruction."""
    features = cast(Any, cpu_target.target_context).codegen()._tm_features
    if "+avx512bw" in features:
        return 16, "llvm.x86.avx512.pmaddw.d.512"
    if "+avx2" in features:
        return 8, "llvm.x86.avx2.pmadd.wd"
    return 4, "llvm.x86.sse2.pmadd.wd" if "+sse2" in features else ""


LANES, _NAME = _widest()
BITS = 13
ROWS = 6
"""Of the left factor that are multiplied together: with two digits, twelve registers of sums."""
LONGEST = 2047
"""Words whose products an int32 can add up."""
_BLOCK = 32
"""Numbers that are turned at a time, in either direction."""
MAGIC32 = np.float32(1.5 * 2.0**23)
"""Added to a float32 below 2^22 in magnitude and taken away, it leaves the nearest integer."""
_WIDE = ir.VectorType(ir.DoubleType(), LANES)


def read(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    """What lies so many bytes after an address."""
    moved = builder.add(address, ir.IntType(64)(offset))
    return builder.load(builder.inttoptr(moved, kind.as_pointer()), align=4)


def spread(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """A register that holds a value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


@kernel
def round_rows(x, halves, units):
    """Rows of x, (n, K) float32 contiguous, as int16 (n, K or K + 1), the halves of words; units
    float64 (n,).

    Returns the number of rows that are not finite."""
    broken = 0
    depth = x.shape[1]
    for i in prange(x.shape[0]):
        line, whole = x[i], halves[i]
        largest = np.int32(0)
        for k in range(depth):
            largest = larger(largest, line[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        units[i] = unit_of(exponent, BITS)
        scale = scale_of(exponent, BITS)
        for k in range(depth):
            whole[k] = np.int16(np.int32((line[k] * scale + MAGIC32) - MAGIC32))
        whole[depth:] = 0
    return broken


@kernel
def round_columns(x, scales, words):
    """Columns of x, (K, n) float32 contiguous, by the scales of `slices.column_scales`, as words
    int32 (K / 2, n) whose halves come from two lines of x."""
    depth, n = x.shape
    for t in prange(-(-depth // 2)):
        first = np.int64(t) * 2
        line, pair = x[first], words[t]
        for i in range(n):
            pair[i] = np.int32((line[i] * scales[i] + MAGIC32) - MAGIC32) & 0xFFFF
        if first + 1 < depth:
            line = x[first + 1]
            for i in range(n):
                pair[i] |= np.int32((line[i] * scales[i] + MAGIC32) - MAGIC32) << 16


@kernel
def turn(words, turned):
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


@instruction
def split_line(context: Any, words: Any, digits: Any) -> Any:
    """LANES words at one address as two lines of digits at another: higher, then lower."""
    kind = ir.VectorType(ir.IntType(32), LANES)

    def splat(value: int) -> Any:
        return ir.Constant(kind, [value] * LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = read(builder, args[0], kind)
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
def split(words, panels):
    """Words (T, n) as digits, int32 (n / LANES, T, 2, LANES): the higher ones, then the lower."""
    count, n = words.shape
    for panel in prange(panels.shape[0]):
        at = np.int64(panel) * LANES
        source = words.ctypes.data + 4 * at
        target = panels.ctypes.data + np.int64(panel) * panels.strides[0]
        edge = np.zeros(LANES, dtype=np.int32)
        for t in range(count):
            if at + LANES > n:
                edge[: n - at] = words[t, at:]
                source = edge.ctypes.data
            split_line(source, target)
            source += 4 * n
            target += 8 * LANES
        hold(edge)


def multiply_pairs(builder: Any, a: Any, b: Any) -> Any:
    """Of each lane's words the sum of both halves' products."""
    if _NAME:
        halves = ir.VectorType(ir.IntType(16), 2 * LANES)
        kind = ir.FunctionType(a.type, [halves, halves])
        multiply = cgutils.get_or_insert_function(builder.module, kind, _NAME)
        return builder.call(multiply, [builder.bitcast(one, halves) for one in (a, b)])
    half = ir.Constant(a.type, [16] * LANES)
    odd = builder.mul(*(builder.ashr(one, half) for one in (a, b)))
    even = builder.mul(*(builder.ashr(builder.shl(one, half), half) for one in (a, b)))
    return builder.add(odd, even)


@instruction
def add_products(context: Any, left: Any, stride: Any, right: Any, count: Any, out: Any) -> Any:
    """Adds to float64 (ROWS, LANES) at `out` the products of `count` words of ROWS lines, `stride`
    bytes apart at `left`, with as many of one panel at `right`. All but `count` are addresses."""
    word, address = ir.IntType(32), ir.IntType(64)
    whole = ir.VectorType(word, LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, step, panel, number, totals = args
        lines = [builder.add(at, builder.mul(step, address(row))) for row in range(ROWS)]
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(whole, None)) for _ in range(2)]
            for _ in lines
        ]
        with cgutils.for_range(builder, number, intp=address) as loop:
            here = builder.add(panel, builder.mul(loop.index, address(8 * LANES)))
            digits = [read(builder, here, whole, offset=4 * LANES * d) for d in range(2)]
            for line, pair in zip(lines, sums, strict=True):
                place = builder.add(line, builder.mul(loop.index, address(4)))
                factor = spread(builder, read(builder, place, word))
                for digit, total in zip(digits, pair, strict=True):
                    product = multiply_pairs(builder, factor, digit)
                    builder.store(builder.add(builder.load(total), product), total)
        for row, pair in enumerate(sums):
            high, low = (builder.sitofp(builder.load(total), _WIDE) for total in pair)
            high = builder.fmul(high, ir.Constant(_WIDE, [128.0] * LANES))
            before = read(builder, totals, _WIDE, offset=8 * LANES * row)
            where = builder.add(totals, address(8 * LANES * row))
            total = builder.fadd(before, builder.fadd(high, low))
            builder.store(total, builder.inttoptr(where, _WIDE.as_pointer()), align=8)
        return context.get_dummy_value()

    number = types.int64
    return types.void(number, number, number, number, number), generate


@instruction
def finish_line(
    context: Any, totals: Any, unit: Any, units: Any, alpha: Any, bias: Any, beta: Any, out: Any
) -> Any:
    """LANES results, float32((C * unit * units + 0.0) * alpha + bias * beta), from one line of
    exact products C. `totals`, `units`, `bias` and `out` are addresses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        narrow = ir.VectorType(ir.FloatType(), LANES)
        scale = builder.fmul(spread(builder, args[1]), read(builder, args[2], _WIDE))
        value = builder.fmul(read(builder, args[0], _WIDE), scale)
        value = builder.fadd(value, ir.Constant(_WIDE, [0.0] * LANES))
        added = builder.fpext(read(builder, args[4], narrow), _WIDE)
        added = builder.fmul(added, spread(builder, args[5]))
        value = builder.fadd(builder.fmul(value, spread(builder, args[3])), added)
        pointer = builder.inttoptr(args[6], narrow.as_pointer())
        builder.store(builder.fptrunc(value, narrow), pointer, align=4)
        return context.get_dummy_value()

    address, number = types.int64, types.float64
    return types.void(address, number, address, number, address, number, address), generate


@inlined
def finish_tile(totals, edge, row, at, left_units, right_units, bias, alpha, beta, out):
    """out[row ..., at ...] from exact products (ROWS, LANES), as far as there is any of it.

    `edge`: room for LANES float32."""
    m, n = out.shape
    bias_stride = bias.strides[0] if bias.shape[0] > 1 else 0
    sums, units = totals.ctypes.data, right_units.ctypes.data + 8 * at
    added = bias.ctypes.data + row * bias_stride + 4 * at
    target = out.ctypes.data + 4 * (row * n + at)
    whole = at + LANES <= n
    for i in range(min(ROWS, m - row)):
        place = target if whole else edge.ctypes.data
        finish_line(sums, left_units[row + i], units, alpha, added, beta, place)
        if not whole:
            out[row + i, at:] = edge[: n - at]
        sums += 8 * LANES
        added += bias_stride
        target += 4 * n
    hold(totals)
    hold(edge)


@kernel
def multiply_words(left, right, count, left_units, right_units, first, bias, alpha, beta, out):
    """out[:, first * LANES ...] = left x right.

    left: words int32 (M, count), and as much after it as ROWS more lines take; right: int32
    (panels, count, 2, LANES) of a block of columns that begins at panel `first`; units float64;
    bias float32 of 1 or M rows, each padded to whole panels."""
    m = out.shape[0]
    stride, size = left.strides[0], right.strides[0]
    for panel in prange(-(-m // ROWS)):
        row = np.int64(panel) * ROWS
        totals, edge = np.empty((ROWS, LANES)), np.empty(LANES, dtype=np.float32)
        sums, lines = totals.ctypes.data, left.ctypes.data + row * stride
        for block in range(right.shape[0]):
            totals[:] = 0.0
            for begin in range(0, count, LONGEST):
                source = right.ctypes.data + block * size + begin * 8 * LANES
                some = min(LONGEST, count - begin)
                add_products(lines + begin * 4, stride, source, some, sums)
            at = (first + block) * LANES
            finish_tile(totals, edge, row, at, left_units, right_units, bias, alpha, beta, out)
        hold(totals)
        hold(edge)
