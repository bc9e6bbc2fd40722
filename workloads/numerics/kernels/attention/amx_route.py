"""Attention on AMX tiles. A thread computes one head at a time and keeps its scores in the core's
cache.

Queries, keys and values of a head are cut into slices once. The weights t = exp(score - row
maximum) of 16 queries are computed, cut on their fixed grid and multiplied before the next 16
queries. The definition is `reference.operators.attention`.
"""

import numpy as np
from numba import prange

from workloads.numerics.kernels.attention.softmax_weights import (
    divide_row,
    exact_dot,
    log_sum_exp,
    score_gradient,
    softmax_weights,
    visible_keys,
)
from workloads.numerics.kernels.matmul import amx
from workloads.numerics.kernels.matmul.int8_slices import (
    aligned,
    split_columns_serially,
    split_row_panel,
    split_rows_serially,
    split_weight_columns,
    split_weight_row,
)
from workloads.numerics.kernels.matmul.int8_tiles import multiply_panels, new_totals, scale_tile
from workloads.numerics.kernels.primitives.compilation import inlined, keep_alive, kernel
from workloads.numerics.kernels.primitives.grid import grid_bits, power


@inlined
def new_tiles(vectors, depth, slices):
    """Uninitialised tiles for `vectors` vectors of `depth` elements: int8 (panels, K tiles, slices,
    1024)."""
    panels, tiles = (vectors + 15) // 16, (depth + 63) // 64
    return aligned(panels * tiles * slices * 1024).reshape((panels, tiles, slices, 1024))


@inlined
def split_head_rows(x, slices, bits, right):
    """The rows of one head's matrix as tiles. Returns tiles, units float64 (panels * 16,), and how
    many rows are not finite."""
    tiles = new_tiles(x.shape[0], x.shape[1], slices)
    units = np.empty(tiles.shape[0] * 16, dtype=np.float64)
    broken = split_rows_serially(x, slices, bits, right, tiles, units)
    return tiles, units, broken


@inlined
def split_head_columns(x, slices, bits, right):
    """The columns of one head's matrix as tiles. Returns tiles, units float64 (panels * 16,), and
    how many columns are not finite."""
    tiles = new_tiles(x.shape[1], x.shape[0], slices)
    units = np.ones(tiles.shape[0] * 16, dtype=np.float64)
    broken = split_columns_serially(x, slices, bits, right, tiles, units)
    return tiles, units, broken


@inlined
def multiply_rows(left, panel, units, right, right_units, totals, count, out):
    """Fill 16 rows of `out`, float64, with the scaled products of panel number `panel` of `left`
    and the first `count` panels of `right`."""
    tiles, slices = left.shape[1], left.shape[2]
    size = tiles * slices * 1024
    # A panel of `right` may have more K tiles than `left`; the surplus tiles are skipped.
    step, begin = right.strides[0], left.ctypes.data + panel * size
    rows, sums = units.ctypes.data + panel * 128, totals.ctypes.data
    for block in range(count):
        multiply_panels(begin, right.ctypes.data + block * step, tiles, slices, sums)
        columns, target = right_units.ctypes.data + block * 128, out.ctypes.data + block * 128
        scale_tile(sums, slices, rows, columns, target, out.strides[0])


@kernel
def forward(q, k, v, mask, has_mask, causal, factor, bits, slices, layout, out, logs):
    """Attention of all heads. Returns how many vectors are not finite.

    q: (heads, T, width); k, v: (heads, keys, width); mask: (heads, T, keys); all float32. Filled:
    out (heads, T, width) and logs (heads, T), both float32. `factor`: multiplier of the scores.
    `layout`: `amx.configuration()`.
    """
    keys, width = k.shape[1], k.shape[2]
    fine = grid_bits(keys)
    broken = 0
    for head in prange(q.shape[0]):
        amx.configure(layout.ctypes.data)
        left_q, q_units, bad_q = split_head_rows(q[head], slices, bits, False)
        right_k, k_units, bad_k = split_head_rows(k[head], slices, bits, True)
        right_v, v_units, bad_v = split_head_columns(v[head], slices, bits, True)
        broken += bad_q + bad_k + bad_v
        padded = (keys + 63) // 64 * 64
        scores, t = np.empty((16, padded)), np.zeros((16, padded))
        tiles = new_tiles(16, keys, slices)
        mixed, weight_units = np.empty((16, (width + 15) // 16 * 16)), np.full(16, power(-bits))
        row_sums, totals, v_panels = np.empty(16), new_totals(), right_v.shape[0]
        for panel in range(left_q.shape[0]):
            first, limit = panel * 16, min(keys, panel * 16 + 16) if causal else keys
            blocks = (limit + 15) // 16
            multiply_rows(left_q, panel, q_units, right_k, k_units, totals, blocks, scores)
            for i in range(min(16, q.shape[1] - first)):
                count = visible_keys(first + i, keys, causal)
                line, hidden, one = scores[i, :count], mask[head, first + i], t[i, :count]
                row_sums[i], largest = softmax_weights(line, factor, hidden, has_mask, fine, one)
                broken += not largest < np.inf
                logs[head, first + i] = log_sum_exp(row_sums[i], largest)
            seen = tiles[:, : (limit + 63) // 64]
            split_weight_panel(t, slices, seen)
            multiply_rows(seen, 0, weight_units, right_v, v_units, totals, v_panels, mixed)
            for i in range(min(16, q.shape[1] - first)):
                divisor = row_sums[i] if row_sums[i] else 1.0  # all keys masked: products are 0
                result, one = out[head, first + i], mixed[i]
                for j in range(width):
                    result[j] = np.float32(one[j] / divisor)
        keep_alive(totals)
        amx.release()
    return broken


@inlined
def split_weight_panel(lines, slices, tiles):
    """Cut 16 rows of float64 in 0 .. 1, (16, >= 64 * K tiles), into a left panel, (1, K tiles,
    slices, 1024)."""
    for tile in range(tiles.shape[1]):
        for i in range(16):
            source = lines.ctypes.data + i * lines.strides[0] + tile * 512
            target = tiles.ctypes.data + tile * tiles.strides[1] + i * 64
            if slices == 3:
                split_weight_row(source, target, 3)
            else:
                split_weight_row(source, target, 2)


@inlined
def split_weight_panel_right(lines, panel, count, slices, tiles):
    """Cut 16 rows of float64 in 0 .. 1 into elements 16 * panel to 16 * panel + 15 of the first
    `count` right panels. The vectors of the panels are the keys."""
    stride = lines.strides[0]
    begin = tiles.ctypes.data + panel // 4 * tiles.strides[1] + panel % 4 * 256
    for block in range(count):
        for row in range(4):
            source = lines.ctypes.data + 4 * row * stride + block * 128
            target = begin + block * tiles.strides[0] + row * 64
            if slices == 3:
                split_weight_columns(source, stride, target, 3)
            else:
                split_weight_columns(source, stride, target, 2)


@inlined
def multiply_transposed(left, left_units, right, right_units, totals, part, out):
    """Fill `out`, float32 (vectors of `right`, vectors of `left`), with the transposed product.
    `part`: scratch, float64 (16, 16)."""
    for block in range(right.shape[0]):
        for panel in range(left.shape[0]):
            one = right[block : block + 1]
            multiply_rows(left, panel, left_units, one, right_units[16 * block :], totals, 1, part)
            columns = min(16, out.shape[1] - panel * 16)
            for j in range(min(16, out.shape[0] - block * 16)):
                for i in range(columns):
                    out[block * 16 + j, panel * 16 + i] = np.float32(part[i, j])


@inlined
def narrow(line, out):
    """Round a float64 row to float32."""
    for j in range(out.size):
        out[j] = np.float32(line[j])


@kernel
def backward(g, q, k, v, o, mask, has_mask, causal, factor, bits, slices, layout, gq, gk, gv):
    """Gradients of attention for all heads. Returns how many vectors are not finite.

    g, o, q: (heads, T, width); k, v: (heads, keys, width); all float32. Filled: gq (heads, T,
    width), gk and gv (heads, keys, width), all float32. The other parameters are those of
    `forward`.
    """
    keys, width, queries = k.shape[1], k.shape[2], q.shape[1]
    fine, thin = grid_bits(keys), grid_bits(width)
    broken = 0
    for head in prange(q.shape[0]):
        amx.configure(layout.ctypes.data)
        left_q, q_units, bad_q = split_head_rows(q[head], slices, bits, False)
        right_k, k_units, bad_k = split_head_rows(k[head], slices, bits, True)
        left_g, g_units, bad_g = split_head_rows(g[head], slices, bits, False)
        right_v, v_units, bad_v = split_head_rows(v[head], slices, bits, True)
        columns_k, kc_units, _ = split_head_columns(k[head], slices, bits, True)
        broken += bad_q + bad_k + bad_g + bad_v
        padded = (keys + 63) // 64 * 64
        scores, towards = np.empty((16, padded)), np.empty((16, padded))
        t = np.zeros((16, padded))
        steep = np.zeros((queries, keys), dtype=np.float32)
        shared = np.empty((queries, width), dtype=np.float32)
        right_t = new_tiles(keys, queries, slices)
        right_t[:] = 0
        tiles, one_units = new_tiles(16, keys, slices), np.empty(16)
        mixed, totals = np.empty((16, (width + 15) // 16 * 16)), new_totals()
        width_panels = columns_k.shape[0]
        for panel in range(left_q.shape[0]):
            first, limit = panel * 16, min(keys, panel * 16 + 16) if causal else keys
            blocks = (limit + 15) // 16
            multiply_rows(left_q, panel, q_units, right_k, k_units, totals, blocks, scores)
            multiply_rows(left_g, panel, g_units, right_v, v_units, totals, blocks, towards)
            t[min(16, queries - first) :] = 0.0
            for i in range(min(16, queries - first)):
                row = first + i
                count = visible_keys(row, keys, causal)
                line, slope = t[i, :count], steep[row, :count]
                total, largest = softmax_weights(
                    scores[i, :count], factor, mask[head, row], has_mask, fine, line
                )
                broken += not largest < np.inf
                here = exact_dot(g[head, row], o[head, row], thin)
                divide_row(g[head, row], total, shared[row])
                score_gradient(line, total, towards[i], here, factor, slope)
            split_weight_panel_right(t, panel, blocks, slices, right_t)
            seen = tiles[:, : (limit + 63) // 64]
            reached = steep[:, :limit]
            broken += split_row_panel(reached, first, slices, bits, False, seen[0], one_units)
            multiply_rows(seen, 0, one_units, columns_k, kc_units, totals, width_panels, mixed)
            for i in range(min(16, queries - first)):
                narrow(mixed[i], gq[head, first + i])
        part = np.empty((16, 16))
        left_s, s_units, bad_s = split_head_columns(shared, slices, bits, False)
        t_units = np.full(right_t.shape[0] * 16, power(-bits))
        multiply_transposed(left_s, s_units, right_t, t_units, totals, part, gv[head])
        left_qc, qc_units, _ = split_head_columns(q[head], slices, bits, False)
        right_d, d_units, _ = split_head_columns(steep, slices, bits, True)
        multiply_transposed(left_qc, qc_units, right_d, d_units, totals, part, gk[head])
        broken += bad_s
        keep_alive(totals)
        amx.release()
    return broken
