"""Exact products of a few heads' matrices, one head to a thread: whole numbers in float64, or as
pairs of int16 where 13 bits are asked for (`pairs`).

Where queries see no later keys, what lies beyond is left out: it is never read, or counts as 0.
Every sum is of integers below 2^53, so a fused multiply-add gives what two instructions give.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from workloads.numerics.fused.kernel import hold, inlined, instruction, kernel
from workloads.numerics.fused.pairs import LONGEST, ROWS, add_products, read, split_line
from workloads.numerics.fused.wide import COLUMNS, add_wide_products, panel_of

EVERYTHING, SEEN_COLUMNS, SEEN_TERMS, LATER_TERMS = range(4)
"""What is computed: all; each query with the keys up to it; each query's sum over those keys; each
key's sum over the queries from it on."""


@inlined
def word_of(even, odd):
    """Two whole numbers as the halves of an int32."""
    return (np.int32(even) & 0xFFFF) | (np.int32(odd) << 16)


@inlined
def words_below(x, turned, panels):
    """Digits of x, whole numbers (K, n) or, if `turned`, (n, K), as `pairs.split` lays them out."""
    depth, n = (x.shape[1], x.shape[0]) if turned else x.shape
    count = depth // 2
    words = np.zeros((panels.shape[1], panels.shape[0] * COLUMNS), dtype=np.int32)
    if turned:
        for j in range(n):
            line = x[j]
            for t in range(count):
                words[t, j] = word_of(line[2 * t], line[2 * t + 1])
    else:
        for t in range(count):
            even, odd, line = x[2 * t], x[2 * t + 1], words[t]
            for j in range(n):
                line[j] = word_of(even[j], odd[j])
    if depth % 2:
        for j in range(n):
            words[count, j] = word_of(x[j, depth - 1] if turned else x[depth - 1, j], 0.0)
    for panel in range(panels.shape[0]):
        source = words.ctypes.data + 4 * COLUMNS * panel
        target = panels.ctypes.data + panel * panels.strides[0]
        for t in range(panels.shape[1]):
            split_line(source + t * words.strides[0], target + t * 8 * COLUMNS)
    hold(words)


@inlined
def words_aside(x, turned, top, rows, lines):
    """Words of rows `top` to `top + rows` of x, (m, K) or, if `turned`, (K, m)."""
    depth = x.shape[0] if turned else x.shape[1]
    if turned:
        for t in range(depth // 2):
            even, odd = x[2 * t], x[2 * t + 1]
            for i in range(rows):
                lines[i, t] = word_of(even[top + i], odd[top + i])
    else:
        for i in range(rows):
            line, words = x[top + i], lines[i]
            for t in range(depth // 2):
                words[t] = word_of(line[2 * t], line[2 * t + 1])
    if depth % 2:
        for i in range(rows):
            last = x[depth - 1, top + i] if turned else x[top + i, depth - 1]
            lines[i, depth // 2] = word_of(last, 0.0)


@inlined
def numbers_aside(x, turned, top, rows, lines):
    """Rows `top` to `top + rows` of x, (m, K) or, if `turned`, (K, m)."""
    if turned:
        for k in range(x.shape[0]):
            line = x[k]
            for i in range(rows):
                lines[i, k] = line[top + i]
    else:
        for i in range(rows):
            lines[i, :] = x[top + i]


@instruction
def copy_line(context: Any, source: Any, target: Any) -> Any:
    """COLUMNS float64 from one address to another."""
    wide = ir.VectorType(ir.DoubleType(), COLUMNS)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[1], wide.as_pointer())
        builder.store(read(builder, args[0], wide), pointer, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@inlined
def hand_over(totals, out, top, at):
    """out[top ..., at ...] = totals, as far as there is any of it."""
    m, n = out.shape
    source, target = totals.ctypes.data, out.ctypes.data + 8 * (top * n + at)
    for i in range(min(ROWS, m - top)):
        if at + COLUMNS <= n:
            copy_line(source, target)
        else:
            out[top + i, at:] = totals[i, : n - at]
        source += 8 * COLUMNS
        target += 8 * n
    hold(totals)


@inlined
def seen(part, top, bottom, depth, n):
    """First and last term, and last column, of what is computed of rows `top` to `bottom`. The
    first one is even, as pairs want it: ROWS is."""
    first = top if part == LATER_TERMS else 0
    last = min(bottom, depth) if part == SEEN_TERMS else depth
    return first, last, min(bottom, n) if part == SEEN_COLUMNS else n


@inlined
def multiply_head(left, left_turned, right, right_turned, part, out):
    """One head of `multiply`, in float64."""
    m, n = out.shape
    depth = left.shape[0] if left_turned else left.shape[1]
    panels = np.empty((-(-n // COLUMNS), depth, COLUMNS))
    for panel in range(panels.shape[0]):
        panel_of(right, right_turned, panel * COLUMNS, panels[panel])
    lines, totals = np.zeros((ROWS, depth)), np.empty((ROWS, COLUMNS))
    for top in range(0, m, ROWS):
        rows = min(ROWS, m - top)
        numbers_aside(left, left_turned, top, rows, lines)
        first, last, stop = seen(part, top, top + rows, depth, n)
        for panel in range(-(-stop // COLUMNS)):
            totals[:] = 0.0
            source = panels.ctypes.data + (panel * depth + first) * 8 * COLUMNS
            aside = lines.ctypes.data + 8 * first
            add_wide_products(aside, 8 * depth, source, last - first, totals.ctypes.data)
            hand_over(totals, out, top, panel * COLUMNS)
    hold(panels)
    hold(lines)
    hold(totals)


@inlined
def multiply_head_in_pairs(left, left_turned, right, right_turned, part, out):
    """One head of `multiply`, 13 bits."""
    m, n = out.shape
    depth = left.shape[0] if left_turned else left.shape[1]
    count = -(-depth // 2)
    panels = np.empty((-(-n // COLUMNS), count, 2, COLUMNS), dtype=np.int32)
    words_below(right, right_turned, panels)
    lines, totals = np.zeros((ROWS, count), dtype=np.int32), np.empty((ROWS, COLUMNS))
    for top in range(0, m, ROWS):
        rows = min(ROWS, m - top)
        words_aside(left, left_turned, top, rows, lines)
        first, last, stop = seen(part, top, top + rows, depth, n)
        for panel in range(-(-stop // COLUMNS)):
            totals[:] = 0.0
            for begin in range(first // 2, -(-last // 2), LONGEST):
                source = panels.ctypes.data + (panel * count + begin) * 8 * COLUMNS
                aside, some = lines.ctypes.data + 4 * begin, -(-last // 2) - begin
                add_products(aside, 4 * count, source, min(LONGEST, some), totals.ctypes.data)
            hand_over(totals, out, top, panel * COLUMNS)
    hold(panels)
    hold(lines)
    hold(totals)


@kernel
def multiply(left, left_turned, right, right_turned, part, in_pairs, out):
    """out (heads, M, N) float64 = left (heads, M, K) x right (heads, K, N), or what `part` says of
    it. Factors are whole numbers in float64, contiguous; one that is `turned` has its last two
    dimensions exchanged."""
    for head in prange(out.shape[0]):
        if in_pairs:
            multiply_head_in_pairs(
                left[head], left_turned, right[head], right_turned, part, out[head]
            )
        else:
            multiply_head(left[head], left_turned, right[head], right_turned, part, out[head])
