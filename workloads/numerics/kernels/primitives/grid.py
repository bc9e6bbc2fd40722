"""Kernel versions of the fixed-point grids of `reference.primitives.grid`, for one number or one
row.

The exponent of a vector comes from the bits of its largest magnitude: an integer maximum
vectorises. A *scale* is 2^(bits - exponent): x * scale rounds to the integer on the grid. A *unit*
is the inverse, 2^(exponent - bits): integer * unit is the value.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from workloads.numerics.kernels.primitives.compilation import (
    bits_of,
    float32_of,
    float64_of,
    inlined,
    intrinsic,
    kernel,
)
from workloads.numerics.reference.primitives.grid import LEAST_EXPONENT, MAGIC, MAGIC_BITS

MAGIC32 = np.float32(1.5 * 2.0**23)
"""x + MAGIC32 - MAGIC32 is the integer nearest to the float32 x, for |x| < 2^22."""
_INT = ir.IntType(32)
_LEAST = LEAST_EXPONENT
_MAGIC, _MAGIC_BITS = MAGIC, MAGIC_BITS


@inlined
def power(exponent):
    """2^exponent as float64, for an int64 exponent in -1022 .. 1023."""
    return float64_of((exponent + 1023) << 52)


@inlined
def grid_bits(count):
    """Kernel version of `reference.primitives.grid.sum_bits`: magnitude bits of a grid on which
    `count` terms add exactly."""
    length, rest = 0, max(count - 1, 0)
    while rest:
        length, rest = length + 1, rest >> 1
    return min(50, 51 - length)


@inlined
def snap(value, scale):
    """The integer nearest to value * scale, ties to even; int64. |value * scale| must be below
    2^51."""
    return bits_of(value * scale + _MAGIC) - _MAGIC_BITS


@intrinsic
def larger_magnitude(context: Any, largest: Any, x: Any) -> Any:
    """The larger of `largest` and the bits of |x|. `largest`: int32 bits of a magnitude; x:
    float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[1], _INT), _INT(0x7FFFFFFF))
        return builder.select(builder.icmp_signed(">", bits, args[0]), bits, args[0])

    return types.int32(types.int32, types.float32), generate


@inlined
def exponent_of(largest):
    """The smallest e >= LEAST_EXPONENT with |x| < 2^e, from the int32 bits of the largest |x| in
    float32. 129 if the largest |x| is infinite or NaN."""
    return max((np.int64(largest) >> 23) - 126, _LEAST)


@inlined
def scale_of(exponent, bits):
    """2^(bits - exponent) as float32."""
    return float32_of(np.int32((bits - exponent + 127) << 23))


@inlined
def unit_of(exponent, bits):
    """2^(exponent - bits) as float64."""
    return float64_of((exponent - bits + 1023) << 52)


@inlined
def snap_float32(x, scale):
    """The integer nearest to x * scale, ties to even, as float32. |x * scale| must be below
    2^22."""
    return (x * scale + MAGIC32) - MAGIC32


@inlined
def float64_exponent(line):
    """The smallest e >= LEAST_EXPONENT with |x| < 2^e over a float64 line. Above 1023 if an element
    is infinite or NaN."""
    top = np.int64(0)
    for k in range(line.size):
        bits = bits_of(abs(line[k]))
        top = bits if bits > top else top
    return max((top >> 52) - 1022, _LEAST)


@inlined
def channel_exponent(x, channel):
    """The smallest e >= LEAST_EXPONENT with |x| < 2^e over one channel of x, (N, C, L) float32. 129
    if the channel is not finite."""
    largest = np.int32(0)
    for n in range(x.shape[0]):
        line = x[n, channel]
        for k in range(line.size):
            largest = larger_magnitude(largest, line[k])
    return exponent_of(largest)


@inlined
def column_magnitudes(x, first, last, largest):
    """Raise `largest`, int32 (n,), to the bits of the largest magnitudes of the columns of
    x[first:last]. x: (K, n) float32."""
    for k in range(first, last):
        line = x[k]
        for i in range(line.size):
            largest[i] = larger_magnitude(largest[i], line[i])


@inlined
def fill_scales(largest, bits, scales, units):
    """Fill scales, float32 (n,), and units, float64 (n,), from `largest`, int32 (n,): the bits of
    the largest magnitudes. Returns how many are not finite."""
    broken = 0
    for i in range(largest.size):
        exponent = exponent_of(largest[i])
        broken += exponent > 128
        scales[i] = scale_of(exponent, bits)
        units[i] = unit_of(exponent, bits)
    return broken


@kernel
def column_scales(x, bits, scales, units):
    """Fill scales, float32 (n,), and units, float64 (n,), of the columns of x, (K, n) float32
    contiguous.

    Returns how many columns are not finite.
    """
    depth, n = x.shape
    parts = max(1, min(64, depth // 32))
    largest = np.zeros((parts, n), dtype=np.int32)
    for part in prange(parts):
        mine = np.int64(part)
        column_magnitudes(x, mine * depth // parts, (mine + 1) * depth // parts, largest[mine])
    for part in range(1, parts):
        for i in range(n):
            largest[0, i] = max(largest[0, i], largest[part, i])
    return fill_scales(largest[0], bits, scales, units)


@kernel
def row_scales(x, bits, scales, units):
    """Fill scales, float32 (n,), and units, float64 (n,), of the rows of x, (n, K) float32
    contiguous.

    Returns how many rows are not finite.
    """
    broken = 0
    for i in prange(x.shape[0]):
        line, largest = x[i], np.int32(0)
        for k in range(line.size):
            largest = larger_magnitude(largest, line[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        scales[i] = scale_of(exponent, bits)
        units[i] = unit_of(exponent, bits)
    return broken
