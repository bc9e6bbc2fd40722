"""Vectors as slices of int8 in the layout of AMX tiles: each vector is snapped to its grid, and
each integer is cut into digits.

q = d2 * 128^2 + d1 * 128 + d0 with -64 <= d0, d1 < 64 and |d2| <= 64. Three slices hold
|q| <= 2^20, two hold |q| <= 2^13. Digits of at most 64 in magnitude stay exact on processors that
saturate the int16 sum of two int8 products.

A *panel* is 16 vectors. Its layout is [K tile][slice][1024 bytes], and a K tile is 64 elements of
each vector. In the left factor, the 1024 bytes are 16 rows (one per vector) of 64 elements. In the
right factor, they are 16 rows of 4 elements of each of the 16 vectors.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from workloads.numerics.kernels.primitives.compilation import inlined, intrinsic, keep_alive, kernel
from workloads.numerics.kernels.primitives.grid import (
    MAGIC32,
    column_magnitudes,
    exponent_of,
    fill_scales,
    larger_magnitude,
    scale_of,
    unit_of,
)

WIDTH = 16
"""Vectors in a panel."""
DEPTH = 64
"""Elements of each vector in a K tile."""
SLICES = {20: 3, 13: 2}
"""Number of slices for each number of magnitude bits."""
BITS = {3: 20, 2: 13}
"""Magnitude bits for each number of slices."""
_INT = ir.IntType(32)
_MAGIC32_BITS = 0x4B400000


def _snap(builder: Any, x: Any, scale: Any, lanes: int) -> Any:
    """The integers nearest to x * scale, ties to even: int32 lanes, at most 2^21 in magnitude.

    The arithmetic is float32. The scale is a power of two and the sum is rounded once, so the
    result is that of float64.
    """
    magic = ir.Constant(ir.VectorType(ir.FloatType(), lanes), [float(MAGIC32)] * lanes)
    shifted = builder.fadd(builder.fmul(x, scale), magic)
    bits = builder.bitcast(shifted, ir.VectorType(_INT, lanes))
    return builder.sub(bits, _whole(_MAGIC32_BITS, lanes))


def _whole(value: int, lanes: int) -> Any:
    """An int32 constant in every lane."""
    return ir.Constant(ir.VectorType(_INT, lanes), [value] * lanes)


def _digits(builder: Any, q: Any, slices: int, lanes: int) -> list[Any]:
    """The signed digits of q, highest first. All digits but the first lie in -64 .. 63."""
    digits = []
    for _ in range(slices - 1):
        lifted = builder.shl(q, _whole(25, lanes))
        digits.append(builder.ashr(lifted, _whole(25, lanes)))
        q = builder.ashr(builder.add(q, _whole(64, lanes)), _whole(7, lanes))
    return [q, *reversed(digits)]


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector with `value` in every lane."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, value, _INT(0))
    return builder.shuffle_vector(first, empty, _whole(0, lanes))


def _store_digits(builder: Any, digits: list[Any], address: Any) -> None:
    """Store the digits of each slice, 1024 bytes after those of the slice before."""
    for s, digit in enumerate(digits):
        target = builder.add(address, ir.Constant(ir.IntType(64), 1024 * s))
        builder.store(digit, builder.inttoptr(target, digit.type.as_pointer()), align=64)


def _read(builder: Any, address: Any, kind: Any, lanes: int) -> Any:
    """A vector of `lanes` numbers of type `kind` at an address."""
    pointer = builder.inttoptr(address, ir.VectorType(kind, lanes).as_pointer())
    return builder.load(pointer, align=4)


def _snap_float64(builder: Any, x: Any, bits: int, lanes: int) -> Any:
    """The integers nearest to x * 2^bits, ties to even: int32 lanes. x: float64 lanes with
    |x| <= 1."""
    kind = ir.VectorType(ir.DoubleType(), lanes)
    scaled = builder.fmul(x, ir.Constant(kind, [2.0**bits] * lanes))
    shifted = builder.fadd(scaled, ir.Constant(kind, [1.5 * 2.0**52] * lanes))
    # The low 32 bits of MAGIC are 0, so the low 32 bits of the sum are the integer.
    whole = builder.bitcast(shifted, ir.VectorType(ir.IntType(64), lanes))
    return builder.trunc(whole, ir.VectorType(_INT, lanes))


def _pack(builder: Any, rows: list[list[Any]], lanes: int) -> list[Any]:
    """One int32 vector per slice, whose four bytes are the digits of four rows."""
    packed: list[Any] = [_whole(0, lanes)] * len(rows[0])
    for j, digits in enumerate(rows):
        for s, digit in enumerate(digits):
            byte = builder.shl(builder.and_(digit, _whole(255, lanes)), _whole(8 * j, lanes))
            packed[s] = builder.or_(packed[s], byte)
    return packed


@intrinsic
def split_row_tile(context: Any, x: Any, scale: Any, out: Any, slices: Any) -> Any:
    """Cut 64 float32 at address `x` into slices: 64 bytes each, at `out` and every 1024 bytes after
    it."""
    count, cut = slices.literal_value, ir.VectorType(ir.IntType(8), DEPTH)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _read(builder, args[0], ir.FloatType(), DEPTH)
        q = _snap(builder, values, _splat(builder, args[1], DEPTH), DEPTH)
        digits = [builder.trunc(one, cut) for one in _digits(builder, q, count, DEPTH)]
        _store_digits(builder, digits, args[2])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64, slices), generate


@intrinsic
def split_weight_row(context: Any, x: Any, out: Any, slices: Any) -> Any:
    """`split_row_tile` for 64 float64 in 0 .. 1, on the grid 2^-BITS[slices]."""
    count, cut = slices.literal_value, ir.VectorType(ir.IntType(8), DEPTH)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _read(builder, args[0], ir.DoubleType(), DEPTH)
        q = _snap_float64(builder, values, BITS[count], DEPTH)
        digits = [builder.trunc(one, cut) for one in _digits(builder, q, count, DEPTH)]
        _store_digits(builder, digits, args[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, slices), generate


@intrinsic
def split_column_words(
    context: Any, x: Any, stride: Any, scales: Any, out: Any, slices: Any
) -> Any:
    """Cut four rows of 16 columns, float32, `stride` bytes from row to row, into one row of a right
    tile per slice. Each int32 of that row holds the four digits of one column."""
    count = slices.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scale = _read(builder, args[2], ir.FloatType(), WIDTH)
        rows, address = [], args[0]
        for _ in range(4):
            values = _read(builder, address, ir.FloatType(), WIDTH)
            rows.append(_digits(builder, _snap(builder, values, scale, WIDTH), count, WIDTH))
            address = builder.add(address, args[1])
        _store_digits(builder, _pack(builder, rows, WIDTH), args[3])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, slices), generate


@intrinsic
def split_weight_columns(context: Any, x: Any, stride: Any, out: Any, slices: Any) -> Any:
    """`split_column_words` for float64 in 0 .. 1, on the grid 2^-BITS[slices]."""
    count = slices.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, address = [], args[0]
        for _ in range(4):
            values = _read(builder, address, ir.DoubleType(), WIDTH)
            q = _snap_float64(builder, values, BITS[count], WIDTH)
            rows.append(_digits(builder, q, count, WIDTH))
            address = builder.add(address, args[1])
        _store_digits(builder, _pack(builder, rows, WIDTH), args[2])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, slices), generate


@intrinsic
def transpose_words(context: Any, source: Any, target: Any) -> Any:
    """Transpose 16 x 16 int32 from one address to another. Both are aligned to 64 bytes."""
    row = ir.VectorType(_INT, 16)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = builder.inttoptr(args[0], row.as_pointer())
        rows = [builder.load(builder.gep(start, [_INT(i)]), align=64) for i in range(16)]
        for step in (1, 2, 4, 8):  # swap blocks of `step` rows and columns
            rows = _swap(builder, rows, step)
        end = builder.inttoptr(args[1], row.as_pointer())
        for i, one in enumerate(rows):
            builder.store(one, builder.gep(end, [_INT(i)]), align=64)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _swap(builder: Any, rows: list[Any], step: int) -> list[Any]:
    """The rows after the exchange of off-diagonal blocks of `step` x `step` elements."""
    kind = ir.VectorType(_INT, 16)
    swapped = list(rows)
    for i in range(16):
        if i & step:
            continue
        upper, lower = rows[i], rows[i + step]
        first = [j if not j & step else 16 + j - step for j in range(16)]
        second = [j + step if not j & step else 16 + j for j in range(16)]
        swapped[i] = builder.shuffle_vector(upper, lower, ir.Constant(kind, first))
        swapped[i + step] = builder.shuffle_vector(upper, lower, ir.Constant(kind, second))
    return swapped


@inlined
def split_row(x, scale, slices, out):
    """Cut one vector, contiguous float32, into its row of every K tile of a left panel.

    `out`: address of the vector's row in the first tile. An incomplete last tile is padded with 0.
    """
    whole = x.size // DEPTH
    for tile in range(whole):
        if slices == 3:
            split_row_tile(x[tile * DEPTH :].ctypes.data, scale, out, 3)
        else:
            split_row_tile(x[tile * DEPTH :].ctypes.data, scale, out, 2)
        out += slices * 1024
    if x.size > whole * DEPTH or x.size == 0:
        last = np.zeros(DEPTH, dtype=np.float32)
        for k in range(whole * DEPTH, x.size):
            last[k - whole * DEPTH] = x[k]
        if slices == 3:
            split_row_tile(last.ctypes.data, scale, out, 3)
        else:
            split_row_tile(last.ctypes.data, scale, out, 2)
        keep_alive(last)


@inlined
def aligned(count):
    """An uninitialised int8 array (count,) aligned to 64 bytes."""
    room = np.empty(count + 64, dtype=np.int8)
    skip = (-room.ctypes.data) & 63
    return room[skip : skip + count]


@inlined
def split_row_panel(x, first, slices, bits, right, tiles, units):
    """Cut x[first : first + 16] into one panel. x: (n, K) float32 with contiguous rows; missing
    rows are 0.

    `tiles`: int8 (K tiles, slices, 1024), filled. `units`: float64 (16,), filled with 2^(exponent -
    bits). `right`: use the layout of the right factor. Returns how many rows are not finite.
    """
    size = tiles.size
    scratch = aligned(size if right else 0)
    end = tiles.ctypes.data
    start = scratch.ctypes.data if right else end
    nothing = np.zeros(x.shape[1], dtype=np.float32)
    broken = 0
    for i in range(WIDTH):
        line = x[first + i] if first + i < x.shape[0] else nothing
        largest = np.int32(0)
        for k in range(line.size):
            largest = larger_magnitude(largest, line[k])
        exponent = exponent_of(largest)
        broken += exponent > 128
        units[i] = unit_of(exponent, bits)
        split_row(line, scale_of(exponent, bits), slices, start + i * DEPTH)
    if right:
        for at in range(0, size, 1024):
            transpose_words(start + at, end + at)
    keep_alive(scratch)
    return broken


@kernel
def split_rows(x, slices, bits, right, tiles, units):
    """Cut the rows of x, (n, K) float32 contiguous, into panels.

    `tiles`: int8 (panels, K tiles, slices, 1024), filled. `units`: float64 (panels * 16,), filled.
    `right`: use the layout of the right factor. Returns how many rows are not finite.
    """
    broken = 0
    for panel in prange(tiles.shape[0]):
        at = np.int64(panel) * WIDTH
        broken += split_row_panel(x, at, slices, bits, right, tiles[panel], units[at : at + WIDTH])
    return broken


@inlined
def split_column_tile(x, scales, tile, slices, right, tiles):
    """Cut 64 rows of x, (K, n) float32 with contiguous rows, into K tile number `tile` of every
    panel. The vectors are the columns.

    `scales`: float32 (panels * 16,). `tiles`: int8 (panels, K tiles, slices, 1024), filled.
    """
    depth, n = x.shape
    scratch = aligned(slices * 1024)
    start = scratch.ctypes.data
    edge = np.zeros((4, WIDTH), dtype=np.float32)
    for panel in range(tiles.shape[0]):
        at = panel * WIDTH
        width = min(WIDTH, n - at)
        end = tiles[panel, tile].ctypes.data
        target = end if right else start
        for row in range(16):
            k = tile * DEPTH + 4 * row
            lines, stride = x[k:, at:].ctypes.data, x.strides[0]
            if width < WIDTH or k + 4 > depth:
                edge[:] = 0
                for j in range(min(4, depth - k)):
                    for i in range(width):
                        edge[j, i] = x[k + j, at + i]
                lines, stride = edge.ctypes.data, 4 * WIDTH
            if slices == 3:
                split_column_words(lines, stride, scales[at:].ctypes.data, target + 64 * row, 3)
            else:
                split_column_words(lines, stride, scales[at:].ctypes.data, target + 64 * row, 2)
        if not right:
            for s in range(slices):
                transpose_words(start + 1024 * s, end + 1024 * s)
    keep_alive(scratch)
    keep_alive(edge)


@inlined
def split_rows_serially(x, slices, bits, right, tiles, units):
    """`split_rows` on one thread."""
    broken = 0
    for panel in range(tiles.shape[0]):
        at = panel * WIDTH
        broken += split_row_panel(x, at, slices, bits, right, tiles[panel], units[at : at + WIDTH])
    return broken


@inlined
def split_columns_serially(x, slices, bits, right, tiles, units):
    """`grid.column_scales` and `split_columns` on one thread. Returns how many columns are not
    finite."""
    n = x.shape[1]
    largest = np.zeros(n, dtype=np.int32)
    scales = np.ones(tiles.shape[0] * WIDTH, dtype=np.float32)
    column_magnitudes(x, 0, x.shape[0], largest)
    broken = fill_scales(largest, bits, scales, units)
    for tile in range(tiles.shape[1]):
        split_column_tile(x, scales, tile, slices, right, tiles)
    keep_alive(scales)
    return broken


@kernel
def split_columns(x, scales, slices, right, tiles):
    """Cut the columns of x, (K, n) float32 contiguous, into panels. `scales`: float32 (panels *
    16,). `tiles`: as in `split_rows`, filled."""
    for tile in prange(tiles.shape[1]):
        split_column_tile(x, scales, np.int64(tile), slices, right, tiles)
