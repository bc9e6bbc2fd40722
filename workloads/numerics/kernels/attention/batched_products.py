"""Exact products of a few heads' matrices, whole numbers in float64, one head to a thread.

Where queries see no later keys, what lies beyond is left out: it is never read, or counts as 0.
Every sum is of integers up to 2^53, so a fused multiply-add gives what two instructions give.
"""

from numba import prange

from workloads.numerics.kernels.matmul.float64_panels import COLUMNS, multiply_block
from workloads.numerics.kernels.matmul.micro_kernel import ROWS
from workloads.numerics.kernels.primitives.compilation import inlined, kernel

ALL, SEEN_COLUMNS, SEEN_TERMS, LATER_TERMS = range(4)
"""What is computed: all; each query with the keys up to it; each query's sum over those keys; each
key's sum over the queries from it on."""


@inlined
def multiply_small(left, is_transposed, right, out):
    """One head with fewer rows or columns than are multiplied together."""
    out[:] = 0.0
    for i in range(out.shape[0]):
        for k in range(right.shape[0]):
            factor = left[k, i] if is_transposed else left[i, k]
            for j in range(out.shape[1]):
                out[i, j] += factor * right[k, j]


@inlined
def multiply_head(left, is_transposed, right, causal_part, out):
    """One head of `multiply`. The last rows and columns are taken together with some before them,
    which are computed twice."""
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
    """out (heads, M, N) float64 = left (heads, M, K) x right (heads, K, N), or the part of
    it that `causal_part` names. Factors are integers in float64, contiguous. `is_transposed`: left
    is (heads, K, M)."""
    for head in prange(out.shape[0]):
        if out.shape[1] < ROWS or out.shape[2] < COLUMNS:
            multiply_small(left[head], is_transposed, right[head], out[head])
        else:
            multiply_head(left[head], is_transposed, right[head], causal_part, out[head])
