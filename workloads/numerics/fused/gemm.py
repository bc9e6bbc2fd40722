"""Matrix products by int8 tiles (AMX), by pairs of int16 (13 bits alone), or by float64, in our
kernel or the library's: whichever this machine does fastest.

All multiply the same integers exactly, so which one ran does not show in a bit of the result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workloads.numerics.fused import amx, pairs, slices, wide
from workloads.numerics.fused.kernel import array
from workloads.numerics.fused.memory import kept
from workloads.numerics.fused.registers import LANES, ROWS
from workloads.numerics.fused.tiles import multiply_tiles
from workloads.numerics.plain import products
from workloads.numerics.plain.grid import NotFinite
from workloads.numerics.registry import fuse

aten = torch.ops.aten
Tensor = torch.Tensor
Array = np.ndarray[Any, Any]
CACHE_BYTES = 3 << 18
"""Slices of the right factor that are kept in a core's cache while the left one streams by."""
PANEL_BYTES = 3 << 16
"""Lines of the left factor, as words or float64, that are kept in a core's cache."""
SHARED_BYTES = 4 << 20
"""Panels of the right factor, of digits or float64, that are kept in the cores' common cache."""
DEEPEST = 1 << 17
"""Longest sums of tiles: three products of digits up to 64 each, added in int32."""
CACHED_NUMBERS = 1 << 21
"""float64 numbers of a block of rows and of its results."""
CONFIGURATION = amx.configuration()


def _cut(x: Tensor, bits: int, right: bool) -> tuple[Array, Array]:
    """Tiles and units of the rows of x, (n, K) float32 of any strides. Raises `NotFinite`."""
    n, depth = x.shape
    panels, tiles, count = -(-n // 16), max(1, -(-depth // 64)), slices.SLICES[bits]
    shape = (panels, tiles, count, amx.TILE_BYTES)
    cut = kept("right" if right else "left", shape, np.int8)
    units = np.ones(panels * 16, dtype=np.float64)
    if _lies_in_columns(x):
        scales = np.ones(panels * 16, dtype=np.float32)
        columns = array(x.t())
        broken = slices.column_scales(columns, bits, scales, units)
        slices.cut_columns(columns, scales, count, right, cut)
    else:
        broken = slices.cut_rows(array(x), count, bits, right, cut, units)
    _refuse(broken, x)
    return cut, units


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """a (M, K) x b (K, N) * alpha + bias * beta, all float32.

    The bias has 1 or M rows, and lines and columns to fill whole panels."""

    a: Tensor
    b: Tensor
    bias: Array
    alpha: float
    beta: float
    bits: int

    @property
    def size(self) -> tuple[int, int, int]:
        """M, K, N."""
        return self.a.shape[0], self.a.shape[1], self.b.shape[1]


def _by_tiles(task: _Task) -> Tensor:
    m, _, n = task.size
    left, left_units = _cut(task.a, task.bits, right=False)
    right, right_units = _cut(task.b.t(), task.bits, right=True)
    out = torch.empty((m, n), dtype=torch.float32)
    step = max(1, CACHE_BYTES // (right.shape[1] * right.shape[2] * amx.TILE_BYTES))
    for first in range(0, right.shape[0], step):
        multiply_tiles(
            left,
            right[first : first + step],
            left_units,
            right_units,
            first,
            task.bias,
            task.alpha,
            task.beta,
            CONFIGURATION,
            array(out),
        )
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factor:
    """Vectors of a factor: float32 (n, K) or, `in_columns`, (K, n); their scales float32 and units
    float64, as many as fill the last panel."""

    matrix: Array
    in_columns: bool
    scales: Array
    units: Array


def _factor(x: Tensor, bits: int, width: int = 1) -> _Factor:
    """Of the rows of x, (n, K) float32 of any strides. Raises `NotFinite`."""
    size = -(-x.shape[0] // width) * width
    scales, units = np.ones(size, dtype=np.float32), np.ones(size, dtype=np.float64)
    in_columns = _lies_in_columns(x)
    matrix = array(x.t() if in_columns else x)
    measure = slices.column_scales if in_columns else wide.row_scales
    _refuse(measure(matrix, bits, scales, units), x)
    return _Factor(matrix=matrix, in_columns=in_columns, scales=scales, units=units)


def _words(x: Tensor, name: str, is_left: bool) -> tuple[Array, Array]:
    """Words of the rows of x, (n, K) float32 of any strides, int32 (n, K / 2), or (K / 2, n) unless
    `is_left`; and units, as many as fill the last panel. Raises `NotFinite`."""
    (n, depth), width = x.shape, ROWS if is_left else LANES
    count, units = -(-depth // 2), np.ones(-(-n // width) * width, dtype=np.float64)
    in_columns = _lies_in_columns(x)
    shape = (count, n) if in_columns else (n, count)
    # More rows than there are may be read with the last ones.
    spare = 4 * ROWS * count
    words = kept(name, shape, np.int32, spare=spare)
    if in_columns:
        scales = np.empty(n, dtype=np.float32)
        broken = slices.column_scales(array(x.t()), pairs.BITS, scales, units)
        pairs.round_columns(array(x.t()), scales, words)
    else:
        broken = pairs.round_rows(array(x), words.view(np.int16), units)
    _refuse(broken, x)
    if in_columns == is_left:
        turned = kept(f"{name} turned", shape[::-1], np.int32, spare=spare)
        pairs.turn(words, turned)
        words = turned
    return words, units


def _by_pairs(task: _Task) -> Tensor:
    m, _, n = task.size
    left, left_units = _words(task.a, "left", is_left=True)
    words, right_units = _words(task.b.t(), "right", is_left=False)
    panels = -(-n // LANES)
    right = kept("panels", (panels, len(words), 2, LANES), np.int32)
    pairs.split(words, right)
    out = torch.empty((m, n), dtype=torch.float32)
    step, (_, several) = max(1, SHARED_BYTES // right[0].nbytes), _shares(m, ROWS * left[0].nbytes)
    for first in range(0, panels, step):
        pairs.multiply_words(
            left,
            right[first : first + step],
            several,
            left_units,
            right_units,
            first,
            task.bias,
            task.alpha,
            task.beta,
            array(out),
        )
    return out


def _by_panels(task: _Task) -> Tensor:
    """float64, multiplied and finished by our own kernel."""
    m, depth, n = task.size
    left, right = (
        _factor(task.a, task.bits, ROWS),
        _factor(task.b.t(), task.bits, wide.COLUMNS),
    )
    out = torch.empty((m, n), dtype=torch.float32)
    panels, step = -(-n // wide.COLUMNS), max(1, SHARED_BYTES // (8 * wide.COLUMNS * depth))
    rooms = kept("rooms", (*_shares(m, 8 * ROWS * depth), depth, ROWS), np.float64)
    for first in range(0, panels, step):
        shape = (min(step, panels - first), depth, wide.COLUMNS)
        packed = kept("panels", shape, np.float64)
        wide.pack_panels(right.matrix, right.in_columns, first, right.scales, packed)
        wide.multiply_numbers(
            left.matrix,
            left.in_columns,
            left.scales,
            left.units,
            rooms,
            packed,
            right.units,
            first,
            task.bias,
            task.alpha,
            task.beta,
            array(out),
        )
    return out


def _shares(m: int, size: int) -> tuple[int, int]:
    """Threads, and how many times ROWS lines of the left factor, of `size` bytes, each takes at a
    time: as stay in a core's cache, and so that all threads have as much to do."""
    panels, threads = -(-m // ROWS), torch.get_num_threads()
    rounds = -(-panels // (threads * max(1, PANEL_BYTES // size)))
    return threads, -(-panels // (threads * rounds))


def _snap(x: Tensor, bits: int, name: str) -> tuple[Tensor, Array]:
    """Whole float64 numbers and units of the rows of x, (n, K) float32. Raises `NotFinite`."""
    factor = _factor(x, bits)
    snapped = kept(name, factor.matrix.shape, np.float64)
    whole = torch.from_numpy(snapped)
    if factor.in_columns:
        wide.snap_columns(factor.matrix, factor.scales, snapped)
        return whole.t(), factor.units
    wide.snap_rows(factor.matrix, factor.scales, snapped)
    return whole, factor.units


def _by_float64(task: _Task) -> Tensor:
    """By the library, in blocks of rows: what is snapped and what is summed stays in cache."""
    m, depth, n = task.size
    right, right_units = _snap(task.b.t(), task.bits, "right")
    step = m if _lies_in_columns(task.a) else max(64, CACHED_NUMBERS // (depth + n))
    out = torch.empty((m, n), dtype=torch.float32)
    for first in range(0, m, step):
        rows = slice(first, min(first + step, m))
        left, left_units = _snap(task.a[rows], task.bits, "left")
        total = _multiply(left, right.t(), task.bits)
        bias = task.bias[rows] if len(task.bias) > 1 else task.bias
        wide.finish(
            array(total), left_units, right_units, bias, task.alpha, task.beta, array(out[rows])
        )
    return out


def _multiply(left: Tensor, right: Tensor, bits: int) -> Tensor:
    """The exact product of whole numbers up to 2^bits, as float64."""
    chunk = 1 << (53 - 2 * bits)
    if left.shape[1] <= chunk:
        total = kept("total", (left.shape[0], right.shape[1]), np.float64)
        return torch.mm(left, right, out=torch.from_numpy(total))
    parts = zip(left.split(chunk, 1), right.split(chunk, 0), strict=True)
    exact = sum(torch.mm(one, other).to(torch.int64) for one, other in parts)
    return torch.as_tensor(exact).to(torch.float64)


def _lies_in_columns(x: Tensor) -> bool:
    return x.shape[0] > 1 and x.stride(0) == 1 and x.stride(1) == x.shape[0]


def _refuse(broken: int, x: Tensor) -> None:
    if broken:
        raise NotFinite(f"a factor of shape {tuple(x.shape)} holds NaN or infinity")


_fastest: dict[tuple[int, ...], Callable[[_Task], Tensor]] = {}


def _run(task: _Task) -> Tensor:
    """By the route that was fastest when a product of about this size came first."""
    routes = _routes(task)
    if len(routes) == 1:
        return routes[0](task)
    key = (*(size.bit_length() for size in task.size), task.bits, torch.get_num_threads())
    route = _fastest.get(key)
    # Sizes of one key may lie on both sides of a route's limit.
    if route is not None and route in routes:
        return route(task)
    seconds: dict[Callable[[_Task], Tensor], float] = {}
    for candidate in routes:
        candidate(task)  # compiles, allocates, warms caches
        start = time.perf_counter()
        result = candidate(task)
        seconds[candidate] = time.perf_counter() - start
    _fastest[key] = min(seconds, key=seconds.__getitem__)
    return result


def _routes(task: _Task) -> list[Callable[[_Task], Tensor]]:
    """What multiplies such factors here."""
    found = [_by_float64]
    if task.size[1] <= 1 << (53 - 2 * task.bits):
        found.append(_by_panels)
        if task.bits == pairs.BITS and task.size[1] <= 2 * pairs.LONGEST:
            found.append(_by_pairs)
    if amx.available() and task.size[1] <= DEEPEST:
        found.append(_by_tiles)
    return found


def matmul(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1,
    beta: float = 1,
    bits: int,
) -> Tensor:
    """(..., M, K) x (..., K, N) * alpha + bias * beta, float32, any strides; `bias` broadcasts.

    Raises `NotFinite` for NaN or infinity in a factor.
    """
    if a.dim() > 2:
        batch = a.shape[:-2]
        shape = (*batch, a.shape[-2], b.shape[-1])
        factors = zip(a.flatten(0, -3), b.flatten(0, -3), strict=True)
        biases = [None] * batch.numel() if bias is None else bias.expand(shape).flatten(0, -3)
        done = [
            matmul(one, other, added, alpha=alpha, beta=beta, bits=bits)
            for (one, other), added in zip(factors, biases, strict=True)
        ]
        return torch.stack(done).reshape(shape) if done else a.new_empty(shape)
    (m, depth), n = a.shape, b.shape[1]
    if b.shape[0] != depth:  # the kernels check nothing; the definition refuses it
        return products.mm(a, b, bits=bits)
    if m == 0 or n == 0 or depth == 0 or a.dtype != torch.float32 or b.dtype != torch.float32:
        if bias is None:
            return products.mm(a, b, bits=bits)
        return products.addmm(bias, a, b, beta=beta, alpha=alpha, bits=bits)
    added = fill_panels(bias if beta != 0 else None, m, n)
    return _run(_Task(a=a, b=b, bias=added, alpha=float(alpha), beta=float(beta), bits=bits))


def fill_panels(bias: Tensor | None, m: int, n: int) -> Array:
    """float32 of 1 or M rows, as `_Task` wants it, of what broadcasts to (M, N); or zeros."""
    one = bias is None or bias.dim() < 2 or bias.shape[0] == 1
    spread = torch.zeros((1 if one else -(-m // ROWS) * ROWS, -(-n // 16) * 16))
    if bias is not None:
        spread[: 1 if one else m, :n] = bias
    return array(spread)


@fuse(aten.mm.default)
@fuse(aten.bmm.default)
def mm(a: Tensor, b: Tensor, *, bits: int) -> Tensor:
    return matmul(a, b, bits=bits)


@fuse(aten.addmm.default)
@fuse(aten.baddbmm.default)
def addmm(
    bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1, bits: int
) -> Tensor:
    return matmul(a, b, bias, alpha=alpha, beta=beta, bits=bits)
