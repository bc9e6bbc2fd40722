"""Exact products of a few heads' matrices, whole numbers in float64, one head to a thread.

Where queries see no later keys, what lies beyond is left out: it is never read, or counts as 0.
Every sum is of integers up to 2^53, so a fused multiply-add gives what two instructions give.
"""

from numba import prange

from workloads.numerics.fused.kernel import inlined, kernel
from workloads.numerics.fused.registers import ROWS
from workloads.numerics.fused.wide import COLUMNS, multiply_lines

EVERYTHING, SEEN_COLUMNS, SEEN_TERMS, LATER_TERMS = range(4)
"""What is computed: all; each query with the keys up to it; each query's sum over those keys; each
key's sum over the queries from it on."""


@inlined
def multiply_few(left, turned, right, out):
    """One head with fewer rows or columns than are multiplied together."""
    out[:] = 0.0
    for i in range(out.shape[0]):
        for k in range(right.shape[0]):
            factor = left[k, i] if turned else left[i, k]
            for j in range(out.shape[1]):
                out[i, j] += factor * right[k, j]


@inlined
def multiply_head(left, turned, right, part, out):
    """One head of `multiply`. The last rows and columns are taken together with some before them,
    which are computed twice."""
    (m, n), depth = out.shape, right.shape[0]
    row, step = left.strides[::-1] if turned else left.strides
    for first in range(0, m, ROWS):
        top = min(first, m - ROWS)
        bottom = top + ROWS
        begin = top if part == LATER_TERMS else 0
        end = min(bottom, depth) if part == SEEN_TERMS else depth
        stop = min(bottom, n) if part == SEEN_COLUMNS else n
        for column in range(0, stop, COLUMNS):
            at = min(column, n - COLUMNS)
            multiply_lines(
                left.ctypes.data + top * row + begin * step,
                row,
                step,
                right.ctypes.data + begin * right.strides[0] + 8 * at,
                right.strides[0],
                end - begin,
                out.ctypes.data + top * out.strides[0] + 8 * at,
                out.strides[0],
            )


@kernel
def multiply(left, turned, right, part, out):
    """out (heads, M, N) float64 = left (heads, M, K) x right (heads, K, N), or what `part` says of
    it. Factors are whole numbers in float64, contiguous; a left one that is `turned` has its last
    two dimensions exchanged."""
    for head in prange(out.shape[0]):
        if out.shape[1] < ROWS or out.shape[2] < COLUMNS:
            multiply_few(left[head], turned, right[head], out[head])
        else:
            multiply_head(left[head], turned, right[head], part, out[head])
