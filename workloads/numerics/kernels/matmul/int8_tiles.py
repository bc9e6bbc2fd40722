"""Products of panels of int8 slices on AMX. The totals are summed by weight, scaled and rounded in
registers."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from workloads.numerics.kernels.matmul import amx
from workloads.numerics.kernels.matmul.int8_slices import aligned
from workloads.numerics.kernels.primitives.compilation import inlined, intrinsic, keep_alive, kernel


@inlined
def multiply_three_slices(left, right, tiles, totals):
    """The nine products of three slices, summed by weight into five int32 tiles at `totals`,
    highest weight first. `left`, `right`: addresses of panels of `tiles` K tiles."""
    amx.zero(0)
    amx.zero(1)
    amx.zero(2)
    amx.zero(3)
    amx.zero(4)
    for _ in range(tiles):
        amx.load(5, left)
        amx.load(6, right)
        amx.multiply(0, 5, 6)
        amx.load(7, right + 1024)
        amx.multiply(1, 5, 7)
        amx.load(6, right + 2048)
        amx.multiply(2, 5, 6)
        amx.load(5, left + 1024)
        amx.multiply(3, 5, 6)
        amx.multiply(2, 5, 7)
        amx.load(6, right)
        amx.multiply(1, 5, 6)
        amx.load(5, left + 2048)
        amx.multiply(2, 5, 6)
        amx.multiply(3, 5, 7)
        amx.load(7, right + 2048)
        amx.multiply(4, 5, 7)
        left += 3072
        right += 3072
    amx.store(0, totals)
    amx.store(1, totals + 1024)
    amx.store(2, totals + 2048)
    amx.store(3, totals + 3072)
    amx.store(4, totals + 4096)


@inlined
def multiply_two_slices(left, right, tiles, totals):
    """The four products of two slices, summed by weight into three int32 tiles at `totals`, highest
    weight first. `left`, `right`: addresses of panels of `tiles` K tiles."""
    amx.zero(0)
    amx.zero(1)
    amx.zero(2)
    for _ in range(tiles):
        amx.load(4, left)
        amx.load(5, right)
        amx.multiply(0, 4, 5)
        amx.load(6, right + 1024)
        amx.multiply(1, 4, 6)
        amx.load(7, left + 1024)
        amx.multiply(2, 7, 6)
        amx.multiply(1, 7, 5)
        left += 2048
        right += 2048
    amx.store(0, totals)
    amx.store(1, totals + 1024)
    amx.store(2, totals + 2048)


_WHOLE, _WIDE = ir.VectorType(ir.IntType(32), 16), ir.VectorType(ir.DoubleType(), 16)
_NARROW = ir.VectorType(ir.FloatType(), 16)


def _read(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    """A vector of type `kind` at address + `offset` bytes."""
    moved = builder.add(address, ir.Constant(ir.IntType(64), offset))
    return builder.load(builder.inttoptr(moved, kind.as_pointer()), align=4)


def _splat(builder: Any, value: Any) -> Any:
    """A float64 vector with `value` in every lane."""
    empty = ir.Constant(_WIDE, ir.Undefined)
    first = builder.insert_element(empty, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, empty, ir.Constant(_WHOLE, [0] * 16))


def _product(builder: Any, totals: Any, unit: Any, units: Any, slices: int) -> Any:
    """C * unit * units + 0.0 as 16 float64, for one row of the int32 totals at address `totals`.
    The totals of the next weight lie 1024 bytes after.

    C is the exact integer product. Every partial sum is below 2^53.
    """
    weights = 2 * slices - 1
    total = ir.Constant(_WIDE, [0.0] * 16)
    for place in range(weights):
        weight = ir.Constant(_WIDE, [128.0 ** (weights - 1 - place)] * 16)
        part = builder.sitofp(_read(builder, totals, _WHOLE, 1024 * place), _WIDE)
        total = builder.fadd(total, builder.fmul(part, weight))
    one = builder.load(builder.inttoptr(unit, ir.DoubleType().as_pointer()))
    scale = builder.fmul(_splat(builder, one), _read(builder, units, _WIDE))
    return builder.fadd(builder.fmul(total, scale), ir.Constant(_WIDE, [0.0] * 16))


@intrinsic
def epilogue_row(
    context: Any,
    totals: Any,
    unit: Any,
    units: Any,
    alpha: Any,
    bias: Any,
    beta: Any,
    out: Any,
    slices: Any,
) -> Any:
    """Store 16 results, float32((C * unit * units + 0.0) * alpha + bias * beta), for one row of
    int32 totals.

    Addresses: `unit` of one float64, `units` of 16 float64, `bias` of 16 float32, `out` of 16
    float32.
    """
    count = slices.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _product(builder, args[0], args[1], args[2], count)
        added = builder.fpext(_read(builder, args[4], _NARROW), _WIDE)
        added = builder.fmul(added, _splat(builder, args[5]))
        value = builder.fadd(builder.fmul(value, _splat(builder, args[3])), added)
        pointer = builder.inttoptr(args[6], _NARROW.as_pointer())
        builder.store(builder.fptrunc(value, _NARROW), pointer, align=4)
        return context.get_dummy_value()

    address, number = types.int64, types.float64
    arguments = (address, address, address, number, address, number, address, slices)
    return types.void(*arguments), generate


@inlined
def multiply_panels(left, right, tiles, slices, totals):
    """Multiply one left and one right panel into the int32 totals. `left` and `right` are addresses
    of at least (tiles, slices, 1024) bytes; `totals` is the address of `new_totals`.

    The parameters are addresses instead of arrays, because numba counts references to every view.
    """
    if slices == 3:
        multiply_three_slices(left, right, tiles, totals)
    else:
        multiply_two_slices(left, right, tiles, totals)


@inlined
def new_totals():
    """An uninitialised int32 array (5, 16, 16) aligned to 64 bytes."""
    return aligned(5 * amx.TILE_BYTES).view(np.int32).reshape((5, 16, 16))


@intrinsic
def scale_row(context: Any, totals: Any, unit: Any, units: Any, out: Any, slices: Any) -> Any:
    """Store C * unit * units + 0.0 as 16 float64 at address `out`, for one row of int32 totals. The
    other parameters are those of `epilogue_row`."""
    count = slices.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _product(builder, args[0], args[1], args[2], count)
        builder.store(value, builder.inttoptr(args[3], _WIDE.as_pointer()), align=8)
        return context.get_dummy_value()

    address = types.int64
    return types.void(address, address, address, address, slices), generate


@inlined
def scale_tile(totals, slices, units, right_units, out, stride):
    """`scale_row` for the 16 rows of a tile. The rows of `out`, float64, lie `stride` bytes apart.
    `units`, `right_units` and `out` are addresses."""
    for i in range(16):
        if slices == 3:
            scale_row(totals + 64 * i, units + 8 * i, right_units, out + stride * i, 3)
        else:
            scale_row(totals + 64 * i, units + 8 * i, right_units, out + stride * i, 2)


@kernel
def multiply_tiles(left, right, left_units, right_units, first, bias, alpha, beta, layout, out):
    """Fill out[:, first * 16 ...], float32 (M, N), with left x right.

    `left`: int8 (panels, K tiles, slices, 1024). `right`: the same for a block of columns that
    begins at panel `first`. Units are float64, one per row and per column. `bias`: float32 with 1
    row or M rows, padded to 16 columns per panel. `layout`: `amx.configuration()`.
    """
    m, n = out.shape
    tiles, slices = left.shape[1], left.shape[2]
    stride, size = 4 * n, tiles * slices * 1024
    for panel in prange(left.shape[0]):
        amx.configure(layout.ctypes.data)
        totals, edge = new_totals(), np.empty(16, dtype=np.float32)
        row = np.int64(panel) * 16
        from_left, sums = left.ctypes.data + np.int64(panel) * size, totals.ctypes.data
        results = out.ctypes.data + row * stride
        full_bias = bias.shape[0] > 1
        added = bias.ctypes.data + (row * bias.strides[0] if full_bias else 0)
        for block in range(right.shape[0]):
            multiply_panels(from_left, right.ctypes.data + block * size, tiles, slices, sums)
            at = (first + block) * 16
            whole = at + 16 <= n
            for i in range(min(16, m - row)):
                unit, units = left_units.ctypes.data + 8 * (row + i), right_units.ctypes.data
                one_bias = added + 4 * at + (i * bias.strides[0] if full_bias else 0)
                target = results + i * stride + 4 * at if whole else edge.ctypes.data
                source, units = sums + 64 * i, units + 8 * at
                if slices == 3:
                    epilogue_row(source, unit, units, alpha, one_bias, beta, target, 3)
                else:
                    epilogue_row(source, unit, units, alpha, one_bias, beta, target, 2)
                if not whole:
                    for j in range(n - at):
                        out[row + i, at + j] = edge[j]
        keep_alive(totals)
        keep_alive(edge)
        amx.release()
