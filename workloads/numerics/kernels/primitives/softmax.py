"""The two passes over a row that softmax, its losses and attention share."""

import math

import numpy as np

from workloads.numerics.kernels.primitives import functions as f
from workloads.numerics.kernels.primitives.compilation import bits_of, float64_of, inlined
from workloads.numerics.kernels.primitives.grid import snap
from workloads.numerics.reference.operators.losses import VANISHED

_VANISHED = VANISHED
_ALL_BUT_SIGN = 0x7FFFFFFFFFFFFFFF
_LOWEST = -0x7FF0000000000001
"""The bits of -inf in the signed order of `row_maximum`."""


@inlined
def row_maximum(line):
    """The largest element of a row, as float64. NaN if any element is NaN. The comparison is one of
    integers, so that the loop vectorises."""
    top, broken = _LOWEST, 0
    for k in range(line.size):
        value = np.float64(line[k])
        broken += value != value  # noqa: PLR0124 - NaN
        bits = bits_of(value)
        ordered = bits ^ ((bits >> 63) & _ALL_BUT_SIGN)
        top = ordered if ordered > top else top
    largest = float64_of(top ^ ((top >> 63) & _ALL_BUT_SIGN))
    return math.nan if broken else largest


@inlined
def exponentials(line, largest, scale, grown):
    """grown[k] = exp(line[k] - largest), or 0 if line[k] - largest < VANISHED: the exponential is
    then 0 in float32.

    Returns the sum of `grown` as an integer on the grid of `scale`, int64.
    """
    total = np.int64(0)
    for k in range(line.size):
        difference = np.float64(line[k]) - largest
        value = f.exp(difference)
        value = value if difference >= _VANISHED else 0.0
        grown[k] = value
        total += snap(value, scale)
    return total
