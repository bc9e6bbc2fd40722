"""Exact products of one matrix per head: integers in float64, one head per thread.

In a causal product, the part above the diagonal is not computed: its results are not read, or its
terms are 0. Every sum is a sum of integers below 2^53. A fused multiply-add therefore gives the
same bits as a product and a sum.
"""

from numba import prange

from workloads.numerics.kernels.matmul.float64_panels import COLUMNS, multiply_block
from workloads.numerics.kernels.matmul.micro_kernel import ROWS
from workloads.numerics.kernels.primitives.compilation import inlined, kernel

ALL, SEEN_COLUMNS, SEEN_TERMS, LATER_TERMS = range(4)
"""Part of a product that is computed. ALL: every element. SEEN_COLUMNS: each query's elements up to
its own key. SEEN_TERMS: each query's sums over the keys up to its own. LATER_TERMS: each key's sums
over the queries from its own on."""


@inlined
def multiply_small(left, is_transposed, right, out):
    """The product of one head with fewer than ROWS rows or COLUMNS columns."""
    out[:] = 0.0
    for i in range(out.shape[0]):
        for k in range(right.shape[0]):
            factor = left[k, i] if is_transposed else left[i, k]
            for j in range(out.shape[1]):
                out[i, j] += factor * right[k, j]


@inlined
def multiply_head(left, is_transposed, right, causal_part, out):
    """The product of one head. The last block of rows and of columns overlaps the block before it;
    the overlap is computed twice."""
    (m, n), depth = out.shape, right.shape[0]
    row, step = left.strides[::-1] if is_transposed else left.strides
    for first in range(0, m, ROWS):
        top = min(first, m - ROWS)
        bottom = top + ROWS
        begin = top if causal_part == LATER_TERMS else 0
        end = min(bottom, depth) if causal_part == SEEN_TERMS else depth
        stop = min(bottom, n) if causal_part == SEEN_COLUMNS else n
        for column in range(0, stop, COLUMNS):
            at = min(column, n - COLUMNS)
            multiply_block(
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
def multiply(left, is_transposed, right, causal_part, out):
    """Fill `out`, float64 (heads, M, N), with left (heads, M, K) x right (heads, K, N), or with the
    part that `causal_part` names.

    Both factors are integers in contiguous float64. `is_transposed`: left is (heads, K, M).
    """
    for head in prange(out.shape[0]):
        if out.shape[1] < ROWS or out.shape[2] < COLUMNS:
            multiply_small(left[head], is_transposed, right[head], out[head])
        else:
            multiply_head(left[head], is_transposed, right[head], causal_part, out[head])
