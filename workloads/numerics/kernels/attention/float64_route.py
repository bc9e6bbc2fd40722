"""Attention without AMX: `batched_products` multiplies in float64, and one pass per row computes
the rest.

The definition is `reference.operators.attention`. The route processes a group of heads at a time,
so that the scores of the group stay in the processor's caches.
"""

from typing import Any

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.attention import batched_products as products
from workloads.numerics.kernels.attention.softmax_weights import (
    divide_row,
    exact_dot,
    log_sum_exp,
    score_gradient,
    softmax_weights,
    visible_keys,
)
from workloads.numerics.kernels.matmul import float64_panels
from workloads.numerics.kernels.primitives import grid
from workloads.numerics.kernels.primitives.compilation import array, inlined, kernel
from workloads.numerics.kernels.primitives.grid import (
    column_magnitudes,
    fill_scales,
    grid_bits,
    power,
    snap_float32,
)
from workloads.numerics.kernels.primitives.scratch import scratch

Array = np.ndarray[Any, Any]
CACHED_SCORES = 1 << 19
"""Number of scores in a group of heads."""
_MAGIC = 1.5 * 2.0**52


@inlined
def snap_columns(x, bits, out, units):
    """Fill `out`, float64 (K, n), and `units`, float64 (n,), with the integers and units of one
    head's columns, x (K, n) float32. Returns how many columns are not finite."""
    largest = np.zeros(x.shape[1], dtype=np.int32)
    scales = np.empty(x.shape[1], dtype=np.float32)
    column_magnitudes(x, 0, x.shape[0], largest)
    broken = fill_scales(largest, bits, scales, units)
    for k in range(x.shape[0]):
        line, row = x[k], out[k]
        for i in range(line.size):
            row[i] = np.float64(snap_float32(line[i], scales[i]))
    return broken


@kernel
def snap_head_columns(x, bits, out, units):
    """`snap_columns` for each head of x, (heads, K, n) float32: fills out (heads, K, n) and units
    (heads, n). Returns how many columns are not finite."""
    broken = 0
    for head in prange(x.shape[0]):
        broken += snap_columns(x[head], bits, out[head], units[head])
    return broken


@kernel
def snap_transposed(x, scales, out):
    """Fill `out`, float64 (heads, K, n), with the transposed integers of x, (heads, n, K) float32.
    `scales`: float32 (heads, n), one per row of x."""
    for head in prange(x.shape[0]):
        source, target, by = x[head], out[head], scales[head]
        for k in range(target.shape[0]):
            line = target[k]
            for i in range(line.size):
                line[i] = np.float64(snap_float32(source[i, k], by[i]))


@inlined
def scale_scores(line, unit, units, scores):
    """Fill `scores` with the products of one query from their exact integers, `line`: line * (unit
    * units) + 0.0, float64."""
    for k in range(scores.size):
        scores[k] = line[k] * (unit * units[k]) + 0.0


@kernel
def weigh(exact, q_units, k_units, mask, has_mask, causal, factor, bits, t, whole, sums, logs):
    """Weights of the values from the exact integers of the scores, float64 (heads, T, keys).

    Filled: t, float64 (heads, T, keys); `whole`, t in units of 2^-bits, of the same shape; `sums`
    and `logs`, (heads, T): the row sums of t and the log of the sum of exp(score). Returns how many
    rows have NaN or infinity.
    """
    heads, queries, keys = exact.shape
    fine, broken = grid_bits(keys), 0
    for head in prange(heads):
        scores = np.empty(keys)
        for row in range(queries):
            count = visible_keys(row, keys, causal)
            line = t[head, row]
            scale_scores(exact[head, row], q_units[head, row], k_units[head], scores[:count])
            total, largest = softmax_weights(
                scores[:count], factor, mask[head, row], has_mask, fine, line[:count]
            )
            broken += not largest < np.inf
            line[count:] = 0.0
            sums[head, row], logs[head, row] = total, log_sum_exp(total, largest)
            grid, scale = whole[head, row], power(bits)
            for k in range(keys):
                grid[k] = (line[k] * scale + _MAGIC) - _MAGIC
    return broken


@kernel
def mix(exact, v_units, unit, sums, out):
    """Fill `out`, float32 (heads, T, width), with t V / sums. `exact`: the exact integers of t V,
    float64 of the same shape."""
    for head in prange(exact.shape[0]):
        for row in range(exact.shape[1]):
            divisor = sums[head, row] if sums[head, row] else 1.0
            line, result, units = exact[head, row], out[head, row], v_units[head]
            for j in range(line.size):
                result[j] = np.float32((line[j] * (unit * units[j]) + 0.0) / divisor)


@kernel
def slope_of(exact, g_units, v_units, t, sums, g, o, factor, causal, slopes, shared):
    """Fill `slopes`, (heads, T, keys), with the gradients of the scores, and `shared`, (heads, T,
    width), with g / sums; both float32. `exact`: the exact integers of g V', float64 (heads, T,
    keys)."""
    heads, queries, keys = exact.shape
    thin = grid_bits(g.shape[2])
    for head in prange(heads):
        towards = np.empty(keys)
        for row in range(queries):
            count = visible_keys(row, keys, causal)
            here, total = exact_dot(g[head, row], o[head, row], thin), sums[head, row]
            scale_scores(exact[head, row], g_units[head, row], v_units[head], towards[:count])
            slope = slopes[head, row]
            divide_row(g[head, row], total, shared[head, row])
            score_gradient(t[head, row, :count], total, towards, here, factor, slope)
            slope[count:] = 0.0


@kernel
def finish(exact, row_units, column_units, out):
    """Fill `out`, float32 (heads, M, N), with exact * row unit * column unit. Units: float64
    (heads, M) and (heads, N)."""
    for head in prange(exact.shape[0]):
        for i in range(exact.shape[1]):
            line, result = exact[head, i], out[head, i]
            unit, units = row_units[head, i], column_units[head]
            for j in range(line.size):
                result[j] = np.float32(line[j] * (unit * units[j]) + 0.0)


class _Heads:
    """The matrices of a group of heads, float32 (heads, n, K). A method snaps them by rows or by
    columns. `broken` counts the vectors that are not finite."""

    def __init__(self, name: str, x: Array, bits: int) -> None:
        self._name, self._x, self._bits = name, np.ascontiguousarray(x), bits
        self.broken = 0

    def rows(self) -> tuple[Array, Array]:
        """The integers of the rows, float64 (heads, n, K), and their units, float64 (heads, n)."""
        whole = scratch(f"{self._name} in rows", self._x.shape, np.float64)
        flat, (scales, units) = (-1, self._x.shape[2]), self._scales()
        float64_panels.snap_rows(self._x.reshape(flat), scales.reshape(-1), whole.reshape(flat))
        return whole, units

    def _scales(self) -> tuple[Array, Array]:
        """Scales, float32 (heads, n), and units, float64 (heads, n), of the rows."""
        shape = self._x.shape[:2]
        scales, units = np.empty(shape, dtype=np.float32), np.empty(shape)
        flat = self._x.reshape(-1, self._x.shape[2])
        self.broken += grid.row_scales(flat, self._bits, scales.reshape(-1), units.reshape(-1))
        return scales, units

    def rows_transposed(self) -> tuple[Array, Array]:
        """The integers of the rows, transposed: float64 (heads, K, n), and their units, float64
        (heads, n)."""
        heads, n, depth = self._x.shape
        whole = scratch(f"{self._name} is_transposed", (heads, depth, n), np.float64)
        scales, units = self._scales()
        snap_transposed(self._x, scales, whole)
        return whole, units

    def columns(self) -> tuple[Array, Array]:
        """The integers of the columns of matrices (heads, K, n), float64 of that shape, and their
        units, float64 (heads, n)."""
        heads, depth, n = self._x.shape
        whole = scratch(f"{self._name} in columns", (heads, depth, n), np.float64)
        units = np.empty((heads, n))
        self.broken += snap_head_columns(self._x, self._bits, whole, units)
        return whole, units


def _exact(
    left: Array, right: Array, bits: int, part: int, *, is_transposed: bool = False
) -> Array:
    """The exact product (heads, M, K) x (heads, K, N) of integers up to 2^bits in magnitude, as
    float64, or the part that `part` names.

    The result is a scratch buffer, valid until the next call. `is_transposed`: left is (heads, K,
    M).
    """
    heads, depth, columns = right.shape
    chunk = 1 << (53 - 2 * bits)
    if depth <= chunk:
        rows = left.shape[2] if is_transposed else left.shape[1]
        out = scratch("exact", (heads, rows, columns), np.float64)
        products.multiply(left, is_transposed, right, part, out)
        return out
    one, other = torch.from_numpy(left), torch.from_numpy(right)
    one = one.transpose(1, 2) if is_transposed else one
    parts = zip(one.split(chunk, 2), other.split(chunk, 1), strict=True)
    total = sum(torch.bmm(first, second).to(torch.int64) for first, second in parts)
    return array(torch.as_tensor(total).to(torch.float64))


def _groups(q: Array, k: Array) -> list[slice]:
    """Slices of the heads, one per group of at most CACHED_SCORES scores."""
    step = max(1, CACHED_SCORES // (q.shape[1] * k.shape[1]))
    return [slice(at, at + step) for at in range(0, q.shape[0], step)]


def _parts(causal: bool, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Which part is computed of the scores, of sums over keys and of sums over queries. `shape`:
    (heads, queries, keys)."""
    if causal and shape[1] == shape[2]:
        return products.SEEN_COLUMNS, products.SEEN_TERMS, products.LATER_TERMS
    return products.ALL, products.ALL, products.ALL


def _weigh(q: _Heads, k: _Heads, shape: Any, options: Any, bits: int, logs: Array) -> Any:
    """t, the integers of t, the row sums of t, and how many rows are not finite, for a group of
    heads."""
    (whole_q, q_units), (whole_k, k_units) = q.rows(), k.rows_transposed()
    t, whole = (scratch(name, shape, np.float64) for name in ("t", "whole t"))
    sums = np.empty(shape[:2])
    exact = _exact(whole_q, whole_k, bits, _parts(options[2], shape)[0])
    broken = weigh(exact, q_units, k_units, *options, bits, t, whole, sums, logs)
    return t, whole, sums, broken


def forward(
    q: Array,
    k: Array,
    v: Array,
    mask: Array,
    has_mask: bool,
    causal: bool,
    factor: float,
    bits: int,
    out: Array,
    logs: Array,
) -> int:
    """Attention of all heads. Returns how many vectors are not finite.

    q: (heads, T, width); k, v: (heads, keys, width); mask: (heads, T, keys or 0); all float32.
    Filled: out (heads, T, width) and logs (heads, T), both float32. `factor`: multiplier of the
    scores.
    """
    broken = 0
    for few in _groups(q, k):
        heads = [_Heads(name, x[few], bits) for name, x in zip("qkv", (q, k, v), strict=True)]
        shape = (len(q[few]), q.shape[1], k.shape[1])
        options = (mask[few], has_mask, causal, factor)
        _, whole, sums, bad = _weigh(heads[0], heads[1], shape, options, bits, logs[few])
        whole_v, v_units = heads[2].columns()
        over_keys = _parts(causal, shape)[1]
        exact = _exact(whole, whole_v, bits, over_keys)
        mix(exact, v_units, 2.0**-bits, sums, out[few])
        broken += bad + sum(one.broken for one in heads)
    return broken


def backward(
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    o: Array,
    mask: Array,
    has_mask: bool,
    causal: bool,
    factor: float,
    bits: int,
    gq: Array,
    gk: Array,
    gv: Array,
) -> int:
    """Gradients of attention for all heads. Returns how many vectors are not finite.

    g: gradient of the output; o: the output. Filled: gq (heads, T, width), gk and gv (heads, keys,
    width), all float32. The other parameters are those of `forward`.
    """
    broken = 0
    for few in _groups(q, k):
        named = zip("qkvg", (q, k, v, g), strict=True)
        heads = [_Heads(name, x[few], bits) for name, x in named]
        shape = (len(q[few]), q.shape[1], k.shape[1])
        options = (mask[few], has_mask, causal, factor)
        scores, over_keys, over_queries = _parts(causal, shape)
        unused = np.empty(shape[:2], dtype=np.float32)
        t, whole, sums, bad = _weigh(heads[0], heads[1], shape, options, bits, unused)
        (whole_g, g_units), (whole_v, v_units) = heads[3].rows(), heads[2].rows_transposed()
        slopes, shared = scratch("slopes", shape, np.float32), np.empty_like(q[few])
        towards = _exact(whole_g, whole_v, bits, scores)
        slope_of(towards, g_units, v_units, t, sums, g[few], o[few], factor, causal, slopes, shared)
        heads += [_Heads("slopes", slopes, bits), _Heads("shared", shared, bits)]
        whole_s, s_units = heads[5].columns()
        share_units = np.full(shape[::2], 2.0**-bits)
        exact = _exact(whole, whole_s, bits, over_queries, is_transposed=True)
        finish(exact, share_units, s_units, gv[few])
        (rows, row_units), (columns, column_units) = heads[4].rows(), heads[4].columns()
        whole_k, k_units = heads[1].columns()
        exact = _exact(rows, whole_k, bits, over_keys)
        finish(exact, row_units, k_units, gq[few])
        whole_q, q_units = heads[0].columns()
        exact = _exact(columns, whole_q, bits, over_queries, is_transposed=True)
        finish(exact, column_units, q_units, gk[few])
        broken += bad + sum(one.broken for one in heads)
    return broken
